"""A process that writes to a collection until it is killed, and says before and after each operation what it does."""

import contextlib
import os
import random
import signal
import time

DIM = 8
SEAL_ROWS = 200


def operations(seed, first):
    """Endless (number, name, argument); the same for the same seed."""
    number = first
    while True:
        rng = random.Random(f"{seed}-{number}")
        kind = rng.choices(["upsert", "delete", "metadata"], [8, 2, 1])[0]
        ids = rng.sample(range(400), rng.randint(1, 40))
        if kind == "upsert":
            yield number, kind, {f"doc-{n:03d}": f"operation {number} wrote word{n} word{number}" for n in ids}
        elif kind == "delete":
            yield number, kind, [f"doc-{n:03d}" for n in ids[:5]]
        else:
            yield number, kind, f"doc-{ids[0]:03d}"
        number += 1


def apply_to_model(model, number, kind, argument):
    """The dictionary doc_id → (text, metadata) after an operation."""
    after = dict(model)
    if kind == "upsert":
        after.update({doc_id: (text, {}) for doc_id, text in argument.items()})
    elif kind == "delete":
        for doc_id in argument:
            after.pop(doc_id, None)
    elif argument in after:
        after[argument] = (after[argument][0], {"touched": number})
    return after


def vector_of(doc_id):
    rng = random.Random(doc_id)
    return [rng.uniform(-1, 1) for _ in range(DIM)]


def apply_to_collection(collection, number, kind, argument):
    from engine.errors import DocumentNotFound

    if kind == "upsert":
        collection.upsert([{"doc_id": d, "text": t, "vector": vector_of(d)} for d, t in argument.items()])
    elif kind == "delete":
        collection.delete(argument)
    else:
        with contextlib.suppress(DocumentNotFound):
            collection.update_metadata(argument, {"touched": number})


def open_collection(folder):
    from engine.collection import Collection
    from engine.encoding import Model

    return Collection(folder, Model(None), seal_rows=SEAL_ROWS)


def write_until_killed(folder, log, seed, first):
    """The child's whole life. The log survives the kill: it is written with one unbuffered write an entry."""
    collection = open_collection(folder)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, b"open\n")
    for number, kind, argument in operations(seed, first):
        os.write(descriptor, f"begin {number}\n".encode())
        apply_to_collection(collection, number, kind, argument)
        os.write(descriptor, f"acknowledged {number}\n".encode())


def migrate_until_killed(folder, log, old, new):
    """The child's whole life: logs how many documents the new generation holds, and "switched" at the end."""
    from engine import open_engine
    from engine.migration import migrate
    from tests.support.hash_model import HashModel

    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with open_engine(folder, model=None) as engine:
        engine._model = HashModel(old)
        os.write(descriptor, b"open\n")
        report = migrate(
            engine, "c", model=new, on_progress=lambda done, total: os.write(descriptor, f"done {done}\n".encode())
        )
        os.write(descriptor, f"switched {report.embedded}\n".encode())
        signal.pause()


def wait_for_line(log):
    """Wait until a child has written to its log."""
    deadline = time.monotonic() + 60
    while not log.exists() or not log.read_bytes():
        assert time.monotonic() < deadline, "the child did not start"
        time.sleep(0.005)
