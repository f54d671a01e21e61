"""What was acknowledged survives SIGKILL, what was not is there wholly or not at all, and every reopen can search."""

import itertools
import multiprocessing
import os
import random
import signal
import time

import pytest

from engine.collection import Collection
from tests.support.crashing import apply_to_model, open_collection, operations, wait_for_line, write_until_killed
from tests.support.warm_writer import SCHEMA

SEED = 20261123


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kills", [50, pytest.param(500, marks=pytest.mark.slow)])
def test_nothing_acknowledged_is_lost_and_nothing_else_is_half_there(tmp_path, kills):
    Collection.create(tmp_path / "c", SCHEMA)
    # Children are forked from a clean process that has the modules loaded, never from this one.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.warm_writer"])
    rng = random.Random(SEED)
    model, done, acknowledged_in_all = {}, 0, 0
    for kill in range(kills):
        log = tmp_path / f"log-{kill}"
        child = context.Process(target=write_until_killed, args=(tmp_path / "c", log, SEED, done), daemon=True)
        child.start()
        wait_for_line(log)
        time.sleep(rng.uniform(0.0, 0.4))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        begun, acknowledged = _read(log)
        model, done = _verified(tmp_path / "c", model, done, begun, acknowledged)
        acknowledged_in_all += len(acknowledged)
    assert acknowledged_in_all > 2 * kills, "the children hardly got to work; the test proves nothing"


def _read(log):
    lines = [line.split() for line in log.read_text().splitlines()[1:]]
    begun = [int(line[1]) for line in lines if line[0] == "begin"]
    return begun, [int(line[1]) for line in lines if line[0] == "acknowledged"]


def _verified(folder, model, done, begun, acknowledged):
    """The model's state that the collection is in: all acknowledged operations, and perhaps the one in flight."""
    todo = itertools.islice(operations(SEED, done), len(begun))
    states = [model]
    for operation in todo:
        states.append(apply_to_model(states[-1], *operation))
    collection = open_collection(folder)
    try:
        stored = {}
        page = collection.scroll(limit=1000)
        stored.update({d.doc_id: (d.text, dict(d.metadata)) for d in page.documents})
        assert page.next_after is None
        assert stored in states[len(acknowledged) :], "not a state that the acknowledgements allow"
        if stored:
            doc_id, (text, _) = max(stored.items())
            assert doc_id in {hit.doc_id for hit in collection.query(text, limit=400).hits}
    finally:
        collection.close()
    applied = len(acknowledged) + states[len(acknowledged) :].index(stored)
    return stored, done + applied
