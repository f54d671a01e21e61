"""The extensible decoder: what it reads, for which token each state stands, and that its compressor can learn."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize
from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel, Qwen3Config, Qwen3Model

from embedder.context_extension import ContextExtension
from embedder.errors import InvalidRecipe, ModelLoadFailed
from embedder.extensible import COMPRESSOR, ExtensibleDecoder, extensible

GROUP, CHUNK = 4, 8
EXTENSION = ContextExtension(
    method="extensible", original_tokens=24, target_tokens=60, group=GROUP, window=CHUNK, layers=1
)


def decoder(
    kind: str = "llama", *, causal: bool = True, hidden: int = 16, scale: float = 0.2
) -> LlamaModel | Qwen3Model:
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 50,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 24,
        "initializer_range": scale,  # random weights of the usual size make all states alike
    }
    model = LlamaModel(LlamaConfig(**sizes)) if kind == "llama" else Qwen3Model(Qwen3Config(**sizes, head_dim=8))
    model.config.is_causal = causal
    return model.eval().requires_grad_(False)


def random_ids(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(3, 50, (length,), generator=generator) for length in lengths]


def states_of(model: ExtensibleDecoder, rows: list[torch.Tensor]) -> list[torch.Tensor]:
    longest = max(map(len, rows))
    ids = torch.stack([torch.nn.functional.pad(row, (0, longest - len(row))) for row in rows])
    mask = torch.stack([(torch.arange(longest) < len(row)).long() for row in rows])
    with torch.no_grad():
        states = model(ids, mask).last_hidden_state
    return [states[i, : len(row)] for i, row in enumerate(rows)]


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
@pytest.mark.parametrize("causal", [True, False])
def test_earlier_chunks_are_read_as_one_state_in_a_group(kind: str, causal: bool) -> None:
    network = decoder(kind, causal=causal)
    model = extensible(network, EXTENSION, Path("none"))
    rows = random_ids(60, 21, 17, 16, 9)
    found = states_of(model, rows)
    for row, states in zip(rows, found, strict=True):
        torch.testing.assert_close(states_of(model, [row])[0], states, atol=1e-5, rtol=1e-4)
        inputs, owner = [], []
        chunks = list(row.split(CHUNK))
        with torch.no_grad():
            for chunk in chunks[:-1]:
                inner = network(input_ids=chunk[None], output_hidden_states=True, use_cache=False).hidden_states[1][0]
                inputs += [inner[i] for i in range(GROUP - 1, CHUNK, GROUP)]
                owner += [len(inputs) - CHUNK // GROUP + i // GROUP for i in range(CHUNK)]
            for token in chunks[-1]:
                inputs.append(network.embed_tokens.weight[token])
                owner.append(len(inputs) - 1)
            read = network(inputs_embeds=torch.stack(inputs)[None], use_cache=False).last_hidden_state[0]
        torch.testing.assert_close(states, read[owner], atol=1e-5, rtol=1e-4)


def test_a_text_of_one_chunk_is_read_as_without_it() -> None:
    network = decoder()
    model = extensible(network, EXTENSION, Path("none"))
    (row,) = random_ids(CHUNK)
    with torch.no_grad():
        expected = network(input_ids=row[None], use_cache=False).last_hidden_state[0]
    torch.testing.assert_close(states_of(model, [row])[0], expected)


def test_the_compressor_learns_to_pass_on_what_an_early_chunk_says() -> None:
    """A document hides one of 8 keys in its filler, before its last chunk; the query is the key."""
    network = decoder(hidden=64, scale=0.06)
    model = ExtensibleDecoder(network, EXTENSION)
    model.compressor.requires_grad_(True)
    generator = torch.Generator().manual_seed(2)
    keys = torch.arange(30, 38)

    def documents() -> torch.Tensor:
        ids = torch.randint(3, 20, (len(keys), 20), generator=generator)
        ids[torch.arange(len(keys)), torch.randint(0, 16, (len(keys),), generator=generator)] = keys
        return ids

    with torch.no_grad():
        queries = normalize(network(input_ids=keys[:, None], use_cache=False).last_hidden_state[:, -1], dim=1)

    def scores() -> torch.Tensor:
        return queries @ normalize(model(documents()).last_hidden_state[:, -1], dim=1).T

    def accuracy() -> float:
        with torch.no_grad():
            right = [(scores().argmax(1) == torch.arange(len(keys))).float().mean() for _ in range(8)]
        return float(torch.stack(right).mean())

    before = accuracy()
    optimizer = torch.optim.AdamW(model.compressor.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        loss = cross_entropy(scores() / 0.1, torch.arange(len(keys)))
        loss.backward()
        optimizer.step()
    assert before < 0.4
    assert accuracy() > 0.8
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_trained_compressor_is_found_beside_the_weights(tmp_path: Path) -> None:
    network = decoder()
    trained = ExtensibleDecoder(network, EXTENSION)
    with torch.no_grad():
        for parameter in trained.compressor.parameters():
            parameter.add_(0.1)
    trained.save_compressor(tmp_path)
    rows = random_ids(40)
    found = states_of(extensible(network, EXTENSION, tmp_path), rows)[0]
    torch.testing.assert_close(found, states_of(trained, rows)[0])
    assert (found - states_of(extensible(network, EXTENSION, Path("none")), rows)[0]).abs().max() > 1e-3
    with pytest.raises(ModelLoadFailed, match=COMPRESSOR):
        extensible(decoder(hidden=64), EXTENSION, tmp_path)


def test_a_model_without_decoder_layers_is_refused() -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    with pytest.raises(InvalidRecipe, match="0 decoder layers"):
        extensible(BertModel(BertConfig(**sizes)), EXTENSION, Path("none"))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"layers": 0}, "at least 1"),
        ({"window": 10}, "multiple of 4"),
        ({"target_tokens": 90}, "reach 28"),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields: dict[str, int], problem: str) -> None:
    base = {"original_tokens": 24, "target_tokens": 60, "group": GROUP, "window": CHUNK, "layers": 1}
    with pytest.raises(InvalidRecipe, match=problem):
        ContextExtension(method="extensible", **{**base, **fields})  # type: ignore[arg-type]
