"""What is known of one embedding system? A file of ``embedder/systems``, checked and typed.

``[system]`` holds facts for people, ``[[checkpoint]]`` the published weights, ``[recipe]`` fields of ``Recipe`` verbatim,
``[[parity]]`` and ``[[terms]]`` what the published model computes for published texts. Data only: no file names code.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from embedder.errors import InvalidRecipe, InvalidSystem
from embedder.recipe import Recipe
from embedder.templates import Piece

Family = Literal[
    "last token",
    "instructed mean",
    "prompt probe",
    "repeated text",
    "weighted mean",
    "encoder",
    "sparse",
    "multi-vector",
    "mixture of experts",
    "contextual",
    "long context",
]
Evidence = Literal["V", "L", "V2", "M"]
EVIDENCE: dict[Evidence, str] = {
    "V": "read in a public source",
    "L": "run here on small random models",
    "V2": "read in a secondary source",
    "M": "from memory, to be confirmed by the parity matrix",
}
USUAL_CONTEXT = 1 << 15  # tokens
Score = Literal["dense", "sparse", "multi"]


class Facts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What people want to know before they choose.

    Attributes:
        name: what ``--model`` takes; lower-case letters, digits, dots and hyphens.
        title: the name that its authors gave it.
        family: what the recipe does at heart.
        summary: one line on what is special.
        architecture: the native class of transformers that the checkpoints need; "" for any of the right kind.
        context: the longest input of the model, in tokens; 0: that of the checkpoint.
        licence: of the published weights, as far as it was read; "" when it was not.
        retrieval: the published retrieval score (nDCG@10 x 100 unless ``benchmark`` says otherwise).
        benchmark: the benchmark with its version; scores of different benchmarks cannot be compared.
        usage: how it is asked for, when it is more than ``--model NAME``.
        proof: the test that compares the recipe with an independent computation, as pytest names it.
        evidence: how well each group of facts is known.
        loaded_here: whether the published weights were at hand when the recipe was tested; otherwise random ones.
        not_verified: what else nobody has checked.
        traps: what breaks parity silently.
    """

    name: str
    title: str
    family: Family
    summary: str
    architecture: str = ""
    context: int = 0
    licence: str = ""
    retrieval: float | None = None
    benchmark: str = ""
    usage: str = ""
    proof: str = ""
    evidence: dict[str, Evidence] = {}
    loaded_here: bool = False
    not_verified: tuple[str, ...] = ()
    traps: tuple[str, ...] = ()


class Published(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One published checkpoint of a system.

    Attributes:
        id: its hub id; the last part is a name that ``--model`` takes, and the folder name that it is known by.
        parameters: how many; 0: not known.
        dim: width of the dense vector; 0: there is none.
        weights: the hub id whose weights are loaded, where ``id`` holds adapters or needs code that is never run.
        recipe: the fields in which it differs from the system's recipe.
    """

    id: str
    parameters: int = 0
    dim: int = 0
    weights: str = ""
    recipe: dict[str, Any] = {}

    @property
    def loaded(self) -> str:
        """The hub id that is loaded."""
        return self.weights or self.id

    @property
    def short(self) -> str:
        """The last part of the id, in lower case."""
        return short_name(self.id)


class Parity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A published matrix of scores: ``expected[i][j]`` is ``scale`` times the score of query i and document j.

    ``tolerance`` is of the unscaled score. ``score`` says which vectors are compared: "dense" by the cosine, "sparse" by
    the dot product, "multi" by the mean over the query's vectors of their best match.
    """

    checkpoint: str
    queries: tuple[str, ...]
    documents: tuple[str, ...]
    expected: tuple[tuple[float, ...], ...]
    task: str | None = None
    scale: float = 1.0
    tolerance: float = 0.01
    score: Score = "dense"
    evidence: Evidence = "V"


class Terms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Published weights of a sparse vector: ``expected`` maps a token as printed to its weight."""

    checkpoint: str
    side: Literal["query", "document"]
    text: str
    expected: dict[str, float]
    tolerance: float = 0.01
    evidence: Evidence = "V"


class System(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One embedding system.

    Attributes:
        facts: for people.
        checkpoints: the published ones; the first is meant by the system's name. None: any that fits, as
            ``NAME:CHECKPOINT``.
        recipe: fields of ``Recipe``; what is not named is as the checkpoint's own files say.
        parities, terms: what the published model computes.
    """

    facts: Facts = msgspec.field(name="system")
    checkpoints: tuple[Published, ...] = msgspec.field(name="checkpoint", default=())
    recipe: dict[str, Any] = {}
    parities: tuple[Parity, ...] = msgspec.field(name="parity", default=())
    terms: tuple[Terms, ...] = ()

    @property
    def name(self) -> str:
        """What ``--model`` takes."""
        return self.facts.name

    def checkpoint(self, name: str) -> Published | None:
        """The published checkpoint of this hub id, or with this last part of it; None: it is not one of them."""
        exact = next((published for published in self.checkpoints if published.id.lower() == name.lower()), None)
        return exact or next((published for published in self.checkpoints if published.short == short_name(name)), None)

    def fields(self, checkpoint: str = "") -> dict[str, Any]:
        """The fields of ``Recipe`` that this system sets, for a checkpoint."""
        published = self.checkpoint(checkpoint)
        return self.recipe | (published.recipe if published else {})

    def as_dict(self) -> dict[str, Any]:
        """The file's tables, as JSON can hold them."""
        tables: dict[str, Any] = msgspec.to_builtins(self)
        return tables

    @property
    def weakest_evidence(self) -> Evidence | None:
        """How well the least known group of facts is known; None: nothing is said."""
        return max(self.facts.evidence.values(), key=list(EVIDENCE).index, default=None)

    def example(self, query: str, title: str, text: str) -> tuple[list[str], list[str]]:
        """What the model reads, as text: the query and the document, one string a template."""
        recipe = self.overlaid(self.checkpoints[0].id if self.checkpoints else "")
        start, end = "".join(recipe.prepend or ()), "".join(recipe.append or ())
        query_start = start if recipe.query_prepend is None else "".join(recipe.query_prepend)
        query_end = end if recipe.query_append is None else "".join(recipe.query_append)
        queries = [_joined(pieces) for pieces in recipe.query_pieces(query, None)]
        documents = [_joined(pieces) for pieces in recipe.document_pieces(title, text)]
        return [query_start + each + query_end for each in queries], [start + each + end for each in documents]

    def overlaid(self, checkpoint: str = "") -> Recipe:
        """The recipe on its own, as if the checkpoint's files said nothing but its length.

        Raises:
            InvalidRecipe: it cannot be used.
        """
        bare = Recipe(name=self.name, max_tokens=self.facts.context or USUAL_CONTEXT)
        return bare.overlaid(self.fields(checkpoint))


def read_system(path: Path) -> System:
    """Read and check one file.

    Raises:
        InvalidSystem: it cannot be read, a key is missing, unknown or of the wrong type, or the recipe cannot be used.
    """
    try:
        system = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), System)
        for checkpoint in ("", *(published.id for published in system.checkpoints)):
            system.overlaid(checkpoint)
    except (OSError, ValueError, InvalidRecipe) as error:  # msgspec's and tomllib's errors are ValueErrors
        raise InvalidSystem(str(path), str(error)) from error
    _check_system(path, system)
    return system


def _joined(pieces: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def short_name(model: str) -> str:
    """The last part of a hub id or of a folder's path, in lower case."""
    return model.rstrip("/").rsplit("/", 1)[-1].lower()


def _check_system(path: Path, system: System) -> None:
    """What the types cannot say.

    Raises:
        InvalidSystem: a name or a matrix does not fit.
    """
    name = system.name
    if name != name.lower() or not name.replace("-", "").replace(".", "").isalnum():
        raise InvalidSystem(str(path), f"system.name = {name!r}: lower-case letters, digits, dots and hyphens only")
    if (system.facts.retrieval is None) != (not system.facts.benchmark):
        raise InvalidSystem(str(path), "system.retrieval and system.benchmark come together")
    for i, parity in enumerate(system.parities):
        shape = [len(row) for row in parity.expected]
        if shape != [len(parity.documents)] * len(parity.queries):
            raise InvalidSystem(str(path), f"parity[{i}].expected: one row a query, one number a document")
    entries: tuple[Parity | Terms, ...] = (*system.parities, *system.terms)
    for entry in entries:
        if system.checkpoints and system.checkpoint(entry.checkpoint) is None:
            raise InvalidSystem(str(path), f"{entry.checkpoint!r} has expected values and is not a [[checkpoint]]")
