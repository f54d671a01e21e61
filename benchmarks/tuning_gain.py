"""What does ``engine tune`` gain on documents of one subject, on queries that it never saw?

    python -m benchmarks.tuning_gain PAIRS.jsonl.zst [--pairs 6000] [--minutes 5] [--train heads]

PAIRS has a JSON object a line with ``query`` and ``positive`` (docs/tuning.md). So many of them are drawn; their positives
are the documents of a collection of the built-in model. A tenth of the pairs is kept for the end: pairs that share a query
or a document stay on one side. The others are given to ``engine tune``, which holds some of them out again to decide
whether its result is kept. Before and after it, the kept queries are asked in every mode of the whole collection. Shown is
the nDCG@10 of each, with the interval that holds 95 % of the differences when queries are resampled; nothing changes where
the result was not kept.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from benchmarks.report import environment, print_json, print_table
from embedder.tuning.examples import Example, read_examples, split_held_out
from engine import open_engine
from engine.tuning.judging import JudgedSet, Scores, compare, scores
from engine.tuning.options import Trained, TuneOptions
from engine.tuning.pipeline import tune
from engine.tuning.report import CurvePoint

KEPT = 0.1


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, metavar="PAIRS")
    parser.add_argument("--pairs", type=int, default=6_000)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--train", choices=get_args(Trained), help="default: as engine tune chooses")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    examples = list(read_examples(arguments.file))
    random.Random(arguments.seed).shuffle(examples)
    learned, kept = split_held_out(examples[: arguments.pairs], fraction=KEPT, seed=arguments.seed)
    judged = _judged(learned, kept)
    with tempfile.TemporaryDirectory(prefix="landmark-tuning-") as folder:
        pairs = Path(folder, "pairs.jsonl")
        pairs.write_text("".join(json.dumps({"query": one.query, "positive": one.positive}) + "\n" for one in learned))
        options = TuneOptions(pairs=pairs, minutes=arguments.minutes, trained=arguments.train, seed=arguments.seed)
        began = time.monotonic()
        with open_engine(Path(folder, "data")) as engine:
            collection = engine.create_collection("c")
            collection.upsert({"doc_id": str(n), "text": text} for n, text in enumerate(judged.passages))
            collection.optimize()
            indexed = time.monotonic()
            before = scores(collection, judged)
            report = tune(engine, "c", options, _Watcher())
        with open_engine(Path(folder, "data"), model=report.model if report.migrated else "builtin") as engine:
            engine.get_collection("c").optimize()
            after = scores(engine.get_collection("c"), judged)
    changes = compare(before, after, seed=arguments.seed)
    rows = []
    for one in changes:
        assert one.before is not None
        assert one.after is not None
        gained = one.after.ndcg_at_10 - one.before.ndcg_at_10
        rows.append(
            [one.mode, one.before.ndcg_at_10, one.after.ndcg_at_10, gained, f"{one.low:+.4f} to {one.high:+.4f}"]
        )
    sizes = f"{len(judged.passages):,} documents, {len(learned):,} pairs given, {len(judged.queries):,} other queries"
    times = f"indexing {indexed - began:.0f} s, engine tune {report.seconds:.0f} s"
    print(f"\n{sizes}; {times}, {report.steps:,} steps; the result was {'' if report.migrated else 'not '}kept\n")
    print_table(["mode", "before", "after", "difference", "95 %"], rows)
    print()
    facts = {"environment": environment(arguments.seed), "options": options.described(), "seconds": report.seconds}
    print_json(
        {"benchmark": "tuning_gain", "file": arguments.file.name, **facts, "migrated": report.migrated, "rows": rows}
    )


def _judged(learned: Sequence[Example], kept: Sequence[Example]) -> JudgedSet:
    """The kept queries among all documents."""
    numbers = {text: n for n, text in enumerate(dict.fromkeys(one.positive for one in (*learned, *kept)))}
    answers: dict[str, set[int]] = {}
    for one in kept:
        answers.setdefault(one.query, set()).add(numbers[one.positive])
    return JudgedSet(tuple(numbers), tuple(answers), tuple(map(frozenset, answers.values())))


class _Watcher:
    """Says on stderr how it goes."""

    def stage(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def step(self, point: CurvePoint) -> None:
        if point.probe:
            print(
                f"step {point.step} of {point.n_steps}: loss {point.loss:.3f}, {point.probe}",
                file=sys.stderr,
                flush=True,
            )

    def scores(self, title: str, scores: Scores) -> None:
        print(title, {mode: round(one.ndcg_at_10, 4) for mode, one in scores.metrics.items()}, file=sys.stderr)

    def documents(self, done: int, total: int) -> None:
        """Migrations of this size are short."""


if __name__ == "__main__":
    main()
