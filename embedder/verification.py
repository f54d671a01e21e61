"""Does a checkpoint, used by its recipe, compute what its authors published?

The matrices of the system's file are computed anew through ``Embedder``, the same way as documents and queries are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedder.catalogue import SUFFIX, find_system
from embedder.embedder import Embedder
from embedder.errors import InvalidInput, InvalidSystem
from embedder.system import Parity, Score, System, Terms
from embedder.values import DocumentInput, EmbeddedQuery, PassageVectors, SparseVector


@dataclass(frozen=True, slots=True)
class Comparison:
    """One published number beside the computed one; both carry the published scale."""

    what: str
    expected: float
    got: float
    tolerance: float

    @property
    def difference(self) -> float:
        """How far off, without sign."""
        return abs(self.got - self.expected)

    @property
    def holds(self) -> bool:
        """Whether the difference is tolerated; not a number never is."""
        return self.difference <= self.tolerance


@dataclass(frozen=True, slots=True)
class Verification:
    """What came out of one system and checkpoint: which model was loaded, and every comparison."""

    system: str
    checkpoint: str
    model: str
    comparisons: tuple[Comparison, ...]

    @property
    def holds(self) -> bool:
        """Whether every number is as published."""
        return all(comparison.holds for comparison in self.comparisons)


def verify(
    name: str, *, folder: str | None = None, device: str | None = None, dtype: str | None = None
) -> Verification:
    """Load a checkpoint and compare what it computes with what was published.

    Args:
        name: a system, one of its checkpoints, or the path of a system file. A system's name means its first checkpoint
            that has published numbers.
        folder: where the checkpoint's files are; None: they are fetched, or found in the local cache.
        device: as in ``Embedder.load``.
        dtype: as in ``Embedder.load``.

    Raises:
        ModelNotFound: there is no such system.
        InvalidInput: nothing is published that could be compared.
        EmbedderError: the checkpoint cannot be loaded.
    """
    system = find_system(name)
    checkpoint = _checkpoint(system, name)
    published = system.checkpoint(checkpoint)
    used_as = name if name.endswith(SUFFIX) else published.short if published else system.name
    model = f"{used_as}:{folder or checkpoint}"
    with Embedder.load(model, device=device, dtype=dtype) as embedder:
        matrices = [parity for parity in system.parities if parity.checkpoint == checkpoint]
        terms = [entry for entry in system.terms if entry.checkpoint == checkpoint]
        found = [comparison for parity in matrices for comparison in _compare_matrix(embedder, system, parity)]
        found += [comparison for entry in terms for comparison in _compare_terms(embedder, system, entry)]
    return Verification(system.name, checkpoint, model, tuple(found))


def _checkpoint(system: System, name: str) -> str:
    """The checkpoint whose numbers are compared."""
    entries: tuple[Parity | Terms, ...] = (*system.parities, *system.terms)
    names = list(dict.fromkeys(entry.checkpoint for entry in entries))
    if not names:
        raise InvalidInput("name", name, "nothing is published that could be compared")
    published = None if name == system.name or name.endswith(SUFFIX) else system.checkpoint(name)
    if published is None:
        return names[0]
    if published.id not in names:
        raise InvalidInput("name", name, f"numbers are published for {', '.join(names)} only")
    return published.id


def _compare_matrix(embedder: Embedder, system: System, parity: Parity) -> Iterator[Comparison]:
    queries = embedder.embed_queries(parity.queries, task=parity.task)
    documents = [_passage(embedder, system, text) for text in parity.documents]
    for i, query in enumerate(queries):
        for j, document in enumerate(documents):
            got = parity.scale * _score(system, parity.score, query, document)
            what = f"{parity.score} {_start(parity.queries[i])} × {_start(parity.documents[j])}"
            yield Comparison(what, parity.expected[i][j], got, parity.tolerance * parity.scale)


def _compare_terms(embedder: Embedder, system: System, entry: Terms) -> Iterator[Comparison]:
    vectors: EmbeddedQuery | PassageVectors
    if entry.side == "query":
        (vectors,) = embedder.embed_queries([entry.text])
    else:
        vectors = _passage(embedder, system, entry.text)
    weights = _sparse(system, vectors)
    got: dict[str, float] = {}
    for term, weight in zip(weights.ids.tolist(), weights.weights.tolist(), strict=True):
        text = embedder.term_text(term).strip(_SPACE_MARKS)
        got[text] = max(got.get(text, 0.0), weight)
    for text, expected in entry.expected.items():
        yield Comparison(f"term {text!r} of {_start(entry.text)}", expected, got.get(text, 0.0), entry.tolerance)


_SPACE_MARKS = " ▁Ġ"  # how vocabularies write the space before a word


def _passage(embedder: Embedder, system: System, text: str) -> PassageVectors:
    """The vectors of a text that makes one passage."""
    (document,) = embedder.embed_documents([DocumentInput("", text)])
    if len(document.passages) != 1:
        problem = f"a document of its matrix makes {len(document.passages)} passages; raise recipe.passage_tokens"
        raise InvalidSystem(system.name, problem)
    return document.passages[0].vectors


def _score(system: System, score: Score, query: EmbeddedQuery, document: PassageVectors) -> float:
    """One cell of a matrix, in float64."""
    if score == "dense":
        return _cosine(query.dense, document.dense)
    if score == "sparse":
        return _dot(_sparse(system, query), _sparse(system, document))
    if query.multi is None or document.multi is None:
        raise InvalidSystem(system.name, 'a matrix of score "multi" needs recipe.multi_head')
    best = (query.multi.astype(np.float64) @ document.multi.astype(np.float64).T).max(axis=1)
    return float(best.mean())


def _cosine(left: NDArray[np.floating], right: NDArray[np.floating]) -> float:
    a, b = left.astype(np.float64), right.astype(np.float64)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def _sparse(system: System, vectors: EmbeddedQuery | PassageVectors) -> SparseVector:
    if vectors.sparse is None:
        raise InvalidSystem(system.name, "expected term weights need recipe.sparse_head")
    return vectors.sparse


def _dot(left: SparseVector, right: SparseVector) -> float:
    _, i, j = np.intersect1d(left.ids, right.ids, assume_unique=True, return_indices=True)
    return float(left.weights[i].astype(np.float64) @ right.weights[j].astype(np.float64))


def _start(text: str, length: int = 28) -> str:
    return repr(text if len(text) <= length else text[: length - 1] + "…")
