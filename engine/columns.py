"""Which documents of a segment have a metadata value?

Every metadata field of a segment becomes up to three columns, one a type, because ``1``, ``"1"`` and ``true`` differ:

    strings   value → documents, as CSR over the sorted distinct values
    numbers   values float64 ascending, with the document of each (integers beyond 2^53 lose their last digits here)
    booleans  the documents that have True, and those that have False

A list-valued field enters each of its items, so a comparison holds if any item satisfies it.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

_NONE = np.empty(0, np.uint32)
MASKS = 16  # evaluated filters that a segment keeps, a byte a document each


@dataclass(frozen=True, slots=True)
class Column:
    """One field; documents are uint32 positions in the segment.

    strings: sorted; string i has the documents ``string_docs[indptr[i]:indptr[i + 1]]``. numbers: float64 ascending, with
    the document of each in number_docs. true_docs, false_docs. present: every document that has the field, ascending.
    """

    strings: list[str]
    indptr: np.ndarray
    string_docs: np.ndarray
    numbers: np.ndarray
    number_docs: np.ndarray
    true_docs: np.ndarray
    false_docs: np.ndarray
    present: np.ndarray

    @staticmethod
    def build(entries: list[tuple[int, object]]) -> Column:
        """The column of (document, value) pairs."""
        texts: dict[str, list[int]] = {}
        numbers: list[float] = []
        number_docs: list[int] = []
        truths: dict[bool, list[int]] = {True: [], False: []}
        for doc, value in entries:
            if isinstance(value, bool):
                truths[value].append(doc)
            elif isinstance(value, str):
                texts.setdefault(value, []).append(doc)
            else:
                numbers.append(float(value))  # type: ignore[arg-type]  # the rest is int or float
                number_docs.append(doc)
        sorted_numbers, sorted_docs = np.array(numbers, np.float64), np.array(number_docs, np.uint32)
        # Not list.sort: that of a large segment would hold the interpreter, and with it every query, for a tenth of a second.
        order = np.lexsort((sorted_docs, sorted_numbers))
        strings = sorted(texts)
        counts = [len(texts[text]) for text in strings]
        return Column(
            strings,
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            np.array([doc for text in strings for doc in texts[text]], np.uint32),
            sorted_numbers[order],
            sorted_docs[order],
            np.array(truths[True], np.uint32),
            np.array(truths[False], np.uint32),
            np.unique(np.array([doc for doc, _ in entries], np.uint32)),
        )

    def entries(self, positions: np.ndarray) -> list[tuple[int, object]]:
        """The (document, value) pairs that made the column, documents renamed by ``positions``, those at -1 left out."""
        repeats = np.diff(self.indptr).tolist()
        texts = [text for text, times in zip(self.strings, repeats, strict=True) for _ in range(times)]
        values: list[object] = [
            *texts,
            *self.numbers.tolist(),
            *[True] * len(self.true_docs),
            *[False] * len(self.false_docs),
        ]
        docs = np.concatenate([self.string_docs, self.number_docs, self.true_docs, self.false_docs])
        return [(doc, value) for doc, value in zip(positions[docs].tolist(), values, strict=True) if doc >= 0]

    def equal(self, value: object) -> np.ndarray:
        """The documents that have ``value``, of the same type."""
        if isinstance(value, bool):
            return self.true_docs if value else self.false_docs
        if isinstance(value, str):
            position = bisect_left(self.strings, value)
            if position < len(self.strings) and self.strings[position] == value:
                return self.string_docs[self.indptr[position] : self.indptr[position + 1]]
            return _NONE
        return self.between(float(value), float(value))  # type: ignore[arg-type]

    def between(self, low: float, high: float, *, low_open: bool = False, high_open: bool = False) -> np.ndarray:
        """The documents that have a number from ``low`` to ``high``; an open end leaves the bound itself out."""
        start = np.searchsorted(self.numbers, low, side="right" if low_open else "left")
        stop = np.searchsorted(self.numbers, high, side="left" if high_open else "right")
        return self.number_docs[start:stop]

    def compare_strings(self, low: str | None, high: str | None, *, open_end: bool) -> np.ndarray:
        """The documents that have a string after ``low`` or before ``high``, in code point order."""
        start, stop = 0, len(self.strings)
        if low is not None:
            start = (bisect_right if open_end else bisect_left)(self.strings, low)
        if high is not None:
            stop = (bisect_left if open_end else bisect_right)(self.strings, high)
        return self.string_docs[self.indptr[start] : self.indptr[stop]] if start < stop else _NONE


class Columns:
    """All fields of a segment's documents."""

    def __init__(self, n_docs: int, fields: Mapping[str, Column]) -> None:
        self.n_docs = n_docs
        self._fields = fields
        self._masks: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    @staticmethod
    def build(metadata: Sequence[Mapping[str, object]]) -> Columns:
        """The columns of one metadata object a document."""
        entries: dict[str, list[tuple[int, object]]] = {}
        for doc, values in enumerate(metadata):
            for field, value in values.items():
                known = entries.get(field)
                if known is None:
                    known = entries[field] = []
                if isinstance(value, list | tuple):
                    known.extend((doc, item) for item in value)
                else:
                    known.append((doc, value))
        return Columns(len(metadata), {field: Column.build(pairs) for field, pairs in entries.items()})

    def get(self, field: str) -> Column | None:
        """The column of ``field``, or None when no document has it."""
        return self._fields.get(field)

    def mask(self, key: str, evaluate: Callable[[], np.ndarray]) -> np.ndarray:
        """What ``evaluate`` gives, bool[n_docs], read-only; kept for the last `MASKS` keys, because queries repeat filters.

        Args:
            key: the same for the same result; a segment never changes.
            evaluate: called when the key is not known.
        """
        with self._lock:
            known = self._masks.get(key)
            if known is not None:
                self._masks.move_to_end(key)
                return known
        made = evaluate()
        made.flags.writeable = False
        with self._lock:
            self._masks[key] = made
            while len(self._masks) > MASKS:
                self._masks.popitem(last=False)
        return made

    @staticmethod
    def concat(parts: Sequence[tuple[Columns, np.ndarray]], n_docs: int) -> Columns:
        """The columns of merged segments.

        Args:
            parts: each with int64[its n_docs]: the document's new position, or -1 for one that is dropped.
            n_docs: documents in the result.
        """
        names = sorted({field for columns, _ in parts for field in columns._fields})
        merged = {}
        for name in names:
            entries = [
                entry
                for columns, positions in parts
                if (column := columns.get(name)) is not None
                for entry in column.entries(positions)
            ]
            if entries:
                merged[name] = Column.build(entries)
        return Columns(n_docs, merged)

    def save(self, path: Path) -> None:
        """Write all columns to one msgpack file: field → strings and the arrays' bytes."""
        path.write_bytes(msgspec.msgpack.encode([self.n_docs, {f: _packed(c) for f, c in self._fields.items()}]))

    @staticmethod
    def load(path: Path) -> Columns:
        """Read what `save` wrote."""
        n_docs, fields = msgspec.msgpack.decode(path.read_bytes())
        return Columns(n_docs, {field: _unpacked(parts) for field, parts in fields.items()})


_ARRAYS = (
    ("indptr", "<i8"),
    ("string_docs", "<u4"),
    ("numbers", "<f8"),
    ("number_docs", "<u4"),
    ("true_docs", "<u4"),
    ("false_docs", "<u4"),
    ("present", "<u4"),
)


def _packed(column: Column) -> list[object]:
    return [column.strings, *(getattr(column, name).astype(dtype).tobytes() for name, dtype in _ARRAYS)]


def _unpacked(parts: list[object]) -> Column:
    strings, *arrays = parts
    decoded = [np.frombuffer(data, dtype) for data, (_, dtype) in zip(arrays, _ARRAYS, strict=True)]  # type: ignore[call-overload]
    return Column(strings, *decoded)  # type: ignore[arg-type]
