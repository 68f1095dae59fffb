//! Files made to break readers: each read in a process of its own, whose time and memory are measured from inside.
#![cfg(all(
    target_os = "linux",
    feature = "pdf",
    feature = "docx",
    feature = "html",
    feature = "epub"
))]

use std::ffi::OsString;
use std::fs;
use std::io::{Cursor, ErrorKind, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stepwell_core::Document;
use stepwell_rag::{LoadLimits, ReaderProgram, find_files, load};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// What a file may cost, by issue and threat model.
const CPU: Duration = Duration::from_secs(2);
const MEMORY: u64 = 512 << 20;
/// The file that the process of a measurement reads.
const FILE: &str = "STEPWELL_HOSTILE_FILE";
const CANARY: &str = "CANARY-OUTSIDE-5f2c";

fn fixtures() -> PathBuf {
    std::env::var_os("STEPWELL_FIXTURES")
        .map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures"),
            PathBuf::from,
        )
        .join("conformance")
}

/// The hostile files and the one that must not be read, in a folder; `None` without the fixtures or without python3.
fn hostile() -> Option<(tempfile::TempDir, PathBuf)> {
    let script = fixtures().join("hostile/gen_hostile.py");
    let folder = tempfile::TempDir::new().expect("a folder");
    let out = folder.path().join("out");
    let is_made = script.exists()
        && Command::new("python3")
            .arg(&script)
            .arg(&out)
            .output()
            .is_ok_and(|made| made.status.success());
    if !is_made {
        println!("skipped: hostile files (they need the fixtures and python3)");
        return None;
    }
    Some((folder, out))
}

fn names(out: &Path) -> Vec<String> {
    let manifest = fs::read_to_string(out.join("manifest.jsonl")).expect("a manifest");
    manifest
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a case is JSON"))
        .map(|case| case["file"].as_str().expect("a name").to_owned())
        .filter(|name| !name.starts_with("canary/"))
        .collect()
}

/// What the reading of a file cost.
#[derive(Debug)]
struct Measured {
    cpu: Duration,
    memory: u64,
    said: String,
    code: String,
}

fn measure(file: &Path) -> Measured {
    let out = Command::new(std::env::current_exe().expect("this program"))
        .args([
            "--exact",
            "the_process_of_a_measurement",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(FILE, file)
        .output()
        .expect("a process");
    let printed = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        out.status.success(),
        "{}: {} {printed}",
        file.display(),
        out.status
    );
    let told = printed
        .lines()
        .find_map(|line| line.split_once("MEASURED "))
        .expect("a measurement")
        .1;
    let told: Value = serde_json::from_str(told).expect("JSON");
    let number = |key: &str| told[key].as_u64().expect("a number");
    let text = |key: &str| told[key].as_str().expect("words").to_owned();
    Measured {
        cpu: Duration::from_millis(number("cpu_ms")),
        memory: number("memory"),
        said: text("said"),
        code: text("code"),
    }
}

#[test]
fn the_process_of_a_measurement() {
    let Some(file) = std::env::var_os(FILE) else {
        return;
    };
    let file = PathBuf::from(file);
    let bytes = fs::read(&file).expect("a file");
    // What it takes is told by the CPU; the machine may be busy.
    let limits = LoadLimits::default().with_time(Duration::from_mins(2));
    let result = load(&file.to_string_lossy(), bytes, &limits);
    let leaks = format!("{result:?}").contains(CANARY);
    let (code, said) = match &result {
        Ok(document) => ("ok", document.text.chars().take(60).collect()),
        Err(error) => (
            error.code(),
            error.to_string().replace(&*file.to_string_lossy(), "it"),
        ),
    };
    drop(result);
    assert!(!leaks, "it read what it must not");
    let status = fs::read_to_string("/proc/self/status").expect("a status");
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("a peak");
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    let stat = fs::read_to_string("/proc/self/stat").expect("a status");
    let stat: Vec<&str> = stat.rsplit_once(") ").expect("a name").1.split(' ').collect();
    // User and system time, in hundredths.
    let ticks: u64 = stat[11..13]
        .iter()
        .map(|ticks| ticks.parse::<u64>().expect("a number"))
        .sum();
    println!(
        "MEASURED {}",
        json!({ "cpu_ms": ticks * 10, "memory": kib * 1024, "code": code, "said": said })
    );
}

#[test]
fn hostile_files_stay_below_two_seconds_and_half_a_gibibyte() {
    let Some((folder, out)) = hostile() else { return };
    let names = names(&out);
    for name in &names {
        let measured = measure(&out.join(name));
        println!("{name}: {measured:?}");
        assert!(measured.cpu < CPU, "{name}: {measured:?}");
        assert!(measured.memory < MEMORY, "{name}: {measured:?}");
        assert!(
            matches!(measured.code.as_str(), "ok" | "unreadable" | "limit_exceeded"),
            "{name}: {measured:?}"
        );
    }
    assert!(names.len() > 60);
    // Nothing was written beside the files.
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    assert!(!find_files([&out]).expect("found").files.is_empty());
}

/// Stored and deflated parts as an archive.
fn archive(parts: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in parts {
        let method = if name == "mimetype" {
            zip::CompressionMethod::Stored
        } else {
            zip::CompressionMethod::Deflated
        };
        let options = SimpleFileOptions::default().compression_method(method);
        zip.start_file(name.as_str(), options).expect("a part");
        zip.write_all(bytes).expect("its bytes");
    }
    zip.finish().expect("an archive").into_inner()
}

/// A book of so many pages.
fn book(pages: usize, page: &[u8]) -> Vec<u8> {
    let mut manifest = String::new();
    let mut spine = String::new();
    let mut parts = vec![
        ("mimetype".to_owned(), b"application/epub+zip".to_vec()),
        (
            "META-INF/container.xml".to_owned(),
            b"<container><rootfile full-path='book.opf'/></container>".to_vec(),
        ),
    ];
    for number in 0..pages {
        let address = format!("id='p{number}' href='p{number}'");
        manifest.extend(["<item ", &address, " media-type='application/xhtml+xml'/>"]);
        // Twice: a book may not grow by naming a page again.
        spine.extend([format!("<itemref idref='p{number}'/>").repeat(2)]);
        parts.push((format!("p{number}"), page.to_vec()));
    }
    parts.push((
        "book.opf".to_owned(),
        format!("<package><manifest>{manifest}</manifest><spine>{spine}</spine></package>").into_bytes(),
    ));
    archive(&parts)
}

fn pdf(objects: &[&str]) -> Vec<u8> {
    let mut out = b"%PDF-1.7\n".to_vec();
    let mut places = Vec::new();
    for (number, object) in (1..).zip(objects) {
        places.push(out.len());
        out.extend(format!("{number} 0 obj\n").bytes());
        out.extend(object.bytes());
        out.extend(b"\nendobj\n");
    }
    let (table, size) = (out.len(), objects.len() + 1);
    out.extend(format!("xref\n0 {size}\n0000000000 65535 f \n").bytes());
    for place in places {
        out.extend(format!("{place:010} 00000 n \n").bytes());
    }
    out.extend(format!("trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n").bytes());
    out
}

const LARGE: usize = 60 << 20;

fn repeated(words: &str, bytes: usize) -> Vec<u8> {
    words.repeat(bytes / words.len()).into_bytes()
}

#[test]
fn large_files_of_small_pieces_stay_below_half_a_gibibyte() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let text = 8 << 20;
    let many: Vec<String> = (0..400_000).map(|_| "<< /A [1 2 3] >>".to_owned()).collect();
    let mut objects = vec![
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [] /Count 0 >>",
    ];
    objects.extend(many.iter().map(String::as_str));
    let files = [
        ("headings.md", repeated("# a\n", LARGE), "limit_exceeded"),
        ("headings-fit.md", repeated("# a\n", text), "ok"),
        ("emphasis-fit.md", repeated("*a _b ", text), "ok"),
        ("headings.html", repeated("<h1>a", LARGE), "limit_exceeded"),
        ("rows.csv", repeated("1,2,3\n", LARGE), "limit_exceeded"),
        ("commas.csv", repeated(",", LARGE), "limit_exceeded"),
        ("lines.csv", repeated("a\n", text / 2), "ok"),
        (
            "open-quote.csv",
            [b"a,b\n\"".to_vec(), repeated("x\n", LARGE)].concat(),
            "limit_exceeded",
        ),
        (
            "items.json",
            [b"[".to_vec(), repeated("0,", LARGE), b"0]".to_vec()].concat(),
            "limit_exceeded",
        ),
        (
            "nulls.json",
            [b"[".to_vec(), repeated("[],", LARGE), b"0]".to_vec()].concat(),
            "ok",
        ),
        ("deep.json", repeated("[{\"a\":", LARGE), "unreadable"),
        ("lines.jsonl", repeated("{\"a\":1}\n", LARGE), "limit_exceeded"),
        ("long.jsonl", repeated("1", LARGE), "limit_exceeded"),
        ("items-fit.rs", repeated("fn a() {}\n", text), "ok"),
        ("items.py", repeated("def a():\n", LARGE), "limit_exceeded"),
        (
            "pages.epub",
            book(200, &repeated("<p>some words", 900 << 10)),
            "limit_exceeded",
        ),
        ("bomb.epub", book(1, &repeated(" ", LARGE)), "limit_exceeded"),
        ("objects.pdf", pdf(&objects), "limit_exceeded"),
        ("utf16.txt", repeated("a\0", LARGE), "limit_exceeded"),
    ];
    for (name, bytes, code) in files {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("a file");
        let measured = measure(&path);
        println!("{name}: {measured:?}");
        assert_eq!(measured.code, code, "{name}: {measured:?}");
        assert_eq!(
            measured.code == "limit_exceeded",
            measured.said.ends_with("of the load limits"),
            "{name}: {measured:?}"
        );
        assert!(measured.memory < MEMORY, "{name}: {measured:?}");
        fs::remove_file(path).expect("a file");
    }
}

fn reader() -> ReaderProgram {
    ReaderProgram::new(env!("CARGO_BIN_EXE_stepwell-reader"))
}

/// A result in words, without what the two ways may tell apart.
fn told(result: Result<Document, stepwell_core::Error>) -> Result<Document, (&'static str, String)> {
    result.map_err(|error| (error.code(), error.to_string()))
}

#[test]
fn a_process_reads_as_a_thread_does() {
    let here = LoadLimits::default();
    let apart = LoadLimits::default().with_program(reader());
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    if let Some((_folder, out)) = hostile() {
        for name in names(&out) {
            let bytes = fs::read(out.join(&name)).expect("a file");
            files.push((name, bytes));
        }
    }
    for suite in ["docx.jsonl", "pdf.jsonl"] {
        let lines = fs::read_to_string(fixtures().join(suite)).unwrap_or_default();
        for line in lines.lines().step_by(8) {
            let case: Value = serde_json::from_str(line).expect("a case is JSON");
            let name = case["file"].as_str().expect("a name");
            files.push((name.to_owned(), fs::read(fixtures().join(name)).expect("a file")));
        }
    }
    files.push(("a.csv".to_owned(), b"a,b\n1,2\n".to_vec()));
    for (name, bytes) in files {
        let bytes = bytes::Bytes::from(bytes);
        let (one, other) = (load(&name, bytes.clone(), &here), load(&name, bytes, &apart));
        assert_eq!(told(one), told(other), "{name}");
    }
}

#[test]
fn what_breaks_a_process_costs_one_file() {
    let limits = LoadLimits::default()
        .with_memory_bytes(256 << 20)
        .with_time(Duration::from_mins(2))
        .with_program(reader());
    // Four million numbers; the parser takes a hundred bytes and more for each.
    let bomb = format!("[{}]", "0 ".repeat(4 << 20));
    let bytes = pdf(&[
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [] /Count 0 >>",
        &bomb,
    ]);
    let error = load("bomb.pdf", bytes, &limits).expect_err("too much memory");
    assert_eq!(error.code(), "unreadable");
    assert!(error.to_string().contains("more memory than 256 MiB"), "{error}");
    // Programs that are no readers: one says nothing, one says something else.
    for (program, args) in [
        ("true", &[][..]),
        ("echo", &["{\"document\":{\"id\":\"x\",\"text\":7}}"][..]),
    ] {
        let program = args.iter().fold(ReaderProgram::new(program), |program, arg| {
            program.arg(OsString::from(arg))
        });
        let limits = LoadLimits::default().with_program(program);
        let error = load("a.txt", &b"words"[..], &limits).expect_err("no reader");
        assert_eq!(error.code(), "unreadable");
    }
    // One that never ends.
    let hung = LoadLimits::default()
        .with_time(Duration::from_millis(50))
        .with_program(ReaderProgram::new("sleep").arg("600"));
    let begin = Instant::now();
    let error = load("a.txt", &b"words"[..], &hung).expect_err("no answer");
    assert_eq!(error.code(), "limit_exceeded");
    assert!(begin.elapsed() < Duration::from_secs(30));
    assert_eq!(
        load("a.txt", &b"words"[..], &limits).expect("still reads").text,
        "words"
    );
}

#[test]
fn nothing_that_a_file_names_is_fetched_or_opened() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let secret = folder.path().join("outside.txt");
    fs::write(&secret, CANARY).expect("a file");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a socket");
    let far = format!("http://{}/x", listener.local_addr().expect("an address"));
    for address in [
        far,
        format!("file://{}", secret.display()),
        secret.display().to_string(),
    ] {
        let page = format!(
            "<?xml version='1.0'?><!DOCTYPE d [<!ENTITY x SYSTEM '{address}'>]><?xml-stylesheet href='{address}'?><html><head>\
             <base href='{address}'/><link rel='stylesheet' href='{address}'/><script src='{address}'></script></head><body>words \
             <img src='{address}'/><iframe src='{address}'></iframe><object data='{address}'></object>&x;\
             <xi:include xmlns:xi='http://www.w3.org/2001/XInclude' href='{address}'/></body></html>"
        );
        let relations = format!(
            "<Relationships><Relationship Id='r1' Type='x/officeDocument' Target='{address}' TargetMode='External'/>\
             <Relationship Id='r2' Type='x/attachedTemplate' Target='{address}' TargetMode='External'/></Relationships>"
        );
        let word =
            "<w:document xmlns:w='u'><w:body><w:p><w:r><w:t>words</w:t></w:r></w:p></w:body></w:document>";
        let parts = |names: &[(&str, &str)]| -> Vec<(String, Vec<u8>)> {
            names
                .iter()
                .map(|(name, words)| ((*name).to_owned(), words.as_bytes().to_vec()))
                .collect()
        };
        let package = format!(
            "<!DOCTYPE p SYSTEM '{address}'><package><manifest><item id='a' href='{address}' media-type='text/html'/>\
             <item id='b' href='b' media-type='text/html'/></manifest><spine><itemref idref='a'/><itemref idref='b'/></spine></package>"
        );
        let container = "<container><rootfile full-path='book.opf'/></container>";
        let files = [
            ("a.html", page.clone().into_bytes()),
            (
                "a.md",
                format!("words ![x]({address}) [y]: {address}\n").into_bytes(),
            ),
            (
                "a.docx",
                archive(&parts(&[
                    ("_rels/.rels", &relations),
                    ("word/_rels/document.xml.rels", &relations),
                    ("word/document.xml", word),
                ])),
            ),
            (
                "a.epub",
                archive(&parts(&[
                    ("mimetype", "application/epub+zip"),
                    ("META-INF/container.xml", container),
                    ("book.opf", &package),
                    ("b", &page),
                ])),
            ),
            (
                "a.pdf",
                pdf(&[
                    &format!("<< /Type /Catalog /Pages 2 0 R /OpenAction << /S /URI /URI ({address}) >> >>"),
                    "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
                    "<< /Type /Page /Parent 2 0 R /Contents [4 0 R 5 0 R] >>",
                    &format!("<< /Length 0 /F ({address}) >>\nstream\n\nendstream"),
                    "<< /Length 25 >>\nstream\nBT /F 9 Tf (words) Tj ET \nendstream",
                ]),
            ),
            (
                "a.json",
                format!("{{\"$ref\": \"{address}\", \"x\": \"words\"}}").into_bytes(),
            ),
        ];
        for (name, bytes) in files {
            let document = load(name, bytes, &LoadLimits::default()).expect(name);
            assert!(document.text.contains("words"), "{name}: {}", document.text);
            assert!(!format!("{document:?}").contains(CANARY), "{name}");
        }
    }
    let dialled = listener.accept().map(|_| ()).expect_err("no connection");
    assert_eq!(dialled.kind(), ErrorKind::WouldBlock);
}
