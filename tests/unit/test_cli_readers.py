"""Small real files of every format, made here, and what comes out of them."""

import io
import zipfile
from pathlib import Path

import docx
import pytest
from pypdf import PdfReader, PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from cli.readers.html_page import page_text
from cli.readers.markdown import markdown_title
from cli.readers.reader import ReadDocument, ReadFailure, Skipped, SourceFile
from cli.readers.registry import read_file, reader_name
from cli.readers.restructured_text import section_title

MAX_BYTES = 1 << 20


def read(path: Path, content: bytes | None = None, *, named: bool = False, max_bytes: int = MAX_BYTES):
    if content is not None:
        path.write_bytes(content)
    file = SourceFile(path, path.name, str(path.parent), path.stat().st_size)
    return list(read_file(file, max_bytes=max_bytes, named=named))


def only_document(items):
    assert [type(item) for item in items] == [ReadDocument]
    return items[0].document


def pdf_bytes(pages, title=None, password=None):
    writer = PdfWriter()
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
        }
    )
    for text in pages:
        page = writer.add_blank_page(300, 300)
        fonts = DictionaryObject({NameObject("/F1"): font})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        stream = DecodedStreamObject()
        stream.set_data(f"BT /F1 12 Tf 20 200 Td ({text}) Tj ET".encode() if text else b"")
        page[NameObject("/Contents")] = writer._add_object(stream)
    if title:
        writer.add_metadata({"/Title": title})
    if password:
        writer.encrypt(password, algorithm="RC4-128")
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def test_plain_text_is_kept_as_it_is(tmp_path):
    document = only_document(read(tmp_path / "a.txt", b"one\r\ntwo\n\n  three"))
    assert document.text == "one\ntwo\n\n  three"
    assert (document.doc_id, document.title) == ("a.txt", "")
    assert document.metadata == {"path": "a.txt", "extension": ".txt", "_root": str(tmp_path)}


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", "naïve – 日本語"),
        ("utf-8-sig", "naïve with a mark"),
        ("utf-16", "naïve with a mark"),
        ("utf-16-le", "naive words without a mark"),
        ("utf-32", "naïve – 日本語"),
        ("cp1252", "“Smart quotes” – a café, naïve and déjà vu"),
        ("latin-1", "Größe und Maße: schöne Grüße aus Köln"),
        ("cp1251", "Привет, мир! Это обычный текст на русском языке."),
        ("shift_jis", "日本語のテキストです。検索エンジンを試します。"),
    ],
)
def test_text_is_decoded_whatever_its_encoding(tmp_path, encoding, text):
    assert only_document(read(tmp_path / "a.txt", text.encode(encoding))).text == text


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.txt", b"text\0with a NUL and more", "binary"),
        ("picture.png", b"\x89PNG\r\n\x1a\n\0\0", "binary"),
        ("notes.unknown", b"plain words", "unknown type"),
        ("empty.md", b"  \n", "empty"),
        ("empty.json", b"", "empty"),
    ],
)
def test_what_is_not_text_is_skipped_with_its_reason(tmp_path, name, content, reason):
    assert read(tmp_path / name, content) == [Skipped(name, reason, len(content))]


def test_named_file_of_unknown_type_is_read_as_text(tmp_path):
    assert only_document(read(tmp_path / "notes.unknown", b"plain words", named=True)).text == "plain words"
    assert read(tmp_path / "blob.bin", b"\0\1\2", named=True) == [Skipped("blob.bin", "binary", 3)]


def test_markdown_keeps_its_text_and_takes_the_first_heading_as_title(tmp_path):
    text = "```\n# not this\n```\n\n# The *real* `title`\n\nbody"
    document = only_document(read(tmp_path / "a.md", text.encode()))
    assert (document.title, document.text) == ("The real title", text)


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ('---\ntitle: "From: the front"\n---\n# heading', "From: the front"),
        ("---\ntags: [a]\n---\n# heading", "heading"),
        ("Setext title\n====\n", "Setext title"),
        ("no heading at all", ""),
        ("#\n\n## Second", "Second"),
    ],
)
def test_markdown_titles(text, title):
    assert markdown_title(text) == title


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("=====\nTitle\n=====\n\nbody", "Title"),
        (".. comment\n\nThe ``code`` of :ref:`things`\n=============================\n", "The code of things"),
        ("a paragraph\nof two lines\n----", ""),
        ("Short\n--", ""),
        ("just words", ""),
    ],
)
def test_restructured_text_titles(text, title):
    assert section_title(text) == title


def test_restructured_text_keeps_what_directives_hold(tmp_path):
    text = "Title\n=====\n\n.. versionadded:: 3.4\n   Sphinx words stay.\n"
    document = only_document(read(tmp_path / "a.rst", text.encode()))
    assert (document.title, document.text) == ("Title", text)


def test_html_gives_its_visible_text_in_blocks():
    page = """<html><head><title> The
      page </title><style>p { color: red }</style></head><body><script>var hidden = 1</script>
      <h1>Heading</h1><p>First <b>bold</b>
      paragraph &amp; more.</p><p hidden>unseen</p><ul><li>one</li><li>two</li></ul>
      <table><tr><td>cell a</td><td>cell b</td></tr></table><pre>line 1
  line 2</pre>after<br>break<!-- comment --></body></html>"""
    title, text = page_text(page)
    assert title == "The page"
    assert text == (
        "Heading\n\nFirst bold paragraph & more.\n\none\ntwo\n\ncell a cell b\n\nline 1\nline 2\n\nafter\nbreak"
    )


@pytest.mark.parametrize(
    ("page", "text"),
    [
        (b"<p>unclosed <p>next &eacute; <b>x</p>", "unclosed\n\nnext é x"),
        (b"just words, no tags", "just words, no tags"),
        ('<meta charset="iso-8859-1"><p>caf\xe9 cr\xe8me'.encode("latin-1"), "café crème"),
        ("<p>日本語</p>".encode(), "日本語"),
        ('<?xml version="1.0" encoding="UTF-8"?><html><body><p>é</p></body></html>'.encode(), "é"),
        (b"<div>" * 300 + b"deep" + b"</div>" * 300, "deep"),
    ],
)
def test_html_as_it_is_found(tmp_path, page, text):
    assert only_document(read(tmp_path / "a.html", page)).text == text


def test_html_nested_beyond_the_parser_is_refused_and_not_cut(tmp_path):
    (failure,) = read(tmp_path / "a.html", b"<div>" * 9000 + b"the words" + b"</div>" * 9000)
    assert isinstance(failure, ReadFailure)
    assert "nested too deep" in failure.reason


def test_pdf_gives_title_pages_and_their_text(tmp_path):
    document = only_document(read(tmp_path / "a.pdf", pdf_bytes(["First page", "Second page"], title="A report")))
    assert document.title == "A report"
    assert document.text == "First page\n\nSecond page"
    assert document.metadata["pages"] == 2


def whole_pdf_cut_short():
    return pdf_bytes(["words"])[:60]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (pdf_bytes(["secret"], password="pw"), "encrypted"),
        (whole_pdf_cut_short(), "damaged PDF"),
        (b"not a pdf at all", "damaged PDF"),
        (b"", "damaged PDF"),
        (pdf_bytes([""]), "none of its 1 pages has text"),
    ],
)
def test_pdf_that_cannot_be_read_says_why(tmp_path, content, reason):
    (failure,) = read(tmp_path / "a.pdf", content)
    assert isinstance(failure, ReadFailure)
    assert reason in failure.reason


def test_pdf_encrypted_without_a_password_is_read(tmp_path):
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf_bytes(["open to all"]))))
    writer.encrypt(user_password="", owner_password="owner", algorithm="RC4-128")
    writer.write(tmp_path / "a.pdf")
    assert only_document(read(tmp_path / "a.pdf")).text == "open to all"


def test_docx_gives_paragraphs_and_tables_in_order(tmp_path):
    word = docx.Document()
    word.core_properties.title = ""
    word.add_heading("The report", level=1)
    word.add_paragraph("Before the table.")
    table = word.add_table(rows=2, cols=2)
    for number, cell in enumerate(cell for row in table.rows for cell in row.cells):
        cell.text = f"cell {number}"
    word.add_paragraph("After\tthe table.")
    word.save(tmp_path / "a.docx")
    document = only_document(read(tmp_path / "a.docx"))
    assert document.title == "The report"
    assert document.text == ("The report\n\nBefore the table.\n\ncell 0 | cell 1\ncell 2 | cell 3\n\nAfter\tthe table.")


def test_docx_text_in_content_controls_and_insertions_is_not_lost(tmp_path):
    word = docx.Document()
    paragraph = word.add_paragraph("kept ")
    xml = paragraph._p
    word_space = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    from docx.oxml import parse_xml

    xml.append(parse_xml(f"<w:ins {word_space}><w:r><w:t>inserted</w:t></w:r></w:ins>"))
    xml.append(parse_xml(f"<w:del {word_space}><w:r><w:delText>deleted</w:delText></w:r></w:del>"))
    xml.addnext(
        parse_xml(f"<w:sdt {word_space}><w:sdtContent><w:p><w:r><w:t>control</w:t></w:r></w:p></w:sdtContent></w:sdt>")
    )
    word.save(tmp_path / "a.docx")
    assert only_document(read(tmp_path / "a.docx")).text == "kept inserted\n\ncontrol"


def test_damaged_docx_says_so(tmp_path):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as package:
        package.writestr("nothing.txt", "no document here")
    for content, reason in ((b"PK\x03\x04 cut", "not a DOCX"), (archive.getvalue(), "damaged DOCX")):
        (failure,) = read(tmp_path / "a.docx", content)
        assert isinstance(failure, ReadFailure)
        assert reason in failure.reason


@pytest.mark.parametrize(
    ("name", "language"),
    [("a.py", "python"), ("b.TSX", "tsx"), ("Makefile", "make"), ("Dockerfile", "dockerfile"), ("x.cu", "cpp")],
)
def test_source_code_is_titled_by_its_path(tmp_path, name, language):
    document = only_document(read(tmp_path / name, b"x = 1\n"))
    assert (document.title, document.metadata["language"]) == (name, language)


def test_too_large_file_is_refused_with_the_limit(tmp_path):
    (failure,) = read(tmp_path / "a.txt", b"x" * 2000, max_bytes=1000)
    assert isinstance(failure, ReadFailure)
    assert "--max-file-mb" in failure.reason
    assert len(read(tmp_path / "a.jsonl", b'{"text": "row"}\n' * 200, max_bytes=1000)) == 200


def test_unreadable_file_is_a_failure_and_not_an_exception(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("words")

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert read(path) == [ReadFailure("a.txt", "Permission denied", 5)]


def test_every_format_of_the_contract_has_a_reader():
    prose = (".txt", ".md", ".rst", ".html", ".pdf", ".docx", ".csv", ".json", ".jsonl")
    code = (".py", ".js", ".ts", ".go", ".rs", ".java", ".c", ".cpp")
    for extension in (*prose, *code):
        assert reader_name(f"folder/name{extension}") is not None
    assert reader_name("README") == "plain_text"
    assert reader_name("data.parquet") is None
