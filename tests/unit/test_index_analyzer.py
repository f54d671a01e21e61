"""The analyser at its edges: languages, its cache, long words and threads."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from index import chunk_cache
from index.analyzer import Analyzer, term_hash
from index.errors import UnknownLanguage
from index.sparse_rows import SparseRows
from index.warm import warm_kernels


def test_unknown_language_names_the_known_ones():
    with pytest.raises(UnknownLanguage, match="english"):
        Analyzer("klingon")


def test_spans_cut_the_words_out_of_the_text():
    text = "  The quick  FOXES' getUserName, 東京タワー "
    spans = Analyzer().spans(text)
    assert [text[start:end] for start, end, _ in spans] == [
        "quick", "FOXES", "getUserName", "get", "User", "Name", "東京", "京タ", "タワ", "ワー",
    ]  # fmt: skip


def test_a_megabyte_without_a_space_is_one_term():
    analyzer = Analyzer()
    assert len(analyzer.terms("ab" * 500_000)) == 1
    assert analyzer.count(["aB" * 500_000]).terms.size == 1


CHUNKS = "U.S. (u.s) 1,000, 1,000 v1.2. C++, C#. 'tis dogs' DOGS Dogs dOgs the-dogs—“dogs” İ.İ l'eau, x_y/z2\u2028½.\ud800é😀+"


@pytest.mark.parametrize("language", ["english", "french", "turkish", "none"])
def test_cutting_at_signs_changes_no_term(language):
    analyzer = Analyzer(language)
    hashes, counts = analyzer.count([CHUNKS]).row(0)
    terms = Counter(map(term_hash, analyzer.terms(CHUNKS)))
    assert dict(zip(hashes.tolist(), counts.tolist(), strict=True)) == terms


def test_one_word_in_other_signs_and_capitals_is_learnt_once():
    analyzer = Analyzer()
    analyzer.count(["dogs (Dogs) DOGS, “dogs”—dogs. 'dogs'"])
    assert len(analyzer._chunks._starts) - 1 == 1


def test_full_cache_starts_anew_and_changes_no_answer(monkeypatch):
    monkeypatch.setattr(chunk_cache, "MAX_CHUNKS", 20)
    texts = [f"word{chr(97 + i)} shared other{i}" for i in range(26)]
    small, large = Analyzer(), Analyzer()
    first = SparseRows.concat([small.count([text]) for text in texts])
    assert len(small._chunks._starts) - 1 <= 20, "the cache never started anew; the test proves nothing"
    monkeypatch.undo()
    second = large.count(texts)
    assert np.array_equal(first.terms, second.terms)
    assert np.array_equal(first.values, second.values)


def test_threads_share_an_analyzer():
    texts = [f"threads {i} sharing analysers {i % 7} running" for i in range(200)]
    alone, shared = Analyzer().count(texts), Analyzer()
    with ThreadPoolExecutor(8) as pool:
        for rows in pool.map(lambda _: shared.count(texts), range(16)):
            assert np.array_equal(rows.terms, alone.terms)


def test_no_texts_make_no_rows():
    assert Analyzer().count([]).n_rows == 0
    assert Analyzer().count(["", " \n "]).indptr.tolist() == [0, 0, 0]


def test_kernels_can_be_warmed():
    warm_kernels()
