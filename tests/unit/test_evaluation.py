"""The metrics by hand, and the reader of BEIR data sets."""

import math

import pytest

from engine.errors import InvalidArgument
from engine.evaluation import (
    evaluate,
    ndcg,
    read_corpus,
    read_evaluation_set,
    read_qrels,
    recall,
    reciprocal_rank,
    trec_order,
)


def test_ndcg_has_linear_gain_and_a_logarithmic_discount():
    judged = {"a": 3, "b": 1, "c": 0}
    ideal = 3 / math.log2(2) + 1 / math.log2(3)
    assert ndcg(["b", "c", "a"], judged, 10) == pytest.approx((1 / math.log2(2) + 3 / math.log2(4)) / ideal)
    assert ndcg(["a", "b"], judged, 10) == 1.0
    assert ndcg(["c"], judged, 10) == 0.0


def test_negative_judgements_gain_nothing():
    assert ndcg(["bad", "good"], {"bad": -2, "good": 1}, 10) == pytest.approx(1 / math.log2(3))
    assert reciprocal_rank(["bad", "good"], {"bad": -2, "good": 1}, 10) == 0.5


def test_recall_and_reciprocal_rank_stop_at_their_depth():
    assert recall(["x", "a", "b"], {"a": 1, "b": 1}, 2) == 0.5
    assert reciprocal_rank(["x", "y", "a"], {"a": 1}, 2) == 0.0
    assert reciprocal_rank(["x", "a"], {"a": 1}, 2) == 0.5


def test_equal_scores_are_ordered_by_id_descending_as_trec_eval_does():
    assert trec_order([("a", 1.0), ("c", 1.0), ("b", 2.0), ("B", 1.0)]) == ["b", "c", "a", "B"]


def test_a_judged_query_without_hits_counts_as_zero_and_an_unjudged_one_not_at_all():
    metrics = evaluate({"q1": [("a", 1.0)], "q3": [("a", 1.0)]}, {"q1": {"a": 1}, "q2": {"a": 1}})
    assert (metrics.ndcg_at_10, metrics.recall_at_100, metrics.mrr_at_10) == (0.5, 0.5, 0.5)


def test_a_query_without_relevant_documents_counts_as_zero():
    assert evaluate({"q": [("a", 1.0)]}, {"q": {"a": 0}}).ndcg_at_10 == 0.0
    assert evaluate({}, {}).ndcg_at_10 == 0.0


@pytest.mark.parametrize(
    "content",
    [
        "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\n",
        "\ufeffquery-id\tcorpus-id\tscore\r\nq1\td1\t2\r\nq1\td2\t0\r\n",
        "q1\td1\t2\nq1\td2\t0.0\n\n",
        "q1 0 d1 2\nq1 0 d2 0\n",
    ],
)
def test_qrels_are_read_in_both_layouts(tmp_path, content):
    (tmp_path / "qrels.tsv").write_text(content)
    assert read_qrels(tmp_path / "qrels.tsv") == {"q1": {"d1": 2, "d2": 0}}


@pytest.mark.parametrize("line", ["q1\td1", "q1\td1\tmuch", "q1 0 d1 1 extra"])
def test_malformed_qrels_name_their_line(tmp_path, line):
    (tmp_path / "qrels.tsv").write_text(f"query-id\tcorpus-id\tscore\n{line}\n")
    with pytest.raises(InvalidArgument, match="line 2"):
        read_qrels(tmp_path / "qrels.tsv")


def write_set(folder, *, corpus='{"_id": "d1", "title": "T", "text": "x"}\n', qrels="q1\td1\t1\n"):
    folder.mkdir(exist_ok=True)
    (folder / "corpus.jsonl").write_text(corpus)
    (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "one"}\n{"_id": "q2", "text": "unjudged"}\n')
    if qrels is not None:
        (folder / "qrels.tsv").write_text(qrels)
    return folder


def test_only_judged_queries_are_in_the_set(tmp_path):
    found = read_evaluation_set(write_set(tmp_path / "mine"))
    assert (found.name, dict(found.queries), found.qrels) == ("mine", {"q1": "one"}, {"q1": {"d1": 1}})
    (document,) = read_corpus(found.corpus)
    assert (document.doc_id, document.title, document.text) == ("d1", "T", "x")


def test_qrels_may_stand_in_a_folder(tmp_path):
    folder = write_set(tmp_path / "beir", qrels=None)
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\n")
    assert read_evaluation_set(folder).qrels == {"q1": {"d1": 1}}


def test_documents_without_words_are_left_out(tmp_path):
    folder = write_set(tmp_path / "s", corpus='{"_id": "d0", "text": " "}\n\n{"_id": 7, "text": "x"}\n')
    assert [document.doc_id for document in read_corpus(folder / "corpus.jsonl")] == ["7"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"qrels": None}, "qrels.tsv is missing"),
        ({"qrels": "q9\td1\t1\n"}, "no query"),
    ],
)
def test_incomplete_set_says_what_is_missing(tmp_path, change, problem):
    with pytest.raises(InvalidArgument, match=problem):
        read_evaluation_set(write_set(tmp_path / "s", **change))


@pytest.mark.parametrize("line", ["{", "[]", '{"text": "no id"}', '"words"'])
def test_malformed_corpus_line_is_named(tmp_path, line):
    folder = write_set(tmp_path / "s", corpus='{"_id": "d0", "text": "x"}\n' + line + "\n")
    with pytest.raises(InvalidArgument, match="line 2"):
        list(read_corpus(folder / "corpus.jsonl"))
