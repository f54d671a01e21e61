"""What goes onto the wire comes off it the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InvalidArgument, InvalidDocument, InvalidQuery
from engine.v1 import engine_pb2 as pb
from engine.values import (
    EXPANSION_METHODS,
    EXPANSION_USES,
    FUSIONS,
    LEGS,
    MODES,
    QUERY_EXPANSION_METHODS,
    RESULT_FIELDS,
    Acknowledgement,
    CollectionInfo,
    CollectionStats,
    Coverage,
    Document,
    Embedding,
    EngineInfo,
    Expansion,
    Hit,
    Page,
    PassageHit,
    Query,
    QueryExpansion,
    QueryResult,
    RecallEstimate,
    ScoreDetail,
    SegmentStats,
    TermContribution,
)
from engine.wire.catalog import (
    collection_from_wire,
    collection_to_wire,
    embedding_from_wire,
    embedding_to_wire,
    engine_info_from_wire,
    engine_info_to_wire,
    stats_from_wire,
    stats_to_wire,
)
from engine.wire.documents import (
    acknowledgement_from_wire,
    acknowledgement_to_wire,
    document_from_wire,
    document_to_wire,
    page_from_wire,
    page_to_wire,
)
from engine.wire.queries import query_from_wire, query_to_wire
from engine.wire.results import result_from_wire, result_to_wire
from engine.wire.vectors import (
    sparse_from_wire,
    sparse_to_wire,
    tokens_from_wire,
    tokens_to_wire,
    vector_from_wire,
    vector_to_wire,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
int64 = st.integers(-(2**63), 2**63 - 1)
counts = st.integers(0, 2**40)
doubles = st.floats(allow_nan=False, allow_infinity=False)
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
scalars = texts | int64 | doubles | st.booleans()
metadata = st.dictionaries(texts, scalars | st.lists(scalars, max_size=4), max_size=5)
vectors = st.lists(floats, min_size=1, max_size=8)
sparse = st.dictionaries(st.integers(0, 2**64 - 1), floats, max_size=8)
legs = st.sampled_from(LEGS)
weights = st.dictionaries(legs, doubles, max_size=3)
maybe = st.none()
tokens = st.integers(1, 4).flatmap(
    lambda dim: st.lists(st.lists(floats, min_size=dim, max_size=dim), min_size=1, max_size=4)
)
documents = st.builds(
    Document,
    doc_id=texts,
    text=texts,
    title=texts,
    metadata=metadata,
    vector=maybe | vectors,
    sparse=maybe | sparse,
    multi=maybe | tokens,
)
coverages = st.builds(Coverage, counts, counts, counts, counts, counts)
expansions = st.builds(
    Expansion,
    method=st.sampled_from(EXPANSION_METHODS),
    n=int64,
    use=st.sampled_from(EXPANSION_USES),
    bm25=st.booleans(),
)
query_expansions = st.builds(QueryExpansion, method=st.sampled_from(QUERY_EXPANSION_METHODS), n=int64, weight=doubles)
acknowledgements = st.builds(
    Acknowledgement,
    texts,
    st.sampled_from(["added", "updated", "unchanged", "failed"]),
    counts,
    coverages,
    counts,
    maybe | texts,
)
queries = st.builds(
    Query,
    text=maybe | texts,
    vector=maybe | vectors,
    sparse=maybe | sparse,
    multi=maybe | tokens,
    mode=st.sampled_from(MODES),
    limit=int64,
    offset=int64,
    filter=maybe | texts,
    params=metadata,
    task=maybe | texts,
    fusion=st.sampled_from(FUSIONS),
    weights=maybe | weights,
    depth=maybe | st.dictionaries(legs, int64, max_size=3),
    recall_target=maybe | doubles,
    exact=st.booleans(),
    passages=int64,
    score_threshold=maybe | doubles,
    rerank=maybe | int64,
    explain=st.booleans(),
    expansion=maybe | query_expansions,
    examples=st.lists(st.tuples(texts, texts), max_size=3).map(tuple),
    fields=maybe | st.lists(st.sampled_from(RESULT_FIELDS), max_size=3).map(tuple),
)
details = st.builds(
    ScoreDetail,
    dense=maybe | doubles,
    sparse=maybe | doubles,
    bm25=maybe | doubles,
    multi=maybe | doubles,
    ranks=st.dictionaries(legs, counts, max_size=3),
    weights=weights,
    terms=st.lists(st.builds(TermContribution, texts, legs, doubles), max_size=3).map(tuple),
    rerank=maybe | doubles,
    fused=maybe | doubles,
)
hits = st.builds(
    Hit,
    texts,
    doubles,
    texts,
    metadata,
    st.lists(st.builds(PassageHit, texts, counts, counts, doubles), max_size=3).map(tuple),
    details,
)
plan_values = st.recursive(
    scalars | maybe, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)
results = st.builds(
    QueryResult,
    st.lists(hits, max_size=3).map(tuple),
    st.dictionaries(texts, doubles, max_size=3),
    st.dictionaries(texts, plan_values, max_size=4),
)
infos = st.builds(
    CollectionInfo,
    name=texts,
    model=maybe | texts,
    fingerprint=maybe | texts,
    dim=counts,
    coarse_dim=counts,
    legs=st.lists(legs, max_size=3).map(tuple),
    language=texts,
    weights=weights,
    documents=counts,
    passages=counts,
    sequence=counts,
    expansion=maybe | expansions,
    generator=maybe | texts,
    multi_dim=counts,
    dtype=maybe | texts,
    task=maybe | texts,
)
segments = st.builds(
    SegmentStats,
    name=texts,
    passages=counts,
    deleted=counts,
    dense_kind=texts,
    size_bytes=counts,
    multi_bytes=counts,
    recall=st.none() | st.builds(RecallEstimate, recall=doubles, lower=doubles, sample=counts, asked=counts),
)
quick = settings(max_examples=60, deadline=None)


def over_the_wire(message):
    """A message after its bytes."""
    return type(message).FromString(message.SerializeToString())


def same_vector(arrived, sent) -> bool:
    if sent is None or arrived is None:
        return arrived is sent
    return np.array_equal(np.asarray(arrived, np.float32), np.asarray(sent, np.float32))


def exactly(value: object) -> object:
    """Distinguishes 1, 1.0 and True, which compare equal."""
    if isinstance(value, dict):
        return {key: exactly(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [exactly(item) for item in value]
    return (type(value).__name__, value)


@quick
@given(documents)
def test_documents(document: Document):
    arrived = document_from_wire(over_the_wire(document_to_wire(document)))
    assert (arrived.doc_id, arrived.text, arrived.title) == (document.doc_id, document.text, document.title)
    assert exactly(arrived.metadata) == exactly(document.metadata)
    assert same_vector(arrived.vector, document.vector)
    assert arrived.sparse == document.sparse
    assert same_vector(arrived.multi, document.multi)


@quick
@given(acknowledgements)
def test_acknowledgements(acknowledgement: Acknowledgement):
    assert acknowledgement_from_wire(over_the_wire(acknowledgement_to_wire(acknowledgement))) == acknowledgement


@quick
@given(queries)
def test_queries(query: Query):
    arrived = query_from_wire(over_the_wire(query_to_wire(query)))
    assert same_vector(arrived.vector, query.vector)
    assert same_vector(arrived.multi, query.multi)
    for field in Query.__dataclass_fields__:
        if field not in ("vector", "multi"):
            assert exactly(getattr(arrived, field)) == exactly(getattr(query, field)), field


@quick
@given(results)
def test_results(result: QueryResult):
    arrived = result_from_wire(over_the_wire(result_to_wire(result)))
    assert arrived == result
    assert exactly(arrived.plan) == exactly(result.plan)
    assert exactly([hit.metadata for hit in arrived.hits]) == exactly([hit.metadata for hit in result.hits])


@quick
@given(infos, st.lists(segments, max_size=3), counts, coverages)
def test_descriptions(info: CollectionInfo, segments: list[SegmentStats], size: int, tokens: Coverage):
    assert collection_from_wire(over_the_wire(collection_to_wire(info))) == info
    stats = CollectionStats(info=info, segments=segments, store_bytes=size, tokens=tokens)
    assert stats_from_wire(over_the_wire(stats_to_wire(stats))) == stats


@quick
@given(texts, maybe | texts, counts, st.booleans())
def test_engine_descriptions(text: str, optional: str | None, count: int, flag: bool):
    info = EngineInfo(text, optional, optional, text, count, flag, count, count, optional)
    assert engine_info_from_wire(over_the_wire(engine_info_to_wire(info, 5))) == info


@quick
@given(
    vectors, maybe | st.dictionaries(texts, doubles, max_size=3), st.lists(st.tuples(counts, counts, vectors)), counts
)
def test_embeddings(dense, terms, landmarks, tokens):
    arrived = embedding_from_wire(over_the_wire(embedding_to_wire(Embedding(dense, terms, landmarks, tokens))))
    assert same_vector(arrived.dense, dense)
    assert (arrived.sparse, arrived.tokens) == (terms, tokens)
    assert [(start, end) for start, end, _ in arrived.landmarks] == [(start, end) for start, end, _ in landmarks]
    assert all(same_vector(a[2], b[2]) for a, b in zip(arrived.landmarks, landmarks, strict=True))


@quick
@given(st.lists(documents, max_size=4), maybe | texts)
def test_pages(found: list[Document], after: str | None):
    arrived = page_from_wire(over_the_wire(page_to_wire(Page(found, after), 1 << 20)))
    assert [one.doc_id for one in arrived.documents] == [one.doc_id for one in found]
    assert arrived.next_after == after


def test_a_page_that_would_exceed_a_message_is_cut_and_goes_on_after_its_last_document():
    found = [Document(doc_id=f"d{i}", text="x" * 100) for i in range(10)]
    page = page_from_wire(page_to_wire(Page(found, None), 350))
    assert [one.doc_id for one in page.documents] == ["d0", "d1", "d2"]
    assert page.next_after == "d2"
    assert len(page_from_wire(page_to_wire(Page(found, None), 1)).documents) == 1


@quick
@given(st.binary(max_size=64))
def test_any_bytes_are_a_finite_vector_or_refused(data: bytes):
    numbers = np.frombuffer(data[: len(data) // 4 * 4], "<f4")
    if data and len(data) % 4 == 0 and np.isfinite(numbers).all():
        assert np.array_equal(vector_from_wire(data, "vector", InvalidQuery), numbers)
    else:
        with pytest.raises(InvalidQuery, match=r"^vector"):
            vector_from_wire(data, "vector", InvalidQuery)


@pytest.mark.parametrize("bad", [[1.0, float("nan")], [float("inf")], [1e39], []])
def test_vectors_that_no_index_can_hold_are_refused(bad: list[float]):
    with pytest.raises(InvalidDocument):
        vector_from_wire(vector_to_wire(bad, "vector", InvalidDocument), "vector", InvalidDocument)


@pytest.mark.parametrize("bad", [["a"], [[1.0], [2.0]], "abc", 5, object()])
def test_what_is_no_vector_is_refused_before_it_is_sent(bad: object):
    with pytest.raises(InvalidDocument):
        vector_to_wire(bad, "vector", InvalidDocument)


@pytest.mark.parametrize("bad", [{-1: 1.0}, {2**64: 1.0}, {"a": 1.0}, {1: "a"}, [1, 2]])
def test_what_is_no_sparse_vector_is_refused_before_it_is_sent(bad: object):
    with pytest.raises(InvalidDocument):
        sparse_to_wire(pb.SparseVector(), bad, "sparse", InvalidDocument)


@pytest.mark.parametrize(
    "message",
    [
        pb.SparseVector(ids=[1, 1], weights=np.ones(2, "<f4").tobytes()),
        pb.SparseVector(ids=[1], weights=b""),
        pb.SparseVector(ids=[], weights=b"1234"),
        pb.SparseVector(ids=[1], weights=np.array([np.nan], "<f4").tobytes()),
    ],
)
def test_malformed_sparse_vectors_are_refused(message: pb.SparseVector):
    with pytest.raises(InvalidArgument):
        sparse_from_wire(message, "sparse", InvalidArgument)


@pytest.mark.parametrize(
    "message",
    [
        pb.TokenVectors(dim=2, values=np.ones(3, "<f4").tobytes()),
        pb.TokenVectors(dim=0, values=np.ones(2, "<f4").tobytes()),
        pb.TokenVectors(dim=-2, values=np.ones(2, "<f4").tobytes()),
        pb.TokenVectors(dim=2),
        pb.TokenVectors(dim=1, values=np.array([np.inf], "<f4").tobytes()),
    ],
)
def test_malformed_token_vectors_are_refused(message: pb.TokenVectors):
    with pytest.raises(InvalidArgument):
        tokens_from_wire(message, "multi", InvalidArgument)


@pytest.mark.parametrize("bad", [[1.0], [[1.0], [1.0, 2.0]], "abc", 5, [["a"]]])
def test_what_is_no_list_of_token_vectors_is_refused_before_it_is_sent(bad: object):
    with pytest.raises(InvalidDocument):
        tokens_to_wire(bad, "multi", InvalidDocument)


def nested(levels: int) -> object:
    return [nested(levels - 1)] if levels else 1


def test_a_plan_with_values_that_json_does_not_know_becomes_text_and_numbers():
    plan = {
        "size": np.int64(3),
        "share": np.float32(0.5),
        "kind": Document,
        "big": 2**70,
        "deep": nested(40),
        5: (1, 2),
    }
    arrived = result_from_wire(over_the_wire(result_to_wire(QueryResult((), {}, plan)))).plan
    assert exactly(arrived["size"]) == ("int", 3)
    assert exactly(arrived["share"]) == ("float", 0.5)
    assert arrived["kind"] == str(Document)
    assert arrived["big"] == str(2**70)
    assert "[[[1]]]" in str(arrived["deep"])
    assert arrived["5"] == [1, 2]


@pytest.mark.parametrize(
    "document",
    [
        Document(doc_id="a", metadata={"k": 2**63}),
        Document(doc_id="a", metadata={"k": object()}),
        Document(doc_id="a", metadata={1: "x"}),
        Document(doc_id="a", metadata={"k": nested(17)}),
        Document(doc_id="a", metadata=[("k", 1)]),
        Document(doc_id="a", text="\ud800"),
        Document(doc_id="a", metadata={"k": "\ud800"}),
        Document(doc_id=7),
        Document(doc_id="a", text=None),
        Document(doc_id="a", title=b"bytes"),
    ],
)
def test_documents_that_the_wire_cannot_carry_are_refused(document: Document):
    with pytest.raises(InvalidDocument):
        document_to_wire(document)


@pytest.mark.parametrize(
    "query",
    [
        Query(text=5),
        Query(text="x", limit="ten"),
        Query(text="x", limit=2**63),
        Query(text="x", mode="fuzzy"),
        Query(text="x", expansion=QueryExpansion(method="poem")),
        Query(text="x", expansion=QueryExpansion(n="many")),
        Query(text="x", examples=[("only one",)]),
        Query(text="x", examples=[(1, 2)]),
        Query(text="x", fusion="borda"),
        Query(text="x", weights={"dense": "much"}),
        Query(text="x", weights=[1]),
        Query(text="x", depth={"dense": 1.5}),
        Query(text="x", params={"a": object()}),
    ],
)
def test_queries_that_the_wire_cannot_carry_are_refused(query: Query):
    with pytest.raises(InvalidQuery):
        query_to_wire(query)
