"""Dense systems of the catalogue, by name, against their formula written out plainly on the tokens of each input.

Every case runs a tiny random network of the system's architecture. The reference runs one unpadded input at a time through
transformers, finds the pooled tokens as the system's own code does, and knows nothing of recipes; the prompt probes run
padded on the left, as theirs does. Where a reference passes attention masks of its own, no setting can be wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from embedder.embedder import DocumentInput, Embedder
from tests.support import tiny_architectures

TEXTS = [
    "the dog ran far.",
    "A cat slept under the old tree, near the river, while birds sang!",
    "birds",
    'Did the "old" dog run over the hill?',
]
TASK = "Given a web search query, retrieve relevant passages that answer the query"
BOS, EOS, END = (tiny_architectures.SPECIAL.index(token) for token in ("<s>", "</s>", "<|endoftext|>"))


@dataclass(frozen=True)
class Reference:
    """A checkpoint as its system's own code would use it."""

    folder: Path

    @cached_property
    def tokenizer(self) -> Any:
        return transformers.AutoTokenizer.from_pretrained(self.folder)

    @cached_property
    def network(self) -> Any:
        config = transformers.AutoConfig.from_pretrained(self.folder)
        kind = transformers.T5EncoderModel if config.model_type == "t5" else transformers.AutoModel
        return kind.from_pretrained(self.folder, attn_implementation="eager").eval()

    def ids(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return found

    def states(self, ids: list[int], *, everything: bool = False) -> Tensor:
        """The last hidden states of one input; ``everything``: each token sees all others, whatever the settings say."""
        options = {"attention_mask": torch.zeros(1, 1, len(ids), len(ids))} if everything else {}
        with torch.inference_mode():
            found: Tensor = self.network(input_ids=torch.tensor([ids]), **options).last_hidden_state[0]
        return found

    def last_of_left_padded(self, texts: list[str], layer: int) -> list[Tensor]:
        """What the prompt probes take: the last position of a batch that is padded on the left."""
        rows = [[BOS, *self.ids(text)] for text in texts]
        longest = max(len(row) for row in rows)
        ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
        with torch.inference_mode():
            states = self.network(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        return list(states[layer][:, -1])


Vector = Callable[[Reference, str, bool], Tensor]  # of a text, and whether it is a query


def bare(m: Reference, text: str, query: bool) -> Tensor:
    return m.states([BOS, *m.ids(f"Instruct: {TASK}\nQuery: {text}" if query else text), EOS])[-1]


def qwen3(m: Reference, text: str, query: bool) -> Tensor:
    return m.states([*m.ids(f"Instruct: {TASK}\nQuery:{text}" if query else text), END])[-1]


def gte_qwen(m: Reference, text: str, query: bool) -> Tensor:
    ids = [*m.ids(f"Instruct: {TASK}\nQuery: {text}" if query else text), END]
    return m.states(ids, everything=True)[-1]


def bge_icl(m: Reference, text: str, query: bool) -> Tensor:
    return m.states([BOS, *m.ids(f"<instruct>{TASK}.\n<query>{text}\n<response>" if query else text), EOS])[-1]


def gritlm(m: Reference, text: str, query: bool) -> Tensor:
    prompt = f"<|user|>\n{TASK}\n<|embed|>\n" if query else "<|embed|>\n"
    states = m.states([BOS, *m.ids(prompt + text)], everything=True)
    return states[len([BOS, *m.ids(prompt)]) :].mean(0)


def llm2vec(m: Reference, text: str, query: bool) -> Tensor:
    opening = "<|start_header_id|>user<|end_header_id|>\n\n" + (f"{TASK}: " if query else "")
    begin = tiny_architectures.SPECIAL.index("<|begin_of_text|>")
    states = m.states([begin, *m.ids(opening + text + "<|eot_id|>")], everything=True)
    return states[-len(m.ids(text + "<|eot_id|>")) :].mean(0)


def instructor(m: Reference, text: str, query: bool) -> Tensor:
    kind = "question for retrieving supporting documents" if query else "document for retrieval"
    prompt = f"Represent the Wikipedia {kind}: "
    n_masked = len([*m.ids(prompt), EOS]) - 1
    pooled = m.states([*m.ids(prompt + text), EOS])[n_masked:].mean(0)
    return dense_weight(m) @ pooled


def gemma(m: Reference, text: str, query: bool) -> Tensor:
    prompt = "task: search result | query: " if query else "title: none | text: "
    return m.states([BOS, *m.ids(prompt + text), EOS]).mean(0)


def dense_weight(m: Reference) -> Tensor:
    from safetensors.torch import load_file

    return load_file(m.folder / "2_Dense" / "model.safetensors")["linear.weight"]


def sgpt(m: Reference, text: str, query: bool) -> Tensor:
    opening, closing = (m.ids(bracket)[0] for bracket in ("[]" if query else "{}"))
    states = m.states([opening, *m.ids(text), closing])
    weights = torch.arange(1, len(states) + 1, dtype=torch.float32)
    return (states * weights[:, None]).sum(0) / weights.sum()


def sgpt_nli(m: Reference, text: str, query: bool) -> Tensor:
    states = m.states(m.ids(text))
    return sum(i * state for i, state in enumerate(states, 1)) / sum(range(1, len(states) + 1))  # type: ignore[return-value]


def echo_parts(m: Reference, text: str, query: bool) -> tuple[Tensor, int]:
    """States, and where the second copy begins; each piece is tokenised on its own."""
    pieces = ["Document:", text, "\nDocument again:", text]
    if query:
        pieces = ["Instruct:", TASK, ",\nQuery:", text, "\nQuery again:", text]
    ids = [BOS, *(i for piece in pieces for i in m.ids(piece)), EOS]
    return m.states(ids), len(ids) - 1 - len(m.ids(text))


def echo_mean(m: Reference, text: str, query: bool) -> Tensor:
    states, start = echo_parts(m, text, query)
    return states[start:].mean(0)


def echo_last(m: Reference, text: str, query: bool) -> Tensor:
    return echo_parts(m, text, query)[0][-1]


def echo_zero_shot(m: Reference, text: str, query: bool) -> Tensor:
    del query
    pieces = ["Rewrite the following sentence: ", text, "\nThe rewritten sentence: ", text]
    ids = [BOS, *(i for piece in pieces for i in m.ids(piece))]
    return m.states(ids)[len(ids) - len(m.ids(text)) :].mean(0)


def clean(text: str) -> str:
    if text[-1] not in ".?\"'":
        text += "."
    text = text.replace('"', "'")
    return text[:-1] + "." if text[-1] == "?" else text


def probe(template: str, layer: int = -1) -> Vector:
    def vector(m: Reference, text: str, query: bool) -> Tensor:
        del query
        others = [template.replace("*", clean(other)) for other in TEXTS]  # company, so that there is padding
        return m.last_of_left_padded([template.replace("*", clean(text)), *others], layer)[0]

    return vector


KNOWLEDGE = (
    "The essence of a sentence is often captured by its main subjects and actions, while descriptive terms provide "
    'additional but less central details. With this in mind , this sentence : "*" means in one word:"'
)
THINKING = 'After thinking step by step , this sentence : "*" means in one word:"'
ICL = (
    'This sentence : "A jockey riding a horse." means in one word:"Equestrian".This sentence : "*" means in one word:"'
)


def metaeol(m: Reference, text: str, query: bool) -> Tensor:
    """The plain mean of eight vectors; the templates are the catalogue's, their ends and number are checked elsewhere."""
    from embedder.catalogue import find_system

    templates = find_system("metaeol").recipe["query_template"]
    assert isinstance(templates, list | tuple)
    assert len(set(templates)) == 8
    found = [probe(str(template).replace("{text}", "*"))(m, text, query) for template in templates]
    return torch.stack(found).mean(0)


CASES: dict[tuple[str, str], Vector] = {
    ("e5-mistral-7b-instruct", "mistral"): bare,
    ("sfr-embedding-mistral", "mistral"): bare,
    ("linq-embed-mistral", "mistral"): bare,
    ("zeta-alpha-e5-mistral", "mistral"): bare,
    ("rare", "mistral"): bare,
    ("qwen3-embedding", "qwen3"): qwen3,
    ("gte-qwen2", "qwen2"): gte_qwen,
    ("gte-qwen1.5", "qwen2"): gte_qwen,
    ("bge-en-icl", "mistral"): bge_icl,
    ("gritlm-7b", "mistral"): gritlm,
    ("llm2vec-llama-3", "llama"): llm2vec,
    ("instructor", "t5"): instructor,
    ("embeddinggemma-300m", "gemma3_text"): gemma,
    ("sgpt", "gpt_neo"): sgpt,
    ("sgpt-nli", "gpt_neo"): sgpt_nli,
    ("echo-mistral-meantoken", "mistral"): echo_mean,
    ("echo-mistral-lasttoken", "mistral"): echo_last,
    ("echo", "llama"): echo_zero_shot,
    ("echo", "opt"): echo_zero_shot,
    ("prompteol", "opt"): probe('This sentence : "*" means in one word:"'),
    ("prompteol", "llama"): probe('This sentence : "*" means in one word:"'),
    ("prompteol", "gemma2"): probe('This sentence : "*" means in one word:"'),
    ("prompteol-icl", "opt"): probe(ICL),
    ("promptsth", "opt"): probe('This sentence : "*" means something'),
    ("promptsum", "llama"): probe('This sentence : "*" can be summarized as'),
    ("pretended-cot", "llama"): probe(THINKING, -2),
    ("knowledge-enhancement", "opt"): probe(KNOWLEDGE, -2),
    ("metaeol", "llama"): metaeol,
}


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A loaded system, and the vectors that it should give."""
    system, model_type = request.param
    before, after = ("<s>",), ("</s>",)  # the tokenizer's own opinion, which most systems overrule
    folder = tiny_architectures.save(tmp_path_factory.mktemp(model_type), model_type, before=before, after=after)
    if system == "instructor":
        tiny_architectures.add_dense(folder)
    expected = CASES[request.param]
    with Embedder.load(f"{system}:{folder}", device="cpu", threads=1) as embedder:
        yield embedder, Reference(folder), expected


def assert_same(found: np.ndarray, expected: Tensor) -> None:
    wanted = expected.numpy() / np.linalg.norm(expected.numpy())
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)
    assert float(found @ wanted) >= 0.99999


def test_queries_are_what_the_formula_gives_together_and_alone(case: Any) -> None:
    embedder, reference, formula = case
    together = embedder.embed_queries(TEXTS)
    for text, query in zip(TEXTS, together, strict=True):
        assert_same(query.dense, formula(reference, text, True))
    embedder._queries._cache.clear()
    (alone,) = embedder.embed_queries([TEXTS[1]])
    np.testing.assert_allclose(alone.dense, together[1].dense, atol=1e-5)


def test_documents_are_what_the_formula_gives_together_and_alone(case: Any) -> None:
    embedder, reference, formula = case
    together = embedder.embed_documents([DocumentInput("", text) for text in TEXTS])
    for text, document in zip(TEXTS, together, strict=True):
        (passage,) = document.passages
        assert text[passage.start : passage.end] == text
        assert_same(passage.vectors.dense, formula(reference, text, False))
    (alone,) = embedder.embed_documents([DocumentInput("", TEXTS[1])])
    np.testing.assert_allclose(alone.passages[0].vectors.dense, together[1].passages[0].vectors.dense, atol=1e-5)
    assert alone.passages[0].key == together[1].passages[0].key


def test_a_long_document_loses_nothing_and_its_passages_are_embedded_alone(case: Any) -> None:
    embedder, reference, formula = case
    text = " ".join(f"the dog ran over the hill {i} times." for i in range(90))
    (document,) = embedder.embed_documents([DocumentInput("", text)])
    assert document.dropped == 0
    assert len(document.passages) > 1
    assert [
        (a.end, b.start) for a, b in zip(document.passages, document.passages[1:], strict=False) if a.end > b.start
    ] == []
    assert "".join(text[p.start : p.end] for p in document.passages).replace(" ", "") == text.replace(" ", "")
    first = document.passages[0]  # a later one begins with a space where tokens of the whole text are cut
    assert_same(first.vectors.dense, formula(reference, text[first.start : first.end], False))


def test_a_query_that_is_too_long_is_cut(case: Any) -> None:
    embedder, _, _ = case
    (query,) = embedder.embed_queries(["the dog ran over the hill. " * 200])
    assert query.dropped > 0
    assert np.isfinite(query.dense).all()


@pytest.mark.parametrize(
    ("system", "prefix", "shot"),
    [
        ("bge-en-icl", "", "<instruct>{task}\n<query>{query}\n<response>{document}\n\n"),
        ("rare", "Instruct: {task}\n", "Query: {query}\nPositive Document: {document}\n\n"),
    ],
)
def test_examples_stand_before_the_query(tmp_path: Path, system: str, prefix: str, shot: str) -> None:
    folder = tiny_architectures.save(tmp_path, "mistral")
    shots = [("where did it sleep", "under the tree"), ("who sang", "birds")]
    with Embedder.load(f"{system}:{folder}", device="cpu", threads=1) as embedder:
        (query,) = embedder.embed_queries(["who ran"], shots=shots)
        (plain,) = embedder.embed_queries(["who ran"])
        task = embedder.recipe.default_task
    examples = "".join(shot.format(task=task, query=q, document=d) for q, d in shots)
    ends = {"bge-en-icl": f"<instruct>{task}\n<query>who ran\n<response>", "rare": "Query: who ran"}
    reference = Reference(folder)
    ids = reference.ids(prefix.format(task=task) + examples + ends[system])
    assert_same(query.dense, reference.states([BOS, *ids, EOS])[-1])
    assert not np.allclose(plain.dense, query.dense, atol=1e-3)


def test_a_title_is_pooled_and_a_task_of_documents_is_read(tmp_path: Path) -> None:
    folder = tiny_architectures.save(tmp_path, "t5")
    tiny_architectures.add_dense(folder)
    reference = Reference(folder)
    prompt = "Represent the poem: "
    with Embedder.load(f"instructor:{folder}", device="cpu", threads=1) as embedder:
        (document,) = embedder.embed_documents([DocumentInput("Hills", TEXTS[0])], task=prompt)
    ids = reference.ids(f"{prompt}Hills {TEXTS[0]}")
    pooled = reference.states([*ids, EOS])[len(reference.ids(prompt)) :].mean(0)
    assert_same(document.passages[0].vectors.dense, dense_weight(reference) @ pooled)
