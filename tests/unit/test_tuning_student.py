"""A student: it reads and pools as the embedder does, and trains what it was told to train, and no more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from embedder.embedder import DocumentInput, Embedder
from embedder.errors import InvalidInput, InvalidRecipe, TuningFailed
from embedder.tuning import loading
from embedder.tuning.config import Lora, TuningConfig, Weights
from embedder.tuning.first_weights import begin_sparse_head, discriminant, nearest_terms, term_statistics
from embedder.tuning.loading import blocks_of, load_student
from tests.support import tiny_models
from tests.support.tuning_toys import BOTH_WAYS, student_of, toy_examples

TEXTS = ["the dog ran far .", "a cat slept under the old tree , near the river !", "birds", "mat " * 30]
WAYS = {
    "frozen": TuningConfig(dense_dim=16),
    "last layer": TuningConfig(train_layers=1),
    "adapters": TuningConfig(lora=Lora(rank=2)),
}


def embedded(folder: Path, **recipe: object) -> tuple[np.ndarray, np.ndarray]:
    with Embedder.load(str(folder), threads=1, **recipe) as embedder:  # type: ignore[arg-type]
        queries = np.stack([query.dense for query in embedder.embed_queries(TEXTS)])
        documents = embedder.embed_documents([DocumentInput("", text) for text in TEXTS])
        return queries, np.stack([document.passages[0].vectors.dense for document in documents])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["bert", "qwen3"])
def test_an_untrained_student_gives_the_vectors_of_the_embedder(tmp_path: Path, kind: str, way: str) -> None:
    student = student_of(tmp_path, kind, WAYS[way])
    queries, passages = embedded(tmp_path)
    np.testing.assert_allclose(student.encode(TEXTS, "query").dense.numpy(), queries, atol=1e-5)
    np.testing.assert_allclose(student.encode(TEXTS, "passage").dense.numpy(), passages, atol=1e-5)


def test_prompts_are_read_and_pooled_as_the_embedder_does(tmp_path: Path) -> None:
    folder = tiny_models.save_bert(tmp_path)
    prompts = {"query": "the cat : ", "document": "the dog : "}
    pooling: dict[str, object] = {"pooling_mode_mean_tokens": True, "include_prompt": False}
    tiny_models.add_sentence_transformers_files(folder, pooling=pooling, prompts=prompts)
    student = load_student(str(folder), TuningConfig(dense_dim=16), device="cpu")
    queries, passages = embedded(folder)
    np.testing.assert_allclose(student.encode(TEXTS, "query").dense.numpy(), queries, atol=1e-5)
    np.testing.assert_allclose(student.encode(TEXTS, "passage").dense.numpy(), passages, atol=1e-5)


def test_a_bidirectional_decoder_is_that_of_the_embedder(tmp_path: Path) -> None:
    student = student_of(tmp_path, "qwen3", TuningConfig(lora=Lora(rank=2), recipe=BOTH_WAYS))
    queries, passages = embedded(tmp_path, recipe=student.recipe)
    np.testing.assert_allclose(student.encode(TEXTS, "query").dense.numpy(), queries, atol=1e-5)
    np.testing.assert_allclose(student.encode(TEXTS, "passage").dense.numpy(), passages, atol=1e-5)
    causal = embedded(tmp_path)[0]
    assert not np.allclose(causal, queries, atol=1e-3)


def test_what_is_longer_than_a_training_passage_is_counted(tmp_path: Path) -> None:
    student = student_of(tmp_path, "bert", TuningConfig(train_layers=1, passage_tokens=10, query_tokens=4))
    built = student.inputs.passages(TEXTS)
    assert [len(row.ids) for row in built.rows] == [7, 10, 3, 12]
    assert (built.read, built.dropped) == (5 + 12 + 1 + 30, (12 - 8) + (30 - 10))
    built = student.inputs.queries(TEXTS)
    assert [len(row.ids) for row in built.rows] == [6, 6, 3, 6]
    assert (built.read, built.dropped) == (48, 1 + 8 + 26)


@pytest.mark.parametrize(("kind", "landmark", "length"), [("bert", "span_mean", 17), ("qwen3", "end_token", 18)])
def test_the_passages_of_shared_windows_are_those_of_the_embedder(
    tmp_path: Path, kind: str, landmark: str, length: int
) -> None:
    recipe = {"landmark": landmark, "passage_tokens": 5, "window_tokens": 32}
    student = student_of(tmp_path, kind, TuningConfig(train_layers=1, recipe=recipe))
    texts = ["the dog ran far over", "birds sang near river while the cat sat on mat"]
    built, numbers = student.inputs.landmarks(texts)
    assert [len(row.ids) for row in built.rows] == [length]
    assert numbers == [0, 1, 1]
    with torch.no_grad():
        got = student.forward(built.rows).dense.numpy()
    with Embedder.load(str(tmp_path), threads=1, recipe=student.recipe) as embedder:
        (document,) = embedder.embed_documents([DocumentInput("", " ".join(texts))])
    assert [passage.tokens for passage in document.passages] == [5, 5, 5]
    wanted = np.stack([passage.vectors.dense for passage in document.passages])
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_passages_that_do_not_fit_one_window_go_to_the_next(tmp_path: Path) -> None:
    recipe = {"landmark": "span_mean", "passage_tokens": 6, "window_tokens": 16}
    student = student_of(tmp_path, "bert", TuningConfig(train_layers=1, recipe=recipe))
    texts = ["the dog ran far over hill"] * 5
    built, numbers = student.inputs.landmarks(texts)
    assert numbers == [0, 1, 2, 3, 4]
    assert [len(row.dense) for row in built.rows] == [2, 2, 1]
    assert all(len(row.ids) <= 16 for row in built.rows)


@pytest.mark.parametrize("kind", ["bert", "qwen3"])
def test_only_the_last_layers_are_trained_and_the_norm_after_them(tmp_path: Path, kind: str) -> None:
    student = student_of(tmp_path, kind, TuningConfig(train_layers=1))
    names = set(student.parts.trainable())
    path, blocks = blocks_of(student.parts.network)
    last = {f"backbone.{path}.1.{name}" for name, _ in blocks[1].named_parameters()}
    assert names - last == ({"backbone.norm.weight"} if kind == "qwen3" else set())
    assert last <= names


@pytest.mark.parametrize(("targets", "n_layers"), [((), 7), (("q_proj", "v_proj"), 2)])
def test_adapters_are_in_every_linear_layer_of_the_blocks_or_those_named(
    tmp_path: Path, targets: tuple[str, ...], n_layers: int
) -> None:
    student = student_of(tmp_path, "qwen3", TuningConfig(lora=Lora(rank=2, targets=targets)))
    names = list(student.parts.trainable())
    assert len(names) == 2 * 2 * n_layers  # two blocks, two factors
    assert all("lora_" in name for name in names)


def test_a_pass_repeats_its_dropout_by_its_seed_and_evaluation_has_none(tmp_path: Path) -> None:
    student = student_of(tmp_path, "bert", TuningConfig(train_layers=2, batch_tokens=32))
    rows = student.inputs.passages(TEXTS).rows
    assert len(student.passes(rows)) > 1
    quiet = student.encode(TEXTS, "passage").dense
    with student.training():
        first, second, other = (student.forward(rows, seed=seed).dense for seed in (1, 1, 2))
        assert torch.equal(student.encode(TEXTS, "passage").dense, quiet)
        assert student.parts.network.training
    assert torch.equal(first, second)
    assert not torch.allclose(first, other)
    assert not student.parts.network.training


@pytest.mark.parametrize("kind", ["token_weight", "landmark_lm", "union", "neighbours", "mlm_max"])
def test_a_new_sparse_head_begins_with_the_passages_own_terms_and_learns(tmp_path: Path, kind: str) -> None:
    student = student_of(tmp_path, "bert", TuningConfig(sparse_head={"kind": kind, "units": 8}))
    texts = [example.positive for example in toy_examples(200)]
    begin_sparse_head(student, texts)
    vectors = student.forward(student.inputs.passages(texts[:20]).rows)
    assert vectors.sparse is not None
    assert vectors.sparse.shape == (20, len(tiny_models.VOCABULARY))
    assert (vectors.sparse[:, : len(tiny_models.SPECIAL)] == 0).all()
    vectors.sparse.sum().backward()
    gradients = {name: parameter.grad for name, parameter in student.parts.trainable().items()}
    assert gradients
    assert all(name.startswith("sparse.") for name in gradients)
    assert kind in ("landmark_lm", "union", "neighbours") or all(found is not None for found in gradients.values())
    if kind in ("mlm_max", "neighbours"):
        own, others = [], []
        for text, weights in zip(texts, vectors.sparse.detach(), strict=False):
            ids = {tiny_models.VOCABULARY[word] for word in text.split()}
            own += [float(weights[i]) for i in ids]
            others += [float(weights[i]) for i in range(len(tiny_models.SPECIAL), len(weights)) if i not in ids]
        assert np.mean(own) > 2 * np.mean(others)


def test_the_nearest_terms_are_the_term_itself_and_known_ones_by_their_cosine() -> None:
    angles = torch.tensor([0.0, 0.1, 0.3, 2.0, 0.19])
    directions = torch.stack([angles.cos(), angles.sin()], dim=1)
    known = torch.tensor([True, True, True, True, False])
    found = nearest_terms(directions, known, 3)
    assert found.tolist() == [[0, 1, 2], [1, 0, 2], [2, 1, 0], [3, 2, 1], [4, 1, 2]]
    assert nearest_terms(directions[:2], known[:2], 4).tolist() == [[0, 1, 0, 0], [1, 0, 1, 1]]
    assert nearest_terms(directions, known & (angles > 1), 3)[0].tolist() == [0, 3, 0]


def test_the_first_projection_is_the_linear_discriminant_of_the_terms() -> None:
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(6, 4, generator=generator) * 3
    mixing = torch.randn(4, 4, generator=generator)
    ids = torch.randint(0, 5, (20_000,), generator=generator)  # the last term is not seen
    states = means[ids] + torch.randn(len(ids), 4, generator=generator) @ mixing
    embeddings = torch.cat([means @ torch.randn(4, 4, generator=generator), torch.ones(6, 1)], dim=1)
    halves = [(states[:9000], ids[:9000]), (states[9000:], ids[9000:])]
    decoder, bias = discriminant(term_statistics(halves, 6, embeddings))
    inverse = torch.linalg.inv(mixing.T @ mixing)
    wanted = torch.stack([-0.5 * ((states - mean) @ inverse * (states - mean)).sum(1) for mean in means], dim=1)
    found = states @ decoder.T + bias
    centred = [logits - logits[:, :1] for logits in (wanted, found)]
    assert torch.corrcoef(torch.stack([each[:, 1:].flatten() for each in centred]))[0, 1] > 0.995
    assert (found.argmax(1) == wanted.argmax(1)).float().mean() > 0.97


@pytest.mark.parametrize(
    ("config", "error", "words"),
    [
        (TuningConfig(), InvalidInput, "ask for lora"),
        (TuningConfig(train_layers=3), InvalidInput, "the model has 2 layers"),
        (TuningConfig(lora=Lora(targets=("no_such",))), InvalidInput, "the blocks have .*self.query"),
        (TuningConfig(train_layers=1, recipe={"colour": 1}), InvalidRecipe, "field that does not exist"),
        (TuningConfig(sparse_head={"kind": "magic"}), InvalidRecipe, "must be one of"),
        (TuningConfig(sparse_head={"kind": "union"}, weights=Weights(sparse=0)), InvalidInput, "ask for lora"),
    ],
)
def test_a_configuration_that_does_not_fit_the_model_is_refused(
    tmp_path: Path, config: TuningConfig, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        student_of(tmp_path, "bert", config)


def test_an_installation_without_the_extra_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "NEEDED", ("peft", "no_such_package"))
    with pytest.raises(TuningFailed, match=r'no_such_package; run `pip install "landmark-engine\[tune\]"`'):
        student_of(tmp_path, "bert", TuningConfig(train_layers=1))


def test_a_splade_checkpoint_is_refused_with_what_to_do(tmp_path: Path) -> None:
    tiny_models.save_masked_lm(tmp_path)
    with pytest.raises(TuningFailed, match="Tune it as an encoder"):
        load_student(str(tmp_path), TuningConfig(train_layers=1), device="cpu")
    as_encoder = TuningConfig(train_layers=1, recipe={"sparse_head": "none", "has_dense": True})
    assert load_student(str(tmp_path), as_encoder, device="cpu").dim == 16


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"batch": 0}, "batch = 0"),
        ({"temperature": 0.0}, "temperature = 0.0"),
        ({"warmup": 1.5}, "warmup = 1.5"),
        ({"steps": 0}, "steps = 0"),
        ({"lora": Lora(), "train_layers": 1}, "not both"),
        ({"precision": "float16"}, "precision = 'float16'"),
        ({"matryoshka_dims": (8, 0)}, "matryoshka_dims = 0"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(fields: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        TuningConfig(**fields)  # type: ignore[arg-type]
