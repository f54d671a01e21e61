"""A book of 300 pages is one document: nothing of it is dropped, and its last page is found."""

import ast
import itertools
import pydoc
import pydoc_data.topics
from pathlib import Path

import pytest

from engine import open_engine

PAGE_WORDS = 300
LAST_PAGE = (
    "The lighthouse keeper of Skerryvore noted in the log of the last night that the lamp had burned blue, that seven "
    "cormorants sat on the gallery rail until dawn, and that he would not climb the tower again."
)


def library_docstrings():
    for path in sorted(Path(pydoc.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
                yield text


def book(pages):
    """Real prose that every Python has: the topics of its help and the docstrings of its library, then our last page."""
    words_needed = PAGE_WORDS * (pages - 1)
    topics = [pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics)]
    text = "\n\n".join([*topics, *library_docstrings()])
    body, count = [], 0
    for line in text.split("\n"):
        count += len(line.split())
        if count > words_needed:
            break
        body.append(line)
    return "\n".join(body) + "\n\n" + LAST_PAGE


@pytest.mark.parametrize("pages", [30, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.timeout(900)
def test_every_token_is_embedded_and_the_last_page_is_found(tmp_path, pages):
    text = book(pages)
    assert len(text.split()) > 0.9 * PAGE_WORDS * (pages - 1), "the book is too short to prove anything"
    with open_engine(tmp_path) as engine:
        collection = engine.create_collection("books")
        (answer,) = collection.ingest([{"doc_id": "book", "text": text}])
        assert answer.status == "added"
        assert answer.tokens.dropped == 0
        assert answer.tokens.read == answer.tokens.embedded > len(text.split())
        hit = collection.query("what did the lighthouse keeper write about the birds?", passages=1000).hits[0]
        assert len(hit.passages) == answer.passages
        assert "seven cormorants" in " ".join(hit.passages[0].text.split())
        assert hit.passages[0].end == len(text)
        spans = sorted((passage.start, passage.end, passage.text) for passage in hit.passages)
        assert all(text[start:end] == passage for start, end, passage in spans)
        gaps = [text[before[1] : after[0]] for before, after in itertools.pairwise(spans)]
        assert not "".join([text[: spans[0][0]], *gaps, text[spans[-1][1] :]]).strip(), "some text is in no passage"
