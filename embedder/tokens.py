"""What are the tokens of a text, and which characters does each of them stand for?

Special tokens are never left to the tokenizer: transformers 5 obeys the post-processor of tokenizer.json, which for some
checkpoints lacks the end token that last-token pooling reads. Texts are tokenised bare, and the ids that the recipe names
are put around them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import regex
from numpy.typing import NDArray

from embedder.checkpoint import read_json
from embedder.errors import InvalidRecipe, ModelLoadFailed
from embedder.hush import hushed

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Encoding, Tokenizer

    from embedder.checkpoint import Checkpoint
    from embedder.recipe import Recipe

# A run of more characters without white space is tokenised in pieces: a WordPiece tokenizer makes one [UNK] of it, and a
# passage of one token would stand for the whole run. Scripts without spaces are unharmed: their tokens are short.
MAX_RUN = 1000
MAX_COUNTS = 1000  # texts whose number of tokens is remembered
_LONG_RUN = regex.compile(rf"(?<!\S)\S{{{MAX_RUN + 1},}}+")
_SURROGATES = regex.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True)
class TokenizedText:
    """The tokens of ``prefix + text``: which of them are the prefix's, and where the text's lie in the text.

    Attributes:
        ids: int32[n], prefix first; see ``TextTokenizer.network_ids`` for those beyond the vocabulary.
        n_prefix: tokens that end within the prefix.
    """

    ids: NDArray[np.int32]
    n_prefix: int
    _pieces: tuple[tuple[int, Encoding], ...]
    _prefix_chars: int

    @cached_property
    def offsets(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Starts and ends, int64[n - n_prefix] each, in characters of the text (not of ``prefix + text``)."""
        parts = []
        for shift, encoding in self._pieces:
            flat = np.fromiter(chain.from_iterable(encoding.offsets), dtype=np.int64, count=2 * len(encoding))
            parts.append(flat.reshape(-1, 2) + (shift - self._prefix_chars))
        pairs = np.concatenate(parts)[self.n_prefix :] if parts else np.empty((0, 2), np.int64)
        return np.maximum.accumulate(np.maximum(pairs[:, 0], 0)), pairs[:, 1]

    def boundary(self, position: int) -> int:
        """How many of the text's tokens end within its first ``position`` characters, before any that does not."""
        if position <= 0:
            return 0
        beyond = self.offsets[1] > position
        return int(beyond.argmax()) if beyond.any() else len(beyond)


class TextTokenizer:
    """A checkpoint's fast tokenizer, without padding, truncation or special tokens. Safe to use from several threads.

    Attributes:
        prepend, append: int32 ids put around every document, and around queries that have none of their own.
        vocabulary_size: ids from here on stand for characters that the vocabulary lacks.
    """

    def __init__(
        self,
        backend: Tokenizer,
        prepend: Sequence[int],
        append: Sequence[int],
        *,
        query_prepend: Sequence[int] | None = None,
        query_append: Sequence[int] | None = None,
        keep_unknown: bool = False,
    ) -> None:
        """``keep_unknown``: give characters that the vocabulary lacks ids of their own (``Recipe.sparse_unknown``)."""
        self._backend = backend
        self._unknown = backend.token_to_id(getattr(backend.model, "unk_token", None) or "") if keep_unknown else None
        self.vocabulary_size: int = backend.get_vocab_size(with_added_tokens=True)
        self._counts: dict[str, int] = {}
        self.prepend = np.asarray(prepend, dtype=np.int32)
        self.append = np.asarray(append, dtype=np.int32)
        self._around_query = (
            self.prepend if query_prepend is None else np.asarray(query_prepend, dtype=np.int32),
            self.append if query_append is None else np.asarray(query_append, dtype=np.int32),
        )

    @property
    def n_special(self) -> int:
        """Special tokens around a document's input."""
        return len(self.prepend) + len(self.append)

    def around(self, *, query: bool) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The special tokens before and after an input."""
        return self._around_query if query else (self.prepend, self.append)

    def all_special(self) -> tuple[list[int], ...]:
        """The ids before and after documents; and before and after queries when those differ."""
        document, query = ([part.tolist() for part in self.around(query=side)] for side in (False, True))
        return (*document,) if query == document else (*document, *query)

    @property
    def special_ids(self) -> list[int]:
        """The ids of all special tokens, ascending: those that stand for no text."""
        return sorted(i for i, token in self._backend.get_added_tokens_decoder().items() if token.special)

    def token_id(self, token: str) -> int | None:
        """The id of a token of the vocabulary; None when it has no such token."""
        found: int | None = self._backend.token_to_id(token)
        return found

    @property
    def vocabulary(self) -> dict[str, int]:
        """Ids by token, added tokens included."""
        found: dict[str, int] = self._backend.get_vocab(with_added_tokens=True)
        return found

    def text_of(self, ids: NDArray[np.integer]) -> str:
        """The text that tokens stand for, as far as the tokenizer keeps it; special tokens stand for none."""
        text: str = self._backend.decode(ids.tolist(), skip_special_tokens=True)
        return text

    def tokenize(self, prefixes: Sequence[str], texts: Sequence[str]) -> list[TokenizedText]:
        """Tokenise each ``prefix + text`` as one string; the tokenizers library runs them in parallel."""
        cleaned = [_SURROGATES.sub("\ufffd", prefix + text) for prefix, text in zip(prefixes, texts, strict=True)]
        cuts = [_piece_starts(text) for text in cleaned]
        pieces = [
            text[start:end]
            for text, starts in zip(cleaned, cuts, strict=True)
            for start, end in _pairs(starts, len(text))
        ]
        encodings = iter(self._backend.encode_batch(pieces, add_special_tokens=False))
        return [
            self._assemble([(start, next(encodings)) for start in starts], text, len(prefix))
            for starts, text, prefix in zip(cuts, cleaned, prefixes, strict=True)
        ]

    def network_ids(self, ids: NDArray[np.int32]) -> NDArray[np.int32]:
        """The ids that the network reads: the unknown token in the place of characters that have ids of their own."""
        if self._unknown is None:
            return ids
        return np.where(ids < self.vocabulary_size, ids, np.int32(self._unknown))

    def _assemble(self, pieces: list[tuple[int, Encoding]], text: str, prefix_chars: int) -> TokenizedText:
        """Join the pieces' ids and find the first token that reaches beyond the prefix."""
        ids = np.concatenate([self._ids(encoding, text, shift) for shift, encoding in pieces])
        n_prefix = 0
        if prefix_chars:
            ends = chain.from_iterable((shift + end for _, end in encoding.offsets) for shift, encoding in pieces)
            n_prefix = next((i for i, end in enumerate(ends) if end > prefix_chars), len(ids))
        return TokenizedText(ids, n_prefix, tuple(pieces), prefix_chars)

    def _ids(self, encoding: Encoding, text: str, shift: int) -> NDArray[np.int32]:
        """The ids of one piece of a text, with those of single unknown characters: the vocabulary's size + code point."""
        ids = np.asarray(encoding.ids, dtype=np.int32)
        places = np.flatnonzero(ids == self._unknown) if self._unknown is not None else ()
        if len(places):
            offsets = encoding.offsets
            for place in places:
                start, end = offsets[place]
                if end - start == 1:
                    ids[place] = self.vocabulary_size + ord(text[shift + start].lower()[0])
        return ids

    def count(self, text: str) -> int:
        """Tokens of one text; remembered, since prompts repeat."""
        found = self._counts.get(text)
        if found is None:
            found = len(self.tokenize([""], [text])[0].ids) if text else 0
            if len(self._counts) < MAX_COUNTS:
                self._counts[text] = found
        return found

    def wrap(self, ids: NDArray[np.int32], *, query: bool = False) -> NDArray[np.int32]:
        """Put the special tokens around the ids of an input; an input of no tokens at all becomes the id 0."""
        before, after = self.around(query=query)
        wrapped = np.concatenate((before, ids, after))
        return wrapped if len(wrapped) else np.zeros(1, dtype=np.int32)

    def term_text(self, term_id: int) -> str:
        """A vocabulary entry as people read it; the raw entry when it decodes to nothing. "" for an unknown id."""
        if self._unknown is not None and 0 <= term_id - self.vocabulary_size <= sys.maxunicode:
            return chr(term_id - self.vocabulary_size)
        if not 0 <= term_id < self.vocabulary_size:
            return ""
        decoded = self._backend.decode([term_id], skip_special_tokens=False).strip()
        return decoded or (self._backend.id_to_token(term_id) or "")


def load_tokenizer(checkpoint: Checkpoint, recipe: Recipe) -> TextTokenizer:
    """The tokenizer of a checkpoint with the special tokens of its recipe.

    Raises:
        ModelLoadFailed: there is no tokenizer, or only a slow one.
        InvalidRecipe: the recipe names a special token that the vocabulary lacks.
    """
    plain = None if recipe.pooling == "last" else plain_bert_tokenizer(checkpoint.folder)
    backend, end = (plain, None) if plain is not None else _by_transformers(checkpoint)
    backend.no_truncation()
    backend.no_padding()
    named = {
        field: None if tokens is None else [_token_id(backend, field, token) for token in tokens]
        for field, tokens in (
            ("prepend", recipe.prepend),
            ("append", recipe.append),
            ("query_prepend", recipe.query_prepend),
            ("query_append", recipe.query_append),
        )
    }
    before, after = _template_ids(backend)
    if recipe.append is None and recipe.pooling == "last" and not after:
        if end is None:
            raise InvalidRecipe("append", None, "the tokenizer has no end token, and the last token is pooled")
        after = [end]
    prepend, append = named["prepend"], named["append"]
    return TextTokenizer(
        backend,
        before if prepend is None else prepend,
        after if append is None else append,
        query_prepend=named["query_prepend"],
        query_append=named["query_append"],
        keep_unknown=recipe.sparse_unknown,
    )


def plain_bert_tokenizer(folder: Path) -> Tokenizer | None:
    """A BERT's tokenizer from tokenizer.json alone, without the import of transformers.

    None: there is no such file, or tokenizer_config.json says otherwise, which transformers would obey.
    """
    from tokenizers import Tokenizer

    settings, whole = (read_json(folder / name) for name in ("tokenizer_config.json", "tokenizer.json"))
    if not settings or not whole or settings.get("tokenizer_class") not in ("BertTokenizer", "BertTokenizerFast"):
        return None
    normalizer = whole.get("normalizer") or {}
    said = {
        "lowercase": "do_lower_case",
        "handle_chinese_chars": "tokenize_chinese_chars",
        "strip_accents": "strip_accents",
    }
    agrees = all(name in settings and settings[name] == normalizer.get(key) for key, name in said.items())
    if normalizer.get("type") != "BertNormalizer" or not agrees:
        return None
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def _by_transformers(checkpoint: Checkpoint) -> tuple[Tokenizer, int | None]:
    """The tokenizer, and its end token, as transformers reads the checkpoint's files."""
    from transformers import AutoTokenizer

    try:
        with hushed():
            tokenizer: Any = AutoTokenizer.from_pretrained(
                checkpoint.folder, trust_remote_code=False, local_files_only=True
            )
        backend: Tokenizer = tokenizer.backend_tokenizer
    except (OSError, ValueError, AttributeError, ImportError, KeyError) as error:
        raise ModelLoadFailed(checkpoint.name, f"its tokenizer cannot be loaded ({error})") from error
    return backend, None if tokenizer.eos_token_id is None else int(tokenizer.eos_token_id)


def _template_ids(backend: Tokenizer) -> tuple[list[int], list[int]]:
    """The ids that the tokenizer's own template puts before and after a text."""
    bare = backend.encode("a", add_special_tokens=False).ids
    full = backend.encode("a", add_special_tokens=True).ids
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return full[:start], full[start + len(bare) :]
    return [], []


def _token_id(backend: Tokenizer, field: str, token: str) -> int:
    found = backend.token_to_id(token)
    if found is None:
        raise InvalidRecipe(field, token, "the tokenizer's vocabulary has no such token")
    return int(found)


def _piece_starts(text: str) -> list[int]:
    """Where to cut a text before tokenising it: inside runs of more than MAX_RUN characters without white space."""
    starts = [0]
    if len(text) <= MAX_RUN:
        return starts
    for match in _LONG_RUN.finditer(text):
        starts.extend(range(match.start() + MAX_RUN, match.end(), MAX_RUN))
    return starts


def _pairs(starts: Sequence[int], end: int) -> list[tuple[int, int]]:
    return list(zip(starts, [*starts[1:], end], strict=True))
