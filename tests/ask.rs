//! The main job as a user meets it: the command, its answers, its exit codes, on folders that are not tidy.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// The built example; cargo builds examples before integration tests.
fn command() -> PathBuf {
    let mut path = std::env::current_exe().expect("the test runs");
    path.pop(); // deps
    path.pop();
    path.join("examples")
        .join(format!("ask{}", std::env::consts::EXE_SUFFIX))
}

fn ask(index: &Path, words: &[&str]) -> Output {
    Command::new(command())
        .arg("--index")
        .arg(index)
        .args(words)
        .env_remove("ANTHROPIC_API_KEY")
        .env_remove("OPENAI_API_KEY")
        .output()
        .expect("the example is built")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it was not killed")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A folder of two short guides.
fn guides(folder: &Path) {
    fs::create_dir_all(folder).expect("made");
    fs::write(
        folder.join("kettle.md"),
        "# Kettle\n\n## Cleaning\n\nDescale the kettle once a month with a spoon of citric acid.\n\n## Safety\n\nNever fill the kettle above the mark.\n",
    )
    .expect("written");
    fs::write(
        folder.join("oven.txt"),
        "The oven beeps three times when it has reached its temperature.\n",
    )
    .expect("written");
}

/// 700 more files: indexing them takes a few commits.
fn valves(docs: &Path, count: u32) {
    for number in 0..count {
        let text = format!(
            "Valve {number} of the plant is opened on day {} of the month, slowly and by two people.\n",
            number % 28
        );
        fs::write(docs.join(format!("valve-{number:04}.txt")), text).expect("written");
    }
}

/// Waits until an index holds something, for a minute at most.
fn wait_for_a_commit(index: &Path) {
    for _ in 0..1_200 {
        if fs::read_to_string(index.join("meta.json")).is_ok_and(|meta| meta.contains("segment_id")) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("nothing was committed within a minute");
}

#[test]
fn an_answer_names_its_source_exactly_and_the_second_run_indexes_nothing() {
    let folder = tempfile::tempdir().expect("made");
    let (docs, index) = (folder.path().join("docs"), folder.path().join("index"));
    guides(&docs);
    let words = [
        docs.to_str().expect("utf-8"),
        "How often should I descale the kettle?",
        "--json",
    ];
    let first = ask(&index, &words);
    assert_eq!(code(&first), 0, "{}", err(&first));
    assert!(err(&first).contains("indexed 2 documents"), "{}", err(&first));
    let report: serde_json::Value = serde_json::from_slice(&first.stdout).expect("JSON");
    let citation = &report["citations"][0];
    assert_eq!(
        citation["quote"],
        "Descale the kettle once a month with a spoon of citric acid."
    );
    assert_eq!(citation["headings"], serde_json::json!(["Kettle", "Cleaning"]));
    let span =
        |side: &str| usize::try_from(citation["span"][side].as_u64().expect("a number")).expect("fits");
    let source = fs::read_to_string(docs.join("kettle.md")).expect("there");
    assert_eq!(citation["quote"], source[span("start")..span("end")]);
    for claim in report["answer"].as_array().expect("claims") {
        assert!(
            !claim["citations"].as_array().expect("numbers").is_empty(),
            "every sentence is cited"
        );
    }

    let second = ask(&index, &words);
    assert_eq!(err(&second), "", "nothing is indexed twice");
    let again: serde_json::Value = serde_json::from_slice(&second.stdout).expect("JSON");
    assert_eq!(
        (&again["answer"], &again["indexed"]["unchanged"]),
        (&report["answer"], &serde_json::json!(2))
    );
}

#[test]
fn what_the_documents_do_not_tell_is_told_with_exit_code_3() {
    let folder = tempfile::tempdir().expect("made");
    let docs = folder.path().join("docs");
    guides(&docs);
    let answer = ask(
        &folder.path().join("index"),
        &[docs.to_str().expect("utf-8"), "Who composed the opera Tosca?"],
    );
    assert_eq!(
        (code(&answer), out(&answer).as_str()),
        (3, "not found in these documents\n")
    );
}

#[test]
fn changed_and_removed_files_are_followed() {
    let folder = tempfile::tempdir().expect("made");
    let (docs, index) = (folder.path().join("docs"), folder.path().join("index"));
    guides(&docs);
    let path = docs.to_str().expect("utf-8").to_owned();
    assert_eq!(code(&ask(&index, &[&path, "When does the oven beep?"])), 0);
    fs::write(
        docs.join("kettle.md"),
        "# Kettle\n\nDescale the kettle every second week with vinegar.\n",
    )
    .expect("written");
    fs::remove_file(docs.join("oven.txt")).expect("removed");
    let changed = ask(&index, &[&path, "How often should I descale the kettle?"]);
    assert!(
        out(&changed).contains("every second week") && !out(&changed).contains("citric"),
        "{}",
        out(&changed)
    );
    assert!(
        err(&changed).contains("0 new, 1 changed, 1 gone"),
        "{}",
        err(&changed)
    );
    assert_eq!(
        code(&ask(&index, &[&path, "How many times does the oven beep?"])),
        3
    );
}

#[test]
fn files_that_cannot_be_read_are_told_in_a_line_each_and_the_others_answer() {
    let folder = tempfile::tempdir().expect("made");
    let docs = folder.path().join("docs");
    guides(&docs);
    fs::write(docs.join("empty.md"), "").expect("written");
    fs::write(
        docs.join("huge.txt"),
        "All work and no play makes Jack a dull boy.\n".repeat(700_000),
    )
    .expect("written");
    fs::write(
        docs.join("binary.txt"),
        [0u8, 159, 146, 150, 0, 0, 1, 2, 3, 255, 254, 0, 7].repeat(50),
    )
    .expect("written");
    fs::write(
        docs.join("broken.pdf"),
        b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\ntrailer\n<<",
    )
    .expect("written");
    let wide: Vec<u8> = "\u{feff}The fridge hums at fifty hertz all night long."
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    fs::write(docs.join("fridge.txt"), wide).expect("written");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&docs, docs.join("loop")).expect("linked");
        std::os::unix::fs::symlink(docs.join("nowhere"), docs.join("dangling.md")).expect("linked");
    }
    let answer = ask(
        &folder.path().join("index"),
        &[
            docs.to_str().expect("utf-8"),
            "At how many hertz does the fridge hum?",
        ],
    );
    assert_eq!(code(&answer), 0, "{}", err(&answer));
    assert!(out(&answer).contains("fifty hertz"), "{}", out(&answer));
    let told = err(&answer);
    for (file, reason) in [
        ("empty.md", "empty file"),
        ("huge.txt", "its text is over the limit of 8 MiB"),
        ("binary.txt", "binary"),
        ("broken.pdf", "PDF"),
    ] {
        let line = told
            .lines()
            .find(|line| line.contains(file))
            .unwrap_or_else(|| panic!("{file} is not told: {told}"));
        assert!(line.starts_with("skipped ") && line.contains(reason), "{line}");
    }
    if cfg!(unix) {
        assert!(told.contains("dangling.md") && told.contains("loop"), "{told}");
    }
    assert!(told.contains("indexed 3 documents"), "{told}");
}

#[test]
fn wrong_input_is_one_clear_sentence_and_the_right_exit_code() {
    let folder = tempfile::tempdir().expect("made");
    let (docs, index) = (folder.path().join("docs"), folder.path().join("index"));
    guides(&docs);
    let path = docs.to_str().expect("utf-8").to_owned();
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).expect("made");
    let foreign = folder.path().join("foreign");
    fs::create_dir(&foreign).expect("made");
    fs::write(foreign.join("photo.jpg"), "mine").expect("written");
    let cases: [(&Path, Vec<&str>, i32, &str); 8] = [
        (
            &index,
            vec!["no-such-folder", "What?"],
            2,
            "no file or folder `no-such-folder`",
        ),
        (&index, vec![&path, "  "], 2, "the question is empty"),
        (&index, vec![&path], 2, "required"),
        (
            &index,
            vec![empty.to_str().expect("utf-8"), "What?"],
            2,
            "no readable document in",
        ),
        (&index, vec![&path, "What?", "--model", "acme/one"], 2, "acme"),
        (
            &index,
            vec![&path, "What?", "--model", "anthropic/claude-sonnet-5"],
            1,
            "ANTHROPIC_API_KEY",
        ),
        (&index, vec![&path, "What?", "--k", "0"], 2, "--k"),
        (&foreign, vec![&path, "What?"], 1, "is not a stepwell index"),
    ];
    for (index, words, expected, told) in cases {
        let answer = ask(index, &words);
        assert_eq!(code(&answer), expected, "{words:?}: {}", err(&answer));
        assert!(err(&answer).contains(told), "{words:?}: {}", err(&answer));
        assert!(!err(&answer).contains("panicked") && out(&answer).is_empty());
    }
    assert_eq!(
        fs::read_to_string(foreign.join("photo.jpg")).expect("there"),
        "mine",
        "a foreign folder is left alone"
    );
}

#[test]
fn a_damaged_index_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().expect("made");
    let (docs, index) = (folder.path().join("docs"), folder.path().join("index"));
    guides(&docs);
    let path = docs.to_str().expect("utf-8").to_owned();
    assert_eq!(code(&ask(&index, &[&path, "When does the oven beep?"])), 0);
    fs::write(index.join("meta.json"), "{ not json").expect("written");
    let answer = ask(&index, &[&path, "When does the oven beep?"]);
    assert_eq!(code(&answer), 1);
    assert!(
        err(&answer).contains("damaged") && err(&answer).contains("index the documents anew"),
        "{}",
        err(&answer)
    );
}

#[cfg(unix)]
#[test]
fn ctrl_c_while_indexing_leaves_a_usable_index_and_the_next_run_goes_on() {
    let folder = tempfile::tempdir().expect("made");
    let (docs, index) = (folder.path().join("docs"), folder.path().join("index"));
    guides(&docs);
    valves(&docs, 700);
    let path = docs.to_str().expect("utf-8").to_owned();
    let child = Command::new(command())
        .args([
            "--index",
            index.to_str().expect("utf-8"),
            &path,
            "Who opens valve 7?",
        ])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("started");
    wait_for_a_commit(&index);
    Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .expect("kill runs");
    let stopped = child.wait_with_output().expect("it ends");
    assert_eq!(code(&stopped), 130, "{}", err(&stopped));
    assert!(
        err(&stopped).contains("what was indexed is kept"),
        "{}",
        err(&stopped)
    );
    let next = ask(&index, &[&path, "Who opens valve 7?", "--json"]);
    assert_eq!(code(&next), 0, "{}", err(&next));
    let report: serde_json::Value = serde_json::from_slice(&next.stdout).expect("JSON");
    assert_eq!(report["indexed"]["documents"], 702);
    assert!(
        report["indexed"]["unchanged"].as_u64().expect("a number") > 0,
        "the first run's work was kept"
    );
}

#[test]
fn a_second_writer_is_told_to_wait_and_the_first_is_not_disturbed() {
    let folder = tempfile::tempdir().expect("made");
    let (docs, index) = (folder.path().join("docs"), folder.path().join("index"));
    guides(&docs);
    valves(&docs, 4_000);
    let path = docs.to_str().expect("utf-8").to_owned();
    let first = Command::new(command())
        .args([
            "--index",
            index.to_str().expect("utf-8"),
            &path,
            "Who opens valve 7?",
        ])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("started");
    wait_for_a_commit(&index);
    let second = ask(&index, &[&path, "Who opens valve 7?"]);
    assert_eq!(
        (code(&second), out(&second).as_str()),
        (1, ""),
        "{}",
        err(&second)
    );
    assert!(
        err(&second).contains("is being written by another process"),
        "{}",
        err(&second)
    );
    let first = first.wait_with_output().expect("it ends");
    assert_eq!(code(&first), 0, "{}", err(&first));
    assert!(err(&first).contains("indexed 4002 documents"), "{}", err(&first));
}
