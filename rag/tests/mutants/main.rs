//! Takes each condition that keeps tenants and filters apart out of the source, one at a time, and sees the leak tests
//! fail.
//!
//! A copy of the workspace gets every change at once, each behind a switch, and is built once; the tests of
//! `tests/leaks.rs` then run with one switch after the other. With `STEPWELL_LONG=1`; otherwise it is only checked that
//! every condition still stands in the source as the table says.

mod table;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use table::{ALIKE, Mutant, TABLE};

/// What the copy reads: the number of the change that is on.
const SWITCH: &str = "STEPWELL_MUTANT";
/// A change that makes the tests go round in circles is noticed too.
const PATIENCE: Duration = Duration::from_mins(5);

fn workspace() -> PathBuf {
    let rag = Path::new(env!("CARGO_MANIFEST_DIR"));
    rag.parent().expect("the workspace").to_owned()
}

fn source(mutant: &Mutant) -> PathBuf {
    Path::new("rag/src").join(mutant.file)
}

#[test]
fn every_condition_of_the_table_stands_in_the_source_once() {
    for mutant in TABLE.iter().chain(ALIKE) {
        let text = std::fs::read_to_string(workspace().join(source(mutant))).expect("the source");
        let found = text.matches(mutant.find).count();
        assert_eq!(found, 1, "{}: `{}` in {}", mutant.what, mutant.find, mutant.file);
    }
}

/// Wherever the source asks for a tenant's part, the table has a change for it.
#[test]
fn every_place_that_asks_for_a_tenants_part_is_in_the_table() {
    let sources = [
        "collection/add.rs",
        "collection/facts.rs",
        "collection/mod.rs",
        "collection/search.rs",
        "collection/stats.rs",
        "collection/vectors.rs",
        "filter/mod.rs",
        "schema.rs",
    ];
    for file in sources {
        let text = std::fs::read_to_string(workspace().join("rag/src").join(file)).expect("the source");
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(&text);
        for (at, _) in code.match_indices("scope") {
            let line_start = code[..at].rfind('\n').map_or(0, |end| end + 1);
            let line = code[line_start..].lines().next().unwrap_or_default();
            let asks = [
                "tenant_prefix(",
                "::prefix(",
                ".term(",
                "inner.allowed(",
                "add_bytes(fields.tenant",
                ".versions(",
            ];
            if line.trim_start().starts_with("//") || !asks.iter().any(|ask| line.contains(ask)) {
                continue;
            }
            let is_known = TABLE.iter().chain(ALIKE).any(|mutant| {
                mutant.file == file
                    && code.find(mutant.find).is_some_and(|from| {
                        from < line_start + line.len() && from + mutant.find.len() > line_start
                    })
            });
            let is_definition = line.contains("fn ") || line.contains("Self::");
            // Hands its scope on to `versions`, which has its own change.
            let is_passed_on = line.contains("versions(");
            assert!(
                is_known || is_definition || is_passed_on,
                "{file}: {}",
                line.trim()
            );
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let name = entry.file_name();
        let is_left_out = ["target", "node_modules"]
            .iter()
            .any(|left_out| name == *left_out)
            || name.to_string_lossy().starts_with('.');
        let path = entry.path();
        match entry.file_type().expect("a type") {
            _ if is_left_out => {}
            kind if kind.is_dir() => copy(&path, &to.join(name)),
            kind if kind.is_file() => {
                std::fs::copy(&path, to.join(name)).expect("copied");
            }
            _ => {}
        }
    }
}

/// Runs a test program with a switch on: whether it failed, and by which test.
fn run(program: &Path, folder: &Path, number: usize) -> Option<String> {
    let out = tempfile::NamedTempFile::new().expect("a file");
    let mut child = Command::new(program)
        .current_dir(folder)
        .env(SWITCH, number.to_string())
        .env_remove("STEPWELL_LONG")
        .stdin(Stdio::null())
        .stdout(out.reopen().expect("the file"))
        .stderr(Stdio::null())
        .spawn()
        .expect("the tests start");
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break status;
        }
        if start.elapsed() > PATIENCE {
            child.kill().expect("killed");
            child.wait().expect("ended");
            return Some("it did not end".to_owned());
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    if status.success() {
        return None;
    }
    let text = std::fs::read_to_string(out.path()).expect("text");
    let failed: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"))
        .collect();
    assert!(
        !failed.is_empty(),
        "{number} failed without a failed test: {text}"
    );
    Some(failed.join(", "))
}

#[test]
fn a_source_without_any_one_of_the_conditions_fails_the_leak_tests() {
    if std::env::var_os("STEPWELL_LONG").is_none_or(|value| value != "1") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("stepwell");
    copy(&workspace(), &root);
    let all: Vec<&Mutant> = TABLE.iter().chain(ALIKE).collect();
    for (at, mutant) in all.iter().enumerate() {
        let path = root.join(source(mutant));
        let text = std::fs::read_to_string(&path).expect("the copy");
        let switch = format!("crate::is_mutant({})", at + 1);
        assert!(
            mutant.replace.contains("ON"),
            "{}: nothing switches it",
            mutant.what
        );
        let changed = text.replacen(mutant.find, &mutant.replace.replace("ON", &switch), 1);
        assert_ne!(text, changed, "{}: another change took its place", mutant.what);
        std::fs::write(&path, changed).expect("written");
    }
    let lib = root.join("rag/src/lib.rs");
    let mut text = std::fs::read_to_string(&lib).expect("the copy");
    let switch = format!(
        "\npub(crate) fn is_mutant(number: u32) -> bool {{
            static ON: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
            let on = ON.get_or_init(|| std::env::var(\"{SWITCH}\").ok().and_then(|on| on.parse().ok()).unwrap_or(0));
            *on == number
        }}\n"
    );
    text.push_str(&switch);
    std::fs::write(&lib, text).expect("written");
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    let built = Command::new(env!("CARGO"))
        .args([
            "test",
            "--offline",
            "--no-run",
            "-p",
            "stepwell-rag",
            "--test",
            "leaks",
        ])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(&root)
        .env("CARGO_TARGET_DIR", target)
        .stdin(Stdio::null())
        .output()
        .expect("cargo runs");
    let told = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{told}");
    let program = String::from_utf8_lossy(&built.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "leaks")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("a test program");
    assert_eq!(run(&program, &root, 0), None, "without a change all pass");
    let mut alive = Vec::new();
    for (at, mutant) in all.iter().enumerate() {
        let start = Instant::now();
        let killed = run(&program, &root, at + 1);
        let is_alike = at >= TABLE.len();
        println!(
            "{:2} {:58} {:24} {:6.1?} {}",
            at + 1,
            mutant.what,
            mutant.file,
            start.elapsed(),
            killed
                .as_deref()
                .unwrap_or(if is_alike { "alike, as told" } else { "ALIVE" })
        );
        if killed.is_some() == is_alike {
            alive.push(mutant.what);
        }
    }
    std::fs::remove_file(&program).expect("the copy's program is of no more use");
    assert!(alive.is_empty(), "{alive:?}");
}
