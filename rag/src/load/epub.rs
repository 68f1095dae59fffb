//! EPUB: the pages of the book's spine, one after the other.

use std::collections::{HashMap, HashSet};

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use stepwell_core::{Document, Heading};

use super::archive::Archive;
use super::guard::Guard;
use super::html;
use super::refusal::Refusal;
use super::xml::{self, attribute, resolve};

/// How many events pass between two looks at the clock.
const PACE: usize = 1024;
/// Longest title that is kept, in bytes.
const LONGEST_TITLE: usize = 4096;

pub(super) fn read(id: &str, bytes: &[u8], guard: &Guard) -> Result<Document, Refusal> {
    let mut archive = Archive::open(bytes, "EPUB", guard)?;
    let broken = |what: &'static str| Refusal::new(format!("broken EPUB: {what}"));
    let container = archive
        .text("META-INF/container.xml")?
        .ok_or_else(|| broken("it holds no META-INF/container.xml"))?;
    let package_path = package_path(&container, guard)?
        .filter(|path| archive.has(path))
        .ok_or_else(|| broken("its container leads to no package"))?;
    let package = archive
        .text(&package_path)?
        .ok_or_else(|| broken("its package cannot be read"))?;
    let package = Package::read(&package, guard)?;
    let locked = match archive.text("META-INF/encryption.xml")? {
        Some(xml) => encrypted_parts(&xml, guard)?,
        None => HashSet::new(),
    };
    let folder = package_path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut document = Document::new(id, "");
    // A page may stand in the spine twice; a book that repeats one does so to grow.
    let mut seen = HashSet::new();
    for idref in &package.spine {
        guard.check()?;
        let Some(path) = package.pages.get(idref).map(|href| resolved(folder, href)) else {
            continue;
        };
        if !seen.insert(path.clone()) {
            continue;
        }
        if locked.contains(&path) {
            return Err(Refusal::new(
                "encrypted EPUB; its publisher protects it against copies",
            ));
        }
        let Some(page) = archive.bytes(&path)? else {
            continue;
        };
        append(&mut document, html::read_page(&page, true, guard)?);
        guard.text(document.text.len())?;
    }
    document.title = package
        .title
        .or_else(|| document.headings.first().map(|heading| heading.title.clone()));
    Ok(document)
}

fn append(document: &mut Document, page: html::PageText) {
    if page.text.is_empty() {
        return;
    }
    if !document.text.is_empty() {
        document.text.push_str("\n\n");
    }
    let from = document.text.len();
    document.text.push_str(&page.text);
    let moved = page.headings.into_iter().map(|heading| {
        let span = from + heading.span.start..from + heading.span.end;
        Heading::new(heading.level, heading.title, span)
    });
    document.headings.extend(moved);
}

/// Walks the tags of a part; words come with the name of the element they stand in.
fn each(xml: &str, guard: &Guard, mut act: impl FnMut(Part<'_, '_>)) -> Result<(), Refusal> {
    let mut reader = Reader::from_str(xml);
    let (mut count, mut depth) = (0_usize, 0_usize);
    loop {
        count += 1;
        if count.is_multiple_of(PACE) {
            guard.check()?;
        }
        match reader.read_event().map_err(|_| xml::broken("EPUB"))? {
            Event::Start(tag) => {
                depth += 1;
                if depth > guard.limits.nesting {
                    return Err(guard.limits.too_deep());
                }
                act(Part::Start(tag.local_name().into_inner(), &tag));
            }
            Event::Empty(tag) => {
                let name = tag.local_name().into_inner();
                act(Part::Start(name, &tag));
                act(Part::End(name));
            }
            Event::End(tag) => {
                depth = depth.saturating_sub(1);
                act(Part::End(tag.local_name().into_inner()));
            }
            Event::Text(words) => act(Part::Words(&words.into_inner())),
            Event::CData(words) => act(Part::Words(&words.into_inner())),
            Event::GeneralRef(name) => {
                if let Some(sign) = resolve(&name) {
                    act(Part::Words(sign.encode_utf8(&mut [0; 4])));
                }
            }
            // Entities of its own are declared there: none is read, and none is asked for.
            Event::DocType(_) | Event::Comment(_) | Event::PI(_) | Event::Decl(_) => {}
            Event::Eof => return Ok(()),
        }
    }
}

enum Part<'a, 'x> {
    Start(&'a str, &'a BytesStart<'x>),
    End(&'a str),
    Words(&'a str),
}

/// Where the book's package lies.
fn package_path(container: &str, guard: &Guard) -> Result<Option<String>, Refusal> {
    let mut found = None;
    each(container, guard, |part| {
        if let Part::Start("rootfile", tag) = part
            && found.is_none()
        {
            found = attribute(tag, "full-path");
        }
    })?;
    Ok(found)
}

/// The parts that are encrypted, but for fonts: those are only disguised, and not read.
fn encrypted_parts(encryption: &str, guard: &Guard) -> Result<HashSet<String>, Refusal> {
    let mut found = HashSet::new();
    each(encryption, guard, |part| {
        if let Part::Start("CipherReference", tag) = part
            && let Some(href) = attribute(tag, "URI")
        {
            found.insert(resolved("", &href));
        }
    })?;
    Ok(found)
}

/// What the package says of the book.
#[derive(Debug, Default)]
struct Package {
    title: Option<String>,
    /// The addresses of pages by their ids.
    pages: HashMap<String, String>,
    /// The ids of pages in reading order.
    spine: Vec<String>,
}

impl Package {
    fn read(xml: &str, guard: &Guard) -> Result<Self, Refusal> {
        let (mut package, mut title, mut in_title) = (Self::default(), String::new(), false);
        each(xml, guard, |part| match part {
            Part::Start("title", _) => in_title = title.is_empty(),
            Part::End("title") => in_title = false,
            Part::Words(words) if in_title && title.len() + words.len() <= LONGEST_TITLE => {
                title.push_str(words);
            }
            Part::Start("item", tag) => {
                let is_page = attribute(tag, "media-type")
                    .is_some_and(|kind| kind == "application/xhtml+xml" || kind == "text/html");
                if let (true, Some(id), Some(href)) = (is_page, attribute(tag, "id"), attribute(tag, "href"))
                {
                    package.pages.insert(id, href);
                }
            }
            Part::Start("itemref", tag) => package.spine.extend(attribute(tag, "idref")),
            _ => {}
        })?;
        let title = title.split_whitespace().collect::<Vec<_>>().join(" ");
        package.title = Some(title).filter(|title| !title.is_empty());
        Ok(package)
    }
}

/// The name of a part by its address below a folder. It is only ever looked up in the archive: one that leads out of it,
/// or to a server, names nothing there.
fn resolved(folder: &str, href: &str) -> String {
    let href = href.split(['#', '?']).next().unwrap_or_default();
    let href = unescaped(href);
    let whole = match href.strip_prefix('/') {
        Some(from_root) => from_root.to_owned(),
        None => format!("{folder}/{href}"),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// `%20` and its like.
fn unescaped(href: &str) -> String {
    let mut out = Vec::with_capacity(href.len());
    let mut rest = href.as_bytes();
    while let [byte, after @ ..] = rest {
        let digits = after.get(..2).filter(|_| *byte == b'%');
        let code = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let (byte, taken) = code.map_or((*byte, 0), |code| (code, 2));
        out.push(byte);
        rest = &after[taken..];
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{Cursor, Write};

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    /// A book of these parts.
    pub(in super::super) fn book(parts: &[(&str, &str)]) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        let container =
            "<container><rootfiles><rootfile full-path='OEBPS/book.opf'/></rootfiles></container>";
        let given = [
            ("mimetype", "application/epub+zip"),
            ("META-INF/container.xml", container),
        ];
        for (name, words) in given.iter().chain(parts) {
            zip.start_file(*name, stored).expect("a part");
            zip.write_all(words.as_bytes()).expect("its words");
        }
        zip.finish().expect("an archive").into_inner()
    }

    pub(in super::super) const PACKAGE: &str = "<?xml version='1.0'?><package><metadata xmlns:dc='d'><dc:title>A &amp; B</dc:title>\
        <dc:title>Subtitle</dc:title></metadata><manifest>\
        <item id='two' href='text/two%20pages.xhtml' media-type='application/xhtml+xml'/>\
        <item id='one' href='one.xhtml' media-type='application/xhtml+xml'/>\
        <item id='out' href='../../../canary' media-type='application/xhtml+xml'/>\
        <item id='far' href='http://127.0.0.1:9/x' media-type='application/xhtml+xml'/>\
        <item id='css' href='a.css' media-type='text/css'/></manifest>\
        <spine><itemref idref='one'/><itemref idref='css'/><itemref idref='out'/><itemref idref='far'/><itemref idref='gone'/>\
        <itemref idref='two'/><itemref idref='one'/></spine></package>";

    #[test]
    fn chapters_come_in_the_order_of_the_spine_with_their_headings() {
        let bytes = book(&[
            ("OEBPS/book.opf", PACKAGE),
            (
                "OEBPS/text/two pages.xhtml",
                "<html><body><h2>Two</h2><p>last</p></body></html>",
            ),
            (
                "OEBPS/one.xhtml",
                "<?xml version='1.0'?><html><head><title/></head><body><h1>One</h1><p>first</p></body></html>",
            ),
        ]);
        let document = read("a.epub", &bytes, &Guard::unbounded()).expect("a book");
        assert_eq!(document.title.as_deref(), Some("A & B"));
        assert_eq!(document.text, "One\n\nfirst\n\nTwo\n\nlast");
        let seen: Vec<_> = document
            .headings
            .iter()
            .map(|heading| (heading.level, &document.text[heading.span.clone()]))
            .collect();
        assert_eq!(seen, [(1, "One"), (2, "Two")]);
    }

    #[test]
    fn a_book_that_cannot_be_read_says_why() {
        let locked = "<encryption><EncryptedData><CipherData><CipherReference URI='OEBPS/one.xhtml'/></CipherData></EncryptedData></encryption>";
        let page = ("OEBPS/one.xhtml", "<p>x</p>");
        for (parts, reason) in [
            (&[][..], "broken EPUB: its container leads to no package"),
            (
                &[
                    ("OEBPS/book.opf", PACKAGE),
                    page,
                    ("META-INF/encryption.xml", locked),
                ],
                "encrypted EPUB; its publisher protects it against copies",
            ),
            (
                &[("OEBPS/book.opf", "<package><a></b></package>")],
                "broken EPUB: its XML is not well formed",
            ),
        ] {
            let refusal = read("a.epub", &book(parts), &Guard::unbounded()).expect_err("refused");
            assert_eq!(refusal.reason(), reason);
        }
        assert_eq!(
            read("a.epub", b"PK", &Guard::unbounded())
                .expect_err("refused")
                .reason(),
            "broken EPUB: no whole ZIP archive"
        );
    }

    #[test]
    fn an_address_never_leads_out_of_the_archive() {
        for (folder, href, name) in [
            ("OEBPS", "a/b.xhtml#x", "OEBPS/a/b.xhtml"),
            ("OEBPS", "../a.xhtml", "a.xhtml"),
            ("OEBPS", "../../../etc/x", "etc/x"),
            ("", "/a%2Fb%zz", "a/b%zz"),
            ("OEBPS", "file:///etc/x", "OEBPS/file:/etc/x"),
        ] {
            assert_eq!(resolved(folder, href), name);
        }
    }
}
