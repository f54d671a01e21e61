"""Which model reads a question and a passage together, when a query asks for that?

`RerankerModel` loads the reranker when the first query needs it. It judges few passages and each one thoroughly, so it comes
last: the searcher gives it the best passages of the first hits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from engine.errors import EngineClosed, RerankerMissing

if TYPE_CHECKING:
    from embedder.reranker import Reranker

# A query's text and passages → float64[n], greater is better, and what was done, for the plan.
Rerank = Callable[[str, Sequence[str]], tuple[np.ndarray, dict[str, object]]]


class RerankerModel:
    """A reranker, loaded on first use. Thread-safe.

    Args:
        name: a folder or a hub id; None: there is none.
        device: where it runs; None: the best there is.
        dtype: of the weights; None: float32.
    """

    def __init__(self, name: str | None, *, device: str | None = None, dtype: str | None = None) -> None:
        self.name = name
        self._device = device
        self._dtype = dtype
        self._lock = threading.Lock()
        self._reranker: Reranker | None = None
        self._closed = False

    def check_present(self) -> None:
        """Refuse a query that this engine cannot rerank.

        Raises:
            RerankerMissing: no reranker was named.
        """
        if self.name is None:
            raise RerankerMissing()

    def score(
        self, query: str, passages: Sequence[str], *, task: str | None = None
    ) -> tuple[np.ndarray, dict[str, object]]:
        """How well each passage answers the query, in 0..1; see `Rerank`. ``task``: as for `Reranker.score`.

        Raises:
            RerankerMissing: no reranker was named.
            EmbedderError: it cannot be loaded, or failed, or the query is too long for it.
            EngineClosed: `close` was called.
        """
        reranked = self._loaded().score(query, passages, task=task)
        done = {"model": self.name, "passages": len(passages), "truncated": reranked.truncated}
        return reranked.scores, {"rerank": done}

    def _loaded(self) -> Reranker:
        self.check_present()
        with self._lock:
            if self._closed:
                raise EngineClosed()
            if self._reranker is None:
                from embedder.reranker import Reranker

                assert self.name is not None
                self._reranker = Reranker.load(self.name, device=self._device, dtype=self._dtype)
            return self._reranker

    def close(self) -> None:
        """Unload the reranker; a second call does nothing."""
        with self._lock:
            self._closed = True
            self._reranker = None
