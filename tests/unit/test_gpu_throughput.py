"""The GPU benchmark runs as a toy on the CPU, by the same path, and its vectors are those of sentence-transformers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from benchmarks import gpu_throughput


@pytest.mark.parametrize("model", ["0.6b", "7b"])
def test_a_toy_runs_the_whole_benchmark(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: str
) -> None:
    texts = [f"def function_{i}(argument):\n    return argument + {i}  # adds a number to it\n" * 20 for i in range(30)]
    monkeypatch.setattr(gpu_throughput, "read_texts", lambda _: iter(texts))
    monkeypatch.setattr(gpu_throughput, "VOCABULARY", 600)
    monkeypatch.setattr(gpu_throughput, "BPE_TOKENS", 500)
    toy = ["--device", "cpu", "--layers", "2", "--hidden", "32", "--tokens", "2000", "--rounds", "1"]
    assert gpu_throughput.main([*toy, "--models", model, "--dtype", "float32"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [result["texts"] for result in report["results"]] == ["512", "varied"]
    for result in report["results"]:
        assert result["least_cosine"] > 0.9999
        assert result["n_tokens"] >= 2000
        assert result["padding"] == 0.0
        assert 0 < result["outside"] < 1
        assert result["of_peak"] is None


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_throughput.main([]) == 1
    assert "no CUDA device" in capsys.readouterr().err


def test_the_formula_of_the_work_of_a_token() -> None:
    from transformers import LlamaConfig, LlamaModel

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    network = LlamaModel(LlamaConfig(vocab_size=50, num_hidden_layers=3, head_dim=8, **sizes))
    # One layer: q and o 32x32, k and v 32x16, three matrices 32x64, two norms of 32.
    weights = 3 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64 + 2 * 32)
    found = gpu_throughput.flops_per_token(network, np.array([100]))
    assert found.tolist() == [2 * weights + 4 * 3 * 4 * 8 * 50]
