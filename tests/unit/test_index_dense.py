"""The dense index at its edges: few rows, wrong input, files, filters and threads."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from index import dense, hnsw, vectors
from index.dense import KINDS, SMALL, DenseIndex
from index.errors import CorruptIndexFile, DimensionMismatch, InvalidIndexInput, UnknownIndexKind
from index.hits import Hits
from index.recall import Setting
from tests.support.index_data import clustered, same_hits

N, DIM = 3_000, 32


@pytest.fixture(scope="module")
def stored():
    return clustered(0, N, DIM)


@pytest.fixture(scope="module", params=list(KINDS))
def index(request, stored):
    return DenseIndex.build(stored, kind=request.param, coarse_dim=16, rotate=True)


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("n", [0, 1, 50])
def test_few_rows_are_only_scanned(kind, n, tmp_path):
    stored = clustered(1, n, DIM)
    built = DenseIndex.build(stored, kind=kind, coarse_dim=8, rotate=True)
    built.save(tmp_path)
    for same in (built, DenseIndex.load(tmp_path)):
        assert (same.kind, same.n_rows, same.dim, same.coarse_dim, same.rotated) == ("flat", n, DIM, DIM, False)
        assert len(same.search(np.ones(DIM, np.float32), 10)) == min(n, 10)


def test_loaded_index_answers_as_the_built_one(index, tmp_path):
    index.save(tmp_path)
    loaded = DenseIndex.load(tmp_path)
    assert (loaded.kind, loaded.coarse_dim, loaded.rotated) == (index.kind, 16, True)
    assert np.array_equal(loaded.vectors, index.vectors)
    for row in range(0, N, 300):
        query = index.vectors[row].astype(np.float32)
        assert same_hits(index.search(query, 10), loaded.search(query, 10))


def test_every_row_finds_itself(index):
    for row in range(0, N, 100):
        assert index.search(index.vectors[row].astype(np.float32), 1).rows.tolist() == [row]


def test_whole_vectors_of_the_flat_kind_are_scanned_exactly(stored):
    index = DenseIndex.build(stored, kind="flat", coarse_dim=DIM, rotate=True)
    query = stored[5].astype(np.float32)
    assert (index.coarse_dim, index.rotated) == (DIM, False)
    assert same_hits(index.search(query, 20), index.search(query, 20, exact=True))


def test_graph_over_whole_vectors_needs_no_rotation(stored):
    index = DenseIndex.build(stored, kind="hnsw", coarse_dim=DIM, rotate=True)
    assert (index.kind, index.coarse_dim, index.rotated) == ("hnsw", DIM, False)
    assert len(index.search(stored[5].astype(np.float32), 20)) == 20


def test_graph_scans_codes_where_the_filter_leaves_few_rows_or_none_near_the_query(stored, monkeypatch):
    monkeypatch.setattr(dense, "FEW_ALLOWED", 0)
    index = DenseIndex.build(stored, kind="hnsw", coarse_dim=DIM, rotate=True)
    query = stored[0].astype(np.float32)
    scores = index.score(query, np.arange(N))
    for share, scan_share in ((0.5, hnsw.SCAN_SHARE), (0.5, 0), (0.02, hnsw.SCAN_SHARE)):
        monkeypatch.setattr(hnsw, "SCAN_SHARE", scan_share)
        allow = scores <= np.quantile(scores, share)
        assert same_hits(index.search(query, 10, allow=allow), index.search(query, 10, allow=allow, exact=True))


def test_absurd_widths_are_answered(index):
    query = index.vectors[0].astype(np.float32)
    assert len(index.search(query, 10**9)) == N
    assert len(index.search(query, 10, setting=Setting(10**9, 1))) == 10
    assert len(index.search(query, 2 * N, setting=Setting(1, 1))) == N
    assert len(index.search(query, 0)) == 0


def test_duplicate_vectors_come_in_row_order(index):
    copies = np.repeat(clustered(2, 1, DIM), SMALL + 10, axis=0)
    same = DenseIndex.build(copies, kind="flat", coarse_dim=8, rotate=True)
    hits = same.search(copies[0].astype(np.float32), 5, exact=True)
    assert hits.rows.tolist() == [0, 1, 2, 3, 4]
    assert len(set(hits.scores.tolist())) == 1


def test_zero_vectors_do_no_harm():
    stored = np.concatenate([np.zeros((10, DIM), np.float16), clustered(2, SMALL, DIM)])
    for kind in KINDS:
        for rotate in (True, False):
            index = DenseIndex.build(stored, kind=kind, coarse_dim=8, rotate=rotate)
            assert len(index.search(np.zeros(DIM, np.float32), 10)) == 10


def test_many_threads_get_the_same_answers(index):
    queries = [index.vectors[row].astype(np.float32) for row in range(30)]
    alone = [index.search(query, 10) for query in queries]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda query: index.search(query, 10), queries * 5))
    assert all(same_hits(hits, alone[i % 30]) for i, hits in enumerate(together))


def test_query_of_another_width_is_refused(index):
    with pytest.raises(DimensionMismatch, match="31 dimensions") as caught:
        index.search(np.ones(DIM - 1, np.float32), 5)
    assert (caught.value.expected, caught.value.got) == (DIM, DIM - 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(index, bad):
    query = np.full(DIM, bad, np.float32)
    with pytest.raises(InvalidIndexInput, match="NaN or infinity"):
        index.search(query, 5)
    with pytest.raises(InvalidIndexInput, match="NaN or infinity"):
        DenseIndex.build(query[None, :].astype(np.float16), kind="flat", coarse_dim=8, rotate=True)


def test_unknown_kind_names_the_known_ones(stored):
    with pytest.raises(UnknownIndexKind, match="flat, hnsw, faiss"):
        DenseIndex.build(stored, kind="annoy", coarse_dim=8, rotate=True)


def test_shapes_that_cannot_be_indexed_are_refused(stored):
    with pytest.raises(InvalidIndexInput, match="prefix of 0"):
        DenseIndex.build(stored, kind="flat", coarse_dim=0, rotate=True)
    with pytest.raises(InvalidIndexInput, match="shape"):
        DenseIndex.build(stored[0], kind="flat", coarse_dim=8, rotate=True)


def test_a_graph_whose_links_were_filled_up_answers_as_before(stored, tmp_path):
    index = DenseIndex.build(stored, kind="hnsw", coarse_dim=16, rotate=True)
    index.save(tmp_path)
    starts, links = np.load(tmp_path / "starts.npy").astype(np.int64), np.load(tmp_path / "links.npy")
    filled = np.repeat(np.arange(N, dtype=np.int32)[:, None], hnsw.MOST_LINKS, axis=1)
    filled[np.arange(hnsw.MOST_LINKS) < np.diff(starts)[:, None]] = links
    np.save(tmp_path / "links.npy", filled)
    (tmp_path / "starts.npy").unlink()
    before = DenseIndex.load(tmp_path)
    for row in range(0, N, 300):
        query = stored[row].astype(np.float32)
        assert same_hits(index.search(query, 10), before.search(query, 10))


def test_a_folder_of_the_first_format_is_scanned_and_unmeasured(index, tmp_path):
    if index.kind == "gpu":
        pytest.skip("came with the second format")
    index.certified(sample=8).save(tmp_path)
    facts = json.loads((tmp_path / "dense.json").read_text())
    (tmp_path / "dense.json").write_text(json.dumps({**facts, "version": 1}))
    if index.kind != "faiss":  # what these kinds stored in those days is not read
        for name in ("codes.npy", "steps.npy", "recall.json"):
            (tmp_path / name).unlink()
    old = DenseIndex.load(tmp_path)
    assert old.kind == ("faiss" if index.kind == "faiss" else "flat")
    query = index.vectors[7].astype(np.float32)
    assert same_hits(old.search(query, 10), index.search(query, 10, exact=True))
    measured = old.certified(sample=8).certificate
    measured.save(tmp_path)
    assert DenseIndex.load(tmp_path).certificate == measured


def test_damaged_files_are_refused(index, tmp_path):
    index.certified(sample=8).save(tmp_path)
    for path in sorted(tmp_path.iterdir()):
        content = path.read_bytes()
        for damaged in (b"", content[:50], b"garbage" * 20):
            path.write_bytes(damaged)
            with pytest.raises(CorruptIndexFile):
                DenseIndex.load(tmp_path)
        path.unlink()
        if path.name == "recall.json":
            assert DenseIndex.load(tmp_path).certificate is None
        else:
            with pytest.raises(CorruptIndexFile):
                DenseIndex.load(tmp_path)
        path.write_bytes(content)


def test_files_of_another_segment_are_refused(index, tmp_path):
    other = DenseIndex.build(clustered(9, N - 100, DIM), kind=index.kind, coarse_dim=16, rotate=True)
    index.save(tmp_path)
    other.save(tmp_path)
    vectors_path = tmp_path / "vectors.npy"
    np.save(vectors_path, index.vectors)
    with pytest.raises(CorruptIndexFile):
        DenseIndex.load(tmp_path)


def test_scores_have_the_same_bits_on_every_path(index):
    query = index.vectors[7].astype(np.float32)
    everything = index.score(query, np.arange(N))
    hits, exact = index.search(query, 50), vectors.scan(index.vectors, query, 50)
    assert np.array_equal(hits.scores, everything[hits.rows])
    assert np.array_equal(exact.scores, everything[exact.rows])


def test_best_hits_break_ties_by_row():
    hits = Hits.best(np.array([9, 4, 7, 1]), np.array([1.0, 2.0, 1.0, 1.0], np.float32), 3)
    assert hits.rows.tolist() == [4, 1, 7]
    assert len(Hits.best(np.empty(0, np.int64), np.empty(0, np.float32), 3)) == 0
