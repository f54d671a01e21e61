"""Systems with heads of their own, asked for by name, give the vectors of a plain computation from text to vector.

``test_embedder_checkpoint_heads`` proves the heads on given tokens; here the texts, prompts and positions are the system's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Router
from sentence_transformers.sparse_encoder.modules import MLMTransformer, SparseStaticEmbedding, SpladePooling
from torch import Tensor
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForTokenClassification

from embedder.checkpoint_heads.content_words import content_words
from embedder.embedder import DocumentInput, Embedder
from embedder.errors import InvalidInput, InvalidRecipe
from embedder.standards import standardise
from embedder.values import SparseVector
from tests.parity.test_embedder_checkpoint_heads import nv_embed
from tests.support import tiny_heads

# peft 0.21 reads an attribute that transformers 5.23 renamed.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

TEXTS = ["the dog ran far.", "A bad cafe: faded cabbage (baked), and a feedback face.", "birds"]
LONG = "The bad cab faded near the cafe. " * 40
TASK = "Given a web search query, retrieve relevant passages that answer the query"
SPECIAL = {tiny_heads.BYTES[token] for token in tiny_heads.SPECIAL}
CLS, SEP, BOS, EOS = (tiny_heads.BYTES[token] for token in ("[CLS]", "[SEP]", "<s>", "</s>"))


def ids_of(text: str) -> list[int]:
    """The byte tokenizer by hand: special tokens, and bytes."""
    found, rest = [], text
    while rest:
        token = next((token for token in tiny_heads.SPECIAL if rest.startswith(token)), rest[0])
        found.append(tiny_heads.BYTES["Ġ" if token == " " else "Ċ" if token == "\n" else token])
        rest = rest[len(token) :]
    return found


def forward(network: Any, ids: list[int], **options: Any) -> Any:
    with torch.inference_mode():
        return network.eval()(torch.tensor([ids]), **options)


def unit(vector: Tensor) -> Tensor:
    return vector / vector.norm()


def as_dict(vector: SparseVector | None) -> dict[int, float]:
    assert vector is not None
    return dict(zip(vector.ids.tolist(), vector.weights.tolist(), strict=True))


def positive(weights: Any) -> dict[int, float]:
    return {term: weight for term, weight in enumerate(weights) if weight > 0}


Vectors = dict[str, Any]  # "dense": Tensor, "sparse": weights by term, "multi": Tensor
Formula = Callable[[str, bool], Vectors]  # of a text, and whether it is a query


def check(name: str, folder: Path, formula: Formula, *, quoted: bool = False) -> None:
    """Compare a system's vectors of queries and documents, alone and in company, short and cut.

    ``quoted``: something follows the text, so that the space after a passage is no part of it.
    """
    template = "[CLS] $A [SEP]" if name.startswith(("splade", "opensearch")) else "<s> $A </s>"
    tiny_heads.save_byte_tokenizer(folder, template)
    with Embedder.load(f"{name}:{folder}") as embedder:
        queries = embedder.embed_queries(TEXTS)
        documents = embedder.embed_documents([DocumentInput("", text) for text in TEXTS])
        for text, query, document in zip(TEXTS, queries, documents, strict=True):
            (passage,) = document.passages
            compare(query, formula(text, True))
            compare(passage.vectors, formula(text, False))
        (alone,) = embedder.embed_documents([DocumentInput("", TEXTS[1])])
        compare(alone.passages[0].vectors, formula(TEXTS[1], False))
        (long,) = embedder.embed_documents([DocumentInput("", LONG)])
        assert len(long.passages) > 1, "the example must be split"
        ends = [*(passage.start for passage in long.passages[1:]), len(LONG)]
        for passage, end in zip(long.passages, ends, strict=True):
            part = LONG[passage.start : passage.end if quoted or end == len(LONG) else end]
            compare(passage.vectors, formula(part, False))


def compare(got: Any, wanted: Vectors) -> None:
    if "dense" in wanted:
        assert float(np.dot(got.dense, unit(wanted["dense"]).numpy())) >= 0.9999
    if "sparse" in wanted:
        assert as_dict(got.sparse) == pytest.approx(wanted["sparse"], abs=1e-4)
    if "multi" in wanted:
        np.testing.assert_allclose(got.multi, torch.nn.functional.normalize(wanted["multi"], dim=1), atol=1e-5)


def greatest(ids: list[int], weights: list[float]) -> dict[int, float]:
    found: dict[int, float] = {}
    for token, weight in zip(ids, weights, strict=True):
        if token not in SPECIAL and weight > 0:
            found[token] = max(weight, found.get(token, 0.0))
    return found


def test_bge_m3(tmp_path: Path) -> None:
    network = AutoModel.from_pretrained(tiny_heads.save_bge_m3(tmp_path))
    sparse, multi = (load_file(tmp_path / f"{name}_linear.safetensors") for name in ("sparse", "colbert"))

    def formula(text: str, query: bool) -> Vectors:
        ids = [BOS, *ids_of(text), EOS]
        states = forward(network, ids).last_hidden_state[0]
        weights = torch.relu(states @ sparse["weight"][0] + sparse["bias"]).tolist()
        vectors = states[1:] @ multi["weight"].T + multi["bias"]
        return {"dense": states[0], "sparse": greatest(ids, weights), "multi": vectors}

    check("bge-m3", tmp_path, formula)


def test_gte_multilingual(tmp_path: Path) -> None:
    network = AutoModelForTokenClassification.from_pretrained(tiny_heads.save_mgte(tmp_path))

    def formula(text: str, query: bool) -> Vectors:
        ids = [BOS, *ids_of(text), EOS]
        weights = torch.relu(forward(network, ids).logits[0, :, 0]).tolist()
        return {"dense": forward(network.gte, ids).last_hidden_state[0, 0], "sparse": greatest(ids, weights)}

    check("gte-multilingual-base", tmp_path, formula)


@pytest.mark.parametrize(
    ("name", "logarithms", "queries"),
    [
        ("splade-v2", 1, "model"),
        ("splade-pp", 1, "model"),
        ("splade-v3", 1, "model"),
        ("splade-doc", 1, "binary"),
        ("opensearch-doc-v2", 1, "idf"),
        ("opensearch-doc-v3", 2, "idf"),
    ],
)
def test_splade(tmp_path: Path, name: str, logarithms: int, queries: str) -> None:
    network = AutoModelForMaskedLM.from_pretrained(tiny_heads.save_splade(tmp_path))
    table = {tiny_heads.BYTES[letter]: 1 + i / 10 for i, letter in enumerate("abcdefgh")}

    def formula(text: str, query: bool) -> Vectors:
        if query and queries != "model":
            terms = [term for term in ids_of(text) if queries == "binary" or term in table]
            return {"sparse": {term: 1.0 if queries == "binary" else table[term] for term in terms}}
        weights = forward(network, [CLS, *ids_of(text), SEP]).logits[0].max(0).values.relu()
        for _ in range(logarithms):
            weights = torch.log1p(weights)
        dropped = SPECIAL if queries != "model" else set()
        return {"sparse": {t: w for t, w in positive(weights.tolist()).items() if t not in dropped}}

    check(name, tmp_path, formula)


def test_mistral_splade(tmp_path: Path) -> None:
    network = AutoModelForCausalLM.from_pretrained(tiny_heads.save_causal_lm(tmp_path))

    def formula(text: str, query: bool) -> Vectors:
        body = ids_of(text)
        ids = [BOS, *body, *ids_of(" "), *body, EOS]
        logits = forward(network, ids).logits[0, -1 - len(body) : -1]
        return {"sparse": positive(torch.log1p(logits.max(0).values.relu()).tolist())}

    check("mistral-splade", tmp_path, formula, quoted=True)


LLAMA = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nYou are an AI assistant that can understand human "
    'language.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n{Kind}: "*". Use one word to represent the {kind} in '
    "a retrieval task. Make sure your word is in lowercase.<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    'The word is: "'
)
MISTRAL = (
    '<s>[INST] You are an AI assistant that can understand human language. {Kind}: "*". Use one word to represent the '
    '{kind} in a retrieval task. Make sure your word is in lowercase. [/INST]The word is: "'
)
PHI = (
    "<s><|system|>\nYou are an AI assistant that can understand human language.<|end|>\n<|user|>\n"
    '{Kind}: "*". Use one word to represent the {kind} in a retrieval task. Make sure your word is in lowercase.<|end|>\n'
    '<|assistant|>\nThe word is: "'
)


@pytest.mark.parametrize(
    ("name", "template"),
    [("promptreps-llama-3", LLAMA), ("promptreps-mistral", MISTRAL), ("promptreps-phi-3", PHI)],
)
def test_promptreps(tmp_path: Path, name: str, template: str) -> None:
    network = AutoModelForCausalLM.from_pretrained(tiny_heads.save_causal_lm(tmp_path, positions=1024))

    def formula(text: str, query: bool) -> Vectors:
        kind = "query" if query else "passage"
        before, after = template.replace("{Kind}", kind.title()).replace("{kind}", kind).split("*")
        output = forward(network, ids_of(before + text + after), output_hidden_states=True)
        weights = torch.log1p(output.logits[0, -1].relu()).tolist()
        terms = {token for word in content_words(text) for token in ids_of(word)}
        kept = sorted(terms, key=lambda term: -weights[term])[:128]
        rounded = {term: float(round(100 * weights[term])) for term in kept}
        sparse = {term: weight for term, weight in rounded.items() if weight > 0}
        return {"dense": output.hidden_states[-1][0, -1], "sparse": sparse}

    check(name, tmp_path, formula, quoted=True)


@pytest.mark.parametrize("name", ["nv-embed-v1", "nv-embed-v2"])
def test_nv_embed(tmp_path: Path, name: str) -> None:
    backbone, latent = tiny_heads.save_nv_embed(tmp_path)

    def formula(text: str, query: bool) -> Vectors:
        prompt = f"Instruct: {TASK}\nQuery: " if query else ""
        ids = [BOS, *ids_of(prompt + text), EOS]
        everything = torch.zeros(1, 1, len(ids), len(ids))
        states = forward(backbone, ids, attention_mask=everything, use_cache=False).last_hidden_state[0]
        masked = len(ids_of(prompt))  # without the start token, so that the prompt's last token stays in the mean
        return {"dense": nv_embed(latent, states)[masked:].mean(0)}

    check(name, tmp_path, formula)


@pytest.mark.parametrize(
    ("name", "prompts", "sides"),
    [
        (
            "jina-embeddings-v3",
            ("Represent the query for retrieving evidence documents: ", "Represent the document for retrieval: "),
            ("retrieval_query", "retrieval_passage"),
        ),
        ("jina-embeddings-v3-text-matching", ("", ""), ("text_matching", "text_matching")),
    ],
)
def test_jina_v3(tmp_path: Path, name: str, prompts: tuple[str, str], sides: tuple[str, str]) -> None:
    tiny_heads.save_jina_v3(tmp_path, adapters=sides)
    networks = {
        side: PeftModel.from_pretrained(AutoModel.from_pretrained(tmp_path), str(tmp_path / side)) for side in sides
    }

    def formula(text: str, query: bool) -> Vectors:
        prompt, side = (pair[0 if query else 1] for pair in (prompts, sides))
        return {"dense": forward(networks[side], [BOS, *ids_of(prompt + text), EOS]).last_hidden_state[0].mean(0)}

    check(name, tmp_path, formula)


@pytest.mark.parametrize(
    ("name", "template"), [("moee", '"*"'), ("moee-prompteol", 'This sentence : "*" means in one word:"')]
)
def test_moee(tmp_path: Path, name: str, template: str) -> None:
    network = AutoModel.from_pretrained(tiny_heads.save_mixture(tmp_path, "olmoe"))

    def formula(text: str, query: bool) -> Vectors:
        cleaned = text if name == "moee" or text.strip()[-1] == "." else text.strip() + "."
        ids = [BOS, *ids_of(template.replace("*", cleaned.strip() if name != "moee" else text))]
        output = forward(network, ids, output_router_logits=True)
        router = torch.cat([torch.softmax(layer[-1].float(), 0) for layer in output.router_logits])
        return {"dense": torch.cat((unit(output.last_hidden_state[0, -1]), unit(router)))}

    check(name, tmp_path, formula, quoted=True)


@pytest.mark.filterwarnings("ignore:.*MLMTransformer")
@pytest.mark.parametrize("layout", ["sentence-transformers", "hub"])
def test_an_inference_free_checkpoint_is_used_as_its_own_files_say(tmp_path: Path, layout: str) -> None:
    plain = tiny_heads.save_splade(tmp_path / "plain")
    tiny_heads.save_byte_tokenizer(plain, "[CLS] $A [SEP]")
    encoder = MLMTransformer(str(plain), max_seq_length=64)
    queries = SparseStaticEmbedding.from_json(str(plain / "idf.json"), tokenizer=encoder.tokenizer)
    pooling = SpladePooling("max", activation_function="log1p_relu")
    router = Router.for_query_document(query_modules=[queries], document_modules=[encoder, pooling])
    theirs = SparseEncoder(modules=[router])
    theirs.save(str(tmp_path / "saved"))
    folder = tmp_path / "saved"
    if layout == "hub":  # OpenSearch's own: the network at the root, and the table beside it
        for path in (folder / "document_0_MLMTransformer").iterdir():
            path.rename(folder / path.name)
        (plain / "idf.json").rename(folder / "idf.json")
    with Embedder.load(str(folder)) as embedder:
        got = embedder.embed_queries(TEXTS)
        passages = embedder.embed_documents([DocumentInput("", text) for text in TEXTS])
        assert not embedder.has_dense
    short = [text[:62] for text in TEXTS]
    wanted = theirs.encode_query(short, convert_to_sparse_tensor=False)
    documents = theirs.encode_document(short, convert_to_sparse_tensor=False)
    for text, query, document, mine, passage in zip(TEXTS, wanted, documents, got, passages, strict=True):
        assert as_dict(mine.sparse) == pytest.approx(positive(query.tolist()))
        if len(text) <= 62:
            kept = {t: w for t, w in positive(document.tolist()).items() if t not in SPECIAL}
            assert as_dict(passage.passages[0].vectors.sparse) == pytest.approx(kept, abs=1e-5)


def test_moee_is_standardised_by_a_sample_that_stays_with_the_checkpoint(tmp_path: Path) -> None:
    network = AutoModel.from_pretrained(tiny_heads.save_mixture(tmp_path, "qwen2_moe"))
    tiny_heads.save_byte_tokenizer(tmp_path, "<s> $A")

    def parts(text: str) -> tuple[Tensor, Tensor]:
        output = forward(network, [BOS, *ids_of(f'"{text}"')], output_router_logits=True)
        router = torch.cat([torch.softmax(layer[-1].float(), 0) for layer in output.router_logits])
        return output.last_hidden_state[0, -1], router

    sample = [*TEXTS, "an old tree", "cats and dogs"]
    with Embedder.load(f"moee:{tmp_path}") as embedder:
        before = embedder.fingerprint.digest
    standardise(f"moee:{tmp_path}", [*sample, " "])
    measured = [torch.stack(values) for values in zip(*map(parts, sample), strict=True)]
    with Embedder.load(f"moee:{tmp_path}") as embedder:
        assert embedder.fingerprint.digest != before
        for text, got in zip(["birds sing", *TEXTS], embedder.embed_queries(["birds sing", *TEXTS]), strict=True):
            wanted = [
                unit((value - sampled.mean(0)) / sampled.std(0, correction=0))
                for value, sampled in zip(parts(text), measured, strict=True)
            ]
            assert float(np.dot(got.dense, unit(torch.cat(wanted)).numpy())) >= 0.9999


def test_a_sample_of_one_text_has_no_deviation(tmp_path: Path) -> None:
    tiny_heads.save_mixture(tmp_path, "olmoe")
    with pytest.raises(InvalidInput, match="at least two"):
        standardise(f"moee:{tmp_path}", ["one", ""])
    with pytest.raises(InvalidRecipe, match="does not read the router"):
        standardise(str(tmp_path), TEXTS)
