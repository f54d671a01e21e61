"""Dense systems that `test_embedder_systems` leaves out, by name, and the methods for long context.

A row of ``ROWS`` writes out what the model must read: X is the text, C the text as PromptEOL's family quotes it, and what
stands between « and » is pooled. The reference tokenises that line, runs transformers on it alone, and pools.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer, PreTrainedModel

from embedder.catalogue import all_systems
from embedder.embedder import DocumentInput, Embedder
from tests.support import tiny_systems

TASK = "find the animal"
TEXTS = ('the "old" cat ran?', "a dog", "Birds sang; the river {text} ran 12 miles over [some] hills and under a tree.")


@dataclass(frozen=True)
class Row:
    """What a system reads and pools; ``full``: every token sees all others."""

    kind: str
    query: str
    document: str
    full: bool = False
    layer: int = -1


BGE = Row("bert", "«[CLS]»Represent this sentence for searching relevant passages: X[SEP]", "«[CLS]»X[SEP]")
E5 = Row("bert", "«[CLS]query: X[SEP]»", "«[CLS]passage: X[SEP]»")
KNOWLEDGE = (
    "<s>The essence of a sentence is often captured by its main subjects and actions, while descriptive terms provide "
    'additional but less central details. With this in mind , this sentence : "C" means in one word:«"»'
)
PROMPT_EOL = '<s>This sentence : "C" means in one word:«"»'
ROWS = {
    "llm2vec-mistral": Row("mistral", f"<s>[INST] {TASK}: «X [/INST]»", "<s>[INST] «X [/INST]»", full=True),
    "llm2vec-llama-2": Row("llama", f"<s>[INST] {TASK}: «X [/INST]»", "<s>[INST] «X [/INST]»", full=True),
    "llm2vec-sheared-llama": Row("llama", f"<s>{TASK}: «X»", "<s>«X»", full=True),
    "nv-retriever-v1": Row("mistral", f"<s>{TASK}: «X»", "<s>passage: «X»", full=True),
    "gecko": Row("llama", f"«<s>task: {TASK} | query: X»", "«<s>title: none | text: X»", full=True),
    "gemini-embedding": Row("llama", f"«<s>task: {TASK} | query: X»", "«<s>title: none | text: X»", full=True),
    "all-minilm": Row("bert", "«[CLS]X[SEP]»", "«[CLS]X[SEP]»"),
    "bge-en-v1.5": BGE,
    "snowflake-arctic-embed": BGE,
    "e5-v2": E5,
    "multilingual-e5": E5,
    "nomic-embed-text-v1.5": Row("nomic_bert", "«[CLS]search_query: X[SEP]»", "«[CLS]search_document: X[SEP]»"),
    "geneol": Row("llama", KNOWLEDGE, KNOWLEDGE, layer=-2),
    "prompteol-tuned": Row("llama", PROMPT_EOL, PROMPT_EOL),
    "landmark-windows": Row("llama", "<s>X«</s>»", "<s>X«</s>»"),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_system_gives_the_vectors_of_a_plain_computation(tmp_path: Path, name: str) -> None:
    row = ROWS[name]
    network = tiny_systems.save(tmp_path, row.kind)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    with Embedder.load(f"{name}:{tmp_path}", threads=1) as embedder:
        queries = embedder.embed_queries(TEXTS, task=TASK if TASK in row.query else None)
        documents = embedder.embed_documents([DocumentInput("", text) for text in TEXTS])
    for text, query, document in zip(TEXTS, queries, documents, strict=True):
        (passage,) = document.passages
        for got, line in ((query.dense, row.query), (passage.vectors.dense, row.document)):
            expected = reference(network, row, *read(tokenizer, filled(line, text)))
            assert float(got @ expected) >= 0.9999
            np.testing.assert_allclose(got, expected, atol=2e-5)


def filled(line: str, text: str) -> str:
    cleaned = text if text[-1] in ".?\"'" else text + "."
    cleaned = re.sub(r"\?$", ".", cleaned.replace('"', "'"))
    return re.sub(r"(?<![A-Za-z])[XC](?![A-Za-z])", lambda match: {"X": text, "C": cleaned}[match[0]], line)


def read(tokenizer: Any, line: str) -> tuple[list[int], list[int]]:
    """The ids of a line, and the positions between its marks."""
    before, marked, after = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in re.split("[«»]", line))
    return [*before, *marked, *after], list(range(len(before), len(before) + len(marked)))


def reference(network: PreTrainedModel, row: Row, ids: list[int], pooled: list[int]) -> NDArray[np.float32]:
    """The unit mean of the marked states of one input."""
    options = {"attention_mask": torch.zeros(1, 1, len(ids), len(ids))} if row.full else {}
    with torch.inference_mode():
        states = network(torch.tensor([ids]), output_hidden_states=True, **options).hidden_states
    vector = states[row.layer][0][pooled].mean(0)
    return (vector / vector.norm()).numpy()


EXTENDED = [
    name
    for name, system in all_systems().items()
    if system.facts.family == "long context" and name != "extensible"  # it needs eight layers, and has its own test
]


@pytest.mark.parametrize("name", EXTENDED)
def test_a_method_for_long_context_works_with_any_fitting_checkpoint(tmp_path: Path, name: str) -> None:
    tiny_systems.save(tmp_path, "bert" if name == "late-chunking" else "llama")
    text = "The cat slept under a tree near the river while birds sang. " * 40  # 2,400 tokens; 1,024 were trained
    with Embedder.load(f"{name}:{tmp_path}", threads=1) as embedder:
        (document,) = embedder.embed_documents([DocumentInput("", text)])
        assert all(np.isfinite(passage.vectors.dense).all() for passage in document.passages)
        assert (len(document.passages) == 1) == ("context_extension" in all_systems()[name].recipe)
