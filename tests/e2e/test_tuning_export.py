"""A student's folder: the embedder loads it, and gives the student's vectors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embedder.embedder import DocumentInput, Embedder
from embedder.errors import TuningFailed
from embedder.sparse_heads import NeighbourHead
from embedder.tuned import read_tuned
from embedder.tuning.config import Lora, Stage, TuningConfig
from embedder.tuning.export import export
from embedder.tuning.loading import load_student
from embedder.tuning.student import Student
from embedder.tuning.trainer import Trainer
from tests.support import tiny_models
from tests.support.tuning_toys import BOTH_WAYS, student_of, toy_examples

TEXTS = ["the dog ran far .", "a cat slept under the old tree , near the river !", "birds", "mat " * 30]
BASE = TuningConfig(batch=8, steps=4, lr=5e-3, head_lr=5e-2)
SPARSE = {"kind": "union", "units": 4, "salient_every": 3}
NEIGHBOURS = {"kind": "neighbours", "units": 4, "neighbours": 6, "query_neighbours": 9}
WAYS: dict[str, tuple[str, dict[str, object], set[str]]] = {
    "heads on a frozen encoder": ("bert", {"dense_dim": 8, "sparse_head": SPARSE}, {"dense", "sparse"}),
    "neighbours on a frozen encoder": ("bert", {"sparse_head": NEIGHBOURS}, {"sparse"}),
    "last layer": ("bert", {"train_layers": 1, "matryoshka_dims": (4, 8)}, {"backbone"}),
    "adapters": ("bert", {"lora": Lora(rank=2), "sparse_head": SPARSE}, {"sparse"}),
    "decoder, both ways": ("qwen3", {"lora": Lora(rank=2), "recipe": BOTH_WAYS}, set()),
    "decoder, last token": ("qwen3", {"train_layers": 1, "sparse_head": SPARSE}, {"backbone", "sparse"}),
}


def trained(folder: Path, way: str) -> Student:
    kind, fields, _ = WAYS[way]
    config = replace(BASE, **fields)  # type: ignore[arg-type]
    student = student_of(folder, kind, config)
    Trainer(student, config, [Stage(name="toy", examples=toy_examples(30))]).run()
    return student


def written_out(vectors: list[object]) -> tuple[np.ndarray, np.ndarray]:
    """Dense vectors, and sparse ones as rows of the vocabulary."""
    rows = np.zeros((len(vectors), len(tiny_models.VOCABULARY)), np.float32)
    for row, vector in zip(rows, vectors, strict=True):
        if vector.sparse is not None:  # type: ignore[attr-defined]
            row[vector.sparse.ids] = vector.sparse.weights  # type: ignore[attr-defined]
    return np.stack([vector.dense for vector in vectors]), rows  # type: ignore[attr-defined]


def assert_same_vectors(student: Student, folder: Path) -> None:
    with Embedder.load(str(folder), threads=1) as embedder:
        assert embedder.has_sparse == (student.parts.sparse is not None)
        documents = embedder.embed_documents([DocumentInput("", text) for text in TEXTS])
        found = {
            "query": written_out(list(embedder.embed_queries(TEXTS))),
            "passage": written_out([document.passages[0].vectors for document in documents]),
        }
    if isinstance(
        student.parts.sparse, NeighbourHead
    ):  # an index weighs the queries of such a model, and so does a student
        found["query"][1][:] *= student.parts.sparse.frequency.numpy()
    for side in ("query", "passage"):
        wanted = student.encode(TEXTS, side)  # type: ignore[arg-type]
        np.testing.assert_allclose(found[side][0], wanted.dense.numpy(), atol=2e-5)
        if wanted.sparse is not None:
            np.testing.assert_allclose(found[side][1], wanted.sparse.numpy(), atol=2e-5)
            assert found[side][1].any()


@pytest.mark.parametrize("way", WAYS)
def test_an_exported_student_gives_its_vectors_when_it_is_loaded(tmp_path: Path, way: str) -> None:
    student = trained(tmp_path / "base", way)
    with Embedder.load(str(tmp_path / "base"), threads=1) as embedder:
        before = embedder.embed_queries(TEXTS)[1].dense
    folder = export(student, tmp_path / "tuned", "# Made by a test")
    assert_same_vectors(student, folder)
    after = student.encode(TEXTS, "query").dense[1].numpy()
    assert after.shape != before.shape or not np.allclose(after, before, atol=1e-3) or way.endswith("frozen encoder")
    assert (folder / "card.md").read_text() == "# Made by a test"
    adapter = {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"} if "lora" in WAYS[way][1] else set()
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"landmark.json", "heads.safetensors", "card.md"} | adapter


@pytest.mark.parametrize("way", WAYS)
def test_a_folder_holds_what_was_trained_and_no_more(tmp_path: Path, way: str) -> None:
    from safetensors import safe_open

    student = trained(tmp_path / "base", way)
    folder = export(student, tmp_path / "tuned", "", name="my model")
    with safe_open(folder / "heads.safetensors", framework="np") as file:
        names = set(file.keys())
    assert {name.split(".")[0] for name in names} == WAYS[way][2]
    if "backbone" in WAYS[way][2]:
        assert names >= {name for name in student.parts.trainable() if name.startswith("backbone.")}
        assert not any("layers.0." in name or "layer.0." in name or "embed" in name for name in names)
    described = read_tuned(folder)
    assert described is not None
    assert (described.name, described.base) == ("my model", str(tmp_path / "base"))
    fields = WAYS[way][1]
    expected = dict(fields.get("recipe", {}))  # type: ignore[call-overload]
    if way.startswith("neighbours"):
        expected |= {"sparse_idf": True, "sparse_unknown": True}
    if "matryoshka_dims" in fields:
        expected["matryoshka_dims"] = [8, 4]
    assert dict(described.recipe) == expected


@pytest.mark.parametrize(
    "first", ["adapters", "last layer", "heads on a frozen encoder", "neighbours on a frozen encoder"]
)
def test_a_tuned_model_can_be_tuned_on_and_still_names_the_first_base(tmp_path: Path, first: str) -> None:
    folder = export(trained(tmp_path / "base", first), tmp_path / "once", "")
    config = replace(BASE, train_layers=1)
    student = load_student(str(folder), config, device="cpu")
    assert_same_vectors(student, folder)
    Trainer(student, config, [Stage(name="more", examples=toy_examples(30, seed=5))]).run()
    again = export(student, tmp_path / "twice", "")
    assert_same_vectors(student, again)
    described = read_tuned(again)
    assert described is not None
    assert described.base == str(tmp_path / "base")


def test_adapters_can_be_merged_so_that_the_folder_loads_without_peft(tmp_path: Path) -> None:
    student = trained(tmp_path / "base", "adapters")
    folder = export(student, tmp_path / "tuned", "", merge_adapter=True)
    assert not (folder / "adapter").exists()
    assert_same_vectors(student, folder)
    on_top = load_student(str(folder), replace(BASE, lora=Lora(rank=2)), device="cpu")
    Trainer(on_top, replace(BASE, lora=Lora(rank=2)), [Stage(name="more", examples=toy_examples(30, seed=5))]).run()
    with pytest.raises(TuningFailed, match="merge_adapter"):
        export(on_top, tmp_path / "refused", "")
    assert not (tmp_path / "refused").exists()
    assert_same_vectors(on_top, export(on_top, tmp_path / "merged", "", merge_adapter=True))
