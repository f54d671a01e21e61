"""What does the learned sparse vector cost in the forward pass that makes the dense one?

    python -m benchmarks.head_cost [--files DIR_OR_JSONL] [--tokens 20000] [--rounds 5]

The built-in model with all its heads and its backbone alone embed the same texts in turn, round by round; the best round
of each counts, because other work on the machine only ever slows one down. Texts are those of ``embed_throughput``. Prints
a Markdown table and one line of JSON.
"""

from __future__ import annotations

import argparse
import itertools
import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.embed_throughput import file_set, read_texts, varied_set
from benchmarks.report import environment, print_json, print_table
from embedder.embedder import DocumentInput, Embedder

WITH_HEADS, BACKBONE = "builtin", "builtin:all-MiniLM-L6-v2"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=Path, help="a folder or a .jsonl(.zst) file; default: the standard library")
    parser.add_argument("--tokens", type=int, default=20_000, help="tokens of each set")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    texts = list(itertools.islice(read_texts(arguments.files), 20_000))
    rng.shuffle(texts)
    with Embedder.load(WITH_HEADS) as whole, Embedder.load(BACKBONE) as backbone:
        sets = {
            "files": file_set(texts, whole, arguments.tokens),
            "varied": varied_set(texts, whole, arguments.tokens, rng),
        }
        rows = [compared(name, chosen, whole, backbone, arguments.rounds) for name, chosen in sets.items()]
    print_table(["texts", "tokens", "all heads, tokens/s", "dense alone", "share", "terms a passage"], rows)
    print()
    print_json({"benchmark": "head_cost", "environment": environment(arguments.seed), "rows": rows})


def compared(name: str, texts: Sequence[str], whole: Embedder, backbone: Embedder, rounds: int) -> list[object]:
    """The name, tokens, tokens/s of both, the share of the second's that the first reaches, and its terms a passage."""
    documents = [DocumentInput("", text) for text in texts]
    passages = [passage for document in whole.embed_documents(documents) for passage in document.passages]
    backbone.embed_documents(documents)  # also warm now
    tokens = sum(passage.tokens for passage in passages)
    terms = np.mean([passage.vectors.sparse.ids.size for passage in passages if passage.vectors.sparse is not None])
    best = {embedder: float("inf") for embedder in (whole, backbone)}
    for _, embedder in itertools.product(range(rounds), best):
        began = time.perf_counter()
        embedder.embed_documents(documents)
        best[embedder] = min(best[embedder], time.perf_counter() - began)
    return [name, tokens, tokens / best[whole], tokens / best[backbone], best[backbone] / best[whole], float(terms)]


if __name__ == "__main__":
    main()
