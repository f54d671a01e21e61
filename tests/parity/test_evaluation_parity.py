"""Our metrics against ir-measures (which runs trec_eval) on random runs, with graded judgements, ties and gaps."""

import ir_measures
import numpy as np
import pytest
import pytrec_eval
from ir_measures import RR, R, nDCG

from engine.evaluation import evaluate

SEEDS = range(12)


def random_case(seed, *, ties):
    rng = np.random.default_rng(seed)
    documents = [f"d{number}" for number in range(300)]
    qrels, run = {}, {}
    for number in range(20):
        judged = rng.choice(documents, size=rng.integers(1, 60), replace=False)
        qrels[f"q{number}"] = {str(doc_id): int(rng.integers(-1, 4)) for doc_id in judged}
        retrieved = rng.choice(documents, size=rng.integers(0, 200), replace=False)
        scores = rng.integers(0, 8, len(retrieved)) / 8 if ties else rng.permutation(len(retrieved)) / 7
        if number != 3:  # a judged query that the run does not have
            run[f"q{number}"] = {str(doc_id): float(score) for doc_id, score in zip(retrieved, scores, strict=True)}
    run["unjudged"] = {"d1": 1.0}
    return run, qrels


def ours(run, qrels):
    return evaluate({query_id: list(scored.items()) for query_id, scored in run.items()}, qrels)


@pytest.mark.parametrize("seed", SEEDS)
def test_metrics_equal_ir_measures(seed):
    run, qrels = random_case(seed, ties=False)
    expected = ir_measures.calc_aggregate([nDCG @ 10, R @ 100, RR @ 10], qrels, run)
    found = ours(run, qrels)
    assert found.ndcg_at_10 == pytest.approx(expected[nDCG @ 10], abs=1e-9)
    assert found.recall_at_100 == pytest.approx(expected[R @ 100], abs=1e-9)
    assert found.mrr_at_10 == pytest.approx(expected[RR @ 10], abs=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_equal_scores_are_broken_as_trec_eval_breaks_them(seed):
    # ir-measures computes RR@10 with another program, which breaks ties the other way; so trec_eval itself is asked.
    run, qrels = random_case(seed, ties=True)
    run["q3"] = {}
    evaluator = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "recall.100", "recip_rank"})
    by_query = evaluator.evaluate(run)
    zeros = {"ndcg_cut_10": 0.0, "recall_100": 0.0, "recip_rank": 0.0}
    rows = [by_query.get(query_id, zeros) for query_id in qrels]
    found = ours(run, qrels)
    assert found.ndcg_at_10 == pytest.approx(np.mean([row["ndcg_cut_10"] for row in rows]), abs=1e-9)
    assert found.recall_at_100 == pytest.approx(np.mean([row["recall_100"] for row in rows]), abs=1e-9)
    ranks = [row["recip_rank"] if row["recip_rank"] >= 0.1 - 1e-12 else 0.0 for row in rows]
    assert found.mrr_at_10 == pytest.approx(np.mean(ranks), abs=1e-9)
