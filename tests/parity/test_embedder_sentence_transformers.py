"""The same vectors as sentence-transformers, on the same weights."""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer, SparseEncoder
from sentence_transformers.sparse_encoder.modules import MLMTransformer, SpladePooling

from embedder import builtin
from embedder.embedder import DocumentInput, Embedder
from tests.support import tiny_models

MODULES = (inspect, json, argparse, asyncio, logging)


def docstrings() -> list[str]:
    """Real English prose that every Python has: the standard library's docstrings, 1 to several hundred tokens."""
    texts = []
    for module in MODULES:
        for _, value in inspect.getmembers(module):
            text = inspect.getdoc(value) if inspect.isfunction(value) or inspect.isclass(value) else None
            if text and text not in texts:
                texts.append(text)
    return texts[:120]


@pytest.fixture(scope="module")
def embedder() -> Iterator[Embedder]:
    with Embedder.load() as loaded:
        yield loaded


@pytest.fixture(scope="module")
def reference() -> SentenceTransformer:
    return SentenceTransformer(str(builtin.model_folder()), device="cpu", local_files_only=True)


def cosines(ours: list[np.ndarray], theirs: np.ndarray) -> np.ndarray:
    left, right = np.stack(ours).astype(np.float64), theirs.astype(np.float64)
    return (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)


def test_documents_of_one_passage_equal_sentence_transformers(
    embedder: Embedder, reference: SentenceTransformer
) -> None:
    texts = [text for text, n in zip(docstrings(), embedder.count_tokens(docstrings()), strict=True) if n <= 254]
    assert len(texts) > 50
    documents = embedder.embed_documents([DocumentInput("", text) for text in texts])
    assert all(len(document.passages) == 1 for document in documents)
    ours = [document.passages[0].vectors.dense for document in documents]
    assert cosines(ours, reference.encode(texts)).min() >= 0.9999


def test_a_title_is_read_as_if_it_were_the_beginning_of_the_text(
    embedder: Embedder, reference: SentenceTransformer
) -> None:
    pairs = [("A title", "and a text"), ("", "text alone"), ("Title alone", ""), (" spaced ", "\n text \n")]
    documents = embedder.embed_documents([DocumentInput(title, text) for title, text in pairs])
    expected = reference.encode([(title.strip() + " " + text.strip()).strip() for title, text in pairs])
    ours = [document.passages[0].vectors.dense for document in documents]
    assert cosines(ours, expected).min() >= 0.9999


def test_each_passage_of_a_long_document_is_what_its_text_alone_would_be(
    embedder: Embedder, reference: SentenceTransformer
) -> None:
    text = "\n\n".join(docstrings())[:20_000]
    (document,) = embedder.embed_documents([DocumentInput("", text)])
    expected = reference.encode([text[passage.start : passage.end] for passage in document.passages])
    ours = [passage.vectors.dense for passage in document.passages]
    assert cosines(ours, expected).min() >= 0.9999


def test_queries_equal_sentence_transformers_even_when_they_are_cut(
    embedder: Embedder, reference: SentenceTransformer
) -> None:
    texts = [*docstrings()[:20], "word " * 400]
    ours = [query.dense for query in embedder.embed_queries(texts)]
    assert cosines(ours, reference.encode(texts)).min() >= 0.9999


def test_the_order_and_the_company_of_a_text_do_not_matter(embedder: Embedder) -> None:
    texts = docstrings()[:40]
    forward = embedder.embed_documents([DocumentInput("", text) for text in texts])
    backward = embedder.embed_documents([DocumentInput("", text) for text in reversed(texts)])
    for ours, theirs in zip(forward, reversed(backward), strict=True):
        for left, right in zip(ours.passages, theirs.passages, strict=True):
            np.testing.assert_allclose(left.vectors.dense, right.vectors.dense, atol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean", "lasttoken"])
def test_a_saved_folder_gives_the_same_vectors_with_prompts(tmp_path: Path, pooling: str) -> None:
    folder = tiny_models.save_qwen3(tmp_path) if pooling == "lasttoken" else tiny_models.save_bert(tmp_path)
    template = "$A </s>" if pooling == "lasttoken" else "[CLS] $A [SEP]"
    tiny_models.save_tokenizer(folder, template=template)
    prompts = {"query": "the cat : ", "document": "birds : "}
    tiny_models.add_sentence_transformers_files(
        folder, pooling={"pooling_mode": pooling, "include_prompt": pooling != "mean"}, prompts=prompts
    )
    texts = ["the dog ran far.", "a cat slept under the old tree, near the river!", "birds sang", "mat " * 40]
    reference = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    with Embedder.load(str(folder), threads=1) as embedder:
        documents = [document.passages[0].vectors.dense for document in embedder.embed_documents(inputs(texts))]
        queries = [query.dense for query in embedder.embed_queries(texts)]
    assert cosines(documents, reference.encode_document(texts)).min() >= 0.9999
    assert cosines(queries, reference.encode_query(texts)).min() >= 0.9999


def test_a_masked_language_model_equals_the_sparse_encoder(tmp_path: Path) -> None:
    folder = tiny_models.save_masked_lm(tmp_path)
    texts = ["the dog ran far.", "a cat slept under the old tree, near the river!", "birds"]
    transformer = MLMTransformer(str(folder))
    reference = SparseEncoder(modules=[transformer, SpladePooling(pooling_strategy="max")], device="cpu")
    expected = reference.encode(texts, convert_to_sparse_tensor=False).numpy()
    with Embedder.load(str(folder), threads=1) as embedder:
        documents = embedder.embed_documents(inputs(texts))
        assert embedder.has_sparse
        assert not embedder.has_dense
        assert embedder.term_text(tiny_models.VOCABULARY["cat"]) == "cat"
        assert embedder.term_text(10**6) == ""
    for row, document in zip(expected, documents, strict=True):
        sparse = document.passages[0].vectors.sparse
        assert sparse is not None
        assert (np.diff(sparse.ids.astype(int)) > 0).all()
        assert (sparse.weights > 0).all()
        full = np.zeros_like(row)
        full[sparse.ids] = sparse.weights
        np.testing.assert_allclose(full, row, atol=1e-5)


def inputs(texts: list[str]) -> list[DocumentInput]:
    return [DocumentInput("", text) for text in texts]
