//! PDF: lopdf reads the objects; the text is put together here, page by page.

mod cmap;
mod columns;
mod content;
mod font;
mod interpret;
mod layout;
mod open;
mod pages;

use lopdf::{Document as Pdf, Object};
use stepwell_core::{Document, PageSpan};

use self::font::Fonts;
use self::interpret::Interpreter;
use self::open::{open, unlisted};
use self::pages::Page;
use super::guard::Guard;
use super::refusal::Refusal;

pub(super) fn read(id: &str, bytes: &[u8], guard: &Guard) -> Result<Document, Refusal> {
    // Of several readings one is in memory at a time.
    let has_pages = match open(bytes, guard, false) {
        Ok(pdf) => {
            let pages = pages::of(&pdf, guard)?;
            if !pages.is_empty() && pages::has_tree(&pdf) {
                return document(id, &pdf, &pages, guard);
            }
            !pages.is_empty()
        }
        Err(refusal) if refusal == unlisted() => false,
        Err(refusal) => return Err(refusal),
    };
    // Its table of objects leads nowhere; the objects themselves may be there.
    let rebuilt = open(bytes, guard, true);
    if let Ok(pdf) = &rebuilt {
        let pages = pages::of(pdf, guard)?;
        if !pages.is_empty() && (pages::has_tree(pdf) || !has_pages) {
            return document(id, pdf, &pages, guard);
        }
    }
    if has_pages {
        drop(rebuilt);
        let pdf = open(bytes, guard, false)?;
        let pages = pages::of(&pdf, guard)?;
        return document(id, &pdf, &pages, guard);
    }
    rebuilt.and_then(|_| Err(Refusal::new("broken PDF: no pages")))
}

fn document(id: &str, pdf: &Pdf, pages: &[Page<'_>], guard: &Guard) -> Result<Document, Refusal> {
    let mut document = Document::new(id, "");
    let mut fonts = Fonts::new(pdf);
    for (number, page) in (1..).zip(pages) {
        let words = Interpreter::new(pdf, &mut fonts, guard).page(page)?;
        let words = words.trim();
        if !words.is_empty() && !document.text.is_empty() {
            document.text.push_str("\n\n");
        }
        let from = document.text.len();
        document.text.push_str(words);
        document
            .pages
            .push(PageSpan::new(number, from..document.text.len()));
        guard.text(document.text.len())?;
    }
    document.title = title(pdf);
    Ok(document)
}

/// The title it declares, unless a program put a file name there.
fn title(pdf: &Pdf) -> Option<String> {
    let (_, info) = pdf.dereference(pdf.trailer.get(b"Info").ok()?).ok()?;
    let (_, title) = pdf.dereference(info.as_dict().ok()?.get(b"Title").ok()?).ok()?;
    let Object::String(..) = title else { return None };
    let title = lopdf::decode_text_string(title).ok()?;
    let title = title.split_whitespace().collect::<Vec<_>>().join(" ");
    let is_made = title.is_empty()
        || title.starts_with("Microsoft Word - ")
        || title.eq_ignore_ascii_case("untitled")
        || title.chars().any(char::is_control);
    Some(title).filter(|_| !is_made)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A PDF of these objects, numbered from 1; the first is the catalog.
    pub(in super::super) fn pdf(objects: &[&str]) -> Vec<u8> {
        let mut out = b"%PDF-1.7\n".to_vec();
        let mut places = Vec::new();
        for (number, object) in (1..).zip(objects) {
            places.push(out.len());
            out.extend(format!("{number} 0 obj\n{object}\nendobj\n").bytes());
        }
        let table = out.len();
        out.extend(format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).bytes());
        for place in places {
            out.extend(format!("{place:010} 00000 n \n").bytes());
        }
        let size = objects.len() + 1;
        out.extend(format!("trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n").bytes());
        out
    }

    pub(in super::super) fn stream(content: &str, dictionary: &str) -> String {
        format!(
            "<< /Length {} {dictionary} >>\nstream\n{content}\nendstream",
            content.len()
        )
    }

    /// One page of this content in Helvetica `/F1`, with further objects from number 6 on.
    pub(in super::super) fn page(content: &str, more: &[&str]) -> Vec<u8> {
        let content = stream(content, "");
        let mut objects = vec![
            "<< /Type /Catalog /Pages 2 0 R >>",
            "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R /Resources << /Font << /F1 5 0 R /F2 6 0 R >> /XObject << /X 7 0 R >> >> >>",
            &content,
            "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        ];
        objects.extend(more);
        pdf(&objects)
    }

    pub(in super::super) fn text_of(bytes: &[u8]) -> String {
        read("a.pdf", bytes, &Guard::unbounded()).expect("a PDF").text
    }

    #[test]
    fn words_come_from_their_places() {
        let content = "BT /F1 12 Tf 14 TL 72 700 Td (Hello) Tj 40 0 Td (wor) Tj 18.7 0 Td (ld \\(caf\\351\\)) Tj T* (Next line) Tj \
                       0 -40 Td [(New par) -20 (agraph) -400 (here)] TJ ET";
        assert_eq!(
            text_of(&page(content, &[])),
            "Hello world (café)\nNext line\n\nNew paragraph here"
        );
    }

    #[test]
    fn codes_are_read_by_differences_and_maps() {
        let map = "/CIDInit /ProcSet findresource begin begincmap 1 begincodespacerange <0000> <FFFF> endcodespacerange \
                   2 beginbfchar <0001> <00480069> <0002> <D83DDE00> endbfchar \
                   2 beginbfrange <0010> <0012> <0061> <0020> <0021> [<0031> <0032>] endbfrange endcmap";
        let map = stream(map, "");
        let fonts = [
            "<< /Type /Font /Subtype /Type1 /BaseFont /X /Encoding << /Differences [1 /fi /uni00E9 /a.alt /f_f_i /nosuchglyph] >> >>",
            "<< /Type /Font /Subtype /Type0 /BaseFont /Y /Encoding /Identity-H /ToUnicode 8 0 R /DescendantFonts [<< /Type /Font /Subtype /CIDFontType2 /DW 500 >>] >>",
            &map,
        ];
        let content = "BT /F1 10 Tf 10 700 Td (plain) Tj /F2 10 Tf 0 -12 Td <0102030405> Tj ET";
        assert_eq!(text_of(&page(content, &fonts)), "plain\nfiéaffi");
        let bytes = String::from_utf8(page(
            "BT /F2 10 Tf 10 700 Td <000100020010001100120020> Tj ET",
            &fonts,
        ))
        .expect("ASCII");
        let bytes = bytes.replace("/F2 6 0 R", "/F2 7 0 R");
        assert_eq!(text_of(bytes.as_bytes()), "Hi😀abc1");
    }

    #[test]
    fn forms_are_read_once_and_loops_end() {
        let form = stream(
            "BT /F1 10 Tf 0 0 Td (inside) Tj ET /X Do /X Do",
            "/Type /XObject /Subtype /Form /BBox [0 0 9 9]",
        );
        let bytes = page(
            "BT /F1 10 Tf 10 700 Td (before) Tj ET q 1 0 0 1 10 600 cm /X Do Q",
            &["null", &form],
        );
        assert_eq!(text_of(&bytes), "before\n\ninside");
    }

    #[test]
    fn pages_have_spans_and_an_empty_one_takes_none() {
        let (one, two) = (
            stream("BT /F 9 Tf (one) Tj ET", ""),
            stream("BT /F 9 Tf (two) Tj ET", ""),
        );
        let bytes = pdf(&[
            "<< /Type /Catalog /Pages 2 0 R >>",
            "<< /Type /Pages /Kids [<< /Type /Page /Contents 3 0 R >> << /Type /Page >> 5 0 R] /Count 3 >>",
            &one,
            &two,
            "<< /Type /Page /Contents [4 0 R] >>",
        ]);
        let document = read("a.pdf", &bytes, &Guard::unbounded()).expect("a PDF");
        assert_eq!(document.text, "one\n\ntwo");
        assert_eq!(
            (document.page(0), document.page(2), document.page(5)),
            (Some(1), Some(1), Some(3))
        );
        assert_eq!(document.pages.len(), 3);
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        for (bytes, reason) in [
            (&b"no PDF at all"[..], "broken PDF: invalid file header"),
            (b"%PDF-1.4\nnothing", "broken PDF: no table of its objects"),
        ] {
            assert_eq!(
                read("a.pdf", bytes, &Guard::unbounded())
                    .expect_err("broken")
                    .reason(),
                reason
            );
        }
    }
}
