"""How were the built-in model's sparse head and its card made?

    python -m embedder.tuning.fit_builtin ../shared/train embedder/builtin_heads

No gradient is involved: the head's directions are the mean states of each term over real text (``first_weights``), and
the few constants of its formula were chosen on development collections (docs/adr/0011). What this text is matters little,
so long as it is varied: prose, definitions, source code.
"""

from __future__ import annotations

import argparse
import platform
from pathlib import Path

import numpy as np
import torch
import transformers

from embedder import builtin
from embedder.fingerprint import weights_digest
from embedder.tuned import TunedModel, write_tuned
from embedder.tuning.config import TuningConfig
from embedder.tuning.examples import read_examples
from embedder.tuning.first_weights import begin_sparse_head
from embedder.tuning.loading import load_student

SOURCES = {"wikipedia": 0.7, "wordnet": 0.1, "code_python": 0.2}  # shares of the passages
PASSAGES = 16_000
SEED = 20261123
SIZES = {"kind": "neighbours", "units": 1, "neighbours": 16, "query_neighbours": 32, "max_terms": 256}

CARD = """# {name}

The learned sparse head of Landmark's built-in model: `neighbours` (embedder/sparse_heads.py) on all-MiniLM-L6-v2, whose own
weights are unchanged.

- Data: the positives of {sources}, {passages:,} passages sampled with seed {seed}. Wikipedia (CC BY-SA 3.0), Open English
  WordNet (CC BY 4.0), the Python standard library (PSF). The texts are not in the file: only mean states by term.
- Fitted by counting, without gradients: `python -m embedder.tuning.fit_builtin TRAIN OUT`, torch {torch}, transformers
  {transformers}, Python {python}.
- The directions are float16; a passage keeps its {max_terms} heaviest terms.
- Scores: `python -m benchmarks.fusion_quality` prints them; README.md quotes a run.
"""


def main() -> None:
    """Fit and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path, help="a folder with wikipedia, wordnet and code_python .jsonl.zst pairs")
    parser.add_argument("out", type=Path)
    parser.add_argument("--passages", type=int, default=PASSAGES)
    arguments = parser.parse_args()
    student = load_student(builtin.BACKBONE, TuningConfig(sparse_head=SIZES, seed=SEED))
    passages = _passages(arguments.train, arguments.passages)
    begin_sparse_head(student, passages, sample=len(passages))
    head = student.parts.sparse
    assert head is not None
    tensors = {f"sparse.{name}": _short(tensor.detach()) for name, tensor in head.state_dict().items()}
    sizes = {**SIZES, "hidden": head.config.hidden, "vocabulary": head.config.vocabulary}
    digest = weights_digest(student.source.checkpoint, builtin.RECIPE)
    recipe = {"sparse_idf": True, "sparse_unknown": True}
    model = TunedModel(name=builtin.NAME, base=builtin.BACKBONE, base_weights=digest, recipe=recipe, sparse_head=sizes)
    card = CARD.format(
        name=builtin.NAME, sources=", ".join(SOURCES), passages=len(passages), seed=SEED, torch=torch.__version__,
        transformers=transformers.__version__, python=platform.python_version(), **SIZES,
    )  # fmt: skip
    write_tuned(arguments.out, model, tensors, card=card)


def _passages(folder: Path, count: int) -> list[str]:
    """The sources' positives by their shares, in random order."""
    rng = np.random.default_rng(SEED)
    chosen = []
    for source, share in SOURCES.items():
        texts = sorted({example.positive for example in read_examples(folder / f"{source}.jsonl.zst")})
        picked = rng.permutation(len(texts))[: round(share * count)]
        chosen += [texts[i] for i in picked.tolist()]
    return [chosen[i] for i in rng.permutation(len(chosen)).tolist()]


def _short(tensor: torch.Tensor) -> torch.Tensor:
    """Half the bytes: float16, and int16 for terms (there are fewer than 32,768)."""
    if tensor.dtype == torch.int32:
        return tensor.to(torch.int16)
    return tensor.half() if tensor.dtype == torch.float32 else tensor


if __name__ == "__main__":
    main()
