"""Which language model writes for this engine, and where is kept what it wrote?

A generator is loaded when the first text needs it. What it writes is cached in the data folder, so a second run over the same
documents writes nothing.

    data/generated.db      answers of all generators (embedder.generation.answers)
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import EngineClosed

if TYPE_CHECKING:
    from embedder.generation.answers import AnswerCache, CachedGenerator

CACHE_FILE = "generated.db"


class Generators:
    """The generators of one engine, loaded on first use. Thread-safe.

    Args:
        folder: where answers are kept; None: in memory.
        name: of the engine's own generator, a folder or a hub id; None: it has none.
        device: where they run; None: the best there is.

    Attributes:
        name: the engine's own generator.
    """

    def __init__(self, folder: Path | None = None, name: str | None = None, *, device: str | None = None) -> None:
        self.name = name
        self._folder = folder
        self._device = device
        self._lock = threading.Lock()
        self._loaded: dict[str, CachedGenerator] = {}
        self._cache: AnswerCache | None = None
        self._closed = False

    def get(self, name: str) -> CachedGenerator:
        """A generator by its name.

        Raises:
            EmbedderError: it cannot be loaded, says why.
            EngineClosed: `close` was called.
        """
        with self._lock:
            if self._closed:
                raise EngineClosed()
            if name not in self._loaded:
                self._loaded[name] = self._load(name)
            return self._loaded[name]

    def _load(self, name: str) -> CachedGenerator:
        from embedder.generation.answers import AnswerCache, CachedGenerator
        from embedder.generation.generator import LocalGenerator

        generator = LocalGenerator(name, device=self._device)
        if self._cache is None:
            self._cache = AnswerCache(None if self._folder is None else self._folder / CACHE_FILE)
        return CachedGenerator(generator, self._cache)

    def close(self) -> None:
        """Unload the generators; a second call does nothing."""
        with self._lock:
            self._closed = True
            self._loaded.clear()
            if self._cache is not None:
                self._cache.close()
                self._cache = None
