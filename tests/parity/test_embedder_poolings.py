"""Every pooling that sentence-transformers has, with and without the prompt, on networks of several kinds.

sentence-transformers writes the folder; the recipe is what our reading of its files makes of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

from embedder.embedder import DocumentInput, Embedder
from tests.support import tiny_architectures

TEXTS = [
    "the dog ran far.",
    "A cat slept under the old tree, near the river, while birds sang!",
    "birds",
    "Did the old dog run over the hill? It ran, and ran, and then it slept under the tree near the river.",
]
PROMPTS = {"query": "Given a question, find passages: ", "document": "passage: "}


@pytest.mark.parametrize("include_prompt", [True, False])
@pytest.mark.parametrize("pooling", ["mean", "weightedmean", "lasttoken", "cls"])
@pytest.mark.parametrize(
    ("model_type", "before", "after"),
    [
        ("xlm-roberta", ["<s>"], ["</s>"]),
        ("llama", ["<s>"], ["</s>"]),
        ("gpt_neo", [], ["</s>"]),
        ("gemma3_text", ["<s>"], ["</s>"]),
    ],
)
def test_vectors_are_those_of_sentence_transformers(
    tmp_path: Path, model_type: str, before: list[str], after: list[str], pooling: str, include_prompt: bool
) -> None:
    base = tiny_architectures.save(tmp_path / "base", model_type, before=before, after=after)
    backbone = Transformer(str(base), max_seq_length=200)
    pool: Any = Pooling(backbone.get_embedding_dimension(), pooling_mode=pooling, include_prompt=include_prompt)
    theirs = SentenceTransformer(modules=[backbone, pool, Normalize()], prompts=PROMPTS, device="cpu")
    theirs.save(str(tmp_path / "model"))
    with Embedder.load(str(tmp_path / "model"), device="cpu", threads=1) as ours:
        queries = [query.dense for query in ours.embed_queries(TEXTS)]
        documents = ours.embed_documents([DocumentInput("", text) for text in TEXTS])
    passages = [passage.vectors.dense for document in documents for passage in document.passages]
    for found, side in ((queries, "query"), (passages, "document")):
        expected = theirs.encode(TEXTS, prompt_name=side)
        cosines = (np.stack(found) * expected).sum(1)
        assert cosines.min() >= 0.99999
