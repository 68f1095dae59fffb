//! What has to hold for every file: [`targets`] for a fuzzer, and the same for its first inputs as a test.
//!
//! A target takes any bytes. The first says what the file is called, or whether the rest is an archive or a part of one.

use std::time::Duration;

use stepwell_core::Document;

use crate::load::{Format, LoadLimits, read_as};

/// Words that matter to readers.
pub const WORDS: [&str; 44] = [
    "endstream",
    "endobj",
    "/Contents",
    "/Kids",
    "/Filter",
    "/FlateDecode",
    "/ToUnicode",
    "begincodespacerange",
    "endbfrange",
    "BT",
    "ET",
    "Tj",
    "TJ",
    "Td",
    "Tm",
    "Do",
    "ID",
    "EI",
    "startxref",
    "trailer",
    "<w:p>",
    "<w:tbl>",
    "<w:del>",
    "w:vanish",
    "<!DOCTYPE",
    "<![CDATA[",
    "<pre>",
    "<textarea>",
    "<plaintext>",
    "hidden",
    "display:none",
    "charset=utf-16",
    "&#x1F600;",
    "<itemref idref=",
    "full-path=",
    "\"\"",
    "sep=;",
    "\r\n",
    "{\"a\":[",
    "\\ud800",
    "1e999",
    "impl A {",
    "#[test]",
    "class A:",
];

/// Names that a file of source code may have.
const CODE: [&str; 8] = [
    "a.rs", "a.py", "a.ts", "a.c", "a.java", "a.toml", "a.yaml", "a.sh",
];

/// Names of the targets.
pub fn targets() -> Vec<&'static str> {
    Format::ALL.into_iter().map(target).collect()
}

fn target(format: Format) -> &'static str {
    match format {
        Format::Text => "read_text",
        Format::Markdown => "read_markdown",
        Format::Code => "read_code",
        Format::Csv => "read_csv",
        Format::Json => "read_json",
        Format::JsonLines => "read_json_lines",
        Format::Html => "read_html",
        Format::Pdf => "read_pdf",
        Format::Docx => "read_docx",
        Format::Epub => "read_epub",
    }
}

/// First inputs of a target.
pub fn seeds(name: &str) -> Vec<Vec<u8>> {
    let with = |seed: u8, body: &str| [&[seed], body.as_bytes()].concat();
    match name {
        "read_markdown" => vec![with(
            0,
            "---\na: b\n---\n# A `b`\n\n> * c\n\nSet\n---\n|a|b|\n|-|-|\n",
        )],
        "read_code" => vec![
            with(
                0,
                "/// A.\n#[b]\nimpl A {\n    pub const fn b(&self) -> u8 {\n    }\n}\n",
            ),
            with(1, "@a\nclass A(B):\n    async def b(self):\n        pass\n"),
            with(
                2,
                "export const a = async (b) => {\n};\nclass A {\n  b(c: d) {\n  }\n}\n",
            ),
            with(3, "static int a(void)\n{\n}\n"),
            with(5, "[a]\nb = 1\n"),
            with(6, "a:\n  b: c\n"),
        ],
        "read_csv" => vec![
            with(0, "a,b\r\n1,\"x\n\"\"y\"\"\"\r\n,2,3\n"),
            with(0, "sep=;\na;b\n1;2\n"),
            with(0, "a\tb\n\"\n"),
        ],
        "read_json" => vec![
            with(
                0,
                "[{\"a\": {\"b\": [1, 2.5, {\"c\": null}]}}, true, \"\\u00e9\\r\"]",
            ),
            with(0, "{\"a\": 1, \"a\": []}"),
        ],
        "read_json_lines" => vec![with(0, "{\"a\": 1}\n\n[1, 2]\nbroken\n")],
        "read_html" => vec![
            with(
                0,
                "<?xml?><html><head><title/>a</head><body><h1>b</h1><table><tr><td>c<td>d</table><pre>\n e</pre>",
            ),
            with(
                0,
                "<p hidden>a<p>b<br>&eacute;<textarea></p></textarea><svg><title>c</title></svg><plaintext>",
            ),
        ],
        "read_pdf" => vec![
            with(
                0,
                "BT /F1 12 Tf 14 TL 72 700 Td (Hello) Tj T* [(a) -300 <62>] TJ ET q 1 0 0 1 5 5 cm /X Do Q BI ID x EI",
            ),
            with(
                1,
                "%PDF-1.4\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n2 0 obj\n<< /Type /Pages /Kids [3 0 R] /Count 1 >>\nendobj\n3 0 obj\n<< /Type /Page /Contents 4 0 R >>\nendobj\n4 0 obj\n<< /Length 24 >>\nstream\nBT /F 9 Tf (words) Tj ET\nendstream\nendobj\ntrailer\n<< /Root 1 0 R >>\n",
            ),
            with(
                2,
                "1 begincodespacerange <00> <FFFF> endcodespacerange 1 beginbfrange <0041> <0043> [<0061> <D83DDE00>] endbfrange",
            ),
        ],
        "read_docx" => vec![with(
            0,
            "<w:document xmlns:w='u'><w:body><w:p><w:pPr><w:pStyle w:val='Heading1'/></w:pPr><w:r><w:t>a &amp; b</w:t></w:r></w:p>\
             <w:tbl><w:tr><w:tc><w:p><w:r><w:t>c</w:t><w:footnoteReference w:id='1'/></w:r></w:p></w:tc></w:tr></w:tbl></w:body></w:document>",
        )],
        "read_epub" => vec![with(
            0,
            "<package><metadata><title>a</title></metadata><manifest><item id='p' href='p' media-type='text/html'/></manifest><spine><itemref idref='p'/></spine></package>\0<html><title/><h1>b</h1>c",
        )],
        _ => vec![
            with(0, "a\r\nb\u{FEFF}\u{E0041}"),
            [&[0], &b"\xFF\xFEa\0b\0"[..]].concat(),
        ],
    }
}

/// Runs a target.
///
/// # Panics
/// Where a promise is broken, or there is no target of that name.
pub fn check(name: &str, data: &[u8]) {
    let format = Format::ALL.into_iter().find(|format| target(*format) == name);
    let format = format.expect("a name among `targets`");
    let (seed, body) = data.split_first().map_or((0, data), |(seed, body)| (*seed, body));
    let (file, bytes) = match format {
        Format::Code => (CODE[usize::from(seed) % CODE.len()], body.to_vec()),
        Format::Docx if seed.is_multiple_of(2) => ("a.docx", archive(&[("word/document.xml", body)])),
        Format::Epub if seed.is_multiple_of(2) => ("a.epub", book(body)),
        Format::Pdf if seed % 3 != 1 => ("a.pdf", pdf(body, seed % 3 == 2)),
        _ => ("a", body.to_vec()),
    };
    let limits = LoadLimits::new()
        .with_time(Duration::from_secs(10))
        .with_text_bytes(1 << 20);
    match read_as(format, file, bytes, &limits) {
        Ok(document) => is_sound(&document),
        Err(error) => assert!(!error.to_string().ends_with("its reader failed"), "{error}"),
    }
}

fn is_sound(document: &Document) {
    let text = &document.text;
    assert!(!text.trim().is_empty() && text.len() <= 1 << 20 && !text.contains(['\r', '\u{E0041}']));
    for heading in &document.headings {
        let words = text.get(heading.span.clone()).expect("a slice of the text");
        assert!(
            !words.trim().is_empty() && !heading.title.trim().is_empty() && heading.level > 0,
            "{heading:?}"
        );
    }
    for page in &document.pages {
        assert!(text.get(page.span.clone()).is_some(), "{page:?}");
    }
    let mut headings = document.headings.windows(2);
    assert!(headings.all(|two| two[0].span.end <= two[1].span.start));
    let mut pages = document.pages.windows(2);
    assert!(pages.all(|two| two[0].span.end <= two[1].span.start));
}

fn archive(parts: &[(&str, &[u8])]) -> Vec<u8> {
    use std::io::Write;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in parts {
        zip.start_file(*name, stored).expect("a part in memory");
        zip.write_all(bytes).expect("its bytes in memory");
    }
    zip.finish().expect("an archive in memory").into_inner()
}

/// A book of a package, a zero byte and a page.
fn book(body: &[u8]) -> Vec<u8> {
    let mut parts = body.splitn(2, |byte| *byte == 0);
    let (package, page) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    archive(&[
        ("mimetype", b"application/epub+zip"),
        (
            "META-INF/container.xml",
            b"<container><rootfile full-path='b.opf'/></container>",
        ),
        ("b.opf", package),
        ("p", page),
    ])
}

/// A file of one page that draws this; or of a font that maps its codes so.
fn pdf(body: &[u8], is_map: bool) -> Vec<u8> {
    let words: &[u8] = if is_map {
        b"BT /F1 9 Tf <0041004200430001> Tj ET"
    } else {
        body
    };
    let map: &[u8] = if is_map { body } else { b"" };
    let stream = |words: &[u8], dictionary: &str| {
        let head = format!("<< /Length {} {dictionary} >>\nstream\n", words.len());
        [head.as_bytes(), words, b"\nendstream"].concat()
    };
    let objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(),
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_vec(),
        b"<< /Type /Page /Parent 2 0 R /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> /XObject << /X 6 0 R >> >> >>".to_vec(),
        stream(words, ""),
        b"<< /Type /Font /Subtype /Type0 /BaseFont /A /Encoding /Identity-H /ToUnicode 7 0 R /DescendantFonts [<< /DW 500 >>] >>".to_vec(),
        stream(words, "/Subtype /Form /Matrix [0 1 -1 0 5 5]"),
        stream(map, ""),
    ];
    let mut out = b"%PDF-1.7\n".to_vec();
    let mut places = Vec::new();
    for (number, object) in (1..).zip(&objects) {
        places.push(out.len());
        out.extend(format!("{number} 0 obj\n").bytes());
        out.extend(object);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_inputs_and_their_beginnings_keep_the_promises() {
        for name in targets() {
            let seeds = seeds(name);
            assert!(!seeds.is_empty());
            for seed in seeds {
                for length in (0..=seed.len()).rev().step_by(7) {
                    check(name, &seed[..length]);
                }
            }
        }
    }
}
