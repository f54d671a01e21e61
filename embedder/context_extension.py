"""How can a model read more tokens than it was trained for? As data; ``long_context`` does it.

All methods leave the weights alone (LongEmbed, Zhu et al. 2024, compares them). Lo is the trained context, Lt the wanted
one, s = ceil(Lt / Lo). s is a constant of the extension, never of a batch: a vector depends on its own text alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from embedder.errors import InvalidRecipe

Method = Literal["parallel_windows", "grouped", "recurrent", "interpolation", "ntk", "self_extend", "extensible"]

METHODS: tuple[Method, ...] = (
    "parallel_windows",
    "grouped",
    "recurrent",
    "interpolation",
    "ntk",
    "self_extend",
    "extensible",
)
USUAL_FACTOR = 8  # of LongEmbed: 512 tokens to 4,096, and 4,096 to 32,768
_OWN_FIELDS = {
    "group": ("self_extend", "extensible"),
    "window": ("self_extend", "extensible"),
    "layers": ("extensible",),
    "theta": ("ntk",),
    "log_scaling": ("self_extend",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextExtension:
    """One way to read ``target_tokens`` with a model that was trained on ``original_tokens``.

    Attributes:
        method: what becomes of a long input.
            "parallel_windows" (PCW): it is cut into windows of Lo; its vector is the mean of theirs.
            "grouped" (GP): position i is read as floor(i / s).
            "recurrent" (RP): position i is read as i mod Lo.
            "interpolation" (PI): position i is read as i / s, between two rows of a position table.
            "ntk": the base of the rotary angles is raised, so that the slow ones turn less (rotary models only).
            "self_extend": tokens nearer than ``window`` keep their distance, farther ones have theirs divided by
                ``group`` (rotary models only; Jin et al. 2024, mirrored for models that look both ways).
            "extensible": of each chunk of ``window`` tokens but the last, one state in ``group`` is kept, made by the
                first ``layers`` layers (decoders only; a trained compressor, see ``extensible``).
        original_tokens: Lo, special tokens included.
        target_tokens: Lt, special tokens included.
        group: tokens that share a place, of "self_extend" and "extensible".
        window: the neighbourhood of "self_extend", the chunk of "extensible", in tokens.
        layers: the layers of the compressor of "extensible".
        theta: the base that "ntk" sets; 0 takes theta * s ** (d / (d - 2)), d the width of a head's rotated part.
        log_scaling: "self_extend" multiplies the query at position i by max(1, log(i + 1) / log(Lo)), which keeps the
            attention of far tokens as sharp as in short inputs.
    """

    method: Method
    original_tokens: int
    target_tokens: int
    group: int = 0
    window: int = 0
    layers: int = 0
    theta: float = 0.0
    log_scaling: bool = False

    def __post_init__(self) -> None:
        """Check the fields against each other.

        Raises:
            InvalidRecipe: a field has a value that cannot be used.
        """
        _require(self.method in METHODS, "method", self.method, f"it must be one of {', '.join(METHODS)}")
        for name, methods in _OWN_FIELDS.items():
            value = getattr(self, name)
            _require(not value or self.method in methods, name, value, f"only {' and '.join(methods)} have it")
        _require(self.original_tokens >= 8, "original_tokens", self.original_tokens, "it must be at least 8")
        _require(
            self.target_tokens > self.original_tokens,
            "target_tokens",
            self.target_tokens,
            f"it must be more than original_tokens = {self.original_tokens}",
        )
        _require(self.theta >= 0, "theta", self.theta, "it must be positive")
        if self.method in ("self_extend", "extensible"):
            self._check_groups()

    def _check_groups(self) -> None:
        """No token may be read farther away than the model was trained for."""
        limit = self.original_tokens
        _require(self.group >= 2, "group", self.group, f"{self.method} needs at least 2")
        _require(
            self.group <= self.window < limit, "window", self.window, f"it must be group = {self.group} to {limit - 1}"
        )
        if self.method == "self_extend":
            reach = (self.target_tokens - 1) // self.group + self.window - self.window // self.group
        else:
            _require(self.window % self.group == 0, "window", self.window, f"it must be a multiple of {self.group}")
            _require(self.layers >= 1, "layers", self.layers, "extensible needs at least 1")
            # The most inputs are read when the last chunk is full.
            chunks, rest = divmod(self.target_tokens, self.window)
            share = self.window // self.group
            reach = max((chunks - 1) * share + self.window, chunks * share + rest)
        problem = f"{self.target_tokens} tokens would reach {reach}, beyond original_tokens = {limit}; raise group"
        _require(reach <= limit, "group", self.group, problem)

    @classmethod
    def of(cls, table: object, trained_tokens: int) -> ContextExtension:
        """The extension that a TOML or JSON table describes for a checkpoint that reads ``trained_tokens``.

        What the table leaves open is as LongEmbed has it: Lo is what the checkpoint reads, Lt eight times as much; the
        window of "self_extend" is Lo / 8 and its group 9, with which the farthest of Lt tokens is read at Lo.

        Raises:
            InvalidRecipe: it is no table, it has unknown keys, or a value cannot be used.
        """
        types = {field.name: field.type for field in fields(cls)}
        if not isinstance(table, Mapping):
            raise InvalidRecipe("context_extension", table, "it must be a table")
        for name, value in table.items():
            wanted: tuple[type, ...] = {"int": (int,), "float": (int, float), "bool": (bool,)}.get(
                str(types.get(name)), (str,)
            )
            _require(name in types, name, value, f"there is no such field; there are {', '.join(types)}")
            fits = isinstance(value, wanted) and (bool in wanted or not isinstance(value, bool))
            _require(fits, name, value, f"it must be of the type {types[name]}")
        _require("method" in table, "method", None, "it is missing")
        original = table.get("original_tokens", trained_tokens)
        usual = {"original_tokens": original, "target_tokens": USUAL_FACTOR * original}
        if table["method"] == "self_extend":
            usual |= {"group": USUAL_FACTOR + 1, "window": max(original // USUAL_FACTOR, USUAL_FACTOR + 1)}
        return cls(**{**usual, **table})

    @property
    def factor(self) -> int:
        """s: how many times the trained context is extended, rounded up."""
        return -(-self.target_tokens // self.original_tokens)


def parallel_windows(
    ids: NDArray[np.int32], pooled: tuple[int, int], around: tuple[int, int], longest: int
) -> list[tuple[NDArray[np.int32], tuple[int, int]]]:
    """Cut an input into windows of at most ``longest`` tokens, each between the input's own special tokens.

    They do not overlap, but the last one begins as early as it must to be full (LongEmbed).

    Args:
        ids: int32[n], special tokens included.
        pooled: the positions that may be pooled, [start, end).
        around: the special tokens at the start and at the end.
        longest: Lo.

    Returns:
        Each window with the part of ``pooled`` that it holds: the special tokens of every window are pooled when those
        of the input are. A window that holds none of it pools its last token.
    """
    before, after = around
    head, body, tail = ids[:before], ids[before : len(ids) - after], ids[len(ids) - after :]
    room = longest - before - after
    if len(body) <= room or room < 1:
        return [(ids, pooled)]
    windows = []
    for first in range(0, len(body), room):
        shift = min(first, len(body) - room)
        start = 0 if pooled[0] == 0 else min(max(pooled[0] - shift, before), longest - 1)
        end = longest if pooled[1] == len(ids) else min(max(pooled[1] - shift, start + 1), longest - after)
        windows.append((np.concatenate((head, body[shift : shift + room], tail)), (start, end)))
    return windows


def _require(condition: bool, field: str, value: object, problem: str) -> None:
    if not condition:
        raise InvalidRecipe(f"context_extension.{field}", value, problem)
