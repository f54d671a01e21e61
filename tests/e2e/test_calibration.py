"""The weights of the lexical legs are found from a collection's own passages: the same ones again, on scores that are true."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from embedder.values import DocumentInput
from engine import open_engine
from engine.calibration import LIMITS, PseudoQuery, _lexical_scores, _sparse_weights, _term_parts, calibrate
from engine.collection import Collection
from engine.fusion import default_weights
from engine.rescoring import weigh_lexical
from engine.values import Query

TEXT = Path(__file__).resolve().parents[2] / "examples" / "corpus"


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """Some eighty passages of two books with the built-in model, calibrated."""
    paragraphs = [
        paragraph.strip()
        for path in sorted(TEXT.glob("*.txt"))
        for paragraph in path.read_text(encoding="utf-8").split("\n\n")
        if len(paragraph.split()) >= 25
    ]
    documents = [{"doc_id": f"{i:03}", "text": text} for i, text in enumerate(paragraphs[:80])]
    with open_engine(tmp_path_factory.mktemp("data")) as engine:
        collection = engine.create_collection("c")
        collection.upsert(documents)
        collection.optimize()
        yield collection


def test_a_collection_that_was_optimised_has_its_own_weights_and_finds_them_again(collection: Collection) -> None:
    generation = collection._generation
    with generation.writer.reading() as snapshot:
        first, second = (calibrate(snapshot, generation.store, generation.encoder) for _ in range(2))
    assert first is not None
    assert first == second
    assert first.samples >= 32
    assert LIMITS["bm25"][0] <= first.bm25_weight <= LIMITS["bm25"][1]
    assert first.sparse_weight is not None
    assert LIMITS["sparse"][0] <= first.sparse_weight <= LIMITS["sparse"][1]
    expected = default_weights(first.bm25_weight, first.sparse_weight, legs=("dense", "sparse", "bm25"))
    assert collection.info().weights == pytest.approx(expected)


@pytest.mark.parametrize("leg", ["bm25", "sparse"])
def test_a_text_that_is_not_in_the_index_scores_as_if_it_were(collection: Collection, leg: str) -> None:
    generation = collection._generation
    encoder = generation.encoder
    documents = [document for document in collection.get([f"{i:03}" for i in range(12)]) if document]
    texts = [document.text for document in documents]
    with generation.writer.reading() as snapshot:
        # Documents of several passages are left out: only the whole text is compared with its only passage.
        places = {
            int(segment.doc_nos[doc]): (position, row)
            for position, segment in enumerate(live.segment for live in snapshot.segments)
            for row, doc in enumerate(segment.row_docs.tolist())
            if (segment.row_docs == doc).sum() == 1
        }
        numbers = sorted(places)
        asked = [Query(text=" ".join(text.split()[5:11])) for text in texts]
        queries = encoder.encode(asked)
        rests = [each.passages for each in encoder.embed_documents([DocumentInput("", text) for text in texts])]
        checked = 0
        for query, text, passages in zip(queries, texts, rests, strict=True):
            pseudo = PseudoQuery("", "", text, (0, 0))
            own = _term_parts(encoder.analyzer, pseudo, snapshot.avg_len)
            if leg == "sparse":
                own = _sparse_weights(passages[0].vectors)
            rows = np.array([places[number] for number in numbers])
            scores, own_scores = _lexical_scores(snapshot, leg, [query], [own], rows)  # type: ignore[arg-type]
            lexical = weigh_lexical(query, snapshot, leg)  # type: ignore[arg-type]
            assert scores[0] == pytest.approx(
                [float(lexical.score(snapshot.segments[p].segment, np.array([r]))[0]) / lexical.scale for p, r in rows]
            )
            if len(passages) == 1:
                # The text's own passage is among them, and scores what the text scores by itself.
                assert np.abs(scores[0] - own_scores[0]).min() < 2e-3 * own_scores[0]
                checked += 1
    assert checked >= 5
