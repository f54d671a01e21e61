"""Pairs from documents and code: what they contain, how many there are, and that they repeat themselves."""

from __future__ import annotations

import textwrap
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedder.tuning.code_pairs import docstring_pairs
from embedder.tuning.corpus_pairs import SourceDocument, corpus_pairs

PARAGRAPH = (
    "The lighthouse keeper climbed the stairs every evening before the sun went down. He filled the lamp with oil and "
    "trimmed the wick with great care. Ships passed far out at sea, and their crews watched for his light. "
    "In winter the waves rose above the lower windows and shook the tower."
)
OTHER = (
    "A harbour needs deep water and shelter from the wind. Builders sink stones into the sea to make a breakwater. "
    "Over the years the sand moves, and the channel must be dredged again and again by special boats."
)
MARKDOWN = (
    f"# The coast of the north\n\nShort.\n\n## How lighthouses were kept\n\n{PARAGRAPH}\n\n## Harbours\n\n{OTHER}\n"
)
RST = f"How lighthouses were kept\n=========================\n\n{PARAGRAPH}\n\nHarbours\n--------\n\n{OTHER}\n"


def by_kind(*documents: SourceDocument, limit: int = 1000, seed: int = 0) -> dict[str, list[tuple[str, str]]]:
    kinds: dict[str, list[tuple[str, str]]] = {}
    for example in corpus_pairs(documents, seed=seed, limit=limit):
        kinds.setdefault(example.source, []).append((example.query, example.positive))
    return kinds


@pytest.mark.parametrize("text", [MARKDOWN, RST])
def test_headings_ask_for_their_sections(text: str) -> None:
    found = by_kind(SourceDocument("Coasts", text, "coasts.md"))["heading"]
    # A heading of one or two words asks nothing without its title, and one that is followed by too little is left out.
    assert found == [("How lighthouses were kept", PARAGRAPH), ("Coasts: Harbours", OTHER)]


def test_a_title_asks_for_a_passage_unless_it_is_a_file_name() -> None:
    assert by_kind(SourceDocument("Life at the coast", PARAGRAPH))["title"] == [("Life at the coast", PARAGRAPH)]
    for name in ("notes.txt", "docs/coast", "C:\\notes\\coast"):
        assert "title" not in by_kind(SourceDocument(name, PARAGRAPH))


def test_a_sentence_asks_for_its_passage_which_mostly_lacks_it() -> None:
    documents = [SourceDocument("", f"{PARAGRAPH} Number {i} ends it.") for i in range(300)]
    found = by_kind(*documents)["ict"]
    assert len(found) == 300
    kept = 0
    for query, passage in found:
        assert any(query in document.text for document in documents)
        kept += query in passage
        assert len(passage) > len(PARAGRAPH) // 2
    assert 10 <= kept <= 60  # one in ten
    assert len({query for query, _ in found}) == 4


def test_sentences_of_scripts_without_spaces_are_found() -> None:
    sentences = [
        "灯台守は毎晩日が沈む前に階段を上った。",
        "彼は油をランプに注いで芯を丁寧に切った。",
        "船は遠くの沖を通った。",
    ]
    found = by_kind(SourceDocument("", "".join(sentences) * 2))["ict"]
    assert found[0][0] in sentences


def test_sentences_of_tokenised_text_without_capitals_are_found() -> None:
    sentences = [f"the {word} of a wing was measured at e.g. 3.5 degrees ." for word in ("lift", "drag", "span")]
    found = by_kind(SourceDocument("", " ".join(sentences)))["ict"]
    assert found[0][0] in sentences


PYTHON = '''
def add(left, right):
    """Add two numbers and return their sum.

    Args:
        left: one of them.
    """
    total = left + right
    return total


class Stack:
    """Keep items in the order of their arrival."""

    def push(self, item):
        """Push."""
        self.items.append(item)

    async def pop_all(self):
        """Remove every item and return all of them.

        Returns: a list.
        """
        items, self.items = self.items, []
        return items


def only_a_docstring():
    """This one does not do anything at all."""
'''


def test_docstrings_of_python_ask_for_the_code_below_them() -> None:
    found = dict(docstring_pairs(PYTHON, "stack.py"))
    assert found["Add two numbers and return their sum."] == (
        "def add(left, right):\n    total = left + right\n    return total"
    )
    whole = found["Remove every item and return all of them."]
    assert whole == "async def pop_all(self):\n    items, self.items = self.items, []\n    return items"
    assert "Push." not in found  # too short to ask anything
    assert "This one does not do anything at all." not in found
    assert set(by_kind(SourceDocument("stack", PYTHON, "stack.py"))) == {"docstring"}


FUNCTION = "add(a, b) {\n  if (a) { b++; }\n  return a + b;\n}\n"
COMMENTED = {
    "a.js": f"/**\n * Adds two numbers and returns the sum.\n * @param a one\n */\nfunction {FUNCTION}later();",
    "a.go": f"// Adds two numbers and returns the sum.\nfunc {FUNCTION}",
    "a.rs": textwrap.indent(f"/// Adds two numbers and\n/// returns the sum.\nfn {FUNCTION}", "    "),
}


@pytest.mark.parametrize(("path", "text"), COMMENTED.items())
def test_doc_comments_ask_for_the_function_below_them(path: str, text: str) -> None:
    ((said, code),) = docstring_pairs(text, path)
    assert said == "Adds two numbers and returns the sum."
    assert code.splitlines()[0].endswith("add(a, b) {")
    assert code.rstrip().endswith("}")
    assert code.count("{") == code.count("}") == 2
    assert "//" not in code


@pytest.mark.parametrize("text", ["def broken(:\n", "x = '\0'", "", "/** four words are here */ int f( {"])
def test_code_that_cannot_be_parsed_gives_nothing(text: str) -> None:
    assert list(docstring_pairs(text, "a.py")) == []
    assert list(docstring_pairs(text, "a.c")) == []


def test_a_limit_is_shared_evenly_and_what_a_kind_lacks_goes_to_the_others() -> None:
    documents = [SourceDocument(f"Title number {i}", MARKDOWN.replace("winter", f"winter {i}")) for i in range(50)]
    documents += [SourceDocument("", PYTHON.replace("Add", f"Add{i}"), f"{i}.py") for i in range(2)]
    counts = Counter(example.source for example in corpus_pairs(documents, seed=0, limit=60))
    assert sum(counts.values()) == 60
    assert counts == {"docstring": 6, "title": 18, "heading": 18, "ict": 18}


def test_pairs_repeat_themselves_by_their_seed() -> None:
    documents = [SourceDocument(f"Title {i}", f"{PARAGRAPH} {OTHER} {i}") for i in range(80)]
    first, second, other = (corpus_pairs(documents, seed=seed, limit=40) for seed in (1, 1, 2))
    assert first == second
    assert first != other


@given(texts=st.lists(st.text(max_size=400), max_size=5), name=st.sampled_from(["a.md", "a.py", "a.go", ""]))
def test_any_text_gives_pairs_or_none_but_no_error(texts: list[str], name: str) -> None:
    documents = [SourceDocument("t", textwrap.dedent(text), name) for text in texts]
    assert len(corpus_pairs(documents, seed=0, limit=3)) <= 3
