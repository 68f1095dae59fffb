"""Makes the guides' other formats from their Markdown: storage.pdf, tools.docx, models.html.

Run it after editing one of these three:

    python3 -m venv .venv && .venv/bin/pip install fpdf2==2.8.9 python-docx==1.2.0 markdown==3.11.3
    .venv/bin/python docs/.make.py
"""

import datetime
import html
import pathlib
import re

import docx
import markdown
from fpdf import FPDF

HERE = pathlib.Path(__file__).parent
LONG_AGO = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)  # the same input gives the same bytes


def blocks(text):
    """(kind, words) of each heading, list item and paragraph."""
    for block in re.split(r"\n\s*\n", text.strip()):
        if heading := re.match(r"(#+) (.*)", block):
            yield f"h{len(heading[1])}", heading[2]
        elif block.startswith("- "):
            for item in re.split(r"\n(?=- )", block):
                yield "item", " ".join(item[2:].split())
        else:
            yield "text", " ".join(block.split())


def plain(words):
    return words.replace("`", "")


def pdf(text, path):
    page = FPDF(format="A4")
    page.set_creation_date(LONG_AGO)
    page.set_title(next(words for kind, words in blocks(text) if kind == "h1"))
    page.set_margin(25)
    page.add_page()
    for kind, words in blocks(text):
        size, style = {"h1": (20, "B"), "h2": (14, "B")}.get(kind, (11, ""))
        page.set_font("Helvetica", style=style, size=size)
        words = ("- " if kind == "item" else "") + plain(words)
        page.multi_cell(0, size * 0.5, words, new_x="LMARGIN", new_y="NEXT")
        page.ln(3)
    page.output(str(path))


def word(text, path):
    document = docx.Document()
    document.core_properties.author = "stepwell"
    document.core_properties.created = document.core_properties.modified = LONG_AGO.replace(tzinfo=None)
    for kind, words in blocks(text):
        if kind in ("h1", "h2"):
            document.add_heading(plain(words), level=int(kind[1]))
        elif kind == "item":
            document.add_paragraph(plain(words), style="List Bullet")
        else:
            document.add_paragraph(plain(words))
    document.save(str(path))


def web(text, path):
    title = html.escape(next(words for kind, words in blocks(text) if kind == "h1"))
    body = markdown.markdown(text)
    path.write_text(
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{title}</title></head>\n<body>\n{body}\n</body>\n</html>\n'
    )


pdf((HERE / "storage.md").read_text(), HERE / "storage.pdf")
word((HERE / "tools.md").read_text(), HERE / "tools.docx")
web((HERE / "models.md").read_text(), HERE / "models.html")
