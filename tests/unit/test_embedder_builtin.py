from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from embedder import builtin
from embedder.embedder import DocumentInput, Embedder, PassageVectors
from embedder.errors import (
    DeviceUnavailable,
    DigestMismatch,
    EmbedderClosed,
    EmbedderError,
    InvalidInput,
    InvalidRecipe,
)

ROOT = Path(__file__).resolve().parents[2]
BOOK = (ROOT / "examples" / "corpus" / "us-declaration.txt").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def embedder() -> Iterator[Embedder]:
    with Embedder.load() as loaded:
        yield loaded


def test_the_built_in_model_says_what_it_is(embedder: Embedder) -> None:
    assert (embedder.dim, embedder.coarse_dim, embedder.matryoshka) == (384, 256, False)
    assert (embedder.has_dense, embedder.has_sparse, embedder.window_tokens) == (True, True, 256)
    assert embedder.name == "builtin:landmark-1"
    assert len(embedder.fingerprint.digest) == 32


def test_a_changed_weight_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"not the weights")
    with pytest.raises(DigestMismatch) as caught:
        builtin.verify_weights(path)
    assert caught.value.expected == builtin.WEIGHTS_SHA256


def test_vectors_have_unit_length_and_meaning(embedder: Embedder) -> None:
    query, near, far = embedder.embed_queries(["how to cook rice", "boiling rice in a pot", "the history of trains"])
    assert query.dense.dtype == np.float32
    assert np.linalg.norm(query.dense) == pytest.approx(1, abs=1e-6)
    assert query.dense @ near.dense > 0.5 > query.dense @ far.dense
    assert query.tokens == 4


def test_characters_that_the_vocabulary_lacks_are_terms_of_sparse_vectors(embedder: Embedder) -> None:
    (query,) = embedder.embed_queries(["很好"])  # the vocabulary has neither
    sparse = query.sparse
    assert sparse is not None
    assert [embedder.term_text(term) for term in sparse.ids.tolist()] == sorted("很好")
    assert sparse.weights.tolist() == [1.0, 1.0]
    good, other = embedder.embed_documents([DocumentInput("", "很好很好 rice"), DocumentInput("", "rice 不")])
    weights = {}
    for document in (good, other):
        vector = document.passages[0].vectors.sparse
        assert vector is not None
        assert (np.diff(vector.ids.astype(np.int64)) > 0).all()
        named = zip(map(embedder.term_text, vector.ids.tolist()), vector.weights.tolist(), strict=True)
        weights[document] = {term: weight for term, weight in named if ord(term[0]) >= 0x4E00}
    assert set(weights[other]) == {"不"}
    # Twice each: the term part of BM25 with k1 = 1.2 and b = 0.75, saturated above a term that stands once.
    assert weights[good]["很"] == weights[good]["好"] > weights[other]["不"] > 1.0


def test_sparse_vectors_hold_the_text_s_own_terms_and_terms_of_like_use(embedder: Embedder) -> None:
    (query,) = embedder.embed_queries(["how to cook rice"])
    (document,) = embedder.embed_documents([DocumentInput("", "Boil the rice in twice its volume of water.")])
    for sparse in (query.sparse, document.passages[0].vectors.sparse):
        assert sparse is not None
        terms = {embedder.term_text(int(i)): float(w) for i, w in zip(sparse.ids, sparse.weights, strict=True)}
        assert "rice" in terms
        assert terms.keys() - set("how to cook boil the rice in twice its volume of water .".split())  # noqa: SIM905
        assert min(terms.values()) > 0
    assert len(document.passages[0].vectors.sparse.ids) <= 256


def test_the_shipped_heads_are_small_and_have_a_card() -> None:
    files = {path.name: path.stat().st_size for path in builtin.HEADS.iterdir()}
    assert files.keys() == {"landmark.json", "heads.safetensors", "card.md"}
    assert files["heads.safetensors"] <= 30_000_000


def test_every_token_of_a_long_document_is_embedded_and_offsets_reproduce_it(embedder: Embedder) -> None:
    text = "\n  " + BOOK * 2 + "\n"
    (document,) = embedder.embed_documents([DocumentInput("A module", text)])
    tokens = embedder.count_tokens([text, "A module"])
    assert (document.read, document.dropped) == (sum(tokens), 0)
    assert document.embedded == document.read
    assert sum(passage.tokens for passage in document.passages) == tokens[0]
    assert len(document.passages) > 10
    position = 0
    for passage in document.passages:
        assert not text[position : passage.start].strip()
        assert passage.tokens <= 256
        position = passage.end
    assert not text[position:].strip()


def test_a_query_about_the_last_page_finds_the_last_page(embedder: Embedder) -> None:
    secret = "The lighthouse keeper of Skerryvore bred blue parrots."
    (document,) = embedder.embed_documents([DocumentInput("", BOOK * 3 + "\n\n" + secret)])
    (query,) = embedder.embed_queries(["Which birds did the lighthouse keeper breed?"])
    scores = [float(passage.vectors.dense @ query.dense) for passage in document.passages]
    assert int(np.argmax(scores)) == len(scores) - 1


def test_a_small_edit_runs_few_windows_again_and_the_rest_keeps_its_vectors(embedder: Embedder) -> None:
    (old,) = embedder.embed_documents([DocumentInput("", BOOK)])
    known = {passage.key: passage.vectors for passage in old.passages}
    edited = BOOK.replace("that all men are created", "that, as always, all men are created", 1)
    assert edited != BOOK
    (new,) = embedder.embed_documents([DocumentInput("", edited, known)])
    assert new.reused > 0.6 * new.read
    assert any(passage.vectors is known.get(passage.key) for passage in new.passages)
    (again,) = embedder.embed_documents([DocumentInput("", edited)])
    for fresh, kept in zip(again.passages, new.passages, strict=True):
        assert fresh.key == kept.key
        assert float(fresh.vectors.dense @ kept.vectors.dense) > 0.99999


def test_an_unchanged_document_is_not_run_at_all(embedder: Embedder) -> None:
    (old,) = embedder.embed_documents([DocumentInput("T", BOOK[:4000])])
    known = {passage.key: PassageVectors(passage.vectors.dense.astype(np.float16)) for passage in old.passages}
    (new,) = embedder.embed_documents([DocumentInput("T", BOOK[:4000], known)])
    assert new.reused == sum(passage.tokens for passage in new.passages)
    assert all(passage.vectors is known[passage.key] for passage in new.passages)


def test_a_changed_title_changes_every_window(embedder: Embedder) -> None:
    (old,) = embedder.embed_documents([DocumentInput("One", BOOK[:4000])])
    known = {passage.key: passage.vectors for passage in old.passages}
    assert embedder.embed_documents([DocumentInput("Two", BOOK[:4000], known)])[0].reused == 0


def test_a_blank_document_has_no_passages_and_a_title_alone_has_one(embedder: Embedder) -> None:
    blank, title = embedder.embed_documents([DocumentInput("", " \n"), DocumentInput("Only a title", "")])
    assert (blank.passages, blank.read) == ((), 0)
    assert [(passage.start, passage.end) for passage in title.passages] == [(0, 0)]
    assert title.embedded == title.read == 3


def test_results_come_in_the_order_of_the_documents(embedder: Embedder) -> None:
    texts = [BOOK[i * 97 : i * 97 + 20 + 61 * (i % 13)] for i in range(60)]
    together = embedder.embed_documents([DocumentInput("", text) for text in texts])
    for text, document in zip(texts[::11], together[::11], strict=True):
        (alone,) = embedder.embed_documents([DocumentInput("", text)])
        assert float(alone.passages[0].vectors.dense @ document.passages[0].vectors.dense) > 0.99999


@pytest.mark.parametrize("passage_tokens", [64, 128])
def test_passages_that_share_windows_cover_the_document(passage_tokens: int) -> None:
    with Embedder.load(passage_tokens=passage_tokens) as late:
        (document,) = late.embed_documents([DocumentInput("Title", BOOK)])
    assert document.embedded == document.read
    assert all(np.linalg.norm(passage.vectors.dense) == pytest.approx(1, abs=1e-5) for passage in document.passages)
    assert max(passage.tokens for passage in document.passages) <= passage_tokens


def test_equal_queries_come_from_the_cache_and_cannot_be_written_to(embedder: Embedder) -> None:
    first, second = embedder.embed_queries(["the same words", "the same words"])
    assert first is second
    assert embedder.embed_queries(["the same words"])[0] is first
    with pytest.raises(ValueError, match="read-only"):
        first.dense[0] = 0


def test_a_query_longer_than_the_model_says_what_was_cut(embedder: Embedder) -> None:
    (query,) = embedder.embed_queries(["word " * 300])
    assert (query.tokens, query.dropped) == (300, 300 - 254)


def test_any_text_can_be_embedded(embedder: Embedder) -> None:
    odd = ["\x00", "\ud800", "\u200b", "a" * 5000, "👩‍👩‍👧" * 200, "‏שלום", "[CLS] [SEP]", "\x07bell"]
    documents = embedder.embed_documents([DocumentInput("", text) for text in odd])
    for document in documents:
        assert all(np.isfinite(passage.vectors.dense).all() for passage in document.passages)
    assert all(np.isfinite(query.dense).all() for query in embedder.embed_queries([*odd, ""]))


def test_many_threads_get_their_own_vectors(embedder: Embedder) -> None:
    texts = [f"number {i} of many texts" for i in range(40)]
    expected = [query.dense for query in embedder.embed_queries(texts)]
    wrong: list[int] = []

    def check(i: int) -> None:
        (document,) = embedder.embed_documents([DocumentInput("", texts[i])])
        if float(document.passages[0].vectors.dense @ expected[i]) < 0.9999:
            wrong.append(i)

    threads = [threading.Thread(target=check, args=(i,)) for i in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_an_embedder_that_is_closed_says_so() -> None:
    embedder = Embedder.load(threads=1)
    embedder.close()
    embedder.close()
    for call in (lambda: embedder.embed_documents([DocumentInput("", "x")]), lambda: embedder.embed_queries(["x"])):
        with pytest.raises(EmbedderClosed):
            call()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda e: e.embed_queries([3]), InvalidInput, r"texts\[0\]"),
        (lambda e: e.embed_documents([DocumentInput("", None)]), InvalidInput, r"documents\[0\]\.text"),
        (lambda e: e.embed_documents([DocumentInput(b"", "x")]), InvalidInput, r"documents\[0\]\.title"),
        (lambda e: Embedder.load(dtype="int4"), InvalidInput, "dtype"),
        (lambda e: Embedder.load(threads=0), InvalidInput, "threads"),
        (lambda e: Embedder.load(max_batch_tokens=-1), InvalidInput, "max_batch_tokens"),
        (lambda e: Embedder.load(device="tpu9"), DeviceUnavailable, "tpu9"),
        (lambda e: Embedder.load(device="cuda:99"), DeviceUnavailable, "CUDA devices"),
        (lambda e: Embedder.load(window_tokens=100_000), InvalidRecipe, "window_tokens"),
        (lambda e: Embedder.load(passage_tokens=0), InvalidRecipe, "passage_tokens"),
        (lambda e: Embedder.load("/no/such/model"), EmbedderError, "no such folder"),
    ],
)
def test_a_bad_argument_gets_the_error_that_names_it(
    embedder: Embedder, call: Callable[[Embedder], object], error: type[EmbedderError], words: str
) -> None:
    with pytest.raises(error, match=words):
        call(embedder)


def test_importing_the_embedder_loads_no_torch() -> None:
    code = "import sys, embedder.embedder; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
