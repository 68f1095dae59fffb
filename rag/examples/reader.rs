//! A program that reads one file for another process, which starts it by `LoadLimits::with_program`. Beside a host of
//! your own it is these three lines.

fn main() -> Result<(), stepwell_core::Error> {
    stepwell_rag::serve_reader(std::io::stdin().lock(), std::io::stdout().lock())
}
