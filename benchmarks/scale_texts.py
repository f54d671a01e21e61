"""Which passages and queries make the scale corpus? Real text, split as the embedder splits it, without repeats.

Whole articles come first, then the positives of the training pairs, those cut from others' paragraphs (ICT, descriptions) last,
so that near repeats enter only when nothing else is left. The order of the rows is random: every prefix is a sample.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import zstandard

from benchmarks.scale_data import Passages
from embedder.builtin import BACKBONE
from embedder.source import find_model
from embedder.splitter import split_tokens
from embedder.tokens import TextTokenizer, load_tokenizer

PASSAGE_TOKENS = 64
LEAST_TOKENS = 12  # shorter passages are headings and stubs
DOCUMENTS = 1_000  # tokenised together
DERIVED = (
    "wikipedia/ict",
    "wikipedia/description",
)  # their positives are parts of paragraphs that other pairs hold whole
# Held-out queries by source: questions, headings, sentences and definitions without the name.
QUERY_SHARES = {
    "wikipedia/ict": 0.25,
    "wikipedia/section": 0.2,
    "wikipedia/description": 0.15,
    "medquad": 0.15,
    "docs": 0.1,
    "vespa-docs": 0.05,
    "wordnet/reverse": 0.1,
}
PROBE = 8  # tokens: a query counts as contained when its first so many stand in a passage


def read_jsonl(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a ``.jsonl.zst`` file."""
    with path.open("rb") as file:
        for line in io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), encoding="utf-8"):
            yield json.loads(line)


def documents(articles: list[Path], train: Path) -> Iterator[str]:
    """Texts in the order of preference, without exact repeats."""
    seen: set[int] = set()

    def fresh(text: str) -> bool:
        known = hash(text) in seen
        seen.add(hash(text))
        return bool(text.strip()) and not known

    for path in articles:
        yield from (row["text"] for row in read_jsonl(path) if fresh(row["text"]))
    pairs = sorted(train.glob("*.jsonl.zst"), key=lambda path: (path.name.startswith("wordnet"), path.name))
    for derived in (False, True):
        for path in pairs:
            for row in read_jsonl(path):
                if (row["source"] in DERIVED) == derived and fresh(row["positive"]):
                    yield row["positive"]


def collect(texts: Iterator[str], n_passages: int, seed: int) -> Passages:
    """The first ``n_passages`` distinct passages of the texts, in random order.

    Raises:
        ValueError: the texts do not hold so many; nothing is repeated.
    """
    tokenizer = builtin_tokenizer()
    passages: list[bytes] = []
    tokens: list[np.ndarray] = []
    seen: set[bytes] = set()
    while some := list(islice(texts, DOCUMENTS)):
        for text, tokenized in zip(some, tokenizer.tokenize([""] * len(some), some), strict=True):
            ids = tokenized.ids.astype(np.uint16)
            for span in split_tokens(text, *tokenized.offsets, PASSAGE_TOKENS):
                passage = text[span.start : span.end].encode("utf-8", "replace")
                if span.last - span.first >= LEAST_TOKENS and passage not in seen:
                    seen.add(passage)
                    passages.append(passage)
                    tokens.append(ids[span.first : span.last])
        if len(passages) >= n_passages:
            break
    if len(passages) < n_passages:
        raise ValueError(f"the texts make {len(passages):,} distinct passages, {n_passages:,} were asked for")
    order = np.random.default_rng(seed).permutation(n_passages)
    text_ptr = np.concatenate([[0], np.cumsum([len(passages[i]) for i in order])])
    token_ptr = np.concatenate([[0], np.cumsum([len(tokens[i]) for i in order])])
    text = np.frombuffer(b"".join(passages[i] for i in order), np.uint8)
    return Passages(text, text_ptr, np.concatenate([tokens[i] for i in order]), token_ptr)


def builtin_tokenizer() -> TextTokenizer:
    """The built-in model's tokenizer, without its network."""
    source = find_model(BACKBONE)
    return load_tokenizer(source.checkpoint, source.recipe)


def choose_queries(train: Path, passages: Passages, n_queries: int, seed: int) -> list[dict[str, str]]:
    """Held-out queries by ``QUERY_SHARES``, as {"text", "source"}, in random order; none stands in a passage."""
    chance = random.Random(seed)
    found: dict[str, dict[str, None]] = {name: {} for name in QUERY_SHARES}
    for path in sorted(train.glob("*.jsonl.zst")):
        for row in read_jsonl(path):
            name = next((name for name in QUERY_SHARES if row["source"].startswith(name)), None)
            if name is not None and len(row["query"].split()) >= 3:
                found[name].setdefault(row["query"])
    pools = {name: chance.sample(list(texts), min(len(texts), 6 * n_queries)) for name, texts in found.items()}
    every = [text for pool in pools.values() for text in pool]
    ids = [tokenized.ids for tokenized in builtin_tokenizer().tokenize([""] * len(every), every)]
    inside = {text for text, held in zip(every, contained(ids, passages.tokens), strict=True) if held}
    chosen: list[dict[str, str]] = []
    for name, share in QUERY_SHARES.items():
        free = [text for text in pools[name] if text not in inside]
        chosen += [{"text": text, "source": name} for text in free[: round(share * n_queries)]]
    chance.shuffle(chosen)
    return chosen


def contained(queries: list[np.ndarray], tokens: np.ndarray) -> np.ndarray:
    """Whether each query's first ``PROBE`` tokens (all, of a shorter one) stand together in the corpus: bool[m]."""
    lengths = np.array([min(PROBE, len(query)) for query in queries])
    inside = np.zeros(len(queries), bool)
    for length in np.unique(lengths[lengths > 0]).tolist():
        places = np.flatnonzero(lengths == length)
        wanted = np.array([_rolling(queries[i][:length], length)[0] for i in places])
        likely = np.zeros(1 << 20, bool)  # by the lowest bits: most runs are told apart here
        likely[wanted & np.uint64(len(likely) - 1)] = True
        for start in range(0, len(tokens), 1 << 20):
            hashes = _rolling(np.asarray(tokens[start : start + (1 << 20) + PROBE]), length)
            hashes = hashes[likely[hashes & np.uint64(len(likely) - 1)]]
            inside[places] |= np.isin(wanted, hashes)
    return inside


def _rolling(ids: np.ndarray, length: int) -> np.ndarray:
    """A 64-bit hash of every run of ``length`` ids."""
    n = max(0, len(ids) - length + 1)
    hashes = np.zeros(n, np.uint64)
    for i in range(length):
        hashes = (hashes ^ ids[i : i + n].astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    return hashes
