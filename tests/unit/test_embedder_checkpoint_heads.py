"""Does each head compute what its paper says, written out plainly?"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from torch import nn

from cli.main import main
from embedder import sparse_heads
from embedder.checkpoint import open_checkpoint
from embedder.checkpoint_heads import (
    content_words,
    convert,
    files,
    latent_attention,
    routing,
    term_queries,
    token_heads,
    vocabulary,
)
from embedder.errors import InvalidRecipe, ModelLoadFailed, UnsafeWeights
from embedder.values import SparseVector
from tests.support import tiny_models

HIDDEN, VOCABULARY = 6, 12
SPANS = np.array([[0, 4], [4, 5], [5, 9]])
IDS = np.array([2, 7, 7, 3, 2, 2, 8, 7, 3])  # 2 and 3 are special; 7 repeats


def as_dict(vector: SparseVector) -> dict[int, float]:
    assert (np.diff(vector.ids.astype(np.int64)) > 0).all()
    return dict(zip(vector.ids.tolist(), vector.weights.tolist(), strict=True))


@pytest.fixture
def states() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(len(IDS), HIDDEN)


def test_a_repeated_token_weighs_the_greatest_of_its_weights_and_special_tokens_weigh_nothing(
    states: torch.Tensor,
) -> None:
    head = nn.Linear(HIDDEN, 1).requires_grad_(False)
    with torch.no_grad():
        head.bias.fill_(2.0)
    got = token_heads.weigh_tokens(
        states, IDS, SPANS, files.Linear(head.weight, head.bias), token_heads.dropped_ids([2, 3], VOCABULARY)
    )
    with torch.no_grad():
        weights = torch.relu(head(states)).squeeze(1).tolist()
    for vector, (start, end) in zip(got, SPANS.tolist(), strict=True):
        expected: dict[int, float] = {}
        for position in range(start, end):
            term = int(IDS[position])
            if term not in (2, 3) and weights[position] > 0:
                expected[term] = max(expected.get(term, 0.0), weights[position])
        assert as_dict(vector) == pytest.approx(expected)
    assert len(as_dict(got[0])) == 1, "the example must have a duplicate"


def test_token_vectors_are_unit_vectors_without_the_first_token(states: torch.Tensor) -> None:
    head = nn.Linear(HIDDEN, 4).requires_grad_(False)
    got = token_heads.token_vectors(states, SPANS, files.Linear(head.weight, head.bias))
    for vectors, (start, end) in zip(got, SPANS.tolist(), strict=True):
        with torch.no_grad():
            expected = [head(states[i]) / head(states[i]).norm() for i in range(start + 1, end)]
        assert vectors.shape == (end - start - 1, 4)
        for vector, wanted in zip(vectors, expected, strict=True):
            np.testing.assert_allclose(vector, wanted.numpy(), atol=1e-6)


def test_a_text_of_no_token_has_no_token_vectors(states: torch.Tensor) -> None:
    head = files.Linear(torch.ones(4, HIDDEN), None)
    assert [part.shape for part in token_heads.token_vectors(states, np.array([[3, 4]]), head)] == [(0, 4)]


def test_a_pickled_head_is_refused_with_the_command_that_converts_it(tmp_path: Path) -> None:
    layer = nn.Linear(HIDDEN, 1)
    torch.save(layer.state_dict(), tmp_path / "sparse_linear.pt")

    def load() -> files.Linear:
        return files.read_linear(tmp_path, token_heads.SPARSE_PLACES, "sparse head", device="cpu", dtype=torch.float32)

    with pytest.raises(ModelLoadFailed, match=r"sparse_linear\.pt.*models convert") as refused:
        load()
    command = str(refused.value).split("`")[1].split()
    assert command[0] == "engine"
    assert CliRunner().invoke(main, command[1:]).exit_code == 0
    assert torch.equal(load().weight, layer.weight)
    assert convert.convert(tmp_path) == [], "a second run writes nothing"


def test_a_pickle_of_anything_but_tensors_is_not_opened(tmp_path: Path) -> None:
    torch.save({"weight": Path("x")}, tmp_path / "sparse_linear.pt")
    with pytest.raises(ModelLoadFailed, match="more than weights"):
        convert.convert(tmp_path)


def test_a_checkpoint_without_the_head_is_refused_with_the_places_looked_at(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadFailed, match=r"colbert_linear\.safetensors"):
        files.read_linear(tmp_path, token_heads.MULTI_PLACES, "multi-vector head", device="cpu", dtype=torch.float32)


@pytest.mark.parametrize("activation", ["relu", "log1p", "log1p_log1p"])
@pytest.mark.parametrize("pooling", ["max", "sum"])
@pytest.mark.parametrize("softcap", [0.0, 3.0])
def test_vocabulary_weights_are_pooled_logits_through_the_activation(
    states: torch.Tensor, activation: str, pooling: str, softcap: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparse_heads, "VOCABULARY_CHUNK", 5)
    decoder, bias = torch.randn(VOCABULARY, HIDDEN), torch.randn(VOCABULARY)
    counts = [4, 0, 5]
    got = sparse_heads.vocabulary_weights(
        states,
        counts,
        decoder,
        bias,
        pooling=pooling,
        activation=activation,
        softcap=softcap,  # type: ignore[arg-type]
    )
    logs = {"relu": 0, "log1p": 1, "log1p_log1p": 2}[activation]
    start = 0
    for row, count in zip(got, counts, strict=True):
        expected = torch.zeros(VOCABULARY)
        for state in states[start : start + count]:
            for term in range(VOCABULARY):
                logit = float(decoder[term] @ state + bias[term])
                value = max(0.0, softcap * math.tanh(logit / softcap) if softcap else logit)
                for _ in range(logs):
                    value = math.log1p(value)
                expected[term] = max(expected[term], value) if pooling == "max" else expected[term] + value
        torch.testing.assert_close(row, expected, atol=1e-5, rtol=1e-5)
        start += count


class TestNextToken:
    layer = vocabulary.VocabularyLayer(
        torch.randn(VOCABULARY, HIDDEN, generator=torch.Generator().manual_seed(1)), None
    )

    def weights(self, state: torch.Tensor) -> list[float]:
        return [math.log1p(max(0.0, float(row @ state))) for row in self.layer.weight]

    def test_only_the_texts_own_terms_weigh_anything_in_whole_hundredths(self, states: torch.Tensor) -> None:
        allowed = np.array([9, 1, 4, 5, 0])
        options = vocabulary.NextTokenOptions(terms=2)
        got = as_dict(vocabulary.next_token_vectors(states[:1], [allowed], self.layer, options)[0])
        values = self.weights(states[0])
        heaviest = sorted(allowed.tolist(), key=lambda term: -values[term])[:2]
        assert got == {t: float(round(100 * values[t])) for t in sorted(heaviest) if round(100 * values[t]) > 0}
        assert got, "the example must keep a term"

    def test_a_text_without_content_words_takes_the_ten_heaviest_of_the_vocabulary(self, states: torch.Tensor) -> None:
        nothing = np.empty(0, np.int64)
        got = as_dict(
            vocabulary.next_token_vectors(states[1:2], [nothing], self.layer, vocabulary.NextTokenOptions())[0]
        )
        values = self.weights(states[1])
        heaviest = sorted(range(VOCABULARY), key=lambda term: -values[term])[:10]
        assert got == {t: float(round(100 * values[t])) for t in sorted(heaviest) if round(100 * values[t]) > 0}

    def test_expansion_adds_the_heaviest_terms_that_the_text_does_not_say(self, states: torch.Tensor) -> None:
        expandable = np.ones(VOCABULARY, np.bool_)
        expandable[:3] = False
        values = self.weights(states[2])
        said = np.array([int(np.argmax(values))])
        options = vocabulary.NextTokenOptions(scale=0, expansion=2)
        got = as_dict(vocabulary.next_token_vectors(states[2:3], [said], self.layer, options, expandable)[0])
        others = sorted((t for t in range(3, VOCABULARY) if t != said[0]), key=lambda t: -values[t])[:2]
        assert got == pytest.approx({t: values[t] for t in sorted([int(said[0]), *others]) if values[t] > 0}, abs=1e-5)


class TestContentWords:
    def test_stop_words_are_nltks_179(self) -> None:
        assert len(content_words.STOP_WORDS) == 179

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("The quick brown fox jumps over the lazy dog.", "quick brown fox jumps lazy dog"),
            ("I don't think so; it's 5% of $1,000!", "n't think 's 5 1,000"),
            ('He said: "State-of-the-art (U.S.) models, e.g. GPT-4"', "said state-of-the-art u.s models e.g gpt-4"),
            ("the of and", ""),
            ("Dog dog DOG", "dog"),
            ("at 12:30, a/b testing -- slow... fast", "12:30 a/b testing slow fast"),
        ],
    )
    def test_content_words_are_lower_cased_distinct_and_without_punctuation(self, text: str, words: str) -> None:
        assert content_words.content_words(text) == words.split()

    def test_only_letters_and_digits_that_begin_with_a_letter_may_expand(self) -> None:
        assert [content_words.may_expand(term) for term in ("dog", "b2b", "Dog", "2b", "##s", "", "né")] == [
            True, True, False, False, False, False, False,
        ]  # fmt: skip


class TestTermQueries:
    def test_a_token_counts_once_by_its_weight_in_the_table(self, tmp_path: Path) -> None:
        (tmp_path / "idf.json").write_text('{"cat": 2.5, "dog": 1.5, "[CLS]": 9.0, "unheard": 3.0}')
        special = np.array([True, False, False, False])
        weights = term_queries.read_table(tmp_path / "idf.json", {"[CLS]": 0, "cat": 1, "dog": 2, "the": 3}, special)
        got = term_queries.term_query(np.array([0, 2, 1, 2, 3], np.int32), weights)
        assert as_dict(got) == {1: 2.5, 2: 1.5}

    def test_a_binary_query_gives_each_distinct_token_one(self) -> None:
        weights = term_queries.binary_weights(np.array([True, False, False]))
        assert as_dict(term_queries.term_query(np.array([0, 2, 2], np.int32), weights)) == {2: 1.0}

    @pytest.mark.parametrize("table", ["[1]", "{", '{"cat": "x"}', '{"unheard": 1.0}'])
    def test_a_table_that_gives_no_weights_is_refused(self, tmp_path: Path, table: str) -> None:
        (tmp_path / "idf.json").write_text(table)
        with pytest.raises(ModelLoadFailed, match=r"idf\.json"):
            term_queries.read_table(tmp_path / "idf.json", {"cat": 0}, np.array([False]))


class TestLatentAttention:
    heads, head_width, n_latents = 2, 5, 3

    def tensors(self) -> dict[str, torch.Tensor]:
        torch.manual_seed(3)
        inner = self.heads * self.head_width
        shapes = {
            "latents": (self.n_latents, HIDDEN),
            "norm": (HIDDEN,), "norm_bias": (HIDDEN,), "latent_norm": (HIDDEN,), "latent_norm_bias": (HIDDEN,),
            "to_q": (inner, HIDDEN), "to_kv": (2 * inner, HIDDEN), "to_out": (HIDDEN, inner),
            "inner_norm": (HIDDEN,), "inner_norm_bias": (HIDDEN,),
            "up": (16, HIDDEN), "up_bias": (16,), "down": (HIDDEN, 8), "down_bias": (HIDDEN,),
        }  # fmt: skip
        return {name: torch.randn(shape) for name, shape in shapes.items()}

    def expected(self, w: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        """The formula, one head and one token at a time."""

        def norm(v: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
            return (v - v.mean()) / torch.sqrt(((v - v.mean()) ** 2).mean() + 1e-5) * scale + shift

        inner = self.heads * self.head_width
        latents = torch.stack([norm(row, w["latent_norm"], w["latent_norm_bias"]) for row in w["latents"]])
        rows = []
        for token in x:
            query = w["to_q"] @ norm(token, w["norm"], w["norm_bias"])
            keys, values = latents @ w["to_kv"][:inner].T, latents @ w["to_kv"][inner:].T
            read = []
            for head in range(self.heads):
                part = slice(head * self.head_width, (head + 1) * self.head_width)
                share = torch.softmax(keys[:, part] @ query[part] / math.sqrt(self.head_width), 0)
                read.append(share @ values[:, part])
            token = token + w["to_out"] @ torch.cat(read)
            hidden = w["up"] @ norm(token, w["inner_norm"], w["inner_norm_bias"]) + w["up_bias"]
            gate = hidden[8:]
            gelu = gate * 0.5 * (1 + torch.erf(gate / math.sqrt(2)))
            rows.append(token + w["down"] @ (hidden[:8] * gelu) + w["down_bias"])
        return torch.stack(rows)

    def test_states_attend_to_the_latents_as_the_formula_says(
        self, states: torch.Tensor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(latent_attention, "CHUNK", 4)
        tensors = self.tensors()
        head = latent_attention.build_latent_attention(tensors, self.heads)
        torch.testing.assert_close(head(states), self.expected(tensors, states), atol=1e-4, rtol=1e-4)

    def test_weights_are_found_under_nv_embeds_names_in_any_shard(self, tmp_path: Path, states: torch.Tensor) -> None:
        tensors = self.tensors()
        named = {"latent_attention_model." + latent_attention.NAMES[name]: value for name, value in tensors.items()}
        names = sorted(named)
        save_file({name: named[name] for name in names[:5]}, tmp_path / "model-1.safetensors")
        save_file({name: named[name] for name in names[5:]}, tmp_path / "model-2.safetensors")
        head = latent_attention.load_latent_attention(tmp_path, self.heads, device="cpu", dtype=torch.float32)
        torch.testing.assert_close(head(states), self.expected(tensors, states), atol=1e-4, rtol=1e-4)

    def test_a_missing_tensor_is_named(self, tmp_path: Path) -> None:
        save_file({"other": torch.zeros(1)}, tmp_path / "model.safetensors")
        with pytest.raises(ModelLoadFailed, match=r"latent_attention_model\.latents"):
            latent_attention.load_latent_attention(tmp_path, 2, device="cpu", dtype=torch.float32)

    def test_heads_that_do_not_divide_the_width_are_refused(self) -> None:
        with pytest.raises(InvalidRecipe, match="no 3 equal heads"):
            latent_attention.build_latent_attention(self.tensors(), 3)


class TestRouting:
    def test_the_cosine_of_combined_vectors_is_the_weighted_sum_of_both_cosines(self) -> None:
        torch.manual_seed(5)
        states, routes = torch.randn(4, HIDDEN), torch.rand(4, 10)
        for alpha in (0.25, 1.0, 2.0):
            combined = routing.combine(states, routes, alpha)
            torch.testing.assert_close(combined.norm(dim=1), torch.ones(4))
            for i in range(4):
                for j in range(4):
                    state_cosine = float(states[i] @ states[j] / states[i].norm() / states[j].norm())
                    route_cosine = float(routes[i] @ routes[j] / routes[i].norm() / routes[j].norm())
                    wanted = (state_cosine + alpha * route_cosine) / (1 + alpha)
                    assert float(combined[i] @ combined[j]) == pytest.approx(wanted, abs=1e-5)

    def test_routing_weights_are_the_softmax_of_every_layer_at_the_positions(self) -> None:
        layers = [torch.randn(6, 3), torch.randn(6, 3)]
        got = routing.routing_weights(layers, torch.tensor([5, 2]))
        for row, position in zip(got, (5, 2), strict=True):
            expected = []
            for logits in layers:
                shares = [math.exp(float(value)) for value in logits[position]]
                expected += [share / sum(shares) for share in shares]
            assert row.tolist() == pytest.approx(expected, abs=1e-6)

    def test_stored_standards_make_a_vector_independent_of_its_batch(self, tmp_path: Path) -> None:
        torch.manual_seed(6)
        states, routes = torch.randn(8, HIDDEN) + 3, torch.rand(8, 4)
        routes[:, 0] = 0.5  # a dimension that never changes
        routing.write_standards(tmp_path / "s.safetensors", routing.measure_standards(states, routes))
        standards = routing.read_standards(tmp_path / "s.safetensors", "cpu")
        together = routing.combine(states, routes, 1.0, standards)
        alone = torch.cat([routing.combine(states[i : i + 1], routes[i : i + 1], 1.0, standards) for i in range(8)])
        torch.testing.assert_close(together, alone)
        assert together.isfinite().all()
        standardised = (states - states.mean(0)) / states.std(0, correction=0)
        first = standardised[0] / standardised[0].norm() / math.sqrt(2)
        torch.testing.assert_close(together[0, :HIDDEN], first, atol=1e-5, rtol=1e-5)

    def test_a_file_without_the_constants_is_refused(self, tmp_path: Path) -> None:
        save_file({"state.mean": torch.zeros(1)}, tmp_path / "s.safetensors")
        assert list(load_file(tmp_path / "s.safetensors")) == ["state.mean"]
        with pytest.raises(ModelLoadFailed, match=r"routing\.mean"):
            routing.read_standards(tmp_path / "s.safetensors", "cpu")


def test_a_checkpoint_of_pickles_loads_after_conversion(tmp_path: Path) -> None:
    folder = tiny_models.save_bert(tmp_path / "bert")
    tensors = load_file(folder / "model.safetensors")
    tied = next(iter(tensors.values()))
    torch.save(tensors | {"a.second.name": tied}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UnsafeWeights, match=r"pytorch_model\.bin.*models convert"):
        open_checkpoint("bert", folder)
    assert convert.convert(folder) == [folder / "model.safetensors"]
    converted = load_file(open_checkpoint("bert", folder).folder / "model.safetensors")
    assert all(torch.equal(converted[name], tensor) for name, tensor in tensors.items())
