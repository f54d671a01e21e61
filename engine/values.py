"""What are the nouns of Landmark?

The domain values that the embedded engine, the gRPC client, the command line and the tests share. They are plain frozen
data: no I/O, no numpy arrays except vectors, no library types. Scores: greater is better, everywhere; ties are ordered by
``doc_id``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Scalar = str | int | float | bool
Metadata = Mapping[str, "Scalar | Sequence[Scalar]"]
Mode = Literal["hybrid", "dense", "sparse", "bm25", "multi"]
FusionMethod = Literal["convex", "rrf", "dbsf"]
Leg = Literal["dense", "sparse", "bm25", "multi"]
ResultField = Literal["title", "metadata", "score_detail", "plan", "timings_ms"]

ExpansionMethod = Literal["questions", "rewrites"]
ExpansionUse = Literal["fuse", "vectors"]
QueryExpansionMethod = Literal["hyde", "thoughts", "rewrites"]

MODES: tuple[Mode, ...] = ("hybrid", "dense", "sparse", "bm25", "multi")
FUSIONS: tuple[FusionMethod, ...] = ("convex", "rrf", "dbsf")
LEGS: tuple[Leg, ...] = ("dense", "sparse", "bm25", "multi")
RESULT_FIELDS: tuple[ResultField, ...] = ("title", "metadata", "score_detail", "plan", "timings_ms")
EXPANSION_METHODS: tuple[ExpansionMethod, ...] = ("questions", "rewrites")
EXPANSION_USES: tuple[ExpansionUse, ...] = ("fuse", "vectors")
QUERY_EXPANSION_METHODS: tuple[QueryExpansionMethod, ...] = ("hyde", "thoughts", "rewrites")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expansion:
    """What the engine's generator writes about each passage when it is indexed, and where that goes.

    Attributes:
        method: "questions" that the passage answers (doc2query, QuOTE), or "rewrites" that say the same (GenEOL).
        n: texts a passage; a generator may write fewer.
        use: "fuse": their vectors and the passage's are averaged; "vectors": each is a vector of the passage beside
            its own, at n + 1 times the storage.
        bm25: BM25 counts their words as the passage's, too.
    """

    method: ExpansionMethod = "questions"
    n: int = 5
    use: ExpansionUse = "fuse"
    bm25: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryExpansion:
    """What the engine's generator writes about a query before its dense vector is made.

    Attributes:
        method: "hyde": a hypothetical answer is mixed into the vector; "thoughts": what a good answer must say, embedded
            with the query; "rewrites": paraphrases (GenEOL). The last two are averaged.
        n: texts to write; a generator may write fewer.
        weight: of the hypothetical answers in the vector, for "hyde"; the query has the rest.
    """

    method: QueryExpansionMethod = "hyde"
    n: int = 1
    weight: float = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document, as the caller gives it and as ``get`` returns it.

    ``vector`` (``dim`` floats), ``sparse`` (term id → weight > 0) and ``multi`` (one vector of ``multi_dim`` floats a token)
    are the caller's own vectors: such a document is one passage and is not embedded. ``boundaries`` are character offsets,
    ascending, at which passages should begin: headings, or definitions of source code. ``get`` does not return them.
    """

    doc_id: str
    text: str = ""
    title: str = ""
    metadata: Metadata = field(default_factory=dict)
    vector: Sequence[float] | None = None
    sparse: Mapping[int, float] | None = None
    multi: Sequence[Sequence[float]] | None = None
    boundaries: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a document is in the index. ``read == embedded + dropped``, always.

    ``reused`` of the embedded tokens kept the vectors of an earlier version, because their window did not change.
    ``generated``: texts that a generator wrote for the document's passages now; what it wrote before does not count.
    """

    read: int = 0
    embedded: int = 0
    dropped: int = 0
    reused: int = 0
    generated: int = 0


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The answer to one document of an upsert or ingest. It is sent after the document is durable (fsync).

    ``sequence`` is the operation number of the commit; ``error`` is set when, and only when, ``status`` is "failed".
    """

    doc_id: str
    status: Literal["added", "updated", "unchanged", "failed"]
    passages: int = 0
    tokens: Coverage = Coverage()
    sequence: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class TermContribution:
    """One term that the query and the passage share: the term as text, its leg, and what it adds to that leg's score.

    ``expansion``: the model added the term; the query's own text, or the passage's, does not have it.
    """

    term: str
    leg: Leg
    contribution: float
    expansion: bool = False


@dataclass(frozen=True, slots=True)
class ScoreDetail:
    """Why a hit has its score: the exact score of every leg on the winning passage, and its rank among the candidates.

    ``dense`` is the cosine, ``sparse`` the dot product of learned weights, ``bm25`` the BM25 score, ``multi`` the weighted mean
    over the query's tokens of their greatest cosine with a token of the passage; None: the leg was not asked. ``ranks`` maps
    each leg to its rank, from 1. ``rerank`` is the reranker's score, which is then the hit's, and ``fused`` the score that
    the hit had before; None: the hit was not reranked.
    """

    dense: float | None = None
    sparse: float | None = None
    bm25: float | None = None
    multi: float | None = None
    ranks: Mapping[str, int] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    terms: Sequence[TermContribution] = ()
    rerank: float | None = None
    fused: float | None = None


@dataclass(frozen=True, slots=True)
class PassageHit:
    """One passage of a hit: its text, its span in the document's text (``text[start:end]``, in characters), its fused score."""

    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class Hit:
    """One document that answers the query, with its best passages, best first."""

    doc_id: str
    score: float
    title: str = ""
    metadata: Metadata = field(default_factory=dict)
    passages: Sequence[PassageHit] = ()
    score_detail: ScoreDetail = ScoreDetail()


@dataclass(frozen=True, slots=True)
class QueryResult:
    """Hits, best first, with what was done (``plan``) and how long each stage took (``timings_ms``)."""

    hits: Sequence[Hit]
    timings_ms: Mapping[str, float]
    plan: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One question, by text or by the caller's own vectors.

    Args:
        text: what to search for. Needed for BM25; embedded for the other legs unless ``vector`` / ``sparse`` are given.
        task: what the text asks for, to a model that takes an instruction: the name of a task that its recipe knows, or an
            instruction; None: the collection's task, or else the recipe's. An LLM reranker is told it, too.
        vector: ``dim`` floats; need not be normalised.
        sparse: term id → weight > 0.
        multi: one vector of ``multi_dim`` floats a token; a vector's length is its token's weight.
        mode: which legs to search; "hybrid" means every leg that the collection and the query have. "multi" ranks what
            the other legs find by the token vectors alone.
        limit: documents to return, at most 1,000.
        offset: documents to skip first; ``offset + limit`` is at most 10,000.
        filter: an expression over metadata, with ``$name`` for bound parameters.
        params: the values of the bound parameters.
        fusion: how the legs' exact scores become one.
        weights: leg → weight ≥ 0 for this request; None: the collection's defaults.
        depth: leg → candidates (passages) to take from that leg; None: chosen by the planner.
        recall_target: the recall that the dense search should reach, in (0, 1]; None: the default.
        exact: scan every vector instead of searching a graph.
        passages: passages to return with each document.
        score_threshold: drop hits whose fused score is lower.
        rerank: let the engine's reranker score the best passage of this many of the first hits, at most 1,000, and order
            them by that; the other hits follow as they were. None: no reranking.
        explain: return matched terms and contributions in ``score_detail``.
        expansion: what the engine's generator writes about the query first; None: nothing.
        examples: (query, passage that answers it) pairs that are shown to a model whose recipe takes examples.
        fields: what to return beside ``doc_id``, ``score`` and the passages, of `RESULT_FIELDS`; the rest stays empty and is
            neither made nor sent. None: everything.
    """

    text: str | None = None
    task: str | None = None
    vector: Sequence[float] | None = None
    sparse: Mapping[int, float] | None = None
    multi: Sequence[Sequence[float]] | None = None
    mode: Mode = "hybrid"
    limit: int = 10
    offset: int = 0
    filter: str | None = None
    params: Mapping[str, Scalar | Sequence[Scalar]] = field(default_factory=dict)
    fusion: FusionMethod = "convex"
    weights: Mapping[str, float] | None = None
    depth: Mapping[str, int] | None = None
    recall_target: float | None = None
    exact: bool = False
    passages: int = 3
    score_threshold: float | None = None
    rerank: int | None = None
    explain: bool = True
    expansion: QueryExpansion | None = None
    examples: Sequence[tuple[str, str]] = ()
    fields: Sequence[ResultField] | None = None

    def returns(self, field: ResultField) -> bool:
        """Whether the answer has this field."""
        return self.fields is None or field in self.fields


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a scroll in ``doc_id`` order; ``next_after`` starts the next page, None at the end."""

    documents: Sequence[Document]
    next_after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionInfo:
    """What a collection was created with, plus what it holds now. ``dtype``: of the model's weights.

    ``task``: what its queries ask for unless they say otherwise; None: what the model's recipe says.
    """

    name: str
    model: str | None
    fingerprint: str | None
    dim: int
    coarse_dim: int
    legs: Sequence[Leg]
    language: str
    weights: Mapping[str, float]
    documents: int
    passages: int
    sequence: int
    expansion: Expansion | None = None
    generator: str | None = None
    multi_dim: int = 0
    dtype: str | None = None
    task: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallEstimate:
    """The measured recall of a dense search: mean, and lower bound with 95 % confidence, over ``sample`` queries.

    ``asked`` of them were asked of the collection; where there are too few of these, passages stand in, and the bound is for
    queries like them. 1, 1, 0 and 0 where every vector is scanned.
    """

    recall: float
    lower: float
    sample: int
    asked: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentStats:
    """One segment: passages in it, deleted ones among them, its dense index kind, bytes on disk (0: in memory).

    ``multi_bytes`` are those of its token vectors, in memory or on disk. ``recall`` is that of its dense search for ten
    passages at the default target; None where it was not measured.
    """

    name: str
    passages: int
    deleted: int
    dense_kind: str
    size_bytes: int
    multi_bytes: int = 0
    recall: RecallEstimate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionStats:
    """The state of a collection's storage and index."""

    info: CollectionInfo
    segments: Sequence[SegmentStats]
    store_bytes: int
    tokens: Coverage


@dataclass(frozen=True, slots=True)
class Embedding:
    """All vectors of one text from one forward pass.

    ``dense`` is the vector of the whole text (one passage) or the mean of its passages, unit length; ``landmarks`` holds one
    unit vector a passage with its character span; ``sparse`` maps the decoded term to its weight, None where the model has
    no learned sparse head.
    """

    dense: Sequence[float]
    sparse: Mapping[str, float] | None
    landmarks: Sequence[tuple[int, int, Sequence[float]]]
    tokens: int


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What is running: version, model, device, limits. ``multi_dim``: width of the model's token vectors, 0 for none."""

    version: str
    model: str | None
    fingerprint: str | None
    device: str
    dim: int
    has_sparse: bool
    max_passage_tokens: int
    multi_dim: int = 0
    reranker: str | None = None
