"""Where does a passage end?

A text is cut at the strongest boundary near the end of the token budget: a boundary that the caller names (a heading, a
function), then a paragraph, a line, a sentence, a clause, a word, and only then between two tokens. Passages are spans
``text[start:end]``: ascending, without overlap, without surrounding white space, and together they cover every character
that is not white space. The cuts depend on the text, the tokens and the budget alone, and an edit moves only the cuts
near it: each cut is chosen from the boundaries within one budget, so two versions of a text soon agree again.

Cost: O(n) for finding boundaries, O(log n) a passage for choosing them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import regex
from numpy.typing import NDArray

from embedder.errors import InvalidInput

Units = Literal["words", "characters"]
MAX_CHARS_PER_TOKEN = 32  # a passage is never longer than this times its budget, whatever its tokens span

_CLOSERS = r"[\p{Close_Punctuation}\p{Final_Punctuation}\"'”’]*+"
# Terminators of scripts that put no space after a sentence end it alone; the others need white space after them
# (so that "3.14" and "e.g.x" stay whole).
_PATTERNS: tuple[tuple[str, float], ...] = (
    # pattern whose match ends where a passage may begin, and the least part of the budget that such a cut must fill
    (r"\n[^\S\n]*(?:\n\s*)+", 0.5),  # paragraphs
    (r"\n\s*", 0.6),  # lines
    (
        rf"(?:[。！？｡︒﹒]{_CLOSERS}|(?<!\p{{Sentence_Terminal}})\p{{Sentence_Terminal}}++{_CLOSERS}(?=\s))\s*",
        0.6,
    ),  # sentences
    (r"(?:[、，；：]|[,;:—–)](?=\s))\s*", 0.7),  # clauses
    (r"(?<!\s)\s+", 0.5),  # words
)
_COMPILED = tuple((regex.compile(pattern), fill) for pattern, fill in _PATTERNS)
_HARD_FILL = 0.25
_JOINED = regex.compile(r"[\p{Mark}\u200d]")  # never parted from the character before it
_WORD = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]|[\p{L}\p{M}\p{N}]+|[^\s\p{L}\p{N}]"
)
_MAX_WORD = 16  # a longer word counts as several units: a subword tokenizer would cut it too


@dataclass(frozen=True, slots=True)
class Span:
    """One passage: characters ``[start, end)`` of the text, units (tokens) ``[first, last)``."""

    start: int
    end: int
    first: int
    last: int


def split_tokens(
    text: str,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    budget: int,
    hard_boundaries: Sequence[int] = (),
) -> list[Span]:
    """Split a text whose tokens are known.

    Args:
        text: the text.
        starts: int64[n], ascending: the first character of each token.
        ends: int64[n]: one past the last character of each token.
        budget: the most tokens of a passage, at least 1.
        hard_boundaries: character offsets at which a passage should begin, preferred to any other.

    Returns:
        The passages; empty for a blank text. One of them may have no tokens when the tokenizer drops its characters.

    Raises:
        InvalidInput: the budget is less than 1.
    """
    if budget < 1:
        raise InvalidInput("budget", budget, "it must be at least 1 token")
    begin, end = _stripped(text, 0, len(text))
    if begin == end:
        return []
    n = len(starts)
    if n <= budget and end - begin <= budget * MAX_CHARS_PER_TOKEN:
        return [Span(begin, end, 0, n)]
    cutter = _Cutter(text, starts, ends, budget, hard_boundaries)
    return _spans(text, starts, cutter.cuts())


def split_text(
    text: str, budget: int = 256, *, unit: Units = "words", hard_boundaries: Sequence[int] = ()
) -> list[tuple[int, int]]:
    """Split a text without a model: the budget counts words (close to subword tokens) or characters.

    Returns:
        Spans (start, end), ascending, covering every character that is not white space; empty for a blank text.

    Raises:
        InvalidInput: the budget is less than 1, or the unit is unknown.
    """
    if unit == "characters":
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        starts = np.flatnonzero(~_is_space(points)).astype(np.int64)
        ends = starts + 1
    elif unit == "words":
        starts, ends = _word_units(text)
    else:
        raise InvalidInput("unit", unit, 'it must be "words" or "characters"')
    return [(span.start, span.end) for span in split_tokens(text, starts, ends, budget, hard_boundaries)]


class _Cutter:
    """Chooses the units at which passages begin."""

    def __init__(
        self, text: str, starts: NDArray[np.int64], ends: NDArray[np.int64], budget: int, hard: Sequence[int]
    ) -> None:
        self._text = text
        self._starts = starts
        self._n = len(starts)
        self._budget = budget
        self._max_chars = budget * MAX_CHARS_PER_TOKEN
        # A unit may open a passage when no earlier unit reaches into it (byte tokens share one character).
        self._opens = np.ones(self._n, dtype=bool)
        self._opens[1:] = starts[1:] >= np.maximum.accumulate(ends)[:-1]
        self._hard = np.asarray(sorted(hard), dtype=np.int64)
        self._found: dict[int, NDArray[np.int64]] = {}

    def cuts(self) -> list[int]:
        """Unit indexes at which passages after the first one begin."""
        cuts: list[int] = []
        position = 0
        while (limit := self._limit(position)) < self._n:
            remaining = self._n - position
            cut = _last_within(self._level(0), _HARD_FILL, position, limit)
            if cut is None and remaining <= 2 * self._budget:
                cut = self._balanced(position, limit, remaining)
            position = cut if cut is not None else self._strongest(position, limit)
            cuts.append(position)
        return cuts

    def _level(self, level: int) -> NDArray[np.int64]:
        """The boundaries of a level as units; 0 are the hard ones. Weak levels are looked for only when needed."""
        if level not in self._found:
            self._found[level] = self._units_at(self._characters(level))
        return self._found[level]

    def _characters(self, level: int) -> NDArray[np.int64]:
        """The character offsets of a level's boundaries."""
        if level == 0:
            return self._hard
        return np.fromiter((match.end() for match in _COMPILED[level - 1][0].finditer(self._text)), dtype=np.int64)

    def _units_at(self, characters: NDArray[np.int64]) -> NDArray[np.int64]:
        """The units that begin at or after each character offset and may open a passage; ascending, unique."""
        units = np.unique(np.searchsorted(self._starts, characters, side="left"))
        units = units[(units > 0) & (units < self._n)]
        return units[self._opens[units]]

    def _limit(self, position: int) -> int:
        """One past the last unit that fits in a passage from ``position``."""
        if position >= self._n:
            return self._n
        by_chars = int(np.searchsorted(self._starts, self._starts[position] + self._max_chars))
        return max(position + 1, min(position + self._budget, by_chars))

    def _strongest(self, position: int, limit: int) -> int:
        """The last boundary of the strongest level that fills enough of the budget."""
        for level, (_, fill) in enumerate(_COMPILED, start=1):
            cut = _last_within(self._level(level), fill, position, limit)
            if cut is not None:
                return cut
        return self._between_tokens(position, limit)

    def _balanced(self, position: int, limit: int, remaining: int) -> int | None:
        """For the last two passages: the strongest boundary nearest their middle, so that no stub is left."""
        middle = position + remaining // 2
        reach = remaining // 6
        low = max(position + 1, self._n - self._budget, middle - reach)
        high = min(limit, middle + reach)
        for level in range(1, len(_COMPILED) + 1):
            units = self._level(level)
            i, j = np.searchsorted(units, low, side="left"), np.searchsorted(units, high, side="right")
            if i < j:
                near = units[i:j]
                return int(near[np.argmin(np.abs(near - middle))])
        return None

    def _between_tokens(self, position: int, limit: int) -> int:
        """No boundary: cut between two tokens, but not within a character, nor before a combining mark."""
        for unit in range(limit, position, -1):
            if self._opens[unit] and not _JOINED.match(self._text, int(self._starts[unit])):
                return unit
            if limit - unit > 64:
                break
        return limit


def _last_within(units: NDArray[np.int64], fill: float, position: int, limit: int) -> int | None:
    """The last boundary up to ``limit`` that fills enough of the budget, or None."""
    i = int(np.searchsorted(units, limit, side="right")) - 1
    return int(units[i]) if i >= 0 and units[i] >= position + max(1, fill * (limit - position)) else None


def _spans(text: str, starts: NDArray[np.int64], cuts: Sequence[int]) -> list[Span]:
    """Turn cuts into spans: each begins with its first unit, and ends where the next begins, white space stripped."""
    spans = []
    edges = [0, *(int(starts[cut]) for cut in cuts), len(text)]
    units = [0, *cuts, len(starts)]
    for i in range(len(units) - 1):
        start, end = _stripped(text, edges[i], edges[i + 1])
        if start < end:
            spans.append(Span(start, end, units[i], units[i + 1]))
    return spans


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without white space at its ends."""
    piece = text[start:end]
    left = len(piece) - len(piece.lstrip())
    return (start + left, start + len(piece.rstrip())) if left < len(piece) else (start, start)


def _is_space(points: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Which code points ``str.isspace`` accepts."""
    spaces = [9, 10, 11, 12, 13, 28, 29, 30, 31, 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B)]
    return np.isin(points, np.asarray([*spaces, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000], dtype=np.uint32))


def _word_units(text: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Words, single characters of scripts without spaces, and punctuation; long words in pieces."""
    starts: list[int] = []
    ends: list[int] = []
    for match in _WORD.finditer(text):
        start, end = match.span()
        while end - start > _MAX_WORD:
            starts.append(start)
            start += _MAX_WORD
            ends.append(start)
        starts.append(start)
        ends.append(end)
    return np.asarray(starts, dtype=np.int64), np.asarray(ends, dtype=np.int64)
