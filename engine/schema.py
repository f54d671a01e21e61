"""What is fixed when a collection is created?

One record, validated at creation, stored as JSON in the collection's store and never changed silently. It says which legs
the collection has, how its text is analysed, how wide its vectors are and which model made them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from engine.errors import FingerprintMismatch, InvalidArgument, UnsupportedFormat
from engine.values import EXPANSION_METHODS, EXPANSION_USES, LEGS, Expansion, Leg

SCHEMA_FORMAT = 1
MAX_DIM = 16_384
MAX_EXPANSION = 50
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
DENSE_KINDS = ("auto", "flat", "hnsw", "faiss", "gpu")


class CollectionSchema(msgspec.Struct, frozen=True, kw_only=True):
    """The fixed facts of a collection.

    dim: width of the dense vectors, 0 for a collection without a dense leg. coarse_dim: width of the prefix that graphs and
    scans use. rotate: whether the prefix is taken after a PCA rotation, because the model was not trained for Matryoshka.
    sparse: whether passages have learned sparse vectors; sparse_idf: whether the terms of a sparse query are multiplied by
    their inverse document frequencies here, because the model leaves that to the index. multi_dim: width of the token
    vectors, 0 for none. model and
    fingerprint: what made the vectors; None when callers bring their own. language: the Snowball language of the text
    analyser. weights: default fusion weights by leg; empty: the engine's. created: ISO 8601, UTC. expansion, generator and
    generator_identity: what is written about each passage before it is embedded, and by what; None: nothing. task: what
    queries ask for that name none; None: what the model's recipe says.
    """

    format: int = SCHEMA_FORMAT
    name: str
    dim: int
    coarse_dim: int
    rotate: bool
    sparse: bool
    multi_dim: int = 0
    sparse_idf: bool = False
    model: str | None
    fingerprint: dict[str, str] | None
    language: str
    analyzer_version: int
    dense_kind: str = "auto"
    weights: dict[str, float] = {}
    created: str = ""
    expansion: Expansion | None = None
    generator: str | None = None
    generator_identity: str | None = None
    task: str | None = None

    @property
    def legs(self) -> tuple[Leg, ...]:
        """The legs that this collection can be searched by, in the order of `values.LEGS`."""
        present = {"dense": self.dim > 0, "sparse": self.sparse, "bm25": True, "multi": self.multi_dim > 0}
        return tuple(leg for leg in LEGS if present[leg])

    def to_json(self) -> bytes:
        """The stored form."""
        return msgspec.json.encode(self)

    @staticmethod
    def from_json(data: bytes) -> CollectionSchema:
        """The schema of a stored form.

        Raises:
            UnsupportedFormat: another version wrote it; nothing is touched.
        """
        found = msgspec.json.decode(data).get("format")
        if found != SCHEMA_FORMAT:
            raise UnsupportedFormat("The collection's schema", found, SCHEMA_FORMAT)
        return msgspec.json.decode(data, type=CollectionSchema)

    def check_model(self, fingerprint: Mapping[str, str] | None) -> None:
        """Refuse a model that is not the one that made the stored vectors.

        Args:
            fingerprint: of the loaded model; None: no model is loaded.

        Raises:
            FingerprintMismatch: names every part that differs.
        """
        stored, loaded = self.fingerprint or {}, fingerprint or {}
        if stored != loaded:
            keys = sorted(stored.keys() | loaded.keys())
            raise FingerprintMismatch(
                self.name,
                self.model,
                {key: (stored.get(key), loaded.get(key)) for key in keys if stored.get(key) != loaded.get(key)},
            )


def check_name(name: str) -> str:
    """A usable collection name: it is also a folder name.

    Raises:
        InvalidArgument: it is not 1 to 64 letters, digits, ``_``, ``.`` or ``-``, beginning with a letter or digit.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidArgument(
            "name",
            f"{name!r} is no collection name; use 1 to 64 letters, digits, '_', '.' or '-', a letter or digit first",
        )
    return name


def check_dim(dim: int, field: str = "dim") -> int:
    """A usable vector width.

    Raises:
        InvalidArgument: it is not in 1..MAX_DIM.
    """
    if isinstance(dim, bool) or not isinstance(dim, int) or not 1 <= dim <= MAX_DIM:
        raise InvalidArgument(field, f"must be between 1 and {MAX_DIM:,}, got {dim!r}")
    return dim


def check_weights(weights: Mapping[str, float], legs: tuple[Leg, ...]) -> dict[str, float]:
    """Fusion weights for some of ``legs``.

    Raises:
        InvalidArgument: an unknown leg, a negative or non-finite weight, or no positive one.
    """
    for leg, weight in weights.items():
        if leg not in legs:
            raise InvalidArgument("weights", f"there is no leg {leg!r} here; the legs are {', '.join(legs)}")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
            raise InvalidArgument("weights", f"{leg} must be a finite number of at least 0, got {weight!r}")
    if weights and not any(weights.values()):
        raise InvalidArgument("weights", "at least one must be greater than 0")
    return {leg: float(weight) for leg, weight in weights.items()}


def check_expansion(expansion: Expansion) -> Expansion:
    """An expansion that can be carried out.

    Raises:
        InvalidArgument: an unknown method or use, or ``n`` out of range.
    """
    for field, value, allowed in (
        ("method", expansion.method, EXPANSION_METHODS),
        ("use", expansion.use, EXPANSION_USES),
    ):
        if value not in allowed:
            raise InvalidArgument(f"expansion.{field}", f"{value!r} is unknown; choose from {', '.join(allowed)}")
    if isinstance(expansion.n, bool) or not isinstance(expansion.n, int) or not 1 <= expansion.n <= MAX_EXPANSION:
        raise InvalidArgument("expansion.n", f"must be between 1 and {MAX_EXPANSION}, got {expansion.n!r}")
    if not isinstance(expansion.bm25, bool):
        raise InvalidArgument("expansion.bm25", f"must be true or false, got {expansion.bm25!r}")
    return expansion
