"""Are vectors from 8-bit weights near the others, the same in any batch, and never taken for the others?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from embedder.dtypes import DTYPES, Quantised
from embedder.embedder import DocumentInput, Embedder
from embedder.errors import DeviceUnavailable, InvalidInput
from embedder.quantisation import Int8Linear, _quantise_by_torchao, quantise
from embedder.reranker import Reranker
from tests.support import tiny_architectures, tiny_heads, tiny_rerankers

TEXTS = [
    "the cat sat on the mat",
    "a dog ran far over the hill",
    "birds",
    "the old tree near the river, while birds sang",
]


def dense(folder: Path, dtype: str, texts: list[str] = TEXTS) -> np.ndarray:
    with Embedder.load(str(folder), dtype=dtype, device="cpu", workers=1, threads=1) as model:
        return np.stack([query.dense for query in model.embed_queries(texts)])


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(1) / lengths


@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_computes_with_rounded_weights_and_rounded_tokens(bias: bool) -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(48, 40, bias=bias), torch.randn(2, 5, 48) * torch.tensor([0.01, 100.0])[:, None, None]
    weight, rows = layer.weight.detach().double().numpy(), x.double().numpy()
    weight_steps = np.abs(weight).max(1) / 127
    row_steps = np.abs(rows).max(2, keepdims=True) / 63
    codes = np.rint(rows / row_steps) @ np.rint(weight / weight_steps[:, None]).T
    expected = codes * row_steps * weight_steps + (layer.bias.detach().double().numpy() if bias else 0)
    found = Int8Linear(layer.weight, layer.bias)(x).numpy()
    # A value half way between two codes may fall on the other side in float32.
    scale = np.abs(expected).max(2, keepdims=True)
    assert (np.abs(found - expected) < 0.01 * scale).all()
    assert (np.abs(found - expected) < 1e-5 * scale).mean() > 0.95


def test_a_token_of_zeros_gives_the_bias() -> None:
    layer = nn.Linear(16, 8)
    np.testing.assert_array_equal(
        Int8Linear(layer.weight, layer.bias)(torch.zeros(1, 16))[0].numpy(), layer.bias.detach().numpy()
    )


def test_the_greatest_sums_do_not_overflow() -> None:
    layer = nn.Linear(512, 8, bias=False)
    nn.init.ones_(layer.weight)
    np.testing.assert_allclose(Int8Linear(layer.weight, layer.bias)(torch.ones(1, 512)).numpy(), 512.0, rtol=1e-5)
    np.testing.assert_allclose(Int8Linear(layer.weight, layer.bias)(-torch.ones(1, 512)).numpy(), -512.0, rtol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "qwen3", "mistral", "t5"])
def test_int8_vectors_are_near_those_of_float32(tmp_path: Path, kind: str) -> None:
    folder = tiny_architectures.save(tmp_path, kind, after=["</s>"])
    similar = cosines(dense(folder, "int8"), dense(folder, "float32"))
    assert (similar > 0.995).all()
    assert (similar < 1.0 - 1e-7).any(), "something must have been rounded"


@pytest.mark.parametrize("kind", ["bert", "mistral"])
def test_an_int8_vector_does_not_depend_on_its_batch(tmp_path: Path, kind: str) -> None:
    folder = tiny_architectures.save(tmp_path, kind, after=["</s>"])
    together = dense(folder, "int8")
    for text, vector in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(dense(folder, "int8", [text])[0], vector, atol=1e-5)


def test_only_the_dtype_of_the_fingerprint_differs(tmp_path: Path) -> None:
    folder = str(tiny_architectures.save(tmp_path, "bert"))
    with Embedder.load(folder) as whole, Embedder.load(folder, dtype="int8") as small:
        stored = whole.fingerprint.as_dict()
        assert small.fingerprint.differences(stored) == {"dtype": ("float32", "int8")}
        assert small.fingerprint.digest != whole.fingerprint.digest


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft 0.21
def test_adapters_of_each_side_stay_on_quantised_layers(tmp_path: Path) -> None:
    tiny_heads.save_jina_v3(tmp_path, adapters=("retrieval_query", "retrieval_passage"))
    found = {}
    for dtype in ("float32", "int8"):
        with Embedder.load(f"jina-embeddings-v3:{tmp_path}", dtype=dtype, device="cpu") as model:
            documents = model.embed_documents([DocumentInput("", text) for text in TEXTS])
            passages = np.stack([document.passages[0].vectors.dense for document in documents])
            found[dtype] = (np.stack([query.dense for query in model.embed_queries(TEXTS)]), passages)
    assert (cosines(found["int8"][0], found["float32"][0]) > 0.99).all()
    assert (cosines(found["int8"][1], found["float32"][1]) > 0.99).all()


def test_a_sparse_head_reads_quantised_states(tmp_path: Path) -> None:
    folder = str(tiny_heads.save_splade(tmp_path))
    with Embedder.load(folder, device="cpu") as whole, Embedder.load(folder, dtype="int8", device="cpu") as small:
        for one, other in zip(whole.embed_queries(TEXTS), small.embed_queries(TEXTS), strict=True):
            assert one.sparse is not None
            assert other.sparse is not None
            shared = np.intersect1d(one.sparse.ids, other.sparse.ids)
            assert len(shared) > 0.8 * len(one.sparse.ids)


def test_a_reranker_takes_the_dtype_too(tmp_path: Path) -> None:
    folder = str(tiny_rerankers.save_cross_encoder(tmp_path))
    whole = Reranker.load(folder, device="cpu").score(TEXTS[0], TEXTS[1:]).scores
    small = Reranker.load(folder, device="cpu", dtype="int8").score(TEXTS[0], TEXTS[1:]).scores
    np.testing.assert_allclose(small, whole, atol=0.1)
    assert (small != whole).any()


def test_float8_on_a_cpu_and_unknown_dtypes_are_refused(tmp_path: Path) -> None:
    folder = str(tiny_architectures.save(tmp_path, "bert"))
    with pytest.raises(DeviceUnavailable, match="float8 weights need a GPU; a CPU has int8"):
        Embedder.load(folder, dtype="float8", device="cpu")
    with pytest.raises(InvalidInput, match=r"int4.*must be one of float32, bfloat16, float16, int8, float8"):
        Embedder.load(folder, dtype="int4")


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype in ("int8", "float8")])
def test_a_gpu_needs_torchao(dtype: Quantised, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torchao", None)
    with pytest.raises(InvalidInput, match=r'pip install "landmark-engine\[quantised\]"'):
        quantise(nn.Sequential(nn.Linear(4, 4)), dtype, "cuda:0")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchaos_int8_layers_agree_with_ours() -> None:
    """The way of a GPU, on the CPU: torchao keeps 8 bits of an activation, ours 7."""
    pytest.importorskip("torchao")
    torch.manual_seed(0)
    layers, x = nn.Sequential(nn.Linear(64, 48), nn.GELU(), nn.Linear(48, 32)), torch.randn(7, 64)
    with torch.inference_mode():
        expected = layers(x)
        theirs, ours = nn.Sequential(*layers), nn.Sequential(*layers)
        quantise(ours, "int8", "cpu")
        _quantise_by_torchao(theirs, "int8", "cpu")
        assert (cosines(ours(x).numpy(), expected.numpy()) > 0.999).all()
        assert (cosines(theirs(x).numpy(), expected.numpy()) > 0.999).all()
        np.testing.assert_array_equal(theirs(x[:1]).numpy(), theirs(x)[:1].numpy())
