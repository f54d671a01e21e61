"""Every kind of bad input gets the error that says what to change, and changes nothing."""

import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from engine import open_engine
from engine.errors import (
    CollectionExists,
    CollectionNotFound,
    DataFolderLocked,
    DataFolderReadOnly,
    DimensionMismatch,
    DocumentNotFound,
    EngineClosed,
    InvalidArgument,
    InvalidDocument,
    InvalidFilter,
    InvalidQuery,
    LegMissing,
)

GOOD = {"doc_id": "good", "text": "a good document", "vector": [1.0, 0.0, 0.0]}


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with open_engine(tmp_path_factory.mktemp("data"), model=None) as opened:
        yield opened


@pytest.fixture(scope="module")
def collection(engine):
    made = engine.create_collection("c", dim=3)
    made.upsert([GOOD])
    return made


@pytest.mark.parametrize(
    ("document", "error", "says"),
    [
        ({**GOOD, "vector": [float("nan"), 0, 0]}, InvalidArgument, "nan at position 0"),
        ({**GOOD, "vector": [0, float("inf"), 0]}, InvalidArgument, "inf at position 1"),
        ({**GOOD, "vector": [0.0, 0.0, 0.0]}, InvalidArgument, "all zero"),
        ({**GOOD, "vector": [1.0, 2.0]}, DimensionMismatch, "expected 3 dimensions, got 2"),
        ({**GOOD, "vector": "abc"}, InvalidArgument, "not a list of numbers"),
        ({"doc_id": "a", "text": "no vector"}, InvalidDocument, "is missing"),
        ({"doc_id": "a", "text": "  "}, InvalidDocument, "is empty"),
        ({**GOOD, "doc_id": ""}, InvalidDocument, "is empty"),
        ({**GOOD, "doc_id": "x" * 512}, InvalidDocument, "512 bytes; at most 511"),
        ({**GOOD, "doc_id": "ü" * 256}, InvalidDocument, "512 bytes"),
        ({**GOOD, "doc_id": "a\0b"}, InvalidDocument, "NUL"),
        ({**GOOD, "doc_id": 7}, InvalidDocument, "must be a string"),
        ({**GOOD, "text": "\ud800"}, InvalidDocument, "not valid Unicode"),
        ({**GOOD, "metadata": {"a": {"b": 1}}}, InvalidDocument, "must be a string, a number"),
        ({**GOOD, "metadata": {"a": float("nan")}}, InvalidDocument, "not a finite number"),
        ({**GOOD, "metadata": {"a": 2**63}}, InvalidDocument, "64 bits"),
        ({**GOOD, "metadata": [1]}, InvalidDocument, "must be an object"),
        ({**GOOD, "sparse": {1: 1.0}}, InvalidDocument, "no learned sparse leg"),
        ({**GOOD, "texts": "typo"}, InvalidDocument, "unknown fields"),
        ({"text": "no id"}, InvalidDocument, "doc_id"),
        ("just a string", InvalidDocument, "must be a Document or a mapping"),
    ],
)
def test_a_bad_document_is_refused_and_nothing_of_the_call_is_written(collection, document, error, says):
    before = collection.info()
    with pytest.raises(error, match=says):
        collection.upsert([{**GOOD, "doc_id": "beside"}, document])
    assert collection.info() == before
    (beside, answer) = collection.ingest([{**GOOD}, document])
    assert (beside.status, answer.status) == ("unchanged", "failed")
    assert says in answer.error


def test_an_id_of_511_bytes_is_accepted(collection):
    doc_id = "x" * 511
    collection.upsert([{**GOOD, "doc_id": doc_id}])
    assert collection.get([doc_id])[0].doc_id == doc_id
    assert collection.delete([doc_id]) == 1


def test_the_same_id_twice_in_one_upsert_is_refused(collection):
    with pytest.raises(InvalidDocument, match="twice"):
        collection.upsert([GOOD, GOOD])


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({}, InvalidQuery, "text: is empty"),
        ({"text": "   "}, InvalidQuery, "is empty"),
        ({"text": "x", "limit": 0}, InvalidQuery, "between 1 and 1,000"),
        ({"text": "x", "limit": 10**9}, InvalidQuery, "between 1 and 1,000, got 1000000000"),
        ({"text": "x", "offset": 9_999}, InvalidQuery, "at most 10,000"),
        ({"text": "x", "offset": -1}, InvalidQuery, "offset"),
        ({"text": "x", "mode": "magic"}, InvalidQuery, "'magic' is unknown"),
        ({"text": "x", "mode": "sparse"}, LegMissing, "no learned sparse head"),
        ({"text": "x", "mode": "dense"}, InvalidQuery, "vector: is missing"),
        ({"text": "x", "fusion": "sum"}, InvalidQuery, "choose from convex, rrf, dbsf"),
        ({"text": "x", "fields": ["hits"]}, InvalidQuery, "choose from title, metadata"),
        ({"text": "x", "weights": {"bm52": 1}}, InvalidQuery, "no leg 'bm52'"),
        ({"text": "x", "weights": {"bm25": -1}}, InvalidQuery, "at least 0"),
        ({"text": "x", "weights": {"bm25": 0, "dense": 0}}, InvalidQuery, "greater than 0"),
        ({"text": "x", "depth": {"bm25": 10**9}}, InvalidQuery, "between 1 and 100,000"),
        ({"text": "x", "recall_target": 1.5}, InvalidQuery, "must be in"),
        ({"text": "x", "score_threshold": float("nan")}, InvalidQuery, "finite"),
        ({"text": "x", "passages": -1}, InvalidQuery, "passages"),
        ({"text": "x", "filter": "lang =="}, InvalidFilter, "ends too early"),
        ({"text": "x", "filter": "lang == $l"}, InvalidFilter, "no value for"),
        ({"vector": [1, 2]}, DimensionMismatch, "expected 3 dimensions, got 2"),
        ({"vector": [float("nan")] * 3}, InvalidArgument, "nan at position 0"),
        ({"vector": [1, 0, 0], "sparse": {1: 1.0}}, InvalidQuery, "no learned sparse leg"),
    ],
)
def test_a_bad_query_is_refused(collection, arguments, error, says):
    with pytest.raises(error, match=says):
        collection.query(**arguments)


def test_an_unknown_option_is_refused(collection):
    with pytest.raises(TypeError, match="limitt"):
        collection.query("x", limitt=3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"name": ""}, "no collection name"),
        ({"name": "../up"}, "no collection name"),
        ({"name": "d", "dim": 0.5}, "between 1 and"),
        ({"name": "d", "dim": 10**6}, "between 1 and"),
        ({"name": "d", "language": "klingon"}, "unknown"),
        ({"name": "d", "dense_kind": "magic"}, "choose from"),
        ({"name": "d", "weights": {"sparse": 1}}, "no leg 'sparse'"),
    ],
)
def test_a_bad_collection_is_refused_and_leaves_nothing(engine, arguments, says):
    before = engine.list_collections()
    with pytest.raises(InvalidArgument, match=says):
        engine.create_collection(**arguments)
    assert engine.list_collections() == before


def test_unknown_and_existing_names(engine, collection):
    with pytest.raises(CollectionNotFound, match="Existing collections: c"):
        engine.get_collection("nope")
    with pytest.raises(CollectionNotFound):
        engine.drop_collection("nope")
    with pytest.raises(CollectionExists):
        engine.create_collection("c", dim=3)
    with pytest.raises(DocumentNotFound, match="'ghost'"):
        collection.update_metadata("ghost", {"a": 1})
    with pytest.raises(InvalidArgument, match="exactly one"):
        collection.delete()
    with pytest.raises(InvalidArgument, match="between 1 and"):
        collection.scroll(limit=0)


def test_a_second_process_is_refused_and_names_the_owner(tmp_path):
    with open_engine(tmp_path, model=None):
        code = f"from engine import open_engine; open_engine({str(tmp_path)!r}, model=None)"
        second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert second.returncode == 1
        assert f"in use by process {os.getpid()}" in second.stderr
        with pytest.raises(DataFolderLocked):
            open_engine(tmp_path, model=None)
    open_engine(tmp_path, model=None).close()


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(DataFolderReadOnly, match="cannot be written"):
        open_engine(blocked / "data", model=None)


def test_a_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with _without_root(), pytest.raises(DataFolderReadOnly):
        open_engine(tmp_path / "data", model=None)


@contextmanager
def _without_root():
    """Root may write anywhere: act as nobody meanwhile."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_closed_engine_says_so(tmp_path):
    engine = open_engine(tmp_path, model=None)
    collection = engine.create_collection("c", dim=3)
    engine.close()
    engine.close()
    with pytest.raises(EngineClosed):
        engine.get_collection("c")
    with pytest.raises(EngineClosed):
        collection.upsert([GOOD])
    with pytest.raises(EngineClosed):
        collection.get(["good"])
