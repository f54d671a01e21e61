"""A tuned model: what its folder holds, and that a base with it gives the vectors that its tensors say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from embedder.checkpoint import open_checkpoint, recipe_for
from embedder.embedder import DocumentInput, Embedder
from embedder.errors import InvalidRecipe, ModelLoadFailed
from embedder.fingerprint import weights_digest
from embedder.sparse_heads import SparseHead, SparseHeadKind, build_sparse_head
from embedder.tuned import TunedModel, draft_folder, read_tuned, write_tuned
from tests.support import tiny_models

TEXTS = ["the cat sat on the mat .", "birds sang near the old tree while the dog slept", "a river"]
VOCABULARY, HIDDEN = len(tiny_models.VOCABULARY), 16


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_models.save_bert(tmp_path / "bert")


def described(base: Path, **fields: object) -> TunedModel:
    checkpoint = open_checkpoint(str(base), base)
    digest = weights_digest(checkpoint, recipe_for(checkpoint))
    return TunedModel(name="tuned", base=str(base), base_weights=digest, **fields)  # type: ignore[arg-type]


def sizes(kind: SparseHeadKind, **changes: int) -> dict[str, object]:
    return {"kind": kind, "hidden": HIDDEN, "vocabulary": VOCABULARY, "units": 8, "salient_every": 4, **changes}


def random_head(kind: SparseHeadKind, **changes: int) -> SparseHead:
    head = build_sparse_head(sizes(kind, **changes), torch.tensor([0, 1, 2, 3, 4, 5]))
    generator = torch.Generator().manual_seed(7)
    for parameter in head.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.5
    return head


def dense_rows(embedder: Embedder, *, query: bool) -> np.ndarray:
    """float32[n, v]: the sparse vectors of TEXTS, written out."""
    if query:
        vectors = [one.sparse for one in embedder.embed_queries(TEXTS)]
    else:
        documents = embedder.embed_documents([DocumentInput("", text) for text in TEXTS])
        vectors = [document.passages[0].vectors.sparse for document in documents]
    rows = np.zeros((len(TEXTS), VOCABULARY), np.float32)
    for row, vector in zip(rows, vectors, strict=True):
        assert vector is not None
        row[vector.ids] = vector.weights
    return rows


def states_of(base: Path) -> list[tuple[np.ndarray, torch.Tensor]]:
    """Ids and last states of each text, by transformers alone."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, network = AutoTokenizer.from_pretrained(base), AutoModel.from_pretrained(base).eval()
    found = []
    for text in TEXTS:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            found.append((ids[0].numpy(), network(ids).last_hidden_state[0]))
    return found


def plain_neighbours(head: SparseHead, ids: np.ndarray, states: torch.Tensor, *, query: bool) -> np.ndarray:
    """The formula of the neighbour head for one passage, token by token."""
    sums = np.zeros(VOCABULARY)
    side, count = (head.query, 4) if query else (head.document, 3)
    tokens = [token for token in ids.tolist() if not head.special[token]]
    with torch.no_grad():
        for token, state in zip(ids.tolist(), states, strict=True):
            if head.special[token]:
                continue
            direction = torch.nn.functional.normalize(side.turn(state - head.centre), dim=0)
            unit = torch.nn.functional.normalize(state - head.centre, dim=0)
            own, others = torch.nn.functional.softplus(
                side.outer(torch.nn.functional.gelu(side.inner(4 * unit)))
            ).tolist()
            cosine, threshold = float(direction @ head.decoder[token]), float(side.own_threshold)
            sums[token] += own * 2 * min(1.0, max(0.1, (cosine - threshold) / (1 - threshold)))
            if head.frequency[token] <= 1:
                continue
            for term in head.candidates[token, :count].tolist():
                cosine, threshold = float(direction @ head.decoder[term]), float(side.threshold)
                if term != token:
                    sums[term] += others * float(side.gain) * max(0.0, (cosine - threshold) / (1 - threshold))
    if not query:
        length = len(tokens) / float(head.mean_length)
        sums = sums * 2.2 / (sums + 1.2 * (0.25 + 0.75 * length))
    sums[head.special.numpy()] = 0
    return sums


@pytest.mark.parametrize("query", [False, True])
def test_the_neighbour_head_gives_the_weights_of_its_formula(base: Path, tmp_path: Path, query: bool) -> None:
    counts = {"neighbours": 3, "query_neighbours": 4}
    head = random_head("neighbours", **counts)
    generator = torch.Generator().manual_seed(3)
    head.candidates.copy_(torch.stack([torch.randperm(VOCABULARY, generator=generator)[:4] for _ in head.candidates]))
    head.centre.copy_(torch.randn(HIDDEN, generator=generator) * 0.1)
    head.decoder.data = torch.nn.functional.normalize(head.decoder.data, dim=1)
    head.frequency.data = 2 * head.frequency.data.abs()
    head.mean_length.fill_(5.0)
    for side in (head.query, head.document):
        side.gain.data.abs_()
    head.query.threshold.data.fill_(0.1)
    head.document.threshold.data.fill_(-0.2)
    tensors = {f"sparse.{name}": tensor for name, tensor in head.state_dict().items()}
    model = described(base, sparse_head=sizes("neighbours", **counts))
    write_tuned(tmp_path / "tuned", model, tensors, card="made by a test")
    with Embedder.load(str(tmp_path / "tuned")) as embedder:
        got = dense_rows(embedder, query=query)
    assert got.any(axis=1).all()
    expected = [plain_neighbours(head, ids, states, query=query) for ids, states in states_of(base)]
    np.testing.assert_allclose(got, np.stack(expected), atol=2e-5)


@pytest.mark.parametrize("query", [False, True])
def test_the_neighbour_head_weighs_alike_with_and_without_gradients(query: bool) -> None:
    generator = torch.Generator().manual_seed(5)
    head = random_head("neighbours", neighbours=3, query_neighbours=4, max_terms=6)
    # Terms repeat among a token's candidates where the vocabulary has too few.
    head.candidates.copy_(torch.randint(0, VOCABULARY, head.candidates.shape, generator=generator))
    head.frequency.data.fill_(2.0)
    head.document.gain.data.abs_()
    head.query.gain.data.abs_()
    states, ids = torch.randn(30, HIDDEN, generator=generator), torch.randint(0, VOCABULARY, (30,), generator=generator)
    owners = torch.arange(30) // 10
    trained = head(states, ids, owners, 3, query=query)
    with torch.inference_mode():
        found = head(states, ids, owners, 3, query=query)
    assert trained.requires_grad
    assert not found.requires_grad
    assert ((found > 0).sum(dim=1) == 6).all(), "each passage keeps its heaviest terms"
    np.testing.assert_allclose(found.numpy(), trained.detach().numpy(), atol=1e-6)


def plain_weights(head: SparseHead, ids: np.ndarray, states: torch.Tensor, *, query: bool) -> np.ndarray:
    """The head's formula for one passage, term by term."""
    with torch.no_grad():
        weights = np.zeros(VOCABULARY)
        kind = head.config.kind
        real = [i for i, token in enumerate(ids) if not head.special[token]]
        own = {}
        if kind in ("token_weight", "union"):
            for i in real:
                raw = head.outer(torch.nn.functional.gelu(head.inner(states[i]))) + head.term_bias[ids[i]]
                own[i] = float(torch.log1p(torch.nn.functional.softplus(raw)))
                weights[ids[i]] = max(weights[ids[i]], own[i])
        projected = []
        if kind == "mlm_max" or (query and kind != "token_weight"):
            projected = real
        elif kind == "union":
            projected = sorted(real, key=lambda i: -own[i])[: len(ids) // 4 + 1]
        logits = [head.token_transform(states[i]) @ head.decoder.T + head.bias for i in projected]
        if kind in ("landmark_lm", "union"):
            logits.append(head.passage_transform(states.mean(0)) @ head.decoder.T + head.bias + head.passage_bias)
        for row in logits:
            weights = np.maximum(weights, torch.log1p(torch.relu(row)).numpy())
        weights[head.special.numpy()] = 0
        return weights


@pytest.mark.parametrize("query", [False, True])
@pytest.mark.parametrize("kind", ["token_weight", "landmark_lm", "union", "mlm_max"])
def test_each_sparse_head_gives_the_weights_of_its_formula(
    base: Path, tmp_path: Path, kind: SparseHeadKind, query: bool
) -> None:
    head = random_head(kind)
    tensors = {f"sparse.{name}": tensor for name, tensor in head.state_dict().items()}
    write_tuned(tmp_path / "tuned", described(base, sparse_head=sizes(kind)), tensors, card="made by a test")
    with Embedder.load(str(tmp_path / "tuned")) as embedder:
        assert embedder.has_sparse
        got = dense_rows(embedder, query=query)
    expected = [plain_weights(head, ids, states, query=query) for ids, states in states_of(base)]
    np.testing.assert_allclose(got, np.stack(expected), atol=2e-5)


def test_a_limit_keeps_the_heaviest_terms_of_each_passage(base: Path, tmp_path: Path) -> None:
    for name, limit in (("all", 0), ("few", 3)):
        head = random_head("mlm_max", max_terms=limit)
        tensors = {f"sparse.{key}": tensor for key, tensor in head.state_dict().items()}
        described_head = described(base, sparse_head=sizes("mlm_max", max_terms=limit))
        write_tuned(tmp_path / name, described_head, tensors, card="made by a test")
    with Embedder.load(str(tmp_path / "all")) as everything, Embedder.load(str(tmp_path / "few")) as few:
        full, cut = dense_rows(everything, query=False), dense_rows(few, query=False)
    assert (np.count_nonzero(cut, axis=1) == 3).all()
    for whole, kept in zip(full, cut, strict=True):
        np.testing.assert_allclose(np.sort(kept)[-3:], np.sort(whole)[-3:], atol=1e-6)


def test_replaced_parameters_and_a_projection_change_the_dense_vectors_as_computed(base: Path, tmp_path: Path) -> None:
    rotation = torch.linalg.qr(torch.randn(HIDDEN, HIDDEN, generator=torch.Generator().manual_seed(1)))[0]
    name = "encoder.layer.1.output.LayerNorm.weight"
    tensors = {"dense.weight": rotation, f"backbone.{name}": torch.full((HIDDEN,), 2.0)}
    write_tuned(tmp_path / "tuned", described(base), tensors, card="made by a test")
    from transformers import AutoModel, AutoTokenizer

    tokenizer, network = AutoTokenizer.from_pretrained(base), AutoModel.from_pretrained(base).eval()
    network.get_parameter(name).data.fill_(2.0)
    with torch.inference_mode():
        states = [network(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0) for text in TEXTS]
    expected = torch.nn.functional.normalize(torch.stack(states) @ rotation.T, dim=1).numpy()
    with Embedder.load(str(tmp_path / "tuned")) as embedder:
        got = np.stack([query.dense for query in embedder.embed_queries(TEXTS)])
        assert (embedder.name, embedder.has_sparse) == ("tuned", False)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_the_fingerprint_of_a_tuned_model_differs_from_its_base_and_follows_its_tensors(
    base: Path, tmp_path: Path
) -> None:
    digests = []
    for scale in (1.0, 1.5):
        tensors = {"dense.weight": torch.eye(HIDDEN) * scale}
        write_tuned(tmp_path / "tuned", described(base), tensors, card="made by a test")
        with Embedder.load(str(tmp_path / "tuned")) as embedder:
            digests.append(embedder.fingerprint.digest)
    with Embedder.load(str(base)) as embedder:
        digests.append(embedder.fingerprint.digest)
    assert len(set(digests)) == 3


def test_a_base_with_other_weights_is_refused(base: Path, tmp_path: Path) -> None:
    write_tuned(tmp_path / "tuned", described(base), {"dense.weight": torch.eye(HIDDEN)}, card="made by a test")
    tiny_models.save_bert(base, seed=5)
    with pytest.raises(InvalidRecipe, match="was tuned on"):
        Embedder.load(str(tmp_path / "tuned"))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda text: text[: len(text) // 2], "cannot be read"),
        (lambda text: text.replace('"format": 1', '"format": 99'), "format 99"),
        (lambda text: text.replace('"recipe": {}', '"recipe": {"colour": 1}'), "field that does not exist"),
        (lambda text: text.replace('"recipe": {}', '"hue": 3'), "cannot be read"),
    ],
)
def test_a_damaged_description_is_refused_with_the_reason(
    base: Path, tmp_path: Path, change: object, problem: str
) -> None:
    write_tuned(tmp_path / "tuned", described(base), {"dense.weight": torch.eye(HIDDEN)}, card="made by a test")
    path = tmp_path / "tuned" / "landmark.json"
    path.write_text(change(path.read_text()))  # type: ignore[operator]
    with pytest.raises(ModelLoadFailed, match=problem):
        Embedder.load(str(tmp_path / "tuned"))


@pytest.mark.parametrize("missing", ["backbone.no.such.weight", "sparse"])
def test_tensors_that_do_not_fit_the_base_are_refused(base: Path, tmp_path: Path, missing: str) -> None:
    if missing == "sparse":
        model, tensors = described(base, sparse_head=sizes("mlm_max")), {"sparse.bias": torch.zeros(3)}
    else:
        model, tensors = described(base), {missing: torch.zeros(3)}
    write_tuned(tmp_path / "tuned", model, tensors, card="made by a test")
    with pytest.raises(ModelLoadFailed):
        Embedder.load(str(tmp_path / "tuned"))


def test_writing_again_replaces_the_whole_folder_and_leaves_no_draft(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tuned"
    for name in ("first", "second"):
        model = TunedModel(name=name, base=str(base), base_weights="0")
        write_tuned(folder, model, {"dense.weight": torch.eye(2)}, card=name)
    found = read_tuned(folder)
    assert found is not None
    assert found.name == "second"
    assert (folder / "card.md").read_text() == "second"
    assert not draft_folder(folder).exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bert", "tuned"]
    assert json.loads((folder / "landmark.json").read_text())["format"] == 1
