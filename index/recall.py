"""What recall does each setting of a segment's coarse search reach? A certificate, measured on the segment itself.

Queries are answered exactly, and searched with each setting; kept are the settings of which no other costs less and finds
more. The queries are those that were asked lately, once there are ``ENOUGH``, and rows of the segment's own until then. Each
setting has a lower bound of its mean recall with 95 % confidence, see ``lower_bound``.

File: ``recall.json`` (version, queries, passages: how many of each were sampled; settings, cheapest first).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from index.arrays import Floats, Halves, Rows, load_facts, save_facts
from index.errors import CorruptIndexFile

FORMAT_VERSION = 1
FILE = "recall.json"
KS = (10, 100)  # the numbers of nearest rows whose recall is measured
DEPTHS = (10, 15, 20, 30, 40, 60, 80, 100, 120, 160, 200, 250, 320, 400, 500, 640)
SAMPLE = 512  # queries at most
ENOUGH = SAMPLE // 2  # queries that were asked: so many make stand-ins needless
MOST_COINS = 3.0  # as many coins as a real query's recall counts for at most
DISTURBANCE = 1.0  # length of what is added to a row that serves as a query; rows have length 1
Z = 1.6448536269514722  # 95 %, one-sided
_CHUNK = 16_384  # rows multiplied with all queries at a time


@dataclass(frozen=True, slots=True)
class Setting:
    """How to search.

    width: how widely, in the kind's own measure (of the graph search, or lists probed); None: its usual. depth: how many
    candidates are rescored.
    """

    width: int | None
    depth: int


@dataclass(frozen=True, slots=True)
class Promise:
    """How a search will be run, and what is known of its recall.

    recall, lower: mean and 95 % lower bound over ``sample`` queries; None: not measured. setting: None: every row is scanned.
    asked: how many of the sample were asked; the others are rows, and the bound is for queries like them.
    """

    recall: float | None
    lower: float | None
    sample: int
    setting: Setting | None
    asked: int = 0

    @staticmethod
    def of_scan() -> Promise:
        """Every row is scanned: nothing can be missed."""
        return Promise(1.0, 1.0, 0, None)


@dataclass(frozen=True, slots=True)
class Measured:
    """The share of the ``k`` nearest rows that a setting found: mean, and lower bound at 95 %. cost: bytes read a query."""

    k: int
    width: int
    depth: int
    cost: int
    recall: float
    lower: float

    @property
    def setting(self) -> Setting:
        """What was measured."""
        return Setting(self.width, self.depth)


class Searcher(Protocol):
    """What is measured."""

    def deepest(self, width: int) -> int:
        """How many candidates a search of this width can give."""

    def scores(self, query: Floats, setting: Setting) -> tuple[Rows, Floats]:
        """The candidates, best first by their coarse score, with their exact scores."""

    def cost(self, setting: Setting) -> int:
        """Bytes that a search reads."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """The recall of a segment's settings, over ``queries`` that were asked and ``passages`` of its own rows."""

    queries: int
    passages: int
    settings: tuple[Measured, ...]

    @property
    def sample(self) -> int:
        """Sampled queries in all."""
        return self.queries + self.passages

    def cheapest(self, target: float, k: int) -> Measured | None:
        """The cheapest setting whose lower bound for the ``k`` nearest rows reaches ``target``; None: scan everything.

        Between the measured numbers the next greater one counts: it is harder to find more. Beyond the greatest of ``KS``
        width and depth grow in proportion.
        """
        measured = min((known for known in KS if known >= k), default=KS[-1])
        reached = (one for one in self.settings if one.k == measured and one.lower >= target)
        best = min(reached, key=lambda one: one.cost, default=None)
        if best is None or k <= measured:
            return best
        more = k / measured
        return Measured(
            k, math.ceil(best.width * more), math.ceil(best.depth * more), best.cost, best.recall, best.lower
        )

    def save(self, folder: Path) -> None:
        """Write ``recall.json`` into an existing folder."""
        save_facts(folder / FILE, {"version": FORMAT_VERSION, **asdict(self)})

    @staticmethod
    def load(folder: Path) -> Certificate | None:
        """Read what ``save`` wrote; None where nothing was measured.

        Raises:
            CorruptIndexFile: the file is unreadable or of another version; rebuild the segment.
        """
        path = folder / FILE
        if not path.exists():
            return None
        facts = load_facts(path, FORMAT_VERSION)
        try:
            settings = tuple(Measured(**one) for one in facts["settings"])
            return Certificate(int(facts["queries"]), int(facts["passages"]), settings)
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptIndexFile(path, f"it is no certificate ({error})") from error


def wilson_lower(mean: float, n: float) -> float:
    """The one-sided 95 % lower bound of a mean of ``n`` coins.

    Wilson, "Probable inference, the law of succession, and statistical inference" (1927).
    """
    if n == 0:
        return 0.0
    z2 = Z * Z / n
    half = Z * math.sqrt(mean * (1.0 - mean) / n + z2 / (4.0 * n))
    return min(mean, max(0.0, (mean + z2 / 2.0 - half) / (1.0 + z2)))


def lower_bound(recalls: Floats, most_coins: float) -> float:
    """The one-sided 95 % lower bound of the mean of queries' recalls, numbers in [0, 1].

    A query's recall@k varies less than a coin with the same mean, since few queries miss everything: it counts for as many
    coins as the coin's variance is a multiple of its own (Kish's effective sample size), and Wilson's bound for so many
    holds. ``most_coins`` limits that: the variance is an estimate itself, and of many settings the luckiest is chosen. With 1
    it is the bound for coins, whatever was found.
    """
    mean, variance = float(recalls.mean()), float(recalls.var(ddof=1)) if len(recalls) > 1 else 0.0
    of_a_coin = mean * (1.0 - mean)
    coins = most_coins if variance <= 0.0 else min(most_coins, max(1.0, of_a_coin / variance))
    return wilson_lower(mean, len(recalls) * (coins if of_a_coin > 0.0 else 1.0))


def nearest(vectors: Halves, queries: Floats, k: int, hidden: Rows) -> Rows:
    """The exact ``k`` best rows of each query, best first: int64[m, k]. O(n * m * dim) in BLAS, in bounded memory.

    Args:
        vectors: float16[n, dim].
        queries: float32[m, dim].
        k: at most n - 1.
        hidden: int64[m], a row that is no answer to each query; -1: none.
    """
    m = len(queries)
    scores, rows = np.empty((m, 0), np.float32), np.empty((m, 0), np.int64)
    for start in range(0, len(vectors), _CHUNK):
        part = queries @ vectors[start : start + _CHUNK].astype(np.float32).T
        here = (hidden >= start) & (hidden < start + part.shape[1])
        part[here, hidden[here] - start] = -np.inf
        kept = min(k, part.shape[1])
        places = np.argpartition(-part, kept - 1, axis=1)[:, :kept]
        scores = np.hstack([scores, np.take_along_axis(part, places, 1)])
        rows = np.hstack([rows, places + start])
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        scores, rows = np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)
    return rows


def stand_ins(vectors: Halves, rows: Rows, rng: np.random.Generator) -> Floats:
    """Queries made of rows, for want of real ones: float32[m, dim], unit length.

    A passage's own vector is too easy a query: real ones lie farther from their answers, and more of their length outside
    the directions that the passages share. Each row is therefore disturbed in a random direction by as much as it is
    long (cosine with the row: 0.71), which is as hard as real queries of the passages' kind or a little harder: docs/adr/0013
    has the figures.

    Args:
        vectors: float16[n, dim], unit rows.
        rows: int64[m].
        rng: draws the disturbance.
    """
    chosen = vectors[rows].astype(np.float32)
    noise = rng.standard_normal(chosen.shape, np.float32)
    made = chosen + DISTURBANCE * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    return made / np.linalg.norm(made, axis=1, keepdims=True).clip(min=1e-9)


def measure(
    searcher: Searcher, widths: Sequence[int], queries: Floats, least: Floats, hidden: Rows, *, most_coins: float
) -> tuple[Measured, ...]:
    """The frontier of each k of ``KS``: settings that find more than every cheaper one, cheapest first.

    Args:
        searcher: the coarse search.
        widths: to try, ascending.
        queries: float32[m, dim].
        least: float32[m, len(KS)], the exact score of each query's k-th nearest row: what scores as much is one of them.
        hidden: int64[m], the row that is no answer to each query; -1: none.
        most_coins: see ``lower_bound``.
    """
    measured = []
    for width in widths:
        depths = [depth for depth in DEPTHS if depth <= searcher.deepest(width)]
        deepest, asked = Setting(width, max(depths)), zip(queries, least, hidden.tolist(), strict=True)
        found = np.array([_found(searcher, deepest, *one) for one in asked])
        for place, k in enumerate(KS):
            for depth in depths:
                if depth >= k:
                    recalls = np.minimum(found[:, place, depth - 1], k) / k
                    cost, lower = searcher.cost(Setting(width, depth)), lower_bound(recalls, most_coins)
                    measured.append(Measured(k, width, depth, cost, float(recalls.mean()), lower))
    return tuple(one for k in KS for one in _undominated(one for one in measured if one.k == k))


def _found(searcher: Searcher, setting: Setting, query: Floats, least: Floats, hidden: int) -> Rows:
    """How many of the nearest rows are among the first 1, 2, ... candidates: int64[len(KS), depth]."""
    rows, scores = searcher.scores(query, setting)
    scores = scores[rows != hidden]
    counts = np.cumsum(scores[None, :] >= least[:, None], axis=1)[:, : setting.depth]
    last = counts[:, -1:] if counts.size else np.zeros((len(least), 1), np.int64)
    return np.hstack([counts, np.repeat(last, setting.depth - counts.shape[1], axis=1)])


def _undominated(measured: Iterable[Measured]) -> list[Measured]:
    kept: list[Measured] = []
    for one in sorted(measured, key=lambda one: (one.cost, -one.recall)):
        if not kept or one.recall > kept[-1].recall:
            kept.append(one)
    return kept
