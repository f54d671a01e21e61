"""Readers beside the writer: in this process through the writer's store, or in a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from engine.collection import Collection
from engine.following import Follower
from engine.generation import Generation
from engine.reading import CollectionReader, View
from tests.support.hash_model import HashModel


class Beside(CollectionReader):
    """Reads a collection by what its store says alone, as another process would. May outlive the collection's reopening."""

    def __init__(self):
        super().__init__(None)
        self._generation: Generation | None = None
        self._follower: Follower | None = None

    def turn_to(self, collection: Collection) -> None:
        self._generation = collection._generation
        if self._follower is None:
            generation = self._generation
            self._follower = Follower(generation.store, generation.segments_folder, generation.schema)
        self._follower._store = self._generation.store

    @contextmanager
    def reading(self) -> Iterator[Beside]:
        yield self

    def __getattr__(self, name: str) -> object:
        return getattr(self._generation, name)

    @property
    def schema(self):
        return self._generation.schema

    def weights(self) -> dict[str, float]:
        return self._generation.weights()

    def view(self) -> AbstractContextManager[View]:
        return self._follower.view()

    def close(self) -> None:
        pass


class ReaderProcess:
    """`engine.open_reader` in a process of its own, with the hash model "first" and a collection "c"."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.beside", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def call(self, expression: str) -> object:
        """The value of a Python expression over ``engine``, ``c()`` and a list ``kept``, or "raises NAME: message"."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{expression}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def kill(self) -> None:
        with self._process:  # closes its pipes
            self._process.kill()

    def __enter__(self) -> ReaderProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def _main(folder: str) -> None:
    from engine import open_reader

    with open_reader(folder, model=None) as engine:
        engine._model = HashModel("first")
        names = {"engine": engine, "c": lambda: engine.get_collection("c"), "kept": []}
        for line in sys.stdin:
            try:
                value = eval(line, names)
            except Exception as error:
                value = f"raises {type(error).__name__}: {error}"
            sys.stdout.write(f"{json.dumps(value)}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    _main(sys.argv[1])
