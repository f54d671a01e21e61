"""Do checkpoints with heads of their own give the vectors that their papers describe?

The network runs through transformers, unpadded, one text at a time; the head is written out plainly, or is that of
sentence-transformers or peft.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from sentence_transformers.sparse_encoder.modules import SpladePooling
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForTokenClassification

from embedder.checkpoint import open_checkpoint
from embedder.checkpoint_heads import routing
from embedder.errors import InvalidRecipe, ModelLoadFailed
from embedder.model import Model
from embedder.recipe import Recipe
from embedder.tokens import load_tokenizer
from embedder.values import PassageVectors, SparseVector
from embedder.windows import Row
from tests.support import tiny_heads, tiny_models

# peft 0.21 reads an attribute that transformers 5.23 renamed.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

BOS, EOS = tiny_models.VOCABULARY["<s>"], tiny_models.VOCABULARY["</s>"]
UNKNOWN = tiny_models.VOCABULARY["[UNK]"]
WORD = tiny_models.VOCABULARY
# Different lengths, repeated tokens, an unknown one.
INPUTS = [
    [BOS, WORD["cat"], WORD["sat"], WORD["cat"], UNKNOWN, WORD["mat"], WORD["cat"], EOS],
    [BOS, WORD["dog"], EOS],
    [BOS, *range(8, 26), EOS],
]


def load(folder: Path, **fields: Any) -> Model:
    checkpoint = open_checkpoint(str(folder), folder)
    recipe = Recipe(name="tiny", **fields)
    tokenizer = load_tokenizer(checkpoint, recipe)
    return Model(checkpoint, recipe, device="cpu", dtype="float32", tokenizer=tokenizer)


def row(ids: list[int], dense: tuple[int, int], sparse: tuple[int, int] | None = None, *, query: bool = False) -> Row:
    spans = [np.array([span], np.int32) for span in (dense, sparse or (0, len(ids)))]
    return Row(np.array(ids, np.int32), spans[0], spans[1], query=query)


def run(model: Model, rows: Sequence[Row]) -> list[PassageVectors]:
    """The vectors of rows, which must be the same alone and in company."""
    together = [passages[0] for passages in model.run(rows, lambda: None)]
    alone = [model.run([each], lambda: None)[0][0] for each in rows]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.dense, other.dense, atol=2e-6)
        if one.sparse is not None and other.sparse is not None:
            assert_sparse(one.sparse, as_dict(other.sparse))
        if one.multi is not None and other.multi is not None:
            np.testing.assert_allclose(one.multi, other.multi, atol=2e-6)
    return together


def as_dict(vector: SparseVector | None) -> dict[int, float]:
    assert vector is not None
    return dict(zip(vector.ids.tolist(), vector.weights.tolist(), strict=True))


def assert_sparse(got: SparseVector | None, expected: dict[int, float]) -> None:
    assert as_dict(got) == pytest.approx(expected, abs=1e-5)


def unit(vector: Tensor) -> Tensor:
    return vector / vector.norm()


def forward(network: Any, ids: list[int], **options: Any) -> Any:
    with torch.inference_mode():
        return network.eval()(torch.tensor([ids]), **options)


def assert_same_direction(got: np.ndarray, expected: Tensor) -> None:
    assert float(np.dot(got, unit(expected).numpy())) >= 0.9999
    np.testing.assert_allclose(got, unit(expected).numpy(), atol=1e-5)


def test_bge_m3_gives_dense_sparse_and_token_vectors(tmp_path: Path) -> None:
    folder = tiny_heads.save_bge_m3(tmp_path)
    model = load(folder, pooling="cls", sparse_head="token_linear", multi_head="token_linear")
    network = AutoModel.from_pretrained(folder)
    sparse, multi = (load_file(folder / f"{name}_linear.safetensors") for name in ("sparse", "colbert"))
    weighed = 0
    for ids, got in zip(INPUTS, run(model, [row(ids, (0, 1)) for ids in INPUTS]), strict=True):
        states = forward(network, ids).last_hidden_state[0]
        assert_same_direction(got.dense, states[0])
        expected: dict[int, float] = {}
        for token, state in zip(ids, states, strict=True):
            weight = max(0.0, float(sparse["weight"][0] @ state + sparse["bias"][0]))
            if token not in (BOS, EOS, UNKNOWN) and weight > 0:
                expected[token] = max(weight, expected.get(token, 0.0))
        assert_sparse(got.sparse, expected)
        weighed += len(expected)
        assert got.multi is not None
        assert got.multi.shape == (len(ids) - 1, 16)
        for vector, state in zip(got.multi, states[1:], strict=True):
            assert_same_direction(vector, multi["weight"] @ state + multi["bias"])
    assert weighed, "the example must weigh something"


def test_mgte_weighs_tokens_by_its_token_classifier(tmp_path: Path) -> None:
    folder = tiny_heads.save_mgte(tmp_path)
    model = load(folder, pooling="cls", sparse_head="token_linear")
    network = AutoModelForTokenClassification.from_pretrained(folder)
    for ids, got in zip(INPUTS, run(model, [row(ids, (0, 1)) for ids in INPUTS]), strict=True):
        logits = forward(network, ids).logits[0, :, 0].tolist()
        expected: dict[int, float] = {}
        for token, logit in zip(ids, logits, strict=True):
            if token not in (BOS, EOS, UNKNOWN) and logit > 0:
                expected[token] = max(logit, expected.get(token, 0.0))
        assert_sparse(got.sparse, expected)
        assert_same_direction(got.dense, forward(network.gte, ids).last_hidden_state[0, 0])


@pytest.mark.parametrize(
    ("pooling", "activation", "theirs"),
    [
        ("max", "log1p", ("max", "relu")),
        ("sum", "log1p", ("sum", "relu")),
        ("max", "log1p_log1p", ("max", "log1p_relu")),
    ],
)
def test_splade_weighs_terms_as_sentence_transformers_does(
    tmp_path: Path, pooling: str, activation: str, theirs: tuple[str, str]
) -> None:
    folder = tiny_models.save_masked_lm(tmp_path)
    model = load(folder, sparse_head="mlm_max", has_dense=False, sparse_pooling=pooling, sparse_activation=activation)
    network = AutoModelForMaskedLM.from_pretrained(folder)
    head = SpladePooling(pooling_strategy=theirs[0], activation_function=theirs[1]).eval()
    for ids, got in zip(INPUTS, run(model, [row(ids, (0, len(ids))) for ids in INPUTS]), strict=True):
        features = {"token_embeddings": forward(network, ids).logits.clone(), "attention_mask": torch.ones(1, len(ids))}
        weights = head(features)["sentence_embedding"][0]
        assert_sparse(got.sparse, {i: w for i, w in enumerate(weights.tolist()) if w > 0})


@pytest.mark.parametrize("kind", ["binary", "idf"])
def test_queries_that_need_no_network_weigh_their_distinct_tokens(tmp_path: Path, kind: str) -> None:
    folder = tiny_models.save_masked_lm(tmp_path)
    table = {word: 1.0 + i / 10 for i, word in enumerate(("cat", "mat", "sat", "[CLS]", "<s>"))}
    (folder / "idf.json").write_text(json.dumps(table))
    model = load(folder, sparse_head="mlm_max", has_dense=False, sparse_query=kind)
    model._network = model._head = None  # whoever runs the network fails
    got = model.run([row(ids, (0, len(ids)), query=True) for ids in INPUTS], lambda: None)
    for ids, (vectors,) in zip(INPUTS, got, strict=True):
        words = {token for token in ids if token not in (BOS, EOS, UNKNOWN)}
        weights = {WORD[word]: weight for word, weight in table.items()}
        expected = {token: 1.0 if kind == "binary" else weights.get(token, 0.0) for token in words}
        assert_sparse(vectors.sparse, {token: weight for token, weight in expected.items() if weight})
        assert not vectors.dense.any()


def test_documents_of_an_inference_free_model_keep_no_special_terms(tmp_path: Path) -> None:
    folder = tiny_models.save_masked_lm(tmp_path)
    special = {tiny_models.VOCABULARY[token] for token in tiny_models.SPECIAL}
    plain = run(load(folder, sparse_head="mlm_max", has_dense=False), [row(INPUTS[0], (0, 8))])[0]
    free = run(load(folder, sparse_head="mlm_max", has_dense=False, sparse_query="binary"), [row(INPUTS[0], (0, 8))])
    assert special & set(as_dict(plain.sparse)), "the example must have a special term"
    assert_sparse(free[0].sparse, {t: w for t, w in as_dict(plain.sparse).items() if t not in special})


@pytest.mark.parametrize("kind", ["mistral", "gemma2"])
def test_a_causal_model_projects_the_second_copy_only(tmp_path: Path, kind: str) -> None:
    folder = tiny_heads.save_causal_lm(tmp_path, kind, seed=4)
    model = load(folder, sparse_head="lm_max", attention="causal", sparse_terms=5)
    network = AutoModelForCausalLM.from_pretrained(folder)
    spans = [(3, 8), (1, 3), (9, 20)]
    rows = [row(ids, span, span) for ids, span in zip(INPUTS, spans, strict=True)]
    for ids, (start, end), got in zip(INPUTS, spans, run(model, rows), strict=True):
        output = forward(network, ids, output_hidden_states=True)
        weights = [math.log1p(max(0.0, float(column.max()))) for column in output.logits[0, start:end].T]
        heaviest = sorted(range(len(weights)), key=lambda term: -weights[term])[:5]
        assert_sparse(got.sparse, {term: weights[term] for term in sorted(heaviest) if weights[term] > 0})
        assert_same_direction(got.dense, output.hidden_states[-1][0, start:end].mean(0))


@pytest.mark.parametrize("kind", ["mistral", "gemma2"])
def test_promptreps_keeps_the_next_words_weights_for_the_texts_content_words(tmp_path: Path, kind: str) -> None:
    folder = tiny_heads.save_causal_lm(tmp_path, kind, seed=4)
    model = load(
        folder, sparse_head="next_token", attention="causal", pooling="last", sparse_terms=128, sparse_scale=100.0
    )
    network = AutoModelForCausalLM.from_pretrained(folder)
    text = [WORD[word] for word in ["the", "old", "cat", "sat", "under", "the", "tree", "."]]
    stop = [WORD[word] for word in ["the", "and", "over", "."]]
    content = {WORD[word] for word in ("old", "cat", "sat", "tree")}
    before, after = [BOS, WORD["a"]], [WORD[":"], WORD["far"]]
    for words, kept in ((text, content), (stop, None)):
        ids = [*before, *words, *after]
        span = (len(before), len(before) + len(words))
        got = run(model, [row(ids, (len(ids) - 1, len(ids)), span), row(INPUTS[1], (2, 3), (1, 2))])[0]
        output = forward(network, ids, output_hidden_states=True)
        weights = [math.log1p(max(0.0, float(logit))) for logit in output.logits[0, -1]]
        terms = kept or sorted(range(len(weights)), key=lambda term: -weights[term])[:10]
        expected = {term: float(round(100 * weights[term])) for term in sorted(terms)}
        assert as_dict(got.sparse) == {term: weight for term, weight in expected.items() if weight > 0}
        assert as_dict(got.sparse), "the example must keep a term"
        assert_same_direction(got.dense, output.hidden_states[-1][0, -1])


def test_promptreps_may_add_words_that_the_text_does_not_say(tmp_path: Path) -> None:
    folder = tiny_heads.save_causal_lm(tmp_path)
    fields = {"sparse_head": "next_token", "attention": "causal", "pooling": "last"}
    ids = [BOS, WORD["cat"], WORD["sat"]]
    vectors = [
        as_dict(run(load(folder, **fields, sparse_expansion=count), [row(ids, (2, 3), (1, 3))])[0].sparse)
        for count in (0, 3)
    ]
    logits = forward(AutoModelForCausalLM.from_pretrained(folder), ids).logits[0, -1]
    words = [WORD[word] for word in tiny_models.WORDS if word not in ("cat", "sat")]
    added = sorted(words, key=lambda term: -float(logits[term]))[:3]
    wanted = {t: math.log1p(float(logits[t])) for t in [*added, *vectors[0]] if logits[t] > 0}
    assert vectors[1] == pytest.approx(wanted, abs=1e-5)
    assert len(vectors[1]) > len(vectors[0])


def test_nv_embed_attends_to_its_latents_before_the_mean(tmp_path: Path) -> None:
    backbone, latent = tiny_heads.save_nv_embed(tmp_path)
    model = load(
        tmp_path,
        token_head="latent_attention",
        attention="bidirectional",
        sliding_window=False,
        backbone="mistral",
        backbone_config="text_config",
        weights_prefix="embedding_model.",
    )
    backbone.config.is_causal, backbone.config.sliding_window = False, None
    for layer in backbone.layers:
        layer.self_attn.is_causal, layer.self_attn.sliding_window = False, None
    starts = [3, 0, 5]
    rows = [row(ids, (start, len(ids))) for ids, start in zip(INPUTS, starts, strict=True)]
    for ids, start, got in zip(INPUTS, starts, run(model, rows), strict=True):
        states = forward(backbone, ids).last_hidden_state[0]
        assert_same_direction(got.dense, nv_embed(latent, states)[start:].mean(0))


def nv_embed(tensors: dict[str, Tensor], x: Tensor) -> Tensor:
    """NV-Embed's head by torch's own multi-head attention: [t, h] to [t, h]."""
    w = {name.removeprefix("latent_attention_model."): tensor for name, tensor in tensors.items()}
    first, second = "cross_attend_blocks.0.", "cross_attend_blocks.1."

    def norm(values: Tensor, name: str) -> Tensor:
        return nn.functional.layer_norm(values, (values.shape[1],), w[f"{name}.weight"], w[f"{name}.bias"])

    context = norm(w["latents"], first + "norm_context")
    keys, values = (context @ w[first + "fn.to_kv.weight"].T).split(24, dim=1)
    queries = norm(x, first + "norm") @ w[first + "fn.to_q.weight"].T
    parts = []
    for head in (slice(0, 12), slice(12, 24)):
        shares = torch.softmax(queries[:, head] @ keys[:, head].T / math.sqrt(12), dim=1)
        parts.append(shares @ values[:, head])
    x = x + torch.cat(parts, 1) @ w[first + "fn.to_out.weight"].T
    up = norm(x, second + "norm") @ w[second + "fn.net.0.weight"].T + w[second + "fn.net.0.bias"]
    gated = up[:, :64] * nn.functional.gelu(up[:, 64:])
    return x + gated @ w[second + "fn.net.2.weight"].T + w[second + "fn.net.2.bias"]


def test_jina_v3_reads_queries_and_documents_through_different_adapters(tmp_path: Path) -> None:
    folder = tiny_heads.save_jina_v3(tmp_path)
    model = load(folder, query_adapter="retrieval_query", document_adapter="retrieval_passage")
    found = {}
    for side in ("retrieval_query", "retrieval_passage"):
        network = PeftModel.from_pretrained(AutoModel.from_pretrained(folder), str(folder / side))
        rows = [row(ids, (0, len(ids)), query=side == "retrieval_query") for ids in INPUTS]
        found[side] = run(model, rows)
        for ids, got in zip(INPUTS, found[side], strict=True):
            assert_same_direction(got.dense, forward(network, ids).last_hidden_state[0].mean(0))
    queries, passages = found.values()
    assert float(queries[0].dense @ passages[0].dense) < 0.99, "the example's adapters must matter"


def test_llm2vec_merges_one_adapter_after_the_other(tmp_path: Path) -> None:
    folder = tiny_models.save_llama(tmp_path / "base")
    first = tiny_heads.save_adapter(AutoModel.from_pretrained(folder), tmp_path / "mntp", ["q_proj"], seed=1)
    second = tiny_heads.save_adapter(
        AutoModel.from_pretrained(folder), tmp_path / "supervised", ["q_proj", "down_proj"], seed=2
    )
    model = load(folder, adapters=(str(first), str(second)), attention="bidirectional", pooling="mean")
    network = AutoModel.from_pretrained(folder)
    for adapter in (first, second):
        network = PeftModel.from_pretrained(network, str(adapter)).merge_and_unload()
    network.config.is_causal = False
    for ids, got in zip(INPUTS, run(model, [row(ids, (2, len(ids))) for ids in INPUTS]), strict=True):
        assert_same_direction(got.dense, forward(network, ids).last_hidden_state[0, 2:].mean(0))


@pytest.mark.parametrize("kind", ["olmoe", "qwen2_moe", "mixtral"])
def test_moee_adds_the_cosines_of_states_and_of_routing(tmp_path: Path, kind: str) -> None:
    folder = tiny_heads.save_mixture(tmp_path, kind)
    model = load(folder, attention="causal", pooling="last", router_weight=0.5)
    network = AutoModel.from_pretrained(folder)
    expected = []
    for ids in INPUTS:
        output = forward(network, ids, output_router_logits=True)
        router = torch.cat([torch.softmax(layer[-1].float(), 0) for layer in output.router_logits])
        expected.append((unit(output.last_hidden_state[0, -1]), unit(router)))
    got = run(model, [row(ids, (len(ids) - 1, len(ids))) for ids in INPUTS])
    assert model.dim == got[0].dense.shape[0] == 16 + 2 * 4
    for one, (state, router) in zip(got, expected, strict=True):
        for other, (other_state, other_router) in zip(got, expected, strict=True):
            wanted = (float(state @ other_state) + 0.5 * float(router @ other_router)) / 1.5
            assert float(one.dense @ other.dense) == pytest.approx(wanted, abs=1e-5)


def test_moee_standardises_by_the_constants_beside_the_checkpoint(tmp_path: Path) -> None:
    folder = tiny_heads.save_mixture(tmp_path, "olmoe")
    torch.manual_seed(1)
    standards = routing.measure_standards(torch.randn(9, 16), torch.rand(9, 8))
    plain = run(load(folder, attention="causal", pooling="last", router_weight=1.0), [row(INPUTS[0], (7, 8))])
    routing.write_standards(folder / "router_standards.safetensors", standards)
    got = run(load(folder, attention="causal", pooling="last", router_weight=1.0), [row(INPUTS[0], (7, 8))])
    output = forward(AutoModel.from_pretrained(folder), INPUTS[0], output_router_logits=True)
    router = torch.cat([torch.softmax(layer[-1], 0) for layer in output.router_logits])
    parts = [
        unit((values - mean[0]) / deviation[0])
        for values, (mean, deviation) in (
            (output.last_hidden_state[0, -1], standards.state),
            (router, standards.routing),
        )
    ]
    assert_same_direction(got[0].dense, torch.cat(parts))
    assert not np.allclose(got[0].dense, plain[0].dense, atol=1e-3)


def test_a_model_without_experts_has_no_routing_to_read(tmp_path: Path) -> None:
    folder = tiny_models.save_llama(tmp_path)
    with pytest.raises(InvalidRecipe, match="no mixture of experts"):
        load(folder, attention="causal", pooling="last", router_weight=1.0)


def test_a_body_without_an_output_layer_cannot_say_the_next_word(tmp_path: Path) -> None:
    folder = tiny_models.save_llama(tmp_path)
    with pytest.raises((InvalidRecipe, ModelLoadFailed), match=r"lm_head|vocabulary"):
        load(folder, attention="causal", pooling="last", sparse_head="next_token")
