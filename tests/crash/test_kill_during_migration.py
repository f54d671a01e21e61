"""A migration that is killed at any moment leaves the old model's answers or the new one's, and goes on where it was."""

import multiprocessing
import os
import random
import signal
import time

import pytest

from engine import open_engine
from tests.support.crashing import migrate_until_killed, wait_for_line
from tests.support.hash_model import HashModel

SEED = 20261123
DOCUMENTS = {f"doc-{n:04d}": f"document number{n} " + " ".join(f"word{n}x{i}" for i in range(30)) for n in range(600)}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kills", [15, pytest.param(200, marks=pytest.mark.slow)])
def test_a_killed_migration_is_resumed_and_the_change_is_all_at_once(tmp_path, kills):
    with _opened(tmp_path, "model-0") as engine:
        collection = engine.create_collection("c")
        collection.upsert([{"doc_id": d, "text": t, "metadata": {"id": d}} for d, t in DOCUMENTS.items()])
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.warm_writer"])
    rng = random.Random(SEED)
    serving, resumed, reached = 0, 0, 0
    for kill in range(kills):
        log = tmp_path / f"log-{kill}"
        models = (f"model-{serving}", f"model-{serving + 1}")
        child = context.Process(target=migrate_until_killed, args=(tmp_path, log, *models), daemon=True)
        child.start()
        wait_for_line(log)
        if kill % 2:  # on a machine of any speed, some die when they have done something and not all
            _wait_for_progress(log)
            time.sleep(rng.uniform(0.0, 0.1))
        else:
            time.sleep(rng.uniform(0.0, 1.5))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        done, switched = _read(log)
        if done and reached:
            assert done[0] >= reached, "work that was durable was done again"
            resumed += 1
        found = _verified(tmp_path, models)
        assert found == models[1] or not switched
        serving, reached = (serving + 1, 0) if found == models[1] else (serving, max([reached, *done]))
    assert serving, "no migration came to its end; the test proves nothing"
    assert resumed, "no migration was resumed; the test proves nothing"


def _opened(folder, model):
    engine = open_engine(folder, model=None)
    engine._model = HashModel(model)
    return engine


def _wait_for_progress(log):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not any(_read(log)):
        time.sleep(0.002)


def _read(log):
    lines = [line.split() for line in log.read_text().splitlines()[1:]]
    return [int(line[1]) for line in lines if line[0] == "done"], any(line[0] == "switched" for line in lines)


def _verified(folder, models):
    """The model that serves after the kill; every document is there and is found by its vector."""
    for model in models:
        with _opened(folder, model) as engine:
            collection = engine.get_collection("c")
            if collection.info().model != model:
                continue
            stored = {d.doc_id: (d.text, d.metadata) for d in collection.scroll(limit=1000).documents}
            assert stored == {doc_id: (text, {"id": doc_id}) for doc_id, text in DOCUMENTS.items()}
            for doc_id in list(DOCUMENTS)[::97]:
                assert collection.query(DOCUMENTS[doc_id], mode="dense").hits[0].doc_id == doc_id
            return model
    raise AssertionError(f"the collection has neither of the models {models}")
