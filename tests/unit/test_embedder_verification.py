"""Published numbers of every kind are compared with what the vectors say, each by its own formula."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from embedder.embedder import DocumentInput, Embedder
from embedder.errors import InvalidInput, InvalidSystem, ModelNotFound
from embedder.verification import verify
from tests.support import tiny_heads

QUERIES = ["the cat sat", "birds sang on the hill"]
DOCUMENTS = ["a cat sat on the mat", "old birds sang", "the river"]
HEAD = """
[system]
name = "mine"
title = "M"
family = "multi-vector"
summary = "s"

[[checkpoint]]
id = "me/first"

[[checkpoint]]
id = "me/second"

[recipe]
document_template = "{text}"
attention = "bidirectional"
pooling = "cls"
sparse_head = "token_linear"
multi_head = "token_linear"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_heads.save_bge_m3(tmp_path_factory.mktemp("m3"))


def matrix(score: str, expected: list[list[float]], scale: float = 1.0) -> str:
    return (
        f'\n[[parity]]\ncheckpoint = "me/second"\nscore = "{score}"\nqueries = {json.dumps(QUERIES)}\n'
        f"documents = {json.dumps(DOCUMENTS)}\nexpected = {expected}\nscale = {scale}\ntolerance = 1e-5\n"
    )


def system_file(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(HEAD + text)
    return str(path)


def test_each_kind_of_score_has_its_formula(tmp_path: Path, folder: Path) -> None:
    bare = system_file(tmp_path, "")
    with Embedder.load(f"{bare}:{folder}", threads=1) as embedder:
        queries = embedder.embed_queries(QUERIES)
        documents = [embedder.embed_documents([DocumentInput("", text)])[0].passages[0].vectors for text in DOCUMENTS]
        terms = [
            {embedder.term_text(t): w for t, w in zip(q.sparse.ids.tolist(), q.sparse.weights.tolist(), strict=True)}
            for q in queries
        ]
        weights = [dict(zip(d.sparse.ids.tolist(), d.sparse.weights.tolist(), strict=True)) for d in documents]
        own = [dict(zip(q.sparse.ids.tolist(), q.sparse.weights.tolist(), strict=True)) for q in queries]
    dense = [[100 * float(np.dot(q.dense, d.dense)) for d in documents] for q in queries]
    sparse = [[sum(w * d.get(t, 0) for t, w in q.items()) for d in weights] for q in own]
    multi = [
        [float(np.mean([max(float(a @ b) for b in d.multi) for a in q.multi])) for d in documents] for q in queries
    ]
    assert sum(map(sum, sparse)) > 0
    assert terms[0]
    listed = ", ".join(f"{json.dumps(text)} = {weight}" for text, weight in {**terms[0], "absent": 0.0}.items())
    expected = f'\n[[terms]]\ncheckpoint = "me/second"\nside = "query"\ntext = "{QUERIES[0]}"\ntolerance = 1e-5\n'
    path = system_file(
        tmp_path,
        matrix("dense", dense, 100.0)
        + matrix("sparse", sparse)
        + matrix("multi", multi)
        + expected
        + f"expected = {{ {listed} }}\n",
    )
    outcome = verify(path, folder=str(folder), device="cpu")
    assert outcome.holds, [each for each in outcome.comparisons if not each.holds]
    assert len(outcome.comparisons) == 3 * 6 + len(terms[0]) + 1
    assert outcome.checkpoint == "me/second"
    wrong = system_file(tmp_path, matrix("multi", [[each + 1e-3 for each in row] for row in multi]))
    assert not any(each.holds for each in verify(wrong, folder=str(folder), device="cpu").comparisons)


def test_a_score_that_is_no_number_never_holds(tmp_path: Path, folder: Path) -> None:
    path = system_file(tmp_path, matrix("dense", [[float("nan")] * 3] * 2))
    assert not verify(path, folder=str(folder), device="cpu").holds


def test_what_cannot_be_compared_is_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(InvalidInput, match="nothing is published"):
        verify("prompteol", folder=str(folder))
    with pytest.raises(InvalidInput, match="llm2vec-llama-2"):
        verify("llm2vec-llama-2", folder=str(folder))
    with pytest.raises(InvalidInput, match="-supervised only"):
        verify("llm2vec-meta-llama-3-8b-instruct-mntp-unsup-simcse", folder=str(folder))
    with pytest.raises(ModelNotFound):
        verify("no-such-system")
    text = matrix("sparse", [[0.0] * 3] * 2)
    path = Path(system_file(tmp_path, text))
    path.write_text(path.read_text().replace('sparse_head = "token_linear"\n', ""))
    with pytest.raises(InvalidSystem, match="sparse_head"):
        verify(str(path), folder=str(folder), device="cpu")
