"""What can a model learn from documents that nobody has asked questions about? Pairs that the documents contain.

    title      a title and a passage of its document
    heading    a heading and the beginning of its section
    ict        a sentence and the passage that it was taken from (inverse cloze task, Lee et al. 2019)
    docstring  what a function says that it does, and how it does it

The kind is the example's ``source``, so a batch holds pairs of one kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import regex

from embedder.splitter import split_text
from embedder.tuning.code_pairs import docstring_pairs, is_code
from embedder.tuning.examples import Example

PASSAGE_WORDS = 160
MIN_PASSAGE_WORDS = 15
SENTENCE_WORDS = (5, 40)  # of a sentence that can stand for a query
KEEP_SENTENCE = (
    0.1  # how often the sentence stays in its passage, so that plain matching is learned too (Lee et al. 2019)
)
PER_DOCUMENT = {"heading": 8, "ict": 4, "docstring": 16}  # so that a few long documents are not all there is

# A full stop ends a sentence before a capital or a quotation, or when it stands alone (tokenised text).
_SENTENCE_END = regex.compile(r"(?<=[.!?]['\"”’)]{0,2})\s+(?=[\p{Lu}'\"“‘(])|(?<=\s[.!?])\s+|(?<=[。！？])\s*|\n\s*\n")
_MARKDOWN = regex.compile(r"^#{1,6}[ \t]+(?P<text>.+?)[ \t]*#*[ \t]*$", regex.MULTILINE)
_UNDERLINED = regex.compile(r"^(?P<text>\S.{2,100}\S)\n(?P<mark>[=\-~^\"'`#*+])(?P=mark){3,}[ \t]*$", regex.MULTILINE)
_WORD = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]|[\p{L}\p{N}_']+")
_FILE_NAME = regex.compile(r"^\S*(?:[/\\]\S*|\.[A-Za-z0-9]{1,5})$")


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """A document to find pairs in.

    Attributes:
        title: may be empty, or a file's name, which asks nothing.
        text: plain text, Markdown, reStructuredText, or source code.
        source: its path or address; the ending tells source code from text. May be empty.
    """

    title: str
    text: str
    source: str = ""


def corpus_pairs(documents: Iterable[SourceDocument], *, seed: int, limit: int) -> list[Example]:
    """Pairs of a corpus, at most ``limit`` of them, as evenly from the kinds as the corpus allows.

    One pass over the documents, and memory for ``limit`` pairs of each kind. The same documents in the same order, the
    same seed and limit give the same pairs in the same order: kind by kind, then as they were found.
    """
    random = np.random.default_rng(seed)
    kinds = ("title", "heading", "ict", "docstring")
    samples = {kind: _Sample(limit, np.random.default_rng([seed, i])) for i, kind in enumerate(kinds)}
    for document in documents:
        for example in _pairs(document, random):
            samples[example.source].offer(example)
    shares = _shares([len(samples[kind].kept) for kind in kinds], limit)
    chosen: list[Example] = []
    for kind, share in zip(kinds, shares, strict=True):
        kept = samples[kind].in_order()
        chosen += [kept[i] for i in sorted(random.permutation(len(kept))[:share])]
    return chosen


class _Sample:
    """At most ``size`` of the examples offered, each as likely as the others (reservoir sampling)."""

    def __init__(self, size: int, random: np.random.Generator) -> None:
        self.kept: list[tuple[int, Example]] = []
        self._size = size
        self._random = random
        self._offered = 0

    def offer(self, example: Example) -> None:
        self._offered += 1
        if len(self.kept) < self._size:
            self.kept.append((self._offered, example))
        elif (place := int(self._random.integers(self._offered))) < self._size:
            self.kept[place] = (self._offered, example)

    def in_order(self) -> list[Example]:
        return [example for _, example in sorted(self.kept, key=lambda item: item[0])]


def _shares(available: Sequence[int], limit: int) -> list[int]:
    """How many to take of each kind: equal shares, and what one kind lacks goes to the others."""
    shares, rest = [0] * len(available), limit
    ascending = sorted(range(len(available)), key=lambda i: available[i])
    for n_left, i in zip(range(len(available), 0, -1), ascending, strict=True):
        shares[i] = min(available[i], rest // n_left)
        rest -= shares[i]
    return shares


def _pairs(document: SourceDocument, random: np.random.Generator) -> Iterator[Example]:
    """All pairs of one document."""
    if is_code(document.source or document.title):
        found = list(docstring_pairs(document.text, document.source or document.title))
        yield from (Example(*found[i], source="docstring") for i in _some(len(found), "docstring", random))
        return
    passages = [document.text[start:end] for start, end in split_text(document.text, PASSAGE_WORDS)]
    passages = [passage for passage in passages if _n_words(passage) >= MIN_PASSAGE_WORDS]
    title = document.title.strip()
    if title and passages and not _FILE_NAME.match(title):
        yield Example(title, passages[int(random.integers(len(passages)))], source="title")
    sections = list(_sections(document.text, title))
    yield from (Example(*sections[i], source="heading") for i in _some(len(sections), "heading", random))
    for i in _some(len(passages), "ict", random):
        yield from _cloze(passages[i], random)


def _some(available: int, kind: str, random: np.random.Generator) -> list[int]:
    """Which of a document's pairs to take, ascending."""
    return sorted(int(i) for i in random.permutation(available)[: PER_DOCUMENT[kind]])


def _sections(text: str, title: str) -> Iterator[tuple[str, str]]:
    """Headings of Markdown and reStructuredText with the first passage of what follows; a short one with its title."""
    found = sorted([*_MARKDOWN.finditer(text), *_UNDERLINED.finditer(text)], key=lambda match: match.start())
    ends = [*(match.start() for match in found), len(text)][1:]
    for match, end_of_section in zip(found, ends, strict=True):
        body = text[match.end() : end_of_section].strip()
        if _n_words(body) < MIN_PASSAGE_WORDS:
            continue
        start, end = split_text(body, PASSAGE_WORDS)[0]
        heading = match["text"].strip("*_` ")
        if heading and heading.casefold() != title.casefold():
            # "Examples" alone asks nothing.
            alone = _n_words(heading) > 2 or not title or bool(_FILE_NAME.match(title))
            yield (heading if alone else f"{title}: {heading}"), body[start:end]


def _cloze(passage: str, random: np.random.Generator) -> Iterator[Example]:
    """One sentence of the passage and the rest of it."""
    edges = [0, *(match.end() for match in _SENTENCE_END.finditer(passage)), len(passage)]
    spans = [(start, end) for start, end in pairwise(edges) if passage[start:end].strip()]
    least, most = SENTENCE_WORDS
    fitting = [(start, end) for start, end in spans if least <= _n_words(passage[start:end]) <= most]
    if not fitting:
        return
    start, end = fitting[int(random.integers(len(fitting)))]
    rest = passage if random.random() < KEEP_SENTENCE else (passage[:start] + passage[end:]).strip()
    if _n_words(rest) >= MIN_PASSAGE_WORDS:
        yield Example(passage[start:end].strip(), rest, source="ict")


def _n_words(text: str) -> int:
    """Words; a character of a script without spaces counts as one."""
    return len(_WORD.findall(text))
