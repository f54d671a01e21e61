"""Which tokens does the student read? The very ones that the embedder would.

Templates, special tokens, windows and pooled positions come from the embedder's own recipe, tokenizer and packer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

import embedder.inputs
from embedder.packing import DocumentPacker
from embedder.recipe import Recipe
from embedder.splitter import split_tokens
from embedder.tokens import TextTokenizer, TokenizedText
from embedder.values import DocumentInput
from embedder.windows import Row, WindowPacker


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """Rows for the network, and what became of their texts' tokens.

    Attributes:
        rows: one a text, or one a shared window.
        read: tokens of all texts.
        dropped: those that no row holds.
    """

    rows: list[Row]
    read: int
    dropped: int


class InputBuilder:
    """Turns texts into rows as the embedder does.

    Args:
        recipe: of the model that will be served.
        tokenizer: its tokenizer.
        passage_tokens, query_tokens: shorter limits for training; None: the recipe's.
    """

    def __init__(
        self, recipe: Recipe, tokenizer: TextTokenizer, *, passage_tokens: int | None, query_tokens: int | None
    ) -> None:
        prompt = recipe.document_prefix("")
        self._prompt = tokenizer.tokenize([""], [prompt])[0].ids if prompt else np.empty(0, dtype=np.int32)
        extra = tokenizer.n_special + len(self._prompt)
        self._recipe = recipe if passage_tokens is None else _shortened(recipe, passage_tokens, extra)
        self._tokenizer = tokenizer
        self._packer = WindowPacker(self._recipe, tokenizer)
        self._documents = DocumentPacker(self._recipe, tokenizer)
        self._queries = embedder.inputs.InputBuilder(recipe, tokenizer)
        n_special = sum(len(part) for part in tokenizer.around(query=True))
        self._query_tokens = None if query_tokens is None else query_tokens + n_special

    def token_id(self, token: str) -> int | None:
        """The id of a token of the vocabulary; None when it has no such token."""
        return self._tokenizer.token_id(token)

    def queries(self, texts: Sequence[str], task: str | None = None) -> Inputs:
        """One row a query, as ``QueryPipeline`` makes them."""
        inputs = self._queries.queries(texts, task, max_tokens=self._query_tokens)
        rows = [each.row for each in inputs]
        return Inputs(rows, sum(each.tokens for each in inputs), sum(each.dropped for each in inputs))

    def passages(self, texts: Sequence[str]) -> Inputs:
        """One row a passage; of a text that is longer than a passage, the first one."""
        rows, read, kept = [], 0, 0
        for packed in self._documents.pack([DocumentInput("", text) for text in texts]):
            row = packed.windows[0].row
            rows.append(Row(row.ids, row.dense[:1], row.sparse[:1]))
            read += packed.read
            kept += packed.spans[0].last - packed.spans[0].first
        return Inputs(rows, read, max(0, read - kept))

    def landmarks(self, texts: Sequence[str]) -> tuple[Inputs, list[int]]:
        """Texts one after another in shared windows, each cut into passages where the embedder would cut it.

        Returns:
            The windows; and for each of their passages, in order, the number of the text that it is part of.
        """
        tokens = self._tokenizer.tokenize([""] * len(texts), [text.strip() for text in texts])
        room = self._recipe.window_tokens - self._tokenizer.n_special - len(self._prompt)
        parts: list[tuple[int, NDArray[np.int32]]] = []
        for number, (text, tokenized) in enumerate(zip(texts, tokens, strict=True)):
            parts += [(number, part) for part in self._split(text.strip(), tokenized, room)]
        windows: list[list[NDArray[np.int32]]] = [[]]
        used = 0
        for _, part in parts:
            if windows[-1] and used + len(part) + 1 > room:  # 1: the landmark after it
                windows.append([])
                used = 0
            windows[-1].append(part)
            used += len(part) + 1
        rows = [self._packer.join(self._prompt, window) for window in windows if window]
        return Inputs(rows, sum(len(tokenized.ids) for tokenized in tokens), 0), [number for number, _ in parts]

    def _split(self, text: str, tokens: TokenizedText, room: int) -> list[NDArray[np.int32]]:
        spans = split_tokens(text, *tokens.offsets, min(self._recipe.passage_tokens, room - 1))
        parts = [tokens.ids[span.first : span.last] for span in spans if span.last > span.first]
        return parts or [tokens.ids[:0]]  # every text has a passage, also one whose characters the tokenizer drops


def _shortened(recipe: Recipe, passage_tokens: int, extra: int) -> Recipe:
    """The recipe with passages of at most so many tokens; windows of one passage hold that and ``extra`` tokens."""
    passage = min(passage_tokens, recipe.passage_tokens)
    window = recipe.window_tokens if recipe.shares_windows else min(recipe.window_tokens, max(8, passage + extra))
    return replace(recipe, passage_tokens=passage, window_tokens=window)
