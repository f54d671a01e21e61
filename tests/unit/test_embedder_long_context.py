"""Each method of context extension against the formula of its paper, written out on the weights of tiny models."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
    MistralConfig,
    MistralModel,
    Qwen3Config,
    Qwen3Model,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from embedder.context_extension import ContextExtension
from embedder.errors import InvalidRecipe
from embedder.long_context import SelfExtend, extend
from embedder.recipe import Recipe

LO, LT = 16, 40
SIZES: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": LO,
}
ROTARY: dict[str, Callable[..., Any]] = {
    "llama": lambda: LlamaModel(LlamaConfig(**SIZES, num_key_value_heads=2)),
    "mistral": lambda: MistralModel(MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=4)),
    "qwen3": lambda: Qwen3Model(Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=8)),
}
Relative = Callable[[int, int], float]


def extension(method: str, **more: Any) -> ContextExtension:
    return ContextExtension(method=method, original_tokens=LO, target_tokens=LT, **more)  # type: ignore[arg-type]


def rotary_model(kind: str, *, causal: bool = True) -> Any:
    torch.manual_seed(0)
    model = ROTARY[kind]().eval()
    # Random weights of the usual size leave attention almost uniform: no method would make a difference.
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "q_proj" in name or "k_proj" in name:
                weight.mul_(20)
    model.config.is_causal = causal
    return model


def random_ids(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(3, 50, (length,), generator=generator) for length in lengths]


@torch.no_grad()
def padded_states(model: Any, rows: list[torch.Tensor]) -> list[torch.Tensor]:
    """The states of rows in one batch padded on the right, without the padding."""
    longest = max(len(row) for row in rows)
    ids = torch.stack([torch.nn.functional.pad(row, (0, longest - len(row))) for row in rows])
    mask = torch.stack([(torch.arange(longest) < len(row)).long() for row in rows])
    arguments = {} if bool(mask.all()) else {"attention_mask": mask}
    if model.config.model_type not in ("bert", "xlm-roberta"):
        arguments["use_cache"] = False
    states = model(input_ids=ids, **arguments).last_hidden_state
    return [states[i, : len(row)] for i, row in enumerate(rows)]


@torch.no_grad()
def formula(
    model: Any,
    ids: torch.Tensor,
    relative: Relative,
    *,
    causal: bool,
    theta: float = 10000.0,
    sharpen: Callable[[int], float] = lambda i: 1.0,
) -> torch.Tensor:
    """A Llama-like decoder in plain numbers: the score of i and j is Re(q conj(k) e^(i relative(i, j) angle))."""

    def norm(x: torch.Tensor, module: Any) -> torch.Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * module.weight

    n, heads = len(ids), SIZES["num_attention_heads"]
    table = torch.tensor([[relative(i, j) for j in range(n)] for i in range(n)], dtype=torch.float64)
    seen = torch.tril(torch.ones(n, n)).bool() if causal else torch.ones(n, n).bool()
    x = model.embed_tokens.weight[ids]
    for layer in model.layers:
        attention = layer.self_attn
        inner = norm(x, layer.input_layernorm)
        width = attention.head_dim
        mixed = torch.zeros(n, heads * width)
        for head in range(heads):
            shared = head // (heads // model.config.num_key_value_heads)
            query = (inner @ attention.q_proj.weight.T).view(n, -1, width)[:, head]
            key = (inner @ attention.k_proj.weight.T).view(n, -1, width)[:, shared]
            value = (inner @ attention.v_proj.weight.T).view(n, -1, width)[:, shared]
            if hasattr(attention, "q_norm"):
                query, key = norm(query, attention.q_norm), norm(key, attention.k_norm)
            half = width // 2
            q = torch.complex(query[:, :half].double(), query[:, half:].double())
            k = torch.complex(key[:, :half].double(), key[:, half:].double())
            scores = torch.zeros(n, n, dtype=torch.float64)
            for f in range(half):
                angle = table * theta ** (-2 * f / width)
                scores += (q[:, None, f] * k[None, :, f].conj() * torch.polar(torch.ones_like(angle), angle)).real
            scores *= torch.tensor([sharpen(i) for i in range(n)])[:, None] / math.sqrt(width)
            weights = scores.masked_fill(~seen, -torch.inf).softmax(-1).float()
            mixed[:, head * width : (head + 1) * width] = weights @ value
        x = x + mixed @ attention.o_proj.weight.T
        inner = norm(x, layer.post_attention_layernorm)
        gate = torch.nn.functional.silu(inner @ layer.mlp.gate_proj.weight.T)
        x = x + (gate * (inner @ layer.mlp.up_proj.weight.T)) @ layer.mlp.down_proj.weight.T
    return norm(x, model.norm)


def self_extended(i: int, j: int, group: int = 4, window: int = 6) -> float:
    """The relative position of SelfExtend, from its paper; after the query, the mirror image."""
    if abs(i - j) < window:
        return i - j
    if i > j:
        return i // group - j // group + window - window // group
    return -self_extended(j, i, group, window)


S = math.ceil(LT / LO)
METHODS: dict[str, tuple[ContextExtension, Relative, float]] = {
    "grouped": (extension("grouped"), lambda i, j: i // S - j // S, 10000.0),
    "recurrent": (extension("recurrent"), lambda i, j: i % LO - j % LO, 10000.0),
    "interpolation": (extension("interpolation"), lambda i, j: (i - j) / S, 10000.0),
    "ntk": (extension("ntk", theta=123456.0), lambda i, j: i - j, 123456.0),
    "self_extend": (extension("self_extend", group=4, window=6), self_extended, 10000.0),
}


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "bidirectional"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ROTARY)
def test_a_rotary_model_reads_positions_as_the_formula_says(kind: str, method: str, causal: bool) -> None:
    model = rotary_model(kind, causal=causal)
    chosen, relative, theta = METHODS[method]
    rows = random_ids(LT, 23, 7)
    expected = [formula(model, row, relative, causal=causal, theta=theta) for row in rows]
    before = padded_states(model, rows)
    extend(model, chosen, causal=causal)
    alone = [padded_states(model, [row])[0] for row in rows]
    for found in (padded_states(model, rows), alone):
        for states, right in zip(found, expected, strict=True):
            torch.testing.assert_close(states, right, atol=2e-5, rtol=1e-4)
    assert (before[0] - expected[0]).abs().max() > 1e-2, "the method makes no difference in this test"


def test_the_reference_agrees_with_transformers_when_nothing_is_extended() -> None:
    model = rotary_model("qwen3")
    (row,) = random_ids(20)
    expected = formula(model, row, lambda i, j: i - j, causal=True)
    torch.testing.assert_close(padded_states(model, [row])[0], expected, atol=2e-5, rtol=1e-4)


def test_interpolation_is_the_linear_scaling_of_transformers() -> None:
    model = rotary_model("llama")
    linear = copy.deepcopy(model)
    linear.config.rope_parameters = {"rope_type": "linear", "rope_theta": 10000.0, "factor": float(S)}
    linear.rotary_emb = type(linear.rotary_emb)(config=linear.config)
    extend(model, extension("interpolation"), causal=True)
    rows = random_ids(LT)
    torch.testing.assert_close(padded_states(model, rows)[0], padded_states(linear, rows)[0], atol=1e-5, rtol=1e-4)


def test_ntk_without_theta_scales_the_slowest_angle_by_the_factor() -> None:
    model = rotary_model("llama")
    before = model.rotary_emb.inv_freq.clone()
    extend(model, extension("ntk"), causal=True)
    after = model.rotary_emb.inv_freq
    assert float(before[0] / after[0]) == pytest.approx(1.0)
    assert float(before[-1] / after[-1]) == pytest.approx(S, rel=1e-5)


def test_self_extend_gives_the_relative_positions_of_the_paper() -> None:
    # Ten tokens, window 4, group 2; the two rows are printed in LongEmbed.
    chosen = ContextExtension(method="self_extend", original_tokens=10, target_tokens=12, group=2, window=4)

    def turn(x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        angle = 0.1 * positions[:, None, :]
        cos, sin = angle.cos(), angle.sin()
        return torch.stack((x[..., 0] * cos - x[..., 1] * sin, x[..., 1] * cos + x[..., 0] * sin), -1)

    positions = torch.arange(10)[None]
    ahead = torch.tensor([1.0, 0.0]).expand(1, 1, 10, 2)
    across = torch.tensor([0.0, 1.0]).expand(1, 1, 10, 2)
    attention = SelfExtend(chosen, False, turn)
    blocks = attention.scores(turn(ahead, positions), turn(across, positions), positions)
    scores = torch.cat([block for _, block in blocks], 2)[0, 0]
    relative = torch.round(torch.asin(-scores) / 0.1).int()  # key minus query, as the paper counts
    assert relative[0].tolist() == [0, 1, 2, 3, 4, 4, 5, 5, 6, 6]
    assert relative[4].tolist() == [-4, -3, -2, -1, 0, 1, 2, 3, 4, 4]


@pytest.mark.parametrize("causal", [True, False])
def test_self_extend_can_sharpen_far_queries(causal: bool) -> None:
    model = rotary_model("mistral", causal=causal)
    chosen = extension("self_extend", group=4, window=6, log_scaling=True)
    rows = random_ids(LT, 9)
    expected = [
        formula(
            model,
            row,
            self_extended,
            causal=causal,
            sharpen=lambda i: max(1.0, math.log(i + 1) / math.log(LO)),
        )
        for row in rows
    ]
    extend(model, chosen, causal=causal)
    for states, right in zip(padded_states(model, rows), expected, strict=True):
        torch.testing.assert_close(states, right, atol=2e-5, rtol=1e-4)


def test_self_extend_in_blocks_of_queries_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = rotary_model("llama")
    extend(model, METHODS["self_extend"][0], causal=True)
    rows = random_ids(LT, 30)
    whole = padded_states(model, rows)
    monkeypatch.setattr("embedder.long_context.QUERY_BLOCK", 7)
    for states, right in zip(padded_states(model, rows), whole, strict=True):
        torch.testing.assert_close(states, right, atol=1e-6, rtol=1e-5)


def test_self_extend_obeys_a_block_mask_of_packed_texts() -> None:
    model = rotary_model("llama", causal=False)
    extend(model, METHODS["self_extend"][0], causal=False)
    rows = random_ids(30, 12)
    owner = torch.tensor([0] * 30 + [1] * 12)
    with torch.no_grad():
        states = model(
            input_ids=torch.cat(rows)[None],
            position_ids=torch.cat([torch.arange(30), torch.arange(12)])[None],
            attention_mask=(owner[:, None] == owner[None, :])[None, None],
            use_cache=False,
        ).last_hidden_state[0]
    expected = torch.cat([padded_states(model, [row])[0] for row in rows])
    torch.testing.assert_close(states, expected, atol=1e-5, rtol=1e-4)


def encoder(kind: str) -> Any:
    torch.manual_seed(0)
    if kind == "bert":
        return BertModel(BertConfig(**SIZES)).eval()
    sizes = {**SIZES, "max_position_embeddings": LO + 2}
    return XLMRobertaModel(XLMRobertaConfig(**sizes, pad_token_id=1)).eval()


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
@pytest.mark.parametrize("method", ["grouped", "recurrent"])
def test_a_table_of_positions_is_read_as_the_formula_says(kind: str, method: str) -> None:
    model = encoder(kind)
    original = copy.deepcopy(model)
    extend(model, extension(method), causal=False)
    first = 0 if kind == "bert" else 2
    rows = random_ids(LT, 11)
    for row, states in zip(rows, padded_states(model, rows), strict=True):
        positions = [i // S if method == "grouped" else i % LO for i in range(len(row))]
        with torch.no_grad():
            ids = torch.tensor([positions]) + first
            right = original(input_ids=row[None], position_ids=ids).last_hidden_state[0]
        torch.testing.assert_close(states, right, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
def test_a_table_of_positions_is_interpolated(kind: str) -> None:
    model = encoder(kind)
    table = model.embeddings.position_embeddings.weight.detach().numpy().copy()
    first = 0 if kind == "bert" else 2
    extend(model, extension("interpolation"), causal=False)
    found = model.embeddings.position_embeddings.weight.numpy()
    assert found.shape == (LT + first, 16)
    np.testing.assert_array_equal(found[:first], table[:first])
    np.testing.assert_array_equal(found[first : first + LT : S][:LO], table[first : first + math.ceil(LT / S)])
    for column in range(16):
        right = np.interp(np.arange(LT) / S, np.arange(LO), table[first:, column])
        np.testing.assert_allclose(found[first:, column], right, atol=1e-6)
    assert all(torch.isfinite(states).all() for states in padded_states(model, random_ids(LT, 5)))


@pytest.mark.parametrize(
    ("make", "chosen", "problem"),
    [
        (lambda: encoder("bert"), extension("ntk"), "rotary"),
        (lambda: encoder("bert"), extension("self_extend", group=4, window=6), "rotary"),
        (
            lambda: encoder("bert"),
            ContextExtension(method="grouped", original_tokens=17, target_tokens=40),
            "16 positions",
        ),
        (lambda: GPT2Model(GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=16)), extension("grouped"), "table"),
    ],
)
def test_a_method_that_the_architecture_lacks_is_refused(
    make: Callable[[], Any], chosen: ContextExtension, problem: str
) -> None:
    with pytest.raises(InvalidRecipe, match=problem):
        extend(make(), chosen, causal=False)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"method": "stretch"}, "one of"),
        ({"target_tokens": LO}, "more than"),
        ({"original_tokens": 4}, "at least 8"),
        ({"group": 4}, "only"),
        ({"theta": 1e5}, "only"),
        ({"method": "ntk", "theta": -1.0}, "positive"),
        ({"method": "self_extend", "group": 1, "window": 6}, "at least 2"),
        ({"method": "self_extend", "group": 4, "window": 3}, "group"),
        ({"method": "self_extend", "group": 2, "window": 6}, "reach 22"),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidRecipe, match=problem):
        ContextExtension(**{"method": "grouped", "original_tokens": LO, "target_tokens": LT, **fields})


def test_the_published_settings_are_accepted() -> None:
    for original, target, window in ((4096, 32768, 512), (512, 4096, 64)):
        ContextExtension(method="self_extend", original_tokens=original, target_tokens=target, group=9, window=window)


TABLE = {"method": "grouped", "original_tokens": 512, "target_tokens": 4096}


def test_a_table_of_a_system_file_extends_what_a_checkpoint_allows() -> None:
    recipe = Recipe(name="x", max_tokens=512)
    extended = recipe.overlaid({"context_extension": TABLE})
    assert extended.context_extension == ContextExtension(method="grouped", original_tokens=512, target_tokens=4096)
    assert (extended.max_tokens, extended.window_tokens, extended.passage_tokens) == (4096, 512, 512)
    whole = recipe.overlaid(
        {"context_extension": TABLE, "max_tokens": 2048, "window_tokens": 2048, "passage_tokens": 2048}
    )
    assert (whole.max_tokens, whole.passage_tokens) == (2048, 2048)
    with pytest.raises(InvalidRecipe, match="target_tokens"):
        replace(extended, max_tokens=4097)


@pytest.mark.parametrize("method", ["grouped", "self_extend"])
def test_a_table_without_numbers_takes_the_checkpoints_length_and_the_papers_factor(method: str) -> None:
    table = {"context_extension": {"method": method}, "window_tokens": 32768, "passage_tokens": 32768}
    extended = Recipe(name="x", max_tokens=512).overlaid(table)
    chosen = extended.context_extension
    assert chosen is not None
    assert (chosen.original_tokens, chosen.target_tokens) == (512, 4096)
    assert (chosen.group, chosen.window) == ((9, 64) if method == "self_extend" else (0, 0))
    assert (extended.max_tokens, extended.window_tokens, extended.passage_tokens) == (4096, 4096, 4096)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("grouped", "a table"),
        ({**TABLE, "factor": 8}, "no such field"),
        ({**TABLE, "original_tokens": "512"}, "type int"),
        ({**TABLE, "group": True}, "type int"),
        ({"original_tokens": 512}, "missing"),
    ],
)
def test_a_table_that_is_no_extension_is_refused(table: object, problem: str) -> None:
    with pytest.raises(InvalidRecipe, match=problem):
        Recipe(name="x").overlaid({"context_extension": table})
