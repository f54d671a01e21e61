"""No bytes that a client can send are a bug of the server: every answer is OK or a typed refusal."""

from __future__ import annotations

import collections
import logging
import random
from collections.abc import Iterator

import numpy as np
import pytest
from google.protobuf.message_factory import GetMessageClass

from engine import open_engine
from engine.api import EngineApi
from engine.server.calls import Calls
from engine.server.methods import SERVICE
from engine.server.metrics import Metrics
from engine.server.servicer import _answer
from engine.server.status import status_of
from engine.v1 import engine_pb2 as pb

VALID = {
    "Info": pb.InfoRequest(),
    "CreateCollection": pb.CreateCollectionRequest(
        name="new", dim=4, sparse=True, language="german", dense_kind=pb.DENSE_KIND_FLAT
    ),
    "GetCollection": pb.GetCollectionRequest(name="docs"),
    "ListCollections": pb.ListCollectionsRequest(),
    "DropCollection": pb.DropCollectionRequest(name="docs"),
    "GetCollectionStats": pb.GetCollectionStatsRequest(name="docs"),
    "OptimizeCollection": pb.OptimizeCollectionRequest(name="docs"),
    "Get": pb.GetRequest(collection="docs", doc_ids=["a", "b"], vectors=True),
    "Count": pb.CountRequest(collection="docs", filter="lang == $l", params={"l": pb.Value(string_value="en")}),
    "QueryBatch": pb.QueryBatchRequest(
        collection="docs",
        queries=[
            pb.Query(text="red", mode=pb.MODE_BM25, fusion=pb.FUSION_CONVEX),
            pb.Query(
                vector=np.ones(4, "<f4").tobytes(), mode=pb.MODE_DENSE, fusion=pb.FUSION_DBSF, filter="lang == 'en'"
            ),
        ],
    ),
    "Query": pb.QueryRequest(
        collection="docs",
        query=pb.Query(
            text="red",
            vector=np.ones(4, "<f4").tobytes(),
            sparse=pb.SparseVector(ids=[1, 2], weights=np.ones(2, "<f4").tobytes()),
            mode=pb.MODE_HYBRID,
            fusion=pb.FUSION_RRF,
            limit=3,
            filter="lang == $l",
            params={"l": pb.Value(string_value="en")},
            weights=pb.LegWeights(values={"dense": 0.5}),
            depth=pb.LegDepths(values={"dense": 5}),
            score_threshold=0.5,
        ),
    ),
    "Upsert": pb.UpsertRequest(
        collection="docs",
        documents=[
            pb.Document(
                doc_id="a",
                text="red fox",
                metadata={"k": pb.Value(list_value=pb.ValueList(values=[pb.Value(int_value=1)]))},
                vector=np.ones(4, "<f4").tobytes(),
                sparse=pb.SparseVector(ids=[1], weights=np.ones(1, "<f4").tobytes()),
            )
        ],
    ),
    "Embed": pb.EmbedRequest(texts=["a", "b"], input=pb.EMBED_INPUT_QUERY, task="t"),
    "Scroll": pb.ScrollRequest(collection="docs", limit=2, after="a"),
    "Delete": pb.DeleteRequest(collection="docs", ids=pb.DocIds(values=["a"])),
    "UpdateMetadata": pb.UpdateMetadataRequest(collection="docs", doc_id="a", changes={"k": pb.Value(int_value=1)}),
}


def mutated(body: bytes, rng: random.Random) -> bytes:
    """Bytes flipped, cut out, doubled or appended."""
    data = bytearray(body)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        place = rng.randrange(len(data) + 1)
        kind = rng.choice((0, 0, 0, 0, 1, 2, 3))
        if kind == 0 and place < len(data):
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[place : place + rng.randint(1, 8)]
        elif kind == 2:
            data[place:place] = rng.randbytes(rng.randint(1, 8))
        else:
            data[place:place] = data[: rng.randrange(len(data) + 1)]
    return bytes(data)


UNARY = [method for method in SERVICE.methods if not method.client_streaming]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineApi]:
    """A real engine without a model, so that texts are searched by BM25 and vectors are the caller's."""
    with open_engine(tmp_path_factory.mktemp("data"), model=None) as opened:
        yield opened


@pytest.mark.parametrize("method", UNARY, ids=lambda method: method.name)
def test_mutated_requests_are_answered_or_refused(engine: EngineApi, method):
    rng = random.Random(f"landmark {method.name}")
    work = Calls(engine, Metrics(), 1 << 20).by_name()[method.name]
    request_class = GetMessageClass(method.input_type)
    body = VALID[method.name].SerializeToString()
    outcomes = collections.Counter()
    for _ in range(400):
        fill(engine)
        outcomes[outcome(mutated(body, rng), request_class, work)] += 1
    assert outcomes["a bug"] == 0
    assert outcomes["refused"]
    assert outcomes["answered"] or method.name == "Embed"


def fill(engine: EngineApi) -> None:
    """Puts back what a request has dropped or deleted."""
    known = {info.name for info in engine.list_collections()}
    docs = engine.get_collection("docs") if "docs" in known else engine.create_collection("docs", dim=4, sparse=True)
    if all(docs.get(["a", "b", "c"])):
        return
    own = {"vector": [1, 2, 3, 4], "sparse": {1: 1.0}, "metadata": {"lang": "en"}}
    docs.upsert({"doc_id": name, "text": "red fox", **own} for name in "abc")


def outcome(raw: bytes, request_class: type, work) -> str:
    try:
        _answer(raw, request_class, work)
    except Exception as error:
        if status_of(error) is not None:
            return "refused"
        logging.getLogger(__name__).exception("a bug, by %r", raw)
        return "a bug"
    return "answered"
