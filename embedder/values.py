"""What goes into the embedder and what comes out?

Frozen values in numpy and ``str``; no type of torch or transformers appears here. Arrays are owned by the value and must
not be written to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class SparseVector:
    """A learned sparse vector: ``ids`` uint32[m] ascending and unique, ``weights`` float32[m] greater than 0."""

    ids: NDArray[np.uint32]
    weights: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class PassageVectors:
    """The vectors of one passage.

    Attributes:
        dense: float32[dim] (float16 when it comes from storage).
        sparse: the learned sparse vector, if the model has one.
        multi: float32 or float16 [m, d], a unit vector for every token that the model keeps, if it has a head for them.
    """

    dense: NDArray[np.floating]
    sparse: SparseVector | None = None
    multi: NDArray[np.floating] | None = None


@dataclass(frozen=True, slots=True)
class DocumentInput:
    """One document to embed.

    Attributes:
        title: prepended to every window; may be empty.
        text: split into passages; may be blank (a title alone makes one passage with the span (0, 0)).
        known: vectors of an earlier version by passage key; a window whose passages are all known is not run again.
        hard_boundaries: character offsets into ``text`` where something new begins (a heading, a function); passages
            prefer to begin there.
    """

    title: str
    text: str
    known: Mapping[bytes, PassageVectors] = field(default_factory=lambda: MappingProxyType({}))
    hard_boundaries: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedPassage:
    """One passage, ``text[start:end]``, with its vectors.

    Attributes:
        start, end: characters of the document's text; passages ascend and do not overlap.
        key: 16 bytes; the same key under the same model means the same vectors.
        vectors: the passage's vectors (the very objects of ``known`` when they were reused).
        tokens: tokens of the passage's text, without title, prompt and special tokens.
        generated: what a language model wrote about the passage and BM25 counts with it (`embedder.generation`).
    """

    start: int
    end: int
    key: bytes
    vectors: PassageVectors
    tokens: int
    generated: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedDocument:
    """The passages of one document, and what became of its tokens.

    Attributes:
        passages: in text order; empty when title and text are blank.
        read: tokens of title and text.
        embedded: tokens that reached the model, now or in the version that ``known`` came from.
        dropped: tokens that did not (a title longer than a quarter of a window is cut); ``read - embedded``.
        reused: those of the embedded tokens whose vectors came from ``known``.
        generated: texts that a language model wrote for it now; those that it wrote before do not count.
    """

    passages: tuple[EmbeddedPassage, ...]
    read: int
    embedded: int
    dropped: int
    reused: int
    generated: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedQuery:
    """One embedded query: its vectors as in ``PassageVectors``, and its tokens (``dropped`` of them were cut)."""

    dense: NDArray[np.float32]
    sparse: SparseVector | None
    tokens: int
    dropped: int = 0
    multi: NDArray[np.floating] | None = None
