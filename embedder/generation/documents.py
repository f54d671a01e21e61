"""How does what a generator writes about a passage enter the index?

    questions   that the passage answers (doc2query, QuOTE); each is embedded as `question + passage`
    rewrites    of the passage, that say the same in other words (GenEOL); each is embedded as it is

and then, for either: the mean of the passage's vector and theirs is the passage's vector ("fuse"), or each of them is a row
of the index beside the passage's own, with the same span ("vectors": grouping shows the passage once). What was written
can be counted by BM25 as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from embedder.errors import InvalidInput
from embedder.generation import prompts
from embedder.generation.answers import CachedGenerator
from embedder.values import DocumentInput, EmbeddedDocument, EmbeddedPassage

Method = Literal["questions", "rewrites"]
Use = Literal["fuse", "vectors"]
EmbedDocuments = Callable[[Sequence[DocumentInput]], list[EmbeddedDocument]]

MAX_TEXTS = 50

_PassageKey = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Place:
    """One passage: its document, its place in it, and what was written about it."""

    document: DocumentInput
    passage: EmbeddedPassage
    texts: tuple[str, ...]
    written: int

    def inputs(self, method: Method) -> Iterator[DocumentInput]:
        """What is embedded for each text."""
        own = self.document.text[self.passage.start : self.passage.end]
        for text in self.texts:
            yield DocumentInput(self.document.title, f"{text}\n{own}" if method == "questions" else text)


class DocumentExpander:
    """Embeds documents whose passages a generator has enriched. Thread-safe.

    Args:
        embed: embeds documents.
        generator: writes.
        method: "questions" or "rewrites".
        n: texts a passage, at most.
        use: "fuse" or "vectors".
        lexical: give the texts to BM25, too.

    Raises:
        InvalidInput: an argument cannot be used.
    """

    def __init__(
        self, embed: EmbedDocuments, generator: CachedGenerator, *, method: Method, n: int, use: Use, lexical: bool
    ) -> None:
        for name, value, allowed in (("method", method, get_args(Method)), ("use", use, get_args(Use))):
            if value not in allowed:
                raise InvalidInput(name, value, f"it must be one of {', '.join(allowed)}")
        if not 1 <= n <= MAX_TEXTS:
            raise InvalidInput("n", n, f"it must be between 1 and {MAX_TEXTS}")
        self._embed = embed
        self._generator = generator
        self._method: Method = method
        self._n = n
        self._use: Use = use
        self._lexical = lexical

    def embed_documents(self, documents: Sequence[DocumentInput]) -> list[EmbeddedDocument]:
        """The documents with enriched passages, in order.

        A passage whose vectors are ``known`` keeps them: they were enriched when they were made. With "vectors", a
        passage is followed by its texts' rows, whose ``generated`` says what was written; with ``lexical`` each of its
        rows names all of its texts.

        Raises:
            EmbedderError: the model or the generator failed.
        """
        embedded = self._embed(documents)
        pairs = list(zip(documents, embedded, strict=True))
        asked = [
            (document, passage)
            for document, result in pairs
            for passage in result.passages
            if self._lexical or self._use == "vectors" or not _is_known(document, passage)
        ]
        places = dict(zip(map(_key, asked), self._write(asked), strict=True))
        rows = self._rows(places)
        return [self._expanded(document, result, places, rows) for document, result in pairs]

    def _write(self, asked: Sequence[tuple[DocumentInput, EmbeddedPassage]]) -> Iterator[_Place]:
        """What the generator has to say about each passage; nothing about one without text."""
        texts = [document.text[passage.start : passage.end] for document, passage in asked]
        listed = [self._prompts(document.title, text) for (document, _), text in zip(asked, texts, strict=True)]
        longest = prompts.QUESTION_TOKENS * self._n if self._method == "questions" else prompts.ANSWER_TOKENS
        answers = iter(self._generator.answer([prompt for own in listed for prompt in own], max_new_tokens=longest))
        for (document, passage), own in zip(asked, listed, strict=True):
            given = [next(answers) for _ in own]
            if self._method == "questions":
                found = [question for answer in given for question in prompts.questions_of(answer.text, self._n)]
            else:
                found = [answer.text for answer in given if answer.text]
            yield _Place(document, passage, tuple(dict.fromkeys(found)), sum(answer.written for answer in given))

    def _prompts(self, title: str, text: str) -> list[prompts.Prompt]:
        if not text.strip():
            return []
        if self._method == "questions":
            return [prompts.questions(f"{title}\n{text}" if title else text, self._n)]
        return prompts.rewrites(text, self._n)

    def _rows(self, places: dict[_PassageKey, _Place]) -> dict[tuple[_PassageKey, str], EmbeddedPassage]:
        """The vectors of each text: known ones where the text has a row already, otherwise from the model."""
        rows: dict[tuple[_PassageKey, str], EmbeddedPassage] = {}
        inputs: list[DocumentInput] = []
        new: list[tuple[_PassageKey, str, bytes]] = []
        for place_key, place in places.items():
            if self._use == "fuse" and _is_known(place.document, place.passage):
                continue
            for text, given in zip(place.texts, place.inputs(self._method), strict=True):
                key = hashlib.blake2b(
                    place.passage.key + text.encode("utf-8", "surrogatepass"), digest_size=16
                ).digest()
                known = place.document.known.get(key) if self._use == "vectors" else None
                if known is not None:
                    rows[place_key, text] = replace(place.passage, key=key, vectors=known)
                else:
                    new.append((place_key, text, key))
                    inputs.append(given)
        for (place_key, text, key), result in zip(new, self._embed(inputs) if inputs else (), strict=True):
            own = places[place_key].passage
            vectors = replace(own.vectors, dense=mean_vector([p.vectors.dense for p in result.passages]))
            rows[place_key, text] = replace(own, key=key, vectors=vectors)
        return rows

    def _expanded(
        self,
        document: DocumentInput,
        result: EmbeddedDocument,
        places: dict[_PassageKey, _Place],
        rows: dict[tuple[_PassageKey, str], EmbeddedPassage],
    ) -> EmbeddedDocument:
        passages: list[EmbeddedPassage] = []
        written = 0
        for passage in result.passages:
            place = places.get(_key((document, passage)))
            if place is None:
                passages.append(passage)
                continue
            written += place.written
            words = "\n".join(place.texts) if self._lexical else ""
            extra = [rows[key] for text in place.texts if (key := (_key((document, passage)), text)) in rows]
            if self._use == "vectors":
                passages += [replace(row, generated=words) for row in (passage, *extra)]
                continue
            vectors = passage.vectors
            if extra:
                vectors = replace(vectors, dense=mean_vector([row.vectors.dense for row in (passage, *extra)]))
            passages.append(replace(passage, vectors=vectors, generated=words))
        return replace(result, passages=tuple(passages), generated=written)


def _key(pair: tuple[DocumentInput, EmbeddedPassage]) -> _PassageKey:
    """A passage of a call: its document object, and where it begins in it."""
    document, passage = pair
    return id(document), passage.start


def _is_known(document: DocumentInput, passage: EmbeddedPassage) -> bool:
    """Whether the passage has the vectors of an earlier version; they are those very objects."""
    return document.known.get(passage.key) is passage.vectors


def mean_vector(vectors: Sequence[np.ndarray], weights: Sequence[float] | None = None) -> np.ndarray:
    """float32[dim] of unit length: the weighted mean of unit vectors float[dim], at least one.

    Opposite vectors have no mean: then the first is returned.
    """
    mean = np.average(np.stack(vectors).astype(np.float64), axis=0, weights=weights)
    norm = float(np.linalg.norm(mean))
    if norm < 1e-9:
        mean, norm = vectors[0].astype(np.float64), float(np.linalg.norm(vectors[0]))
    return (mean / norm).astype(np.float32)
