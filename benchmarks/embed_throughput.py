"""How fast does the embedder embed, beside sentence-transformers, on the same texts in the same run?

    python -m benchmarks.embed_throughput [--files DIR_OR_JSONL] [--tokens 40000] [--rounds 3]

Two sets of real texts: ``files`` (documents as they are; sentence-transformers gets the passages that we made of them, so
that both run the same tokens, and it is spared the splitting) and ``varied`` (texts of 5 to 254 tokens, lengths spread
evenly on a logarithmic scale). The two systems take turns, round by round, and the medians count. Other work on the machine
slows both, and the one with barriers between its threads more; ``cpu`` is the ratio of the CPU seconds, which suffers less.
Prints a table and one JSON line.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import io
import itertools
import json
import os
import platform
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import zstandard

from embedder import builtin
from embedder.embedder import DocumentInput, Embedder
from embedder.splitter import split_text

TEXT_SUFFIXES = frozenset({".txt", ".md", ".rst", ".py", ".html"})
MAX_TOKENS = 254  # of the built-in model's 256, without the two special tokens
SPECIAL = 2


@dataclass(frozen=True, slots=True)
class Result:
    """One system on one set: medians over the rounds."""

    texts: str
    n_texts: int
    n_tokens: int
    ours_tokens_per_s: float
    theirs_tokens_per_s: float
    ratio: float
    cpu_ratio: float
    outside_model: float
    workers_idle: float
    least_cosine: float


class ModelClock:
    """Records when the model runs: wraps the network's ``run``."""

    def __init__(self) -> None:
        self._spans: list[tuple[float, float, int]] = []

    def install(self) -> None:
        """Time every forward pass from now on."""
        from embedder.model import Model

        run = Model.run

        def timed(model: Model, rows: Sequence[object], pause: Callable[[], None]) -> object:
            began = time.perf_counter()
            try:
                return run(model, rows, pause)  # type: ignore[arg-type]
            finally:
                self._spans.append((began, time.perf_counter(), threading.get_ident()))

        Model.run = timed  # type: ignore[method-assign, assignment]

    def measure(self, call: Callable[[], object]) -> tuple[float, float, float]:
        """Seconds of a call, its share with no forward pass running, and the mean share that a worker was idle."""
        self._spans.clear()
        began = time.perf_counter()
        call()
        seconds = time.perf_counter() - began
        busy, reached = 0.0, began
        for start, end, _ in sorted(self._spans):
            busy += max(0.0, end - max(start, reached))
            reached = max(reached, end)
        workers = {worker for _, _, worker in self._spans}
        total = sum(end - start for start, end, _ in self._spans)
        return seconds, 1 - busy / seconds, 1 - total / (seconds * max(1, len(workers)))


def read_texts(path: Path | None) -> Iterator[str]:
    """Texts of a folder or a .jsonl(.zst) file; None: the standard library's modules, which every Python has."""
    if path is not None and path.is_file():
        yield from _read_jsonl(path)
        return
    root = path or Path(os.__file__).parent
    for file in sorted(root.rglob("*") if path else root.glob("*.py")):
        if file.suffix in TEXT_SUFFIXES and file.is_file():
            yield file.read_text(encoding="utf-8", errors="replace")
        elif path and file.suffix in (".jsonl", ".zst"):
            yield from itertools.islice(_read_jsonl(file), 2000)


def _read_jsonl(path: Path) -> Iterator[str]:
    with path.open("rb") as raw:
        stream = zstandard.ZstdDecompressor().stream_reader(raw) if path.suffix == ".zst" else raw
        for line in io.TextIOWrapper(stream, encoding="utf-8"):
            record = json.loads(line)
            text = record.get("text") or record.get("positive") or ""
            if text.strip():
                yield text


def file_set(texts: Sequence[str], embedder: Embedder, n_tokens: int) -> list[str]:
    """Whole texts up to a number of tokens; the last one is cut."""
    chosen, total = [], 0
    for text in texts:
        count = embedder.count_tokens([text])[0]
        if total + count > n_tokens:
            chosen.append(text[: int(len(text) * (n_tokens - total) / count) + 1])
            break
        chosen.append(text)
        total += count
    return [text for text in chosen if text.strip()]


def varied_set(texts: Sequence[str], embedder: Embedder, n_tokens: int, rng: random.Random) -> list[str]:
    """Pieces of the texts whose lengths are spread evenly on a logarithmic scale from 5 tokens to the model's most."""
    pool = list(texts)
    rng.shuffle(pool)
    chosen: list[str] = []
    total = 0
    for text in itertools.cycle(pool):
        budget = int(np.exp(rng.uniform(np.log(5), np.log(MAX_TOKENS))))
        spans = split_text(text[:20_000], budget)
        if not spans:
            continue
        start, end = rng.choice(spans)
        count = embedder.count_tokens([text[start:end]])[0]
        if count <= MAX_TOKENS:
            chosen.append(text[start:end])
            total += count
        if total >= n_tokens:
            return chosen
    return chosen


def compare(name: str, texts: list[str], embedder: Embedder, clock: ModelClock, rounds: int) -> Result:
    """Run both systems in turns on one set."""
    from sentence_transformers import SentenceTransformer

    reference = SentenceTransformer(str(builtin.model_folder()), device="cpu", local_files_only=True)
    documents = [DocumentInput("", text) for text in texts]
    embedded = embedder.embed_documents(documents)  # also the warm-up
    passages = [text[p.start : p.end] for text, d in zip(texts, embedded, strict=True) for p in d.passages]
    vectors = np.stack([p.vectors.dense for document in embedded for p in document.passages])
    expected = reference.encode(passages, show_progress_bar=False)
    counts = [p.tokens + SPECIAL for document in embedded for p in document.passages]
    n_tokens = sum(counts)
    measured: list[tuple[float, float, float]] = []
    seconds: list[float] = []
    cpu_ratios: list[float] = []
    for _ in range(rounds):
        began = time.process_time()
        measured.append(clock.measure(lambda: embedder.embed_documents(documents)))
        middle, wall = time.process_time(), time.perf_counter()
        reference.encode(passages, show_progress_bar=False)
        seconds.append(time.perf_counter() - wall)
        cpu_ratios.append((time.process_time() - middle) / (middle - began))
    ours_rate = n_tokens / statistics.median(ours for ours, _, _ in measured)
    theirs_rate = n_tokens / statistics.median(seconds)
    ratio = statistics.median(theirs / ours[0] for ours, theirs in zip(measured, seconds, strict=True))
    return Result(
        texts=name,
        n_texts=len(passages),
        n_tokens=n_tokens,
        ours_tokens_per_s=round(ours_rate, 1),
        theirs_tokens_per_s=round(theirs_rate, 1),
        ratio=round(ratio, 3),
        cpu_ratio=round(statistics.median(cpu_ratios), 3),
        outside_model=round(statistics.median(outside for _, outside, _ in measured), 4),
        workers_idle=round(statistics.median(idle for _, _, idle in measured), 4),
        least_cosine=round(float((vectors * expected).sum(1).min()), 7),
    )


def machine() -> dict[str, object]:
    """Hardware and versions, for the record."""
    packages = ("torch", "transformers", "sentence-transformers", "tokenizers", "numpy")
    cpu = next((line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")), "unknown")
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in packages},
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--files", type=Path, help="a folder or a .jsonl(.zst) file; default: the standard library")
    parser.add_argument("--tokens", type=int, default=40_000, help="tokens of each set")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-tokens", type=int, help="tokens of a forward pass; default: the embedder's")
    parser.add_argument("--workers", type=int, help="forward passes at once; default: the embedder's")
    options = parser.parse_args(arguments)
    texts = list(itertools.islice(read_texts(options.files), 20_000))
    random.Random(options.seed).shuffle(texts)
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))  # sentence-transformers gets every core
    clock = ModelClock()
    clock.install()
    with Embedder.load(max_batch_tokens=options.batch_tokens, workers=options.workers, device="cpu") as embedder:
        sets = {
            "files": file_set(texts, embedder, options.tokens),
            "varied": varied_set(texts, embedder, options.tokens, random.Random(options.seed)),
        }
        results = [compare(name, chosen, embedder, clock, options.rounds) for name, chosen in sets.items()]
    print(
        f"{'texts':8} {'n':>6} {'tokens':>8} {'ours/s':>9} {'theirs/s':>9} {'ratio':>6} {'cpu':>6} {'outside':>8} {'cosine':>9}"
    )
    for r in results:
        rates = f"{r.ours_tokens_per_s:9.0f} {r.theirs_tokens_per_s:9.0f} {r.ratio:6.2f} {r.cpu_ratio:6.2f}"
        print(f"{r.texts:8} {r.n_texts:6} {r.n_tokens:8} {rates} {r.outside_model:8.2%} {r.least_cosine:9.6f}")
    parameters = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    line = {"benchmark": "embed_throughput", **parameters, **machine(), "results": [asdict(r) for r in results]}
    print(json.dumps(line))
    return 0


if __name__ == "__main__":
    sys.exit(main())
