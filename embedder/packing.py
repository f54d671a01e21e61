"""How does a document become windows?

Where its text comes last in the template, the tokens of the whole document are cut into passages, and windows are made of
those tokens (``windows``). Anything else around, or done to, a text needs the template filled anew for every passage,
each of which has a window of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from embedder.inputs import Input, InputBuilder
from embedder.recipe import Recipe
from embedder.splitter import Span, split_tokens
from embedder.tokens import TextTokenizer
from embedder.values import DocumentInput
from embedder.windows import PackedDocument, Window, WindowPacker, row_keys, visible


class DocumentPacker:
    """Tokenises documents and packs them into windows. Safe to use from several threads."""

    def __init__(self, recipe: Recipe, tokenizer: TextTokenizer) -> None:
        self._recipe = recipe
        self._tokenizer = tokenizer
        self._windows = WindowPacker(recipe, tokenizer)
        self._inputs = InputBuilder(recipe, tokenizer)

    def pack(self, documents: Sequence[DocumentInput], task: str | None = None) -> list[PackedDocument]:
        """Pack documents, in order; a blank one has one passage, of no tokens."""
        if self._recipe.text_comes_last:
            return self._cut(documents, task)
        return [self._filled(document, task) for document in documents]

    def _cut(self, documents: Sequence[DocumentInput], task: str | None) -> list[PackedDocument]:
        """Cut the tokens of whole documents."""
        prompt = self._recipe.document_prefix("", task)
        n_prompt = self._tokenizer.count(prompt)
        prefixes = [self._recipe.document_prefix(document.title, task) for document in documents]
        bodies = [document.text.strip() for document in documents]
        tokens = self._tokenizer.tokenize(prefixes, bodies)
        return [
            self._windows.pack(body, tokenized, n_prompt, _boundaries(document))
            for document, body, tokenized in zip(documents, bodies, tokens, strict=True)
        ]

    def _filled(self, document: DocumentInput, task: str | None) -> PackedDocument:
        """Fill the templates for each passage of a document."""
        body = document.text.strip()
        n_title = self._tokenizer.count(document.title.strip())
        title, n_dropped = self._short_title(document.title.strip())
        tokens = self._tokenizer.tokenize([""], [body])[0]
        limit = self._inputs.passage_room(title, task)
        while True:
            spans: tuple[Span, ...] = (Span(*visible(body), 0, len(tokens.ids)),)
            if len(tokens.ids) > limit:
                spans = tuple(split_tokens(body, *tokens.offsets, limit, _boundaries(document)))
            inputs = self._inputs.passages(title, [body[span.start : span.end] for span in spans], task)
            if limit == 1 or not any(each.dropped for each in inputs):
                break
            limit = max(1, limit * 7 // 8)  # a passage alone may have a few tokens more than it has in its document
        n_dropped += sum(each.dropped for each in inputs)
        windows = tuple(_window(i, each) for i, each in enumerate(inputs))
        return PackedDocument(spans, windows, n_title + len(tokens.ids), n_dropped)

    def _short_title(self, title: str) -> tuple[str, int]:
        """A title of at most a quarter of a window, and how many tokens that cost."""
        tokens = self._tokenizer.tokenize([""], [title])[0]
        most = self._recipe.window_tokens // 4
        if len(tokens.ids) <= most:
            return title, 0
        return title[: tokens.offsets[1][most - 1]], len(tokens.ids) - most


def _boundaries(document: DocumentInput) -> list[int]:
    """The hard boundaries in the text without the white space before it."""
    lead = len(document.text) - len(document.text.lstrip())
    return [offset - lead for offset in document.hard_boundaries]


def _window(i: int, read: Input) -> Window:
    return Window(read.row, (i,), row_keys(read.row))
