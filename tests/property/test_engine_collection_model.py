"""A collection behaves like a dictionary with brute-force search, through reopening, sealing and merging."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from engine import open_engine
from engine.values import Document
from index.analyzer import Analyzer
from tests.support.naive import NaiveCollection

DIM = 8
IDS = st.sampled_from([f"doc-{n}" for n in range(12)])
WORDS = st.sampled_from(
    ["landmark", "vector", "query", "lock", "fsync", "segment", "passage", "window", "rank", "tree"]
)
TEXTS = st.lists(WORDS, min_size=1, max_size=12).map(" ".join)
COMPONENT = st.integers(-4, 4)
VECTORS = st.lists(COMPONENT, min_size=DIM, max_size=DIM).filter(any)
TOKENS = st.lists(st.lists(COMPONENT, min_size=3, max_size=3).filter(any), min_size=1, max_size=5)
METADATA = st.fixed_dictionaries(
    {},
    optional={
        "lang": st.sampled_from(["en", "de"]),
        "year": st.integers(2000, 2003),
        "tags": st.lists(WORDS, max_size=2),
    },
)


class CollectionMachine(RuleBasedStateMachine):
    @initialize()
    def open_folder(self):
        self.folder = Path(tempfile.mkdtemp())
        self.engine = open_engine(self.folder, model=None)
        self.collection = self.engine.create_collection("c", dim=DIM, multi_dim=3)
        self.naive = NaiveCollection(Analyzer("english"))

    def teardown(self):
        self.engine.close()
        shutil.rmtree(self.folder)

    @rule(doc_id=IDS, text=TEXTS, vector=VECTORS, multi=TOKENS, metadata=METADATA)
    def upsert(self, doc_id, text, vector, multi, metadata):
        document = Document(doc_id=doc_id, text=text, vector=vector, multi=multi, metadata=metadata)
        (answer,) = self.collection.upsert([document])
        assert answer.status == self.naive.put(document)

    @rule(documents=st.lists(st.tuples(IDS, TEXTS, VECTORS, TOKENS), min_size=1, max_size=20))
    def ingest(self, documents):
        batch = [
            Document(doc_id=doc_id, text=text, vector=vector, multi=multi) for doc_id, text, vector, multi in documents
        ]
        answers = list(self.collection.ingest(batch))
        assert [answer.doc_id for answer in answers] == [document.doc_id for document in batch]
        for document in batch:
            self.naive.put(document)

    @rule(doc_id=IDS)
    def delete(self, doc_id):
        assert self.collection.delete([doc_id]) == self.naive.delete(doc_id)

    @rule(year=st.integers(2000, 2003))
    def delete_by_filter(self, year):
        doomed = [d.doc_id for d in self.naive.documents.values() if d.metadata.get("year", 9999) < year]
        assert self.collection.delete(filter="year < $y", params={"y": year}) == len(doomed)
        for doc_id in doomed:
            self.naive.delete(doc_id)

    @rule(doc_id=IDS, year=st.integers(2000, 2003))
    def update_metadata(self, doc_id, year):
        if doc_id in self.naive.documents:
            self.collection.update_metadata(doc_id, {"year": year, "lang": None})
            self.naive.update_metadata(doc_id, {"year": year, "lang": None})

    @rule()
    def reopen(self):
        self.engine.close()
        self.engine = open_engine(self.folder, model=None)
        self.collection = self.engine.get_collection("c")

    @rule()
    def optimize(self):
        self.collection.optimize()

    @rule(text=TEXTS, vector=VECTORS, multi=TOKENS, limit=st.integers(1, 15))
    def every_mode_ranks_as_brute_force_does(self, text, vector, multi, limit):
        for mode in ("dense", "bm25", "multi", "hybrid"):
            result = self.collection.query(text, vector=vector, multi=multi, mode=mode, limit=limit)
            expected = self.naive.query(text, vector, mode, multi)
            scores = [hit.score for hit in result.hits]
            # float32 and float64 may order near-equal scores differently; exact ties are tested below.
            assert scores == pytest.approx(sorted(expected.values(), reverse=True)[:limit], abs=1e-5)
            assert scores == pytest.approx([expected[hit.doc_id] for hit in result.hits], abs=1e-5)

    @rule(vector=VECTORS, lang=st.sampled_from(["en", "de"]))
    def a_filtered_search_returns_every_match(self, vector, lang):
        hits = self.collection.query(vector=vector, filter="lang == $l", params={"l": lang}, limit=50).hits
        assert {h.doc_id for h in hits} == {
            d.doc_id for d in self.naive.documents.values() if d.metadata.get("lang") == lang
        }

    @invariant()
    def holds_the_same_documents(self):
        assert self.collection.count() == len(self.naive.documents)
        stored = self.collection.scroll(limit=100).documents
        assert {d.doc_id: (d.text, dict(d.metadata)) for d in stored} == {
            d.doc_id: (d.text, dict(d.metadata)) for d in self.naive.documents.values()
        }


TestCollection = CollectionMachine.TestCase
TestCollection.settings = settings(
    max_examples=15, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_ties_are_ordered_by_doc_id(tmp_path):
    with open_engine(tmp_path, model=None) as engine:
        collection = engine.create_collection("c", dim=2)
        ids = [f"{n:03d}" for n in np.random.default_rng(3).permutation(300)]
        collection.upsert([{"doc_id": doc_id, "text": "same", "vector": [1, 0]} for doc_id in ids[:150]])
        collection.optimize()
        collection.upsert([{"doc_id": doc_id, "text": "same", "vector": [1, 0]} for doc_id in ids[150:]])
        hits = collection.query("same", vector=[1, 0], limit=20, depth={"dense": 1000, "bm25": 1000}).hits
        assert [hit.doc_id for hit in hits] == sorted(ids)[:20]
