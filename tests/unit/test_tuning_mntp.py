"""Decoders: masked next token prediction, and a toy task that a tiny random decoder learns to a stated accuracy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from embedder.embedder import DocumentInput, Embedder
from embedder.errors import InvalidInput, TuningFailed
from embedder.tuning.config import Lora, Stage, TuningConfig
from embedder.tuning.examples import Example
from embedder.tuning.export import export
from embedder.tuning.loading import load_student
from embedder.tuning.mntp import MntpStage, MntpTask
from embedder.tuning.student import Student
from embedder.tuning.trainer import Trainer
from tests.support import tiny_models
from tests.support.tuning_toys import BOTH_WAYS, save_decoder, sentence, student_of

MNTP = TuningConfig(lora=Lora(rank=4), recipe=BOTH_WAYS, batch=8, steps=3, lr=2e-3, batch_tokens=64)


def passages(n: int) -> list[str]:
    random = np.random.default_rng(0)
    return [sentence(random, int(random.integers(4, 12))) for _ in range(n)]


def stage(**fields: object) -> MntpStage:
    return MntpStage(name="mntp", passages=passages(32), mask_token="[UNK]", **fields)  # type: ignore[arg-type]


def test_a_hidden_token_is_predicted_from_the_state_before_it(tmp_path: Path) -> None:
    student = student_of(tmp_path, "decoder", replace(MNTP, lora=Lora(rank=4, dropout=0.0)))
    task = MntpTask(student, stage(), MNTP, 0)
    hidden: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    hide = task._hide

    def watched(ids: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        row, chosen = hide(ids, random)
        hidden.append((ids, row, chosen))
        return row, chosen

    task._hide = watched  # type: ignore[method-assign]
    report = task.backward(0)
    losses = []
    words = student.parts.network.get_input_embeddings().weight
    for ids, row, chosen in hidden:
        assert not chosen[0]
        assert chosen.any()
        np.testing.assert_array_equal(row[~chosen], ids[~chosen])
        with torch.no_grad():
            states = student.states([row])
            logits = states @ words.T
        losses += [-torch.log_softmax(logits[i - 1], dim=0)[ids[i]] for i in np.flatnonzero(chosen)]
    assert report.terms["mntp"] == pytest.approx(float(torch.stack(losses).mean()), rel=1e-4)
    assert all(parameter.grad is not None for parameter in student.parts.trainable().values())


def test_hidden_tokens_are_masked_changed_or_kept_in_their_parts(tmp_path: Path) -> None:
    student = student_of(tmp_path, "decoder", MNTP)
    task = MntpTask(student, stage(masked=0.2), MNTP, 0)
    ids = np.full(20_000, tiny_models.VOCABULARY["cat"], dtype=np.int32)
    row, chosen = task._hide(ids, np.random.default_rng(0))
    mask = tiny_models.VOCABULARY["[UNK]"]
    assert chosen.mean() == pytest.approx(0.2, abs=0.01)
    assert (row[chosen] == mask).mean() == pytest.approx(0.8, abs=0.03)
    assert (row[chosen] == ids[0]).mean() == pytest.approx(0.1, abs=0.03)
    assert (row[~chosen] == ids[~chosen]).all()


def test_masked_prediction_repeats_itself_and_a_killed_run_goes_on(tmp_path: Path) -> None:
    config = replace(MNTP, checkpoint_every=2)
    pairs = [Example(text.split()[0], text) for text in passages(16)]
    run = [stage(), Stage(name="pairs", examples=pairs)]
    whole = student_of(tmp_path / "model", "decoder", config)
    log = Trainer(whole, config, run, tmp_path / "whole").run()
    assert [report.stage for report in log.reports] == ["mntp"] * 3 + ["pairs"] * 3
    killed = student_of(tmp_path / "model", "decoder", config)

    def kill(report: object) -> None:
        if report.step == 3:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trainer(killed, config, run, tmp_path / "killed").run(kill)
    again = student_of(tmp_path / "model", "decoder", config)
    Trainer(again, config, run, tmp_path / "killed").run()
    for name, parameter in whole.parts.trainable().items():
        assert torch.equal(parameter, again.parts.trainable()[name])


def test_masked_prediction_lowers_its_loss(tmp_path: Path) -> None:
    # The words of a passage follow each other in a fixed order, so its neighbours tell a hidden one.
    random, words = np.random.default_rng(0), tiny_models.WORDS
    texts = [" ".join(words[(start + i) % len(words)] for i in range(10)) for start in random.integers(0, 21, 64)]
    config = replace(MNTP, lora=None, train_layers=2, steps=80, batch=32, lr=1e-2, batch_tokens=4096)
    student = student_of(tmp_path, "decoder", config)
    mntp = MntpStage(name="mntp", passages=texts, mask_token="[UNK]")
    losses = [report.loss for report in Trainer(student, config, [mntp]).run().reports]
    assert np.mean(losses[:5]) > 3.0
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])


def test_the_head_of_a_model_that_does_not_tie_it_is_read_from_its_file(tmp_path: Path) -> None:
    save_decoder(tmp_path / "whole", tied=False)
    student = load_student(str(tmp_path / "whole"), MNTP, device="cpu")
    network = AutoModelForCausalLM.from_pretrained(tmp_path / "whole")
    assert torch.equal(student.vocabulary(), network.lm_head.weight)
    assert not torch.equal(student.vocabulary(), network.get_input_embeddings().weight)
    body = student_of(tmp_path / "body", "qwen3", MNTP)
    with pytest.raises(TuningFailed, match=r"no lm_head\.weight"):
        MntpTask(body, stage(), MNTP, 0)


def test_a_stage_that_cannot_work_is_refused(tmp_path: Path) -> None:
    student = student_of(tmp_path, "decoder", MNTP)
    with pytest.raises(InvalidInput, match="no such token"):
        MntpTask(student, MntpStage(name="m", passages=["a"]), MNTP, 0)
    frozen = student_of(tmp_path, "decoder", TuningConfig(dense_dim=8))
    with pytest.raises(InvalidInput, match="ask for lora or train_layers"):
        MntpTask(frozen, stage(), MNTP, 0)
    with pytest.raises(InvalidInput, match="between 0 and 1"):
        stage(masked=1.0)
    with pytest.raises(InvalidInput, match="has none"):
        MntpStage(name="m", passages=[])


# The toy task: a passage is about two words, and says them among three others; a query asks for both by two other words
# that always mean the same, so a random network cannot know. 15 topics, 105 pairs of them.
MEANINGS = dict(zip(("the", "a", "cat", "dog", "sat", "on"), ("mat", "ran", "far", "over", "hill", "and"), strict=True))
FILLERS = ("slept", "under", "old", "tree", "near", "river", "while", "birds", "sang")


def toy_task(n: int, seed: int) -> list[Example]:
    random = np.random.default_rng(seed)
    examples = []
    for _ in range(n):
        asked = random.choice(list(MEANINGS), 2, replace=False)
        words = [*(MEANINGS[word] for word in asked), *random.choice(FILLERS, 3)]
        examples.append(Example(" ".join(asked), " ".join(random.permutation(words))))
    return examples


def accuracy(student: Student, examples: list[Example]) -> float:
    """How often a query's nearest passage, among one for each pair of topics, is about its two words."""
    topics = {frozenset(example.query.split()): example for example in examples}
    queries = student.encode([example.query for example in topics.values()], "query").dense
    passages = student.encode([example.positive for example in topics.values()], "passage").dense
    nearest = (queries @ passages.T).argmax(dim=1)
    return float((nearest == torch.arange(len(topics))).float().mean())


@pytest.mark.parametrize(
    "recipe",
    [{}, BOTH_WAYS, {**BOTH_WAYS, "pooling": "last"}],
    ids=["causal, last token", "both ways, mean", "both ways, last token"],
)
def test_a_tiny_random_decoder_learns_the_toy_task(tmp_path: Path, recipe: dict[str, object]) -> None:
    config = TuningConfig(recipe=recipe, train_layers=2, batch=32, steps=150, lr=1e-2, temperature=0.05)
    student = student_of(tmp_path / "base", "qwen3", config)
    unseen = toy_task(200, seed=9)
    before = accuracy(student, unseen)
    Trainer(student, config, [Stage(name="toy", examples=toy_task(400, seed=1))]).run()
    after = accuracy(student, unseen)
    assert before < 0.4
    assert after >= 0.9
    folder = export(student, tmp_path / "tuned", "")
    with Embedder.load(str(folder), threads=1) as embedder:
        example = unseen[0]
        (query,) = embedder.embed_queries([example.query])
        (document,) = embedder.embed_documents([DocumentInput("", example.positive)])
    wanted = student.encode([example.query], "query").dense @ student.encode([example.positive], "passage").dense.T
    assert float(query.dense @ document.passages[0].vectors.dense) == pytest.approx(float(wanted), abs=1e-4)
