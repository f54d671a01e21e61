"""The gpu kind: every row's prefix is scanned in float16 on a GPU, by torch, for all queries that wait.

A scan reads n * coarse_dim * 2 bytes, whether for one query or for fifty, so callers that ask at the same time share one:
whoever gets the device scans for all of them (``_Shared``). float16 has three bits more than bfloat16 and no range is lost,
since rows have unit length. Where torch finds no GPU the processor scans: slowly, but a folder opens on every machine.

The file is ``prefixes.npy``, float16[n, coarse_dim]. torch is imported on first use.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from index.arrays import Floats, Halves, Mask, Rows, load_array, save_array
from index.errors import CorruptIndexFile

MOST_QUERIES = 64  # that share a scan
SCORES_AT_ONCE = 1 << 26  # 128 MiB of float16, for the queries that share a scan together
EXHAUSTIVE = 0  # the only width: every row is scanned
# Bytes read while a processor reads one, at least: by the vendors' data sheets, not measured.
SPEED = {"cuda": 16, "cpu": 1}


@dataclass(slots=True)
class _Ask:
    """One query, and its answer when it has been scanned."""

    query: Floats
    depth: int
    allow: Mask | None
    rows: Rows | None = None
    error: BaseException | None = None


class _Shared:
    """Calls that come while one is running are answered together by the next: ``answer`` gets at most ``MOST_QUERIES``."""

    def __init__(self, answer: Callable[[Sequence[_Ask]], None]) -> None:
        self._answer = answer
        self._waiting: list[_Ask] = []
        self._lock = threading.Lock()
        self._running = threading.Lock()

    def ask(self, one: _Ask) -> Rows:
        """The answer for ``one``, found in this thread or in that of another caller."""
        with self._lock:
            self._waiting.append(one)
        while one.rows is None and one.error is None:
            with self._running:
                if one.rows is None and one.error is None:
                    self._run()
        if one.error is not None:
            raise one.error
        assert one.rows is not None
        return one.rows

    def _run(self) -> None:
        with self._lock:
            together, self._waiting = self._waiting[:MOST_QUERIES], self._waiting[MOST_QUERIES:]
        try:
            self._answer(together)
        except BaseException as error:  # also of an interrupted thread: the others must not wait for it
            for one in together:
                one.error = error


class GpuIndex:
    """Prefixes of all rows on a device; immutable, safe to search from many threads.

    Attributes:
        device: what torch calls the place of the prefixes.
        nbytes: what they take there.
    """

    kind: ClassVar[str] = "gpu"
    widths: ClassVar[tuple[int, ...]] = (EXHAUSTIVE,)

    def __init__(self, prefixes: Halves) -> None:
        """Take float16[n, coarse_dim] to the device; use ``build`` or ``load``."""
        torch = _torch()
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self._prefixes = torch.tensor(prefixes, device=self.device)
        self.nbytes = int(self._prefixes.nbytes)
        self._shared = _Shared(self._scan)

    @classmethod
    def build(cls, prefixes: Floats, *, seed: int = 0, threads: int = 1) -> GpuIndex:
        """Keep ``prefixes``, float32[n, coarse_dim]; ``seed`` and ``threads`` change nothing."""
        del seed, threads
        return cls(prefixes.astype(np.float16))

    def save(self, folder: Path) -> None:
        """Write ``prefixes.npy`` into an existing folder."""
        save_array(folder, "prefixes", self._prefixes.cpu().numpy())

    @classmethod
    def load(cls, folder: Path, n_rows: int, coarse_dim: int) -> GpuIndex:
        """Take what ``save`` wrote to the device.

        Raises:
            CorruptIndexFile: the file is missing or has another shape; rebuild the segment.
        """
        prefixes = load_array(folder, "prefixes")
        if prefixes.shape != (n_rows, coarse_dim):
            raise CorruptIndexFile(folder / "prefixes.npy", f"its shape {prefixes.shape} does not fit {n_rows} rows")
        return cls(prefixes)

    def cost(self, width: int) -> int:
        """Bytes that a processor would read in the time of a scan, before rescoring."""
        del width
        return self.nbytes // SPEED[self.device]

    def deepest(self, width: int) -> int:
        """How many candidates a search can give."""
        del width
        return len(self._prefixes)

    def candidates(self, query: Floats, depth: int, *, width: int | None = None, allow: Mask | None = None) -> Rows:
        """The ``depth`` allowed rows whose prefixes score best, best first: int64[<= depth].

        Args:
            query: float32[coarse_dim].
            depth: at least 1.
            width: changes nothing: the scan is complete.
            allow: bool[n_rows], or None for all rows.
        """
        del width
        return self._shared.ask(_Ask(query, min(depth, len(self._prefixes)), allow))

    def _scan(self, asked: Sequence[_Ask]) -> None:
        """Answer ``asked`` in one pass over the prefixes, part by part."""
        torch, depth = _torch(), max(one.depth for one in asked)
        with torch.inference_mode():
            queries = torch.tensor(np.stack([one.query for one in asked]), dtype=torch.float16, device=self.device)
            best, rows = self._part(queries, asked, 0, depth)
            step = self._step(len(asked))
            for start in range(step, len(self._prefixes), step):
                more, places = self._part(queries, asked, start, depth)
                best, chosen = torch.cat([best, more], 1).topk(min(depth, best.shape[1] + more.shape[1]), 1)
                rows = torch.cat([rows, places], 1).gather(1, chosen)
            found, scores = rows.cpu().numpy(), best.cpu().numpy()
        for one, row, score in zip(asked, found, scores, strict=True):
            one.rows = row[np.isfinite(score)][: one.depth]

    def _step(self, n_queries: int) -> int:
        return max(1, SCORES_AT_ONCE // n_queries)

    def _part(self, queries: Any, asked: Sequence[_Ask], start: int, depth: int) -> tuple[Any, Any]:  # noqa: ANN401
        """The best ``depth`` of the rows from ``start`` on, of each query: their scores, descending, and their numbers."""
        stop = start + self._step(len(asked))
        scores = queries @ self._prefixes[start:stop].T
        for place, one in enumerate(asked):
            if one.allow is not None:
                refused = _torch().tensor(~one.allow[start:stop], device=self.device)
                scores[place].masked_fill_(refused, -float("inf"))
        best, rows = scores.topk(min(depth, scores.shape[1]), 1)
        return best, rows + start


def _torch() -> ModuleType:
    """The library, imported on first use."""
    return importlib.import_module("torch")
