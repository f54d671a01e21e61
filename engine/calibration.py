"""How much should each lexical leg count beside the dense leg in this collection? Found without labels, from its own passages.

A sentence is taken out of a sampled passage, its four rarest words become a query, and for each leg the weight is chosen
under which the rest of that passage ranks best among other passages. What makes this honest (docs/adr/0006 and 0011 have
the measurements):

- Only prose sentences ask. On code, arbitrary lines favour BM25, because they repeat identifiers; docstrings, like real
  questions, do not.
- The sentence is removed from the passage before it is embedded and counted; otherwise every leg only recognises a copy.
- A query in the author's own words still favours lexical legs about two to one over a stranger's: hence OWN_WORDS.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import regex

from embedder.values import DocumentInput, PassageVectors
from engine.encoding import QueryEncoder
from engine.fusion import SPARSE_WEIGHT
from engine.rescoring import EncodedQuery, weigh_lexical
from engine.segment import BM25
from engine.snapshot import Snapshot
from engine.storage.kv import Store, Transaction
from engine.storage.store import Calibration, read_document, read_text
from engine.values import Leg, Query
from index.analyzer import Analyzer, term_hash

SEED = 20261123
SAMPLES = 256
MIN_SAMPLES = 32
DISTRACTORS = 4_000
QUERY_WORDS = 4
MIN_TERMS, MAX_TERMS = 5, 60  # of the sentence
MIN_REST_TERMS = 20
OWN_WORDS = 0.55
TEMPERATURE = 0.01
GRIDS = {"bm25": np.geomspace(0.05, 3.2, 13), "sparse": np.geomspace(0.1, 12.8, 15)}
# Rare words of the author's own say little about how far a sparse leg may lead: the vote can lower its usual weight only.
LIMITS = {"bm25": (0.05, 2.0), "sparse": (0.05, SPARSE_WEIGHT)}

_SENTENCE = regex.compile(r"[^\n.!?。！？]*(?:[.!?](?!\s|$)[^\n.!?。！？]*)*[.!?。！？]*\s*")
_WORD = regex.compile(r"\w+")
_NOT_PROSE = regex.compile(r"[_(=]")


@dataclass(frozen=True, slots=True)
class PseudoQuery:
    """Words of one sentence, and the rest of the passage that they should find."""

    words: str
    title: str
    rest: str
    doc: tuple[int, int]


def calibrate(snapshot: Snapshot, store: Store, encoder: QueryEncoder) -> Calibration | None:
    """The weights of the lexical legs relative to the dense leg's 1, or None when the passages yield too few pseudo-queries.

    Costs one embedding of about SAMPLES passages and queries. The same snapshot gives the same answer.
    """
    analyzer = encoder.analyzer
    rows = _sampled_rows(snapshot, np.random.default_rng(SEED))
    with store.read() as transaction:
        found = list(_pseudo_queries(snapshot, transaction, analyzer, rows))
    if len(found) < MIN_SAMPLES:
        return None
    queries = encoder.encode([Query(text=query.words) for query in found])
    documents = encoder.embed_documents([DocumentInput(query.title, query.rest) for query in found])
    rests = [document.passages[0].vectors for document in documents]
    asked = np.stack([query.dense for query in queries if query.dense is not None])
    dense = asked @ _vectors(snapshot, rows).T
    own_dense = (asked * np.stack([rest.dense for rest in rests]).astype(np.float32)).sum(axis=1)
    # Other passages of the same document, and the passage itself, are neither right nor wrong.
    docs = np.array([query.doc for query in found])
    same = (docs[:, None, 0] == rows[None, :, 0]) & (docs[:, None, 1] == _docs(snapshot, rows)[None, :])

    def weight(leg: Leg, own: Sequence[Mapping[int, float]]) -> float:
        scores, own_scores = _lexical_scores(snapshot, leg, queries, own, rows)
        vote = _best_weight(GRIDS[leg], dense, scores, own_dense, own_scores, same)
        return float(np.clip(OWN_WORDS * vote, *LIMITS[leg]))

    bm25 = weight("bm25", [_term_parts(analyzer, query, snapshot.avg_len) for query in found])
    sparse = None
    if any(query.sparse is not None for query in queries):
        sparse = weight("sparse", [_sparse_weights(rest) for rest in rests])
    return Calibration(bm25, len(found), snapshot.n_passages, sparse)


def _best_weight(
    grid: np.ndarray,
    dense: np.ndarray,
    lexical: np.ndarray,
    own_dense: np.ndarray,
    own_lexical: np.ndarray,
    same: np.ndarray,
) -> float:
    """The mean of the grid in the logarithm, each weight voted for by the softmax of its mean reciprocal rank."""
    mrr = np.empty(len(grid))
    for i, weight in enumerate(grid):
        scores = dense + weight * lexical
        own = (own_dense + weight * own_lexical)[:, None]
        above = ((scores > own) & ~same).sum(axis=1) + 0.5 * ((scores == own) & ~same).sum(axis=1)
        mrr[i] = (1 / (1 + above)).mean()
    votes = np.exp((mrr - mrr.max()) / TEMPERATURE)
    return float(np.exp(votes @ np.log(grid) / votes.sum()))


def _sampled_rows(snapshot: Snapshot, rng: np.random.Generator) -> np.ndarray:
    """int64[m, 2]: (segment, row) of up to DISTRACTORS live passages in random order; the first of them also ask.

    The order depends on the documents alone, not on how they lie in segments.
    """
    pairs, doc_nos = [], []
    for position, live in enumerate(snapshot.segments):
        rows = np.arange(live.segment.n_rows) if live.live_rows is None else np.flatnonzero(live.live_rows)
        pairs.append(np.stack([np.full(len(rows), position), rows], axis=1))
        doc_nos.append(live.segment.doc_nos[live.segment.row_docs[rows]])
    every = np.concatenate(pairs)[np.argsort(np.concatenate(doc_nos), kind="stable")]
    return every[rng.permutation(len(every))[:DISTRACTORS]]


def _pseudo_queries(
    snapshot: Snapshot, transaction: Transaction, analyzer: Analyzer, rows: np.ndarray
) -> Iterator[PseudoQuery]:
    """Up to SAMPLES pseudo-queries, from the passages in order."""
    rng = np.random.default_rng(SEED)
    count = 0
    for position, row in rows.tolist():
        if count == SAMPLES:
            return
        segment = snapshot.segments[position].segment
        doc = int(segment.row_docs[row])
        doc_no = int(segment.doc_nos[doc])
        passage = read_text(transaction, doc_no)[int(segment.starts[row]) : int(segment.ends[row])]
        made = _pseudo_query(snapshot, analyzer, passage, rng)
        if made is not None:
            count += 1
            words, rest = made
            yield PseudoQuery(words, read_document(transaction, doc_no).title, rest, (position, doc))


def _pseudo_query(
    snapshot: Snapshot, analyzer: Analyzer, passage: str, rng: np.random.Generator
) -> tuple[str, str] | None:
    """The rarest words of one prose sentence, in order, and the passage without it; None when there is no such sentence."""
    sentences = [match for match in _SENTENCE.finditer(passage) if match.group().strip()]
    fit = [
        match
        for match in sentences
        if is_prose(match.group()) and MIN_TERMS <= len(analyzer.terms(match.group())) <= MAX_TERMS
    ]
    if len(sentences) < 2 or not fit:
        return None
    chosen = fit[int(rng.integers(len(fit)))]
    rest = f"{passage[: chosen.start()]}{passage[chosen.end() :]}".strip()
    if len(analyzer.terms(rest)) < MIN_REST_TERMS:
        return None
    words = _WORD.findall(chosen.group())
    if len(words) < QUERY_WORDS:
        return chosen.group().strip()[:6], rest  # a script without spaces
    idf = [max(_idf(snapshot, analyzer.terms(word)), default=0.0) for word in words]
    rarest = sorted(sorted(range(len(words)), key=lambda i: -idf[i])[:QUERY_WORDS])
    return " ".join(words[i] for i in rarest), rest


def is_prose(sentence: str) -> bool:
    """Whether a sentence is nearly all letters and spaces, with nothing that code has."""
    text = sentence.strip().strip("\"#'*/ ")
    if not text or _NOT_PROSE.search(text):
        return False
    return sum(character.isalpha() or character.isspace() for character in text) > 0.9 * len(text)


def _idf(snapshot: Snapshot, terms: Sequence[str]) -> list[float]:
    hashes = np.array([term_hash(term) for term in terms], np.uint64)
    df = snapshot.doc_freq("bm25", hashes) if len(hashes) else np.empty(0, np.int64)
    return [
        weight if n else 0.0 for weight, n in zip(BM25.idf(snapshot.n_passages, df).tolist(), df.tolist(), strict=True)
    ]


def _vectors(snapshot: Snapshot, rows: np.ndarray) -> np.ndarray:
    vectors = []
    for position, row in rows.tolist():
        dense = snapshot.segments[position].segment.dense
        assert dense is not None
        vectors.append(dense.vectors[row])
    return np.stack(vectors).astype(np.float32)


def _docs(snapshot: Snapshot, rows: np.ndarray) -> np.ndarray:
    return np.array([snapshot.segments[position].segment.row_docs[row] for position, row in rows.tolist()])


def _lexical_scores(
    snapshot: Snapshot,
    leg: Leg,
    queries: Sequence[EncodedQuery],
    own: Sequence[Mapping[int, float]],
    others: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Scaled scores in one leg: of the other passages, float64[n, m], and of each query's own rest, float64[n].

    ``own``: for each query what a term's weight is multiplied by in its own rest, by term.
    """
    scores, own_scores = np.zeros((len(queries), len(others))), np.zeros(len(queries))
    for i, (query, parts) in enumerate(zip(queries, own, strict=True)):
        if leg not in query.legs:
            continue
        lexical = weigh_lexical(query, snapshot, leg)
        for position, live in enumerate(snapshot.segments):
            here = np.flatnonzero(others[:, 0] == position)
            scores[i, here] = lexical.score(live.segment, others[here, 1]) / lexical.scale
        terms = zip(lexical.query.terms.tolist(), lexical.query.weights.tolist(), strict=True)
        own_scores[i] = sum(weight * parts.get(term, 0.0) for term, weight in terms) / lexical.scale
    return scores, own_scores


def _term_parts(analyzer: Analyzer, query: PseudoQuery, avg_len: float) -> dict[int, float]:
    """BM25's term part of every term of a pseudo-query's own rest, by hash."""
    counted = Counter(analyzer.terms(f"{query.title} {query.rest}"))
    length = np.full(len(counted), sum(counted.values()), np.float32)
    parts = BM25.tf_part(np.array(list(counted.values()), np.float32), length, avg_len)
    return dict(zip(map(term_hash, counted), parts.tolist(), strict=True))


def _sparse_weights(vectors: PassageVectors) -> dict[int, float]:
    """A passage's learned sparse weights by term."""
    sparse = vectors.sparse
    return {} if sparse is None else dict(zip(sparse.ids.tolist(), sparse.weights.tolist(), strict=True))
