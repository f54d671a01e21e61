"""Do LoRA adapters change the network as peft says, merged or at run time?"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    BertConfig,
    BertModel,
    JinaEmbeddingsV3Config,
    JinaEmbeddingsV3Model,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
)

from embedder.checkpoint_heads.adapters import SideAdapters, merge_all
from embedder.errors import ModelLoadFailed

# peft 0.21 reads an attribute that transformers 5.23 renamed.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning"),
]

IDS = torch.tensor([[5, 9, 3, 14, 9]])
_SIZES: dict[str, Any] = {
    "vocab_size": 30,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
}


def jina() -> JinaEmbeddingsV3Model:
    torch.manual_seed(0)
    return JinaEmbeddingsV3Model(JinaEmbeddingsV3Config(**_SIZES, pad_token_id=1)).eval().requires_grad_(False)


def llama(kind: type = LlamaModel) -> Any:
    torch.manual_seed(0)
    return kind(LlamaConfig(**_SIZES, num_key_value_heads=1)).eval().requires_grad_(False)


def save_adapter(network: Any, folder: Path, seed: int, targets: list[str], **options: Any) -> Path:
    """A random LoRA adapter of the network, written by peft. The network itself is changed: give a fresh one."""
    torch.manual_seed(seed)
    settings = {"r": 4, "lora_alpha": 8, "init_lora_weights": False} | options
    get_peft_model(network, LoraConfig(target_modules=targets, **settings)).save_pretrained(folder)
    return folder


def states(network: Any) -> torch.Tensor:
    with torch.inference_mode():
        return network(IDS).last_hidden_state


def jina_targets() -> list[str]:
    leaves = {name.rsplit(".", 1)[-1] for name, module in jina().named_modules() if isinstance(module, torch.nn.Linear)}
    return sorted((leaves | {"word_embeddings"}) - {"dense"})


@pytest.fixture
def jina_adapters(tmp_path: Path) -> dict[str, Path]:
    return {
        side: save_adapter(jina(), tmp_path / side, seed, jina_targets(), use_rslora=side == "document")
        for seed, side in enumerate(("query", "document"), 1)
    }


def test_each_side_runs_with_its_own_adapter_as_peft_runs_it(jina_adapters: dict[str, Path]) -> None:
    network = jina()
    bare = states(network)
    adapters = SideAdapters(network, jina_adapters)  # type: ignore[arg-type]
    for side in ("query", "document", "query"):
        expected = states(PeftModel.from_pretrained(jina(), str(jina_adapters[side])))
        assert not torch.allclose(expected, bare, atol=1e-2), "the example's adapter must matter"
        with adapters.of(side):  # type: ignore[arg-type]
            torch.testing.assert_close(states(network), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(states(network), bare)


def test_one_side_may_be_without_an_adapter(jina_adapters: dict[str, Path]) -> None:
    network = jina()
    bare = states(network)
    adapters = SideAdapters(network, {"query": jina_adapters["query"]})
    with adapters.of("document"):
        torch.testing.assert_close(states(network), bare)


def test_threads_run_different_sides_at_once(jina_adapters: dict[str, Path]) -> None:
    network = jina()
    adapters = SideAdapters(network, jina_adapters)  # type: ignore[arg-type]

    def run(side: Any) -> torch.Tensor:
        with adapters.of(side):
            return states(network)

    sides = ["query", "document"] * 10
    expected = {side: run(side) for side in ("query", "document")}
    with ThreadPoolExecutor(4) as pool:
        for side, got in zip(sides, pool.map(run, sides), strict=True):
            torch.testing.assert_close(got, expected[side])


def test_adapters_are_merged_in_order_as_peft_merges_them(tmp_path: Path) -> None:
    first = save_adapter(llama(), tmp_path / "first", 1, ["q_proj", "down_proj", "embed_tokens"])
    second = save_adapter(llama(), tmp_path / "second", 2, ["q_proj", "up_proj"], r=2)
    expected = llama()
    for folder in (first, second):
        expected = PeftModel.from_pretrained(expected, str(folder)).merge_and_unload()
    network = llama()
    merge_all(network, [first, second])
    torch.testing.assert_close(states(network), states(expected), atol=1e-5, rtol=1e-5)


def test_an_adapter_of_the_model_with_a_head_fits_its_body(tmp_path: Path) -> None:
    folder = save_adapter(llama(LlamaForCausalLM), tmp_path / "adapter", 1, ["q_proj"])
    expected = PeftModel.from_pretrained(llama(LlamaForCausalLM), str(folder)).merge_and_unload().model
    body = llama(LlamaForCausalLM).model
    merge_all(body, [folder])
    torch.testing.assert_close(states(body), states(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"peft_type": "IA3"}, "no LoRA adapter"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
    ],
)
def test_other_kinds_of_adapters_are_refused(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    folder = save_adapter(llama(), tmp_path / "adapter", 1, ["q_proj"])
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ModelLoadFailed, match=problem):
        merge_all(llama(), [folder])


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = save_adapter(llama(), tmp_path / "adapter", 1, ["q_proj"])
    with pytest.raises(ModelLoadFailed, match="no such layer"):
        merge_all(BertModel(BertConfig(**_SIZES)), [folder])


def test_an_adapter_that_carries_another_embedding_table_is_refused(tmp_path: Path) -> None:
    folder = save_adapter(llama(), tmp_path / "adapter", 1, ["embed_tokens"])
    network = llama()
    network.embed_tokens.weight.data += 1
    with pytest.raises(ModelLoadFailed, match="trained on other weights of embed_tokens"):
        merge_all(network, [folder])
