"""JSON Lines, JSON and CSV: one document a row, and what is wrong is reported by row."""

import csv

import pytest

from cli.readers.csv_rows import cell_value, find_delimiter
from cli.readers.reader import ReadDocument, ReadFailure
from cli.readers.rows import MalformedRow, document_from_row, parse_json
from tests.unit.test_cli_readers import only_document, read

OURS = {"_root", "_file"}


def own_metadata(document):
    return {name: value for name, value in document.metadata.items() if name not in OURS}


def test_jsonl_fields_become_a_document(tmp_path):
    line = b'{"_id": "d1", "title": "T", "text": "words", "year": 2020, "tags": ["a", "b"], "ok": true, "none": null}\n'
    document = only_document(read(tmp_path / "a.jsonl", line))
    assert (document.doc_id, document.title, document.text) == ("d1", "T", "words")
    assert own_metadata(document) == {"year": 2020, "tags": ["a", "b"], "ok": True}
    assert document.metadata["_file"] == "a.jsonl"


def test_malformed_jsonl_lines_are_reported_by_number_and_the_rest_goes_on(tmp_path):
    lines = [
        b'\xef\xbb\xbf{"id": 1, "text": "first"}',
        b'{"id": 2, "text": ',
        b"",
        b"[1, 2]",
        b'{"id": 3}',
        b'{"id": [4], "text": "x"}',
        b'{"id": 5, "text": {"nested": 1}}',
        b'{"id": 6, "text": "x", "score": NaN}',
        b'{"id": 7, "text": "\xff"}',
        b'{"id": 8, "text": "\\ud800"}',
        b"[" * 100_000,
        b'{"text": "without an id"}',
    ]
    items = read(tmp_path / "a.jsonl", b"\n".join(lines))
    documents = [item.document.doc_id for item in items if isinstance(item, ReadDocument)]
    failures = {item.where: item.reason for item in items if isinstance(item, ReadFailure)}
    assert documents == ["1", "a.jsonl#12"]
    assert list(failures) == [f"a.jsonl:{number}" for number in (2, 4, 5, 6, 7, 8, 9, 10, 11)]
    assert "malformed JSON" in failures["a.jsonl:2"]
    assert "expected a JSON object, found a list" in failures["a.jsonl:4"]
    assert 'neither a "text" nor a "title"' in failures["a.jsonl:5"]
    assert '"id" must be a string or an integer' in failures["a.jsonl:6"]
    assert '"text" must be a string, not an object' in failures["a.jsonl:7"]
    assert "NaN is not a JSON number" in failures["a.jsonl:8"]
    assert "not UTF-8" in failures["a.jsonl:9"]
    assert "surrogate" in failures["a.jsonl:10"]


def test_bytes_of_the_rows_add_up_to_the_file(tmp_path):
    content = b'{"text": "a"}\n{"text": \n{"text": "c"}\n'
    assert sum(item.size_bytes for item in read(tmp_path / "a.jsonl", content)) == len(content)


def test_jsonl_is_read_row_by_row(tmp_path):
    from cli.readers.jsonl_rows import read as read_rows
    from cli.readers.reader import SourceFile

    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a"}\n' * 1000)
    rows = read_rows(SourceFile(path, "a.jsonl", str(tmp_path), path.stat().st_size))
    next(rows)
    path.write_bytes(b"")
    assert 1 <= sum(1 for _ in rows) < 1000


def test_utf16_jsonl_is_refused(tmp_path):
    (failure,) = read(tmp_path / "a.jsonl", '{"text": "a"}'.encode("utf-16"))
    assert "must be UTF-8" in failure.reason


def test_metadata_is_flattened_to_scalars_and_lists(tmp_path):
    row = {
        "text": "x",
        "metadata": {"url": "u", "deep": {"a": 1}},
        "author": {"name": "n", "ids": [1, None, 2]},
        "mixed": [{"a": 1}, 2],
    }
    file = tmp_path / "f"
    from cli.readers.reader import SourceFile

    document = document_from_row(row, SourceFile(file, "f", "r", 0), "default")
    assert own_metadata(document) == {
        "url": "u",
        "deep.a": 1,
        "author.name": "n",
        "author.ids": [1, 2],
        "mixed": '[{"a": 1}, 2]',
    }


@pytest.mark.parametrize("text", ["{", "NaN", "[Infinity]", '{"a": 1,}', "9" * 5000])
def test_json_that_is_not_strict_is_refused(text):
    with pytest.raises(MalformedRow, match="malformed JSON"):
        parse_json(text)


def test_json_list_gives_a_document_an_object(tmp_path):
    items = read(tmp_path / "a.json", b'[{"_id": "x", "text": "one"}, {"title": "two"}, {"other": 1}]')
    assert [item.document.doc_id for item in items[:2]] == ["x", "a.json#2"]
    assert items[2].where == "a.json#3"


def test_json_object_with_text_is_a_document(tmp_path):
    document = only_document(read(tmp_path / "a.json", b'{"text": "words", "lang": "en"}'))
    assert (document.doc_id, document.text, own_metadata(document)) == ("a.json", "words", {"lang": "en"})


@pytest.mark.parametrize("content", [b'{"name": "package", "version": 1}', b"[1, 2, 3]", b'"words"'])
def test_other_json_is_one_document_of_its_text(tmp_path, content):
    assert only_document(read(tmp_path / "a.json", content)).text == content.decode()


def test_malformed_json_file_says_where(tmp_path):
    (failure,) = read(tmp_path / "a.json", b'{\n  "a": 1\n  "b": 2\n}')
    assert "line 3, column 3" in failure.reason


def test_csv_rows_become_documents(tmp_path):
    content = b'title,text,year,code\n"A, title","two\nlines",2020,007\n,,,\nB,b,1.5,x\n'
    documents = [item.document for item in read(tmp_path / "a.csv", content)]
    assert [document.doc_id for document in documents] == ["a.csv#1", "a.csv#3"]
    assert (documents[0].title, documents[0].text) == ("A, title", "two\nlines")
    assert own_metadata(documents[0]) == {"year": 2020, "code": "007"}
    assert own_metadata(documents[1]) == {"year": 1.5, "code": "x"}


def test_csv_without_a_text_column_is_searched_by_all_columns(tmp_path):
    document = only_document(read(tmp_path / "a.csv", "Name;Größe\nBerg;2962\n".encode("cp1252")))
    assert document.text == "Name: Berg\nGröße: 2962"
    assert own_metadata(document) == {"Name": "Berg", "Größe": 2962}


def test_csv_without_a_header_names_its_columns(tmp_path):
    documents = [item.document for item in read(tmp_path / "a.tsv", b"1\tone\n2\ttwo\textra\n")]
    assert own_metadata(documents[1]) == {"column1": 2, "column2": "two", "column3": "extra"}


def test_csv_with_a_quote_that_never_ends_says_from_where(tmp_path, monkeypatch):
    monkeypatch.setattr("cli.readers.csv_rows.MAX_CELL_CHARS", 1000)
    before = csv.field_size_limit()
    try:
        items = read(tmp_path / "a.csv", b'a,b\n1,2\n3,"' + b"x\n" * 1000)
    finally:
        csv.field_size_limit(before)
    assert isinstance(items[0], ReadDocument)
    assert "after row 1" in items[1].reason


@pytest.mark.parametrize(
    ("line", "delimiter"),
    [("a,b", ","), ("a;b;c,d", ";"), ("a\tb", "\t"), ("a|b", "|"), ('"a;b;c",d', ","), ("a", ",")],
)
def test_delimiter_is_the_one_that_the_header_uses(line, delimiter):
    assert find_delimiter(line) == delimiter


@pytest.mark.parametrize(
    ("cell", "value"), [("12", 12), ("-3", -3), ("007", "007"), ("1.50", 1.5), ("1e5", "1e5"), ("9" * 30, "9" * 30)]
)
def test_cells_that_are_numbers_become_numbers(cell, value):
    assert cell_value(cell) == value
