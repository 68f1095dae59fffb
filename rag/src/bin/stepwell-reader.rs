//! Reads one file for another process, which starts it by `LoadLimits::with_program`. A host may as well call the same
//! function in a program of its own.

fn main() -> Result<(), stepwell_core::Error> {
    stepwell_rag::serve_reader(std::io::stdin().lock(), std::io::stdout().lock())
}
