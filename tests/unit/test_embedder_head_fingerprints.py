"""Does every file and field of a head change the fingerprint, and does no head need float32?"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from embedder.checkpoint_heads import routing
from embedder.embedder import DocumentInput, Embedder
from embedder.recipe import Recipe
from tests.support import tiny_heads, tiny_models

# peft 0.21 reads an attribute that transformers 5.23 renamed.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

SIZES: dict[str, Any] = {"max_tokens": 64, "window_tokens": 64, "passage_tokens": 64}
TEXT = "the old cat sat on a mat near the river"


def scaled(path: Path) -> None:
    tensors = load_file(path)
    save_file({name: tensor * 1.5 for name, tensor in tensors.items()}, path, metadata={"format": "pt"})


def other_standards(path: Path) -> None:
    torch.manual_seed(3)
    routing.write_standards(path, routing.measure_standards(torch.randn(9, 16), torch.rand(9, 8)))


SYSTEMS: dict[str, tuple[Callable[[Path], object], dict[str, Any]]] = {
    "bge-m3": (
        tiny_heads.save_bge_m3,
        {"pooling": "cls", "sparse_head": "token_linear", "multi_head": "token_linear"},
    ),
    "splade": (tiny_heads.save_splade, {"sparse_head": "mlm_max", "has_dense": False, "sparse_query": "idf"}),
    "jina": (
        tiny_heads.save_jina_v3,
        {"query_adapter": "retrieval_query", "document_adapter": "retrieval_passage"},
    ),
    "moee": (
        lambda folder: tiny_heads.save_mixture(folder, "olmoe"),
        {"attention": "causal", "pooling": "last", "router_weight": 1.0},
    ),
    "promptreps": (
        tiny_heads.save_causal_lm,
        {"attention": "causal", "pooling": "last", "sparse_head": "next_token", "sparse_scale": 100.0},
    ),
    "mistral-splade": (tiny_heads.save_causal_lm, {"attention": "causal", "sparse_head": "lm_max"}),
    "nv-embed": (
        tiny_heads.save_nv_embed,
        {
            "token_head": "latent_attention",
            "sliding_window": False,
            "backbone": "mistral",
            "backbone_config": "text_config",
            "weights_prefix": "embedding_model.",
        },
    ),
}
FILES: list[tuple[str, str, Callable[[Path], object]]] = [
    ("bge-m3", "sparse_linear.safetensors", scaled),
    ("bge-m3", "colbert_linear.safetensors", scaled),
    ("splade", "idf.json", lambda path: path.write_text('{"a": 3.0}')),
    ("jina", "retrieval_query/adapter_model.safetensors", scaled),
    ("jina", "retrieval_passage/adapter_config.json", lambda path: path.write_text(path.read_text().replace("8", "9"))),
    ("moee", "router_standards.safetensors", other_standards),
]


def load(folder: Path, system: str, dtype: str = "float32", **changes: Any) -> Embedder:
    recipe = Recipe(name="tiny", **SIZES, **SYSTEMS[system][1])
    return Embedder.load(str(folder), recipe=replace(recipe, **changes), dtype=dtype)


def digest(folder: Path, system: str, **changes: Any) -> str:
    with load(folder, system, **changes) as embedder:
        return embedder.fingerprint.digest


@pytest.mark.parametrize(("system", "file", "change"), FILES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_changed_file_of_a_head_is_another_model(
    tmp_path: Path, system: str, file: str, change: Callable[[Path], object]
) -> None:
    SYSTEMS[system][0](tmp_path)
    before = digest(tmp_path, system)
    assert digest(tmp_path, system) == before
    change(tmp_path / file)
    assert digest(tmp_path, system) != before


@pytest.mark.parametrize(
    ("system", "change"),
    [
        ("bge-m3", {"multi_head": "none"}),
        ("splade", {"sparse_activation": "log1p_log1p"}),
        ("splade", {"sparse_pooling": "sum"}),
        ("splade", {"sparse_query": "binary"}),
        ("splade", {"sparse_terms": 7}),
        ("promptreps", {"sparse_scale": 10.0}),
        ("promptreps", {"sparse_expansion": 2}),
        ("jina", {"query_adapter": "retrieval_passage"}),
        ("jina", {"document_adapter": ""}),
        ("moee", {"router_weight": 0.5}),
    ],
)
def test_a_changed_field_of_a_head_is_another_model(tmp_path: Path, system: str, change: dict[str, Any]) -> None:
    SYSTEMS[system][0](tmp_path)
    assert digest(tmp_path, system) != digest(tmp_path, system, **change)


@pytest.mark.parametrize("system", list(SYSTEMS))
def test_heads_run_in_bfloat16(tmp_path: Path, system: str) -> None:
    SYSTEMS[system][0](tmp_path)
    found = []
    for dtype in ("float32", "bfloat16"):
        with load(tmp_path, system, dtype) as embedder:
            (document,) = embedder.embed_documents([DocumentInput("", TEXT)])
            found.append(document.passages[0].vectors)
            assert (embedder.multi_dim > 0) == (system == "bge-m3")
    exact, rough = found
    assert float(np.dot(exact.dense, rough.dense)) > 0.99
    if exact.sparse is not None and rough.sparse is not None:
        width = 1 + max(int(vector.ids.max(initial=0)) for vector in (exact.sparse, rough.sparse))
        dots = np.zeros((2, width))
        for line, vector in zip(dots, (exact.sparse, rough.sparse), strict=True):
            line[vector.ids] = vector.weights
        assert dots[0] @ dots[1] > 0.98 * np.linalg.norm(dots[0]) * np.linalg.norm(dots[1])
    if exact.multi is not None and rough.multi is not None:
        assert (np.sum(exact.multi * rough.multi, axis=1) > 0.99).all()


def test_a_checkpoint_may_be_moved(tmp_path: Path) -> None:
    folder = tiny_heads.save_jina_v3(tmp_path / "here")
    before = digest(folder, "jina")
    assert digest(Path(shutil.copytree(folder, tmp_path / "there")), "jina") == before


def test_a_model_without_a_multi_head_gives_no_token_vectors(tmp_path: Path) -> None:
    tiny_models.save_bert(tmp_path)
    with Embedder.load(str(tmp_path)) as embedder:
        assert embedder.multi_dim == 0
        assert embedder.embed_queries([TEXT])[0].multi is None
