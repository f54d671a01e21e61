"""Which learned sparse head, trained on the same pairs for the same time, finds most, and what does it cost?

    python -m benchmarks.sparse_heads PAIRS.jsonl.zst ... --minutes 5 --only adi,cranfield_src

Every kind of head (embedder/sparse_heads.py) is trained behind the built-in model's frozen backbone on the same pairs, drawn
evenly from the files, with in-batch negatives; then each of the BEIR folders is indexed with it. Shown are the steps that
fitted into the time, the mean over the folders of nDCG@10 of the dense leg, of the sparse leg, the latter less BM25's, and what
it adds to dense + BM25 as the third leg, its worst set there, its terms a passage, and the tokens/s of all heads as a share of
dense alone. The last row is the head that ships with the built-in model, which is counted (``embedder.tuning.fit_builtin``)
and not trained. With --lora adapters in all layers learn, too, and the dense leg with them.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.embed_throughput import file_set, read_texts
from benchmarks.fusion_quality import measure_set
from benchmarks.head_cost import BACKBONE, WITH_HEADS, compared
from benchmarks.report import environment, print_json, print_table
from embedder.embedder import Embedder
from embedder.tuning.config import Lora, Stage, TuningConfig, Weights
from embedder.tuning.examples import Example, read_examples
from embedder.tuning.export import export
from embedder.tuning.loading import load_student
from embedder.tuning.student import Student
from embedder.tuning.trainer import Trainer
from engine.evaluation import read_evaluation_set

KINDS = ("token_weight", "landmark_lm", "union", "mlm_max", "neighbours")
TRIAL_STEPS = 4
THROUGHPUT_TOKENS, THROUGHPUT_ROUNDS = 20_000, 3


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", metavar="PAIRS")
    parser.add_argument("--pairs", type=int, default=20_000, help="in all")
    parser.add_argument("--minutes", type=float, default=5.0, help="of training a head")
    parser.add_argument("--collections", type=Path, default=Path("../shared/eval"), help="folder of BEIR folders")
    parser.add_argument("--only", default="adi,cranfield_src,hotpotqa_sample100,nq_utd", help="of them, by commas")
    parser.add_argument("--kinds", default=",".join(KINDS), help="by commas")
    parser.add_argument("--lora", action="store_true", help="train adapters in the backbone, too")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    examples = _examples(arguments.files, arguments.pairs, arguments.seed)
    sets = [read_evaluation_set(arguments.collections / name) for name in arguments.only.split(",")]
    rows: list[list[Any]] = []
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="landmark-heads-") as folder, Embedder.load(BACKBONE) as backbone:
        texts = file_set(list(read_texts(None)), backbone, THROUGHPUT_TOKENS)
        for kind in [*arguments.kinds.split(","), "shipped"]:
            model, steps = WITH_HEADS, 0
            if kind != "shipped":
                model = str(Path(folder, kind))
                steps = _train(kind, examples, arguments, Path(model))
            found = {one.name: measure_set(one, Path(folder, "data", kind), model, peers=False) for one in sets}
            with Embedder.load(model) as whole:
                share, terms = compared("files", texts, whole, backbone, THROUGHPUT_ROUNDS)[4:]
            rows.append([kind, steps or "", *_summary(found), terms, share])
            results[kind] = {"steps": steps, "terms": terms, "share_of_dense": share, "sets": found}
            print(rows[-1], file=sys.stderr, flush=True)
    print(f"\n{len(examples):,} pairs, {arguments.minutes:g} minutes a head, mean of {len(sets)} sets\n")
    columns = ["dense", "sparse", "less BM25", "third leg", "its worst", "terms a passage", "of dense tokens/s"]
    print_table(["head", "steps", *columns], rows)
    print()
    facts = {"environment": environment(arguments.seed), "lora": arguments.lora, "minutes": arguments.minutes}
    print_json({"benchmark": "sparse_heads", **facts, "results": results})


def _examples(files: Sequence[Path], n: int, seed: int) -> list[Example]:
    """As many pairs of each file, in random order."""
    rng, chosen = random.Random(seed), list[Example]()
    for file in files:
        pairs = list(read_examples(file))
        chosen += rng.sample(pairs, min(len(pairs), n // len(files)))
    rng.shuffle(chosen)
    return chosen


def _train(kind: str, examples: Sequence[Example], arguments: argparse.Namespace, folder: Path) -> int:
    """Train a head for the time that was asked for and write the model; how many steps that was."""

    def begun(steps: int) -> tuple[Student, Trainer]:
        config = TuningConfig(
            sparse_head={"kind": kind},
            lora=Lora() if arguments.lora else None,
            weights=Weights(dense=1.0 if arguments.lora else 0.0),
            negatives=0,
            batch=32,
            steps=steps,
            passage_tokens=128,
            seed=arguments.seed,
        )
        student = load_student(BACKBONE, config)
        return student, Trainer(student, config, [Stage(name="pairs", examples=examples)])

    times: list[float] = []
    begun(TRIAL_STEPS)[1].run(lambda report: times.append(time.perf_counter()))
    steps = max(1, round(arguments.minutes * 60 * (TRIAL_STEPS - 1) / (times[-1] - times[0])))
    student, trainer = begun(steps)
    trainer.run()
    export(student, folder, f"A trial of the head {kind}.\n")
    return steps


def _summary(found: dict[str, dict[str, Any]]) -> list[float]:
    """Means over the sets: dense, sparse, that less BM25, what it adds as the third leg; and its worst set as that."""
    dense = np.array([one["dense"] for one in found.values()])
    alone = np.array([one["sparse"] for one in found.values()])
    third = np.array([one["hybrid"] - one["dense + bm25"] for one in found.values()])
    bm25 = np.array([one["bm25"] for one in found.values()])
    return [
        float(dense.mean()),
        float(alone.mean()),
        float((alone - bm25).mean()),
        float(third.mean()),
        float(third.min()),
    ]


if __name__ == "__main__":
    main()
