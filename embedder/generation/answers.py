"""What has a generator written before? Answers are kept on the disk, so that no prompt is answered twice.

One SQLite file holds answers by a digest of everything that decides them: the generator's identity, the prompt and the
longest answer. It is a cache: deleting it costs time, never correctness.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from embedder.errors import InvalidInput
from embedder.generation.prompts import Prompt, plain

if TYPE_CHECKING:
    from embedder.generation.generator import Generator

log = logging.getLogger(__name__)

MAX_ANSWERS = 4_000_000  # the oldest are dropped then; about 2 GB
BUSY_S = 30.0  # another process may be writing
_KEYS_A_QUERY = 500


@dataclass(frozen=True, slots=True)
class Answer:
    """What was written, and whether it was ``written`` now (False: it was kept from before)."""

    text: str
    written: bool


class AnswerCache:
    """Answers by key (16 bytes). Thread-safe; also for several processes.

    Args:
        path: the file, made when absent, begun again when damaged; None: in memory.
        limit: answers to keep at most.
    """

    def __init__(self, path: Path | None, *, limit: int = MAX_ANSWERS) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        try:
            self._database = _open(path)
        except sqlite3.DatabaseError as error:
            assert path is not None
            log.warning("%s is damaged (%s); generated texts are written again", path, error)
            for stale in path.parent.glob(f"{path.name}*"):
                stale.unlink()
            self._database = _open(path)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, str]:
        """The answers that are there, by key."""
        found: dict[bytes, str] = {}
        with self._lock:
            for start in range(0, len(keys), _KEYS_A_QUERY):
                some = keys[start : start + _KEYS_A_QUERY]
                marks = ",".join("?" * len(some))
                found.update(self._database.execute(f"SELECT key, text FROM answers WHERE key IN ({marks})", some))
        return found

    def put(self, answers: Mapping[bytes, str]) -> None:
        """Keep answers; the oldest are dropped when there are too many."""
        with self._lock, self._database:
            self._database.executemany("INSERT OR IGNORE INTO answers (key, text) VALUES (?, ?)", answers.items())
            self._database.execute(
                "DELETE FROM answers WHERE number <= (SELECT max(number) FROM answers) - ?", (self._limit,)
            )

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._lock:
            self._database.close()


class CachedGenerator:
    """A generator that answers what it was asked before from a cache. Thread-safe.

    Args:
        generator: answers what is not in the cache.
        cache: of answers.
    """

    def __init__(self, generator: Generator, cache: AnswerCache) -> None:
        self._generator = generator
        self._cache = cache
        self.identity = generator.identity

    def answer(self, prompts: Sequence[Prompt], *, max_new_tokens: int) -> list[Answer]:
        """One answer a prompt, in order, without the model's thinking; equal prompts are answered once.

        Args:
            prompts: what is asked.
            max_new_tokens: the longest answer.

        Raises:
            InvalidInput: the generator gave another number of answers, or a prompt does not fit into its context.
            DeviceOutOfMemory: a batch did not fit.
        """
        keys = [self._key(prompt, max_new_tokens) for prompt in prompts]
        found = self._cache.get(list(dict.fromkeys(keys)))
        missing = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in found}
        new: dict[bytes, str] = {}
        if missing:
            texts = self._generator.generate(list(missing.values()), max_new_tokens=max_new_tokens)
            if len(texts) != len(missing):
                raise InvalidInput(
                    "generator", len(texts), f"it must give one answer a prompt, which is {len(missing)}"
                )
            new = dict(zip(missing, map(plain, texts), strict=True))
            self._cache.put(new)
        return [Answer(new[key], written=True) if key in new else Answer(found[key], written=False) for key in keys]

    def _key(self, prompt: Prompt, max_new_tokens: int) -> bytes:
        parts = json.dumps([self.identity, max_new_tokens, asdict(prompt)])
        return hashlib.blake2b(parts.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _open(path: Path | None) -> sqlite3.Connection:
    database = sqlite3.connect(":memory:" if path is None else path, timeout=BUSY_S, check_same_thread=False)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    with database:
        database.execute(
            "CREATE TABLE IF NOT EXISTS answers (number INTEGER PRIMARY KEY, key BLOB UNIQUE, text TEXT NOT NULL)"
        )
    return database
