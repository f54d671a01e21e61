"""Small things to train on: examples of the tiny models' words, and a student of each tiny model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from embedder.tuning.config import TuningConfig
from embedder.tuning.examples import Example
from embedder.tuning.loading import load_student
from embedder.tuning.student import Student
from tests.support import tiny_models


def save_decoder(folder: Path, *, tied: bool = True) -> Path:
    """A Qwen3 language model with its head, which may be the input embeddings."""
    torch.manual_seed(0)
    sizes = {**tiny_models._SIZES, "num_key_value_heads": 1, "head_dim": 8}
    # Embeddings as long as a trained model's: with the usual 0.02 the logits of so few dimensions could not tell words.
    config = Qwen3Config(**sizes, tie_word_embeddings=tied, initializer_range=0.3)
    Qwen3ForCausalLM(config).save_pretrained(folder)
    tiny_models.save_tokenizer(folder)
    return folder


MAKERS: dict[str, Callable[[Path], Path]] = {
    "bert": tiny_models.save_bert,
    "qwen3": tiny_models.save_qwen3,
    "decoder": save_decoder,
}
BOTH_WAYS = {"attention": "bidirectional", "pooling": "mean", "landmark": "none"}


def sentence(random: np.random.Generator, n_words: int) -> str:
    return " ".join(random.choice(tiny_models.WORDS, n_words))


def toy_examples(
    n: int, *, seed: int = 0, negatives: int = 0, scores: bool = False, source: str = "toy"
) -> list[Example]:
    """Queries that repeat three words of their passage."""
    random = np.random.default_rng(seed)
    examples = []
    for _ in range(n):
        passage = sentence(random, int(random.integers(5, 14)))
        query = " ".join(random.choice(passage.split(), 3))
        wrong = tuple(sentence(random, 8) for _ in range(negatives))
        teacher = tuple(float(score) for score in random.normal(size=1 + negatives)) if scores else ()
        examples.append(Example(query, passage, wrong, teacher, source))
    return examples


def graded_pairs(n: int, seed: int = 0) -> list[Example]:
    random = np.random.default_rng(seed)
    return [
        Example(sentence(random, 5), sentence(random, 5), (), (float(random.integers(0, 6)),), "graded")
        for _ in range(n)
    ]


def student_of(folder: Path, kind: str, config: TuningConfig) -> Student:
    torch.set_num_threads(1)  # a second thread gains nothing on tiny networks, and waits for busy cores
    folder.mkdir(parents=True, exist_ok=True)
    base = MAKERS[kind](folder) if not (folder / "config.json").exists() else folder
    return load_student(str(base), config, device="cpu")
