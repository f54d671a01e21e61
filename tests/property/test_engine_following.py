"""A reader that knows only what the store says answers as the writer does, whenever it looks and whatever happened since."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from engine import open_engine
from engine.values import Document
from tests.support.beside import Beside

IDS = st.sampled_from([f"doc-{n}" for n in range(8)])
WORDS = st.lists(st.sampled_from(["lock", "fsync", "segment", "passage", "rank"]), min_size=1, max_size=4).map(" ".join)
QUERY = "lock fsync rank"


class FollowingMachine(RuleBasedStateMachine):
    @initialize()
    def open_folder(self):
        self.folder = Path(tempfile.mkdtemp())
        self.engine = open_engine(self.folder, model=None)
        self.engine.create_collection("c")
        self.reader = Beside()
        self.turn()

    def turn(self):
        self.collection = self.engine.get_collection("c")
        self.reader.turn_to(self.collection)

    def teardown(self):
        self.engine.close()
        shutil.rmtree(self.folder)

    @rule(documents=st.lists(st.tuples(IDS, WORDS), min_size=1, max_size=4))
    def put(self, documents):
        for doc_id, text in documents:
            self.collection.upsert([Document(doc_id=doc_id, text=text, metadata={"size": len(text)})])

    @rule(doc_id=IDS)
    def delete(self, doc_id):
        self.collection.delete([doc_id])

    @rule(doc_id=IDS, size=st.integers(0, 30))
    def resize(self, doc_id, size):
        if self.collection.get([doc_id]) != [None]:
            self.collection.update_metadata(doc_id, {"size": size})

    @rule()
    def seal(self):
        self.collection.optimize()

    @rule()
    def damage_and_reopen(self):
        self.engine.close()
        for path in list(self.folder.glob("collections/c/segments/*/manifest.json"))[:1]:
            path.unlink()
        self.engine = open_engine(self.folder, model=None)
        self.turn()

    @rule()
    def look(self):
        there, here = ({h.doc_id: h.score for h in side.query(QUERY).hits} for side in (self.reader, self.collection))
        assert there == pytest.approx(here)
        assert self.reader.count() == self.collection.count()
        assert self.reader.count(filter="size >= 9") == self.collection.count(filter="size >= 9")
        assert self.reader.scroll(limit=100) == self.collection.scroll(limit=100)


TestFollowing = FollowingMachine.TestCase
# Nothing is shrunk: background threads decide when a segment goes, so a shorter case need not fail again.
TestFollowing.settings = settings(
    max_examples=30,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
