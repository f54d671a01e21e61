"""What does the model read for one text, and which of its positions are pooled?

A filled template becomes token ids, as one string or piece by piece, between the recipe's special tokens. An input that
is too long is cut at the end of its text, never in what surrounds the text: the model was trained to read all of that,
and the pooled position may be there. Of a text that stands twice, both copies are cut alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from embedder.errors import InvalidRecipe
from embedder.recipe import Recipe
from embedder.templates import Piece
from embedder.tokens import TextTokenizer
from embedder.windows import Row, joined, pooled_row, prompt_end


@dataclass(frozen=True, slots=True, eq=False)
class Input:
    """A text's row, and what became of the text: ``tokens`` it has, ``dropped`` of which were cut."""

    row: Row
    tokens: int
    dropped: int


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """A filled template in tokens, without special tokens.

    Attributes:
        ids: int32[t].
        texts: where each ``{text}`` lies, [start, end).
        n_prompt: tokens of the prompt, when the recipe pools what follows it.
        n_tail: tokens of the last ``{text}`` and what follows it, when the recipe pools those.
    """

    ids: NDArray[np.int32]
    texts: tuple[tuple[int, int], ...]
    n_prompt: int
    n_tail: int

    def cut(self, room: int) -> _Layout:
        """The layout with at most ``room`` tokens."""
        excess = len(self.ids) - room
        if excess <= 0:
            return self
        share = -(-excess // len(self.texts))
        lost = [min(share, end - start) for start, end in self.texts]
        keep = np.ones(len(self.ids), dtype=bool)
        for (_, end), n in zip(self.texts, lost, strict=True):
            keep[end - n : end] = False
        before = np.cumsum([0, *lost]).tolist()
        texts = tuple(
            (start - gone, end - gone - n) for (start, end), gone, n in zip(self.texts, before, lost, strict=False)
        )
        return _Layout(self.ids[keep][:room], texts, self.n_prompt, self.n_tail - lost[-1])


class InputBuilder:
    """Fills the recipe's templates and tokenises them. Safe to use from several threads."""

    def __init__(self, recipe: Recipe, tokenizer: TextTokenizer) -> None:
        self._recipe = recipe
        self._tokenizer = tokenizer

    def queries(
        self,
        texts: Sequence[str],
        task: str | None = None,
        shots: Sequence[tuple[str, str]] = (),
        *,
        max_tokens: int | None = None,
    ) -> list[Input]:
        """Queries as the model reads them; room for few-shot examples comes on top of the limit of a query.

        Args:
            texts: the queries.
            task: what they ask for; None: the recipe's default.
            shots: examples as (query, document).
            max_tokens: a lower limit than the recipe's.
        """
        longest = self._recipe.query_tokens or self._recipe.max_tokens
        filled = [self._recipe.query_pieces(text, task, shots) for text in texts]
        if shots and texts:
            longest += sum(self._tokenizer.count(piece.text) for piece in filled[0][0] if piece.field == "shots")
        limits = [longest, self._recipe.max_tokens, *([] if max_tokens is None else [max_tokens])]
        return self._inputs(filled, min(limits), query=True)

    def passages(self, title: str, texts: Sequence[str], task: str | None = None) -> list[Input]:
        """The passages of one document, each in an input of its own."""
        filled = [self._recipe.document_pieces(title, text, task) for text in texts]
        return self._inputs(filled, self._recipe.max_tokens, query=False)

    def passage_room(self, title: str, task: str | None = None) -> int:
        """How many tokens a passage may have so that its window holds every copy of it.

        Raises:
            InvalidRecipe: the template alone fills a window.
        """
        least = self._recipe.passage_tokens
        for template in self._recipe.document_pieces(title, "", task):
            layout = self._lay([template])[0]
            room = self._recipe.window_tokens - self._tokenizer.n_special - len(layout.ids)
            least = min(least, room // len(layout.texts))
        if least < 1:
            raise InvalidRecipe(
                "window_tokens", self._recipe.window_tokens, "the document's template leaves no room for its text"
            )
        return least

    def _inputs(self, filled: Sequence[list[list[Piece]]], max_tokens: int, *, query: bool) -> list[Input]:
        """One input a text; each text's templates become one row."""
        before, after = self._tokenizer.around(query=query)
        layouts = iter(self._lay([template for templates in filled for template in templates]))
        inputs = []
        for templates in filled:
            whole = [next(layouts) for _ in templates]
            cut = [layout.cut(max_tokens - len(before) - len(after)) for layout in whole]
            row = joined([self._row(layout, query=query) for layout in cut])
            tokens, kept = (layouts[0].texts[-1][1] - layouts[0].texts[-1][0] for layouts in (whole, cut))
            inputs.append(Input(row, tokens, tokens - kept))
        return inputs

    def _row(self, layout: _Layout, *, query: bool) -> Row:
        """The row of one input, its pooled positions within the special tokens."""
        ids = self._tokenizer.wrap(layout.ids, query=query)
        before, after = self._tokenizer.around(query=query)
        start, end = 0, len(ids)
        if self._recipe.pooled == "after_prompt":
            start = prompt_end(self._recipe, len(before), layout.n_prompt)
        elif self._recipe.pooled == "text_to_end":
            start = end - len(after) - layout.n_tail
        text = (len(before) + layout.texts[-1][0], len(before) + layout.texts[-1][1])
        if self._recipe.pooled == "text":
            start, end = text
        around = (len(before), len(after))
        start = max(0, min(start, len(ids) - 1))  # a cut, or a text without tokens, may leave nothing to pool
        return replace(pooled_row(self._recipe, ids, (start, max(end, start + 1)), text, around), query=query)

    def _lay(self, templates: Sequence[list[Piece]]) -> list[_Layout]:
        """Tokenise filled templates."""
        if self._recipe.separate_pieces:
            return self._lay_pieces(templates)
        strings = ["".join(piece.text for piece in template) for template in templates]
        tails = [0] * len(templates)
        if self._recipe.pooled == "text_to_end":
            lasts = ["".join(_from_last_text(template)) for template in templates]
            tails = [len(tokens.ids) for tokens in self._tokenizer.tokenize([""] * len(lasts), lasts)]
        layouts = []
        tokenized = self._tokenizer.tokenize([""] * len(strings), strings)
        for template, tokens, n_tail in zip(templates, tokenized, tails, strict=True):
            chars = np.cumsum([0, *(len(piece.text) for piece in template)]).tolist()
            texts = tuple(
                (tokens.boundary(start), tokens.boundary(end))
                for piece, (start, end) in zip(template, pairwise(chars), strict=True)
                if piece.field == "text"
            )
            layouts.append(_Layout(tokens.ids, texts, self._n_prompt(template), n_tail))
        return layouts

    def _lay_pieces(self, templates: Sequence[list[Piece]]) -> list[_Layout]:
        """Tokenise each piece on its own."""
        texts = [piece.text for template in templates for piece in template]
        tokens = iter(self._tokenizer.tokenize([""] * len(texts), texts))
        layouts = []
        for template in templates:
            parts = [next(tokens).ids for _ in template]
            places = list(pairwise(np.cumsum([0, *(len(part) for part in parts)]).tolist()))
            spans = tuple(place for piece, place in zip(template, places, strict=True) if piece.field == "text")
            ids = np.concatenate(parts)
            n_prompt = sum(len(part) for part, _ in zip(parts, _prompt(template), strict=False))
            layouts.append(_Layout(ids, spans, n_prompt, len(ids) - spans[-1][0]))
        return layouts

    def _n_prompt(self, template: list[Piece]) -> int:
        """Tokens of the prompt on its own, as reference implementations count them; 0 when nobody asks."""
        if self._recipe.pooled != "after_prompt":
            return 0
        return self._tokenizer.count("".join(piece.text for piece in _prompt(template)))


def _prompt(template: list[Piece]) -> Iterator[Piece]:
    """The pieces before the document's title or text, or the query's text."""
    for piece in template:
        if piece.field in ("title", "text"):
            return
        yield piece


def _from_last_text(template: list[Piece]) -> list[str]:
    """The last text and what follows it."""
    last = max(i for i, piece in enumerate(template) if piece.field == "text")
    return [piece.text for piece in template[last:]]
