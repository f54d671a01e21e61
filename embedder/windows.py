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
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedder.recipe import Recipe
from embedder.splitter import Span, split_tokens
from embedder.tokens import TextTokenizer, TokenizedText

KEY_BYTES = 16


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One input of the model, and the positions to pool.

    Attributes:
        ids: int32[t], special tokens included.
        dense: int32[k, 2]: the dense vector i is the mean of the states [start, end).
        sparse: int32[k, 2]: the sparse vector i is made of the states [start, end).
        query: whether it is a query, for heads that treat queries differently.
    """

    ids: NDArray[np.int32]
    dense: NDArray[np.int32]
    sparse: NDArray[np.int32]
    query: bool = False


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
        windows: each passage is in exactly one window's ``passages``.
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
            whole = Span(*_visible(text), 0, n_text)
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
        return [(first, last, mine) for (first, last), mine in zip(groups, owned, strict=True) if mine]

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
            dense, sparse = self.whole(len(wrapped), frame.n_prompt)
        else:
            positions = self._passage_positions(frame.spans, self._n_before + frame.n_prefix)
            dense = sparse = positions[[i - frame.first for i in owned]]
        digest = hashlib.blake2b(wrapped.tobytes(), digest_size=KEY_BYTES)
        keys = []
        for start, end in dense.tolist():
            key = digest.copy()
            key.update(start.to_bytes(4, "little") + end.to_bytes(4, "little"))
            keys.append(key.digest())
        return Window(Row(wrapped, dense, sparse), tuple(owned), tuple(keys))

    def whole(self, length: int, n_prompt: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The positions pooled when an input of ``length`` tokens is one passage (or one query): dense, sparse."""
        everything = np.array([[0, length]], dtype=np.int32)
        if self._recipe.pooling == "cls":
            return np.array([[0, 1]], dtype=np.int32), everything
        if self._recipe.pooling == "last":
            return np.array([[length - 1, length]], dtype=np.int32), everything
        skipped = 0 if self._recipe.pool_prompt or not n_prompt else min(self._n_before + n_prompt, length - 1)
        return np.array([[skipped, length]], dtype=np.int32), everything

    def _passage_positions(self, spans: Sequence[Span], start: int) -> NDArray[np.int32]:
        """Where each passage (or its landmark) lies in a shared window whose text begins at ``start``."""
        marker = len(self._marker)
        sizes = np.array([span.last - span.first for span in spans], dtype=np.int32)
        ends = start + np.cumsum(sizes + marker) - marker
        if marker:
            return np.stack((ends, ends + 1), axis=1).astype(np.int32)
        return np.stack((ends - sizes, np.maximum(ends, ends - sizes + 1)), axis=1).astype(np.int32)


def _visible(text: str) -> tuple[int, int]:
    """The span of a text without white space at its ends; (0, 0) for a blank one."""
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
