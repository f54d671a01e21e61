"""Which tokens does the model see together, and which of them make which passage's vector?

A window is one input of the model: special tokens, prompt and title, then the tokens of one or more consecutive passages.
A long document becomes several windows, and no token of its text is left out. Where passages share windows, the windows
overlap by whole passages, and each passage is taken from the window that gives it the most context.

Every passage has a key, the hash of its window's input and its own place there: the same key means the same vectors, so
a document that changed in one place needs few windows run again. Where a window begins depends on the passages' own
content, so that windows of two versions of a document agree again soon after a change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from embedder.context_extension import parallel_windows
from embedder.recipe import Recipe
from embedder.splitter import Span, split_tokens
from embedder.tokens import TextTokenizer, TokenizedText

KEY_BYTES = 16


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One input of the model, and the positions to pool; or several inputs that make one vector together.

    Attributes:
        ids: int32[t], special tokens included; one input after another.
        dense: int32[k, 2]: the dense vector i is pooled from the states [start, end).
        sparse: int32[k, 2]: the sparse vector i is made of the states [start, end).
        query: whether it is a query, for heads that treat queries differently.
        breaks: where the second and later inputs begin in ``ids``. Then ``dense`` has one span an input, and the one
            vector is the mean of what is pooled from each, before it is projected and normalised.
    """

    ids: NDArray[np.int32]
    dense: NDArray[np.int32]
    sparse: NDArray[np.int32]
    query: bool = False
    breaks: tuple[int, ...] = ()

    @property
    def inputs(self) -> list[NDArray[np.int32]]:
        """The inputs of the model."""
        return [self.ids[start:end] for start, end in pairwise((0, *self.breaks, len(self.ids)))]

    @property
    def n_vectors(self) -> int:
        """How many vectors the row gives."""
        return 1 if self.breaks else len(self.dense)


def pooled_row(
    recipe: Recipe, ids: NDArray[np.int32], pooled: tuple[int, int], text: tuple[int, int], around: tuple[int, int]
) -> Row:
    """The row of one input that makes one vector, from positions [start, end) that may be pooled and hold the text.

    ``around``: how many special tokens stand at the start and at the end; each of several parallel windows gets them.
    """
    extension = recipe.context_extension
    if extension is not None and extension.method == "parallel_windows" and len(ids) > extension.original_tokens:
        windows = parallel_windows(ids, pooled, around, extension.original_tokens)
        return joined([_pooled_row(recipe, part, where, (0, len(part))) for part, where in windows])
    return _pooled_row(recipe, ids, pooled, text)


def _pooled_row(recipe: Recipe, ids: NDArray[np.int32], pooled: tuple[int, int], text: tuple[int, int]) -> Row:
    """Likewise, of an input that is read as it is."""
    dense = {"cls": (pooled[0], pooled[0] + 1), "last": (pooled[1] - 1, pooled[1])}.get(recipe.pooling, pooled)
    sparse = {"lm_max": pooled, "next_token": text}.get(recipe.sparse_head, (0, len(ids)))
    return Row(ids, np.array([dense], dtype=np.int32), np.array([sparse], dtype=np.int32))


def prompt_end(recipe: Recipe, n_before: int, n_prompt: int) -> int:
    """Where the pooled positions begin after ``n_before`` special tokens and a prompt of ``n_prompt`` tokens."""
    if recipe.pooled != "after_prompt" or not n_prompt:
        return 0
    return n_before + n_prompt - min(recipe.kept_prompt_tokens, n_prompt)


def joined(rows: Sequence[Row]) -> Row:
    """Rows that make one vector each as one row, whose vector is the mean over all their inputs."""
    if len(rows) == 1:
        return rows[0]
    ends = np.cumsum([len(row.ids) for row in rows], dtype=np.int32)
    dense = np.concatenate([row.dense + end - len(row.ids) for row, end in zip(rows, ends, strict=True)])
    everything = np.array([[0, ends[-1]]], dtype=np.int32)
    ids = np.concatenate([row.ids for row in rows])
    starts = [int(end) - len(row.ids) for row, end in zip(rows, ends, strict=True)]
    breaks = [start + place for row, start in zip(rows, starts, strict=True) for place in (0, *row.breaks)]
    return Row(ids, dense, everything, query=rows[0].query, breaks=tuple(breaks[1:]))


def row_keys(row: Row) -> tuple[bytes, ...]:
    """The key of each of a row's vectors: equal keys, equal vectors."""
    digest = hashlib.blake2b(row.ids.tobytes(), digest_size=KEY_BYTES)
    if row.breaks:
        places: list[tuple[int, ...]] = [(*row.breaks, *row.dense.ravel().tolist())]
    else:
        places = [(start, end) for start, end in row.dense.tolist()]
    keys = []
    for place in places:
        key = digest.copy()
        key.update(b"".join(number.to_bytes(4, "little") for number in place))
        keys.append(key.digest())
    return tuple(keys)


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """A row and the passages (their numbers in the document) that take their vectors from it, in the row's order."""

    row: Row
    passages: tuple[int, ...]
    keys: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, eq=False)
class PackedDocument:
    """The windows of one document.

    Attributes:
        spans: the passages.
        windows: each passage is in exactly one window's ``passages``; where the recipe blends, one of a shared window is also in
            a later one of its own.
        read: tokens of title and text; ``dropped`` of them are in no window.
    """

    spans: tuple[Span, ...]
    windows: tuple[Window, ...]
    read: int
    dropped: int


@dataclass(frozen=True, slots=True)
class _Frame:
    """What a window holds: prefix tokens, the prompt's share of them, and passages, the first of which is ``first``."""

    n_prefix: int
    n_prompt: int
    spans: Sequence[Span]
    first: int = 0


class WindowPacker:
    """Splits tokenised documents into passages and packs those into windows, as the recipe says."""

    def __init__(self, recipe: Recipe, tokenizer: TextTokenizer) -> None:
        self._recipe = recipe
        self._tokenizer = tokenizer
        self._n_before = len(tokenizer.prepend)
        self._capacity = recipe.window_tokens - tokenizer.n_special
        self._shares = recipe.shares_windows
        self._marker = tokenizer.append[-1:] if recipe.landmark == "end_token" else tokenizer.append[:0]

    def pack(
        self, text: str, tokens: TokenizedText, n_prompt: int, hard_boundaries: Sequence[int] = ()
    ) -> PackedDocument:
        """Pack one document.

        Args:
            text: the document's text, without prompt and title.
            tokens: the tokens of prefix and text.
            n_prompt: tokens of the prefix that are the recipe's, not the document's.
            hard_boundaries: see ``split_tokens``.
        """
        n_text = len(tokens.ids) - tokens.n_prefix
        read = len(tokens.ids) - n_prompt
        if len(tokens.ids) <= self._capacity and n_text <= self._recipe.passage_tokens:
            whole = Span(*visible(text), 0, n_text)
            window = self._window(tokens.ids, _Frame(tokens.n_prefix, n_prompt, (whole,)), [0])
            return PackedDocument((whole,), (window,), read, 0)
        prefix = tokens.ids[: min(tokens.n_prefix, max(n_prompt, self._recipe.window_tokens // 4))]
        room = max(1, self._capacity - len(prefix))
        prefix = prefix[: self._capacity - room]
        starts, ends = tokens.offsets
        spans = tuple(split_tokens(text, starts, ends, min(self._recipe.passage_tokens, room), hard_boundaries))
        parts = [tokens.ids[tokens.n_prefix + span.first : tokens.n_prefix + span.last] for span in spans]
        windows = [
            self._join(prefix, parts[first:last], _Frame(len(prefix), n_prompt, spans[first:last], first), owned)
            for first, last, owned in self._group(parts, room)
        ]
        if self._recipe.landmark == "blend":
            windows = _with_joint_keys(windows)
        return PackedDocument(spans, tuple(windows), read, tokens.n_prefix - len(prefix))

    def _group(self, parts: Sequence[NDArray[np.int32]], room: int) -> list[tuple[int, int, list[int]]]:
        """Windows as ranges of passages, with the passages that each one owns; windows that own none are left out."""
        if not self._shares:
            return [(i, i + 1, [i]) for i in range(len(parts))]
        sizes = [len(part) + len(self._marker) for part in parts]
        groups = _overlapping(sizes, room, [_order_key(part) for part in parts])
        owners = _owners(sizes, groups, causal=self._recipe.attention == "causal")
        owned: list[list[int]] = [[] for _ in groups]
        for i, owner in enumerate(owners):
            owned[owner].append(i)
        shared = [(first, last, mine) for (first, last), mine in zip(groups, owned, strict=True) if mine]
        if self._recipe.landmark != "blend":
            return shared
        return shared + [(i, i + 1, [i]) for first, last, mine in shared if last - first > 1 for i in mine]

    def join(self, prompt: NDArray[np.int32], parts: Sequence[NDArray[np.int32]]) -> Row:
        """One shared window of given passages, for training: their tokens in order, and where each is pooled."""
        ends = np.cumsum([len(part) for part in parts]).tolist()
        spans = [Span(0, 0, end - len(part), end) for end, part in zip(ends, parts, strict=True)]
        return self._join(prompt, parts, _Frame(len(prompt), len(prompt), spans), range(len(parts))).row

    def _join(
        self, prefix: NDArray[np.int32], parts: Sequence[NDArray[np.int32]], frame: _Frame, owned: Sequence[int]
    ) -> Window:
        """The window of a prefix and some passages, a marker between each two."""
        pieces = [prefix, parts[0]]
        for part in parts[1:]:  # the window's own end token closes its last passage
            pieces += [self._marker, part]
        return self._window(np.concatenate(pieces), frame, owned)

    def _window(self, ids: NDArray[np.int32], frame: _Frame, owned: Sequence[int]) -> Window:
        """The window of bare ids; ``owned`` are the numbers of the passages whose vectors it gives."""
        wrapped = self._tokenizer.wrap(ids)
        if len(frame.spans) == 1:
            start = min(prompt_end(self._recipe, self._n_before, frame.n_prompt), len(wrapped) - 1)
            text = (self._n_before + frame.n_prefix, len(wrapped) - len(self._tokenizer.append))
            around = (self._n_before, len(self._tokenizer.append))
            row = pooled_row(self._recipe, wrapped, (start, len(wrapped)), text, around)
        else:
            positions = self._passage_positions(frame.spans, self._n_before + frame.n_prefix)
            places = positions[[i - frame.first for i in owned]]
            row = Row(wrapped, places, places)
        return Window(row, tuple(owned), row_keys(row))

    def _passage_positions(self, spans: Sequence[Span], start: int) -> NDArray[np.int32]:
        """Where each passage (or its landmark) lies in a shared window whose text begins at ``start``."""
        marker = len(self._marker)
        sizes = np.array([span.last - span.first for span in spans], dtype=np.int32)
        ends = start + np.cumsum(sizes + marker) - marker
        if marker:
            return np.stack((ends, ends + 1), axis=1).astype(np.int32)
        return np.stack((ends - sizes, np.maximum(ends, ends - sizes + 1)), axis=1).astype(np.int32)


def _with_joint_keys(windows: Sequence[Window]) -> list[Window]:
    """The windows, where a passage that is in two of them has one key, made of both."""
    keys: dict[int, bytes] = {}
    for window in windows:
        for passage, key in zip(window.passages, window.keys, strict=True):
            known = keys.get(passage)
            keys[passage] = key if known is None else hashlib.blake2b(known + key, digest_size=KEY_BYTES).digest()
    return [replace(window, keys=tuple(keys[passage] for passage in window.passages)) for window in windows]


def visible(text: str) -> tuple[int, int]:
    """The characters of a text without white space at its ends, [start, end); (0, 0) for a blank one."""
    stripped = text.strip()
    start = len(text) - len(text.lstrip()) if stripped else 0
    return start, start + len(stripped)


def _order_key(ids: NDArray[np.int32]) -> bytes:
    """A number that depends on a passage's content alone: it decides where windows begin."""
    return hashlib.blake2b(ids.tobytes(), digest_size=8).digest()


def _overlapping(sizes: Sequence[int], room: int, order: Sequence[bytes]) -> list[tuple[int, int]]:
    """Windows as ranges of passages: each as full as it can be, the next beginning within its second or third quarter.

    Which passage of those quarters begins the next window is decided by the least ``order``, not by counting, so a
    passage inserted early does not shift every later window.
    """
    groups: list[tuple[int, int]] = []
    first, n = 0, len(sizes)
    while True:
        last, used = first, 0
        while last < n and (last == first or used + sizes[last] <= room):
            used += sizes[last]
            last += 1
        groups.append((first, last))
        if last == n:
            return groups
        first = _next_start(sizes[first:last], used + sizes[last] - room, room, order[first:last]) + first


def _next_start(sizes: Sequence[int], least: int, room: int, order: Sequence[bytes]) -> int:
    """Which passage of a full window begins the next one; ``least`` tokens must go to make room for a new passage."""
    offsets = [sum(sizes[:i]) for i in range(len(sizes))]
    useful = [i for i, offset in enumerate(offsets) if offset >= max(1, least)]
    central = [i for i in useful if room // 4 <= offsets[i] <= 3 * room // 4]
    if central:
        return min(central, key=lambda i: order[i])
    return useful[0] if useful else len(sizes)


def _owners(sizes: Sequence[int], groups: Sequence[tuple[int, int]], *, causal: bool) -> list[int]:
    """For each passage the window that gives it the most context; the earlier one of equals.

    Context is the text before the passage in a causal model, and the smaller of both sides in a bidirectional one, where
    the document's own ends count as no loss.
    """
    total = sum(sizes)
    best: list[tuple[int, int]] = [(-1, 0)] * len(sizes)
    for number, (first, last) in enumerate(groups):
        length = sum(sizes[first:last])
        before = 0
        for i in range(first, last):
            after = length - before - sizes[i]
            left = total if first == 0 else before
            right = total if last == len(sizes) else after
            context = left if causal else min(left, right)
            if context > best[i][0]:
                best[i] = (context, number)
            before += sizes[i]
    return [number for _, number in best]
