"""Which characters of a passage should stand out?

The engine says which terms matched, as stems or vocabulary entries ("tokeniz", "##ing"); a word stands out when it, or
a part of a compound identifier, begins like one of them. An approximation for the eye: scores do not depend on it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W_A-Z]+|[^\W_]+")
WIDE = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
SUFFIX_CHARS = 6
"""English inflections are at most this much longer than their stem ("organ" is not "organisations")."""


def matched_spans(text: str, terms: Sequence[str]) -> list[tuple[int, int]]:
    """Character spans of ``text`` to highlight, ascending and disjoint."""
    stems = {term.lower().removeprefix("##").strip("▁Ġ ") for term in terms}
    stems.discard("")
    wide = [stem for stem in stems if WIDE.search(stem)]
    narrow = stems.difference(wide)
    spans = [(match.start(), match.end()) for match in WORD.finditer(text) if _matches(match.group().lower(), narrow)]
    for stem in wide:
        spans += [(match.start(), match.end()) for match in re.finditer(re.escape(stem), text.lower())]
    return _merged(spans, len(text))


def best_window(text: str, spans: Sequence[tuple[int, int]], size: int, edge: str = " ") -> tuple[int, int]:
    """The part of ``text``, at most about ``size`` characters, that holds most spans; it begins and ends at ``edge``."""
    if len(text) <= size:
        return 0, len(text)
    starts = [start for start, _ in spans] or [0]
    counts = [sum(start <= other < start + size for other in starts) for start in starts]
    first = starts[counts.index(max(counts))]
    last = max(end for start, end in [*spans, (first, first)] if start < first + size and start >= first)
    begin = max(0, min(first - (size - (last - first)) // 2, len(text) - size))
    end = min(len(text), begin + size)
    if begin > 0:
        space = text.find(edge, begin, first)
        begin = begin if space < 0 else space + 1
    if end < len(text):
        space = text.rfind(edge, last, end)
        end = end if space < 0 else space
    return begin, end


def _matches(word: str, stems: set[str]) -> bool:
    if word in stems:
        return True
    lengths = range(max(3, len(word) - SUFFIX_CHARS), len(word))
    return any(word[:length] in stems or _y_stem(word, length) in stems for length in lengths)


def _y_stem(word: str, length: int) -> str:
    """Snowball writes "happi" for "happy" and "happier"."""
    return word[:length] + "i" if word[length] == "y" else ""


def _merged(spans: list[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        elif end <= length:
            merged.append((start, end))
    return merged
