"""Teachers: what they score, and that a student learns to score likewise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from embedder.embedder import Embedder
from embedder.errors import InvalidInput, ModelLoadFailed
from embedder.tuning.config import Stage, TuningConfig, Weights
from embedder.tuning.examples import Example
from embedder.tuning.teachers import cross_encoder_teacher, embedder_teacher, with_scores
from embedder.tuning.trainer import Trainer
from tests.support import tiny_models
from tests.support.tuning_toys import student_of, toy_examples


def save_cross_encoder(folder: Path, n_labels: int = 1) -> Path:
    torch.manual_seed(0)
    config = BertConfig(**tiny_models._SIZES, num_labels=n_labels)
    BertForSequenceClassification(config).save_pretrained(folder)
    tiny_models.save_tokenizer(folder, template="[CLS] $A [SEP]")
    return folder


def test_every_candidate_gets_the_teachers_score_in_order() -> None:
    examples = [Example("q", "p", ("n1", "n2")), Example("alone", "p"), Example("r", "s", ("t",), (0.0, 0.0))]
    scored = with_scores(examples, lambda pairs: [10 * len(query) + len(text) for query, text in pairs])
    assert [example.scores for example in scored] == [(11.0, 12.0, 12.0), (), (11.0, 11.0)]
    assert [replace(example, scores=()) for example in scored] == [replace(example, scores=()) for example in examples]
    with pytest.raises(InvalidInput, match="one score a pair, which is 5"):
        with_scores(examples, lambda pairs: [1.0])
    with pytest.raises(InvalidInput, match="finite"):
        with_scores(examples, lambda pairs: [float("nan")] * len(pairs))


def test_a_cross_encoder_gives_the_logits_of_its_classifier(tmp_path: Path) -> None:
    folder = save_cross_encoder(tmp_path)
    pairs = [("the dog", "a cat sat on the mat ."), ("birds", "a river"), ("the dog", "the dog ran far")]
    scores = cross_encoder_teacher(str(folder), device="cpu", batch=2)(pairs)
    tokenizer, network = AutoTokenizer.from_pretrained(folder), BertForSequenceClassification.from_pretrained(folder)
    network.eval()
    with torch.inference_mode():
        expected = [float(network(**tokenizer(*pair, return_tensors="pt")).logits[0, 0]) for pair in pairs]
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_what_is_no_cross_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadFailed, match="3 outputs"):
        cross_encoder_teacher(str(save_cross_encoder(tmp_path, n_labels=3)), device="cpu")


def test_a_student_learns_the_margins_of_a_stronger_embedder(tmp_path: Path) -> None:
    teacher_folder = tiny_models.save_bert(tmp_path / "teacher", seed=7)
    with Embedder.load(str(teacher_folder), threads=1) as embedder:
        examples = with_scores(toy_examples(64, negatives=2), embedder_teacher(embedder))
        (query,) = embedder.embed_queries([examples[0].query])
        wanted = embedder.embed_queries([examples[0].positive])[0].dense @ query.dense
    assert examples[0].scores[0] == pytest.approx(float(wanted), abs=1e-5)
    weights = Weights(contrastive=0.0, margin_mse=1.0)
    config = TuningConfig(
        train_layers=2, weights=weights, temperature=0.1, teacher_temperature=0.1, steps=60, batch=32, lr=3e-3
    )
    student = student_of(tmp_path / "student", "bert", config)
    log = Trainer(student, config, [Stage(name="taught", examples=examples)]).run()
    losses = [report.loss for report in log.reports]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
