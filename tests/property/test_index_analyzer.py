"""Laws of the analyser: one analysis, told three ways, whatever the text."""

from collections import Counter

from hypothesis import example, given, settings
from hypothesis import strategies as st

from index.analyzer import Analyzer, term_hash

ANALYZERS = {name: Analyzer(name) for name in ("english", "french", "turkish", "none")}
TEXTS = st.text(
    st.one_of(st.characters(), st.sampled_from("aAcCuUsS_'’ .,+#-/(“39é東カท한½\u200b\u0301İ")), max_size=60
)


@settings(deadline=None, max_examples=200)
@example("ﾞ", "none")
@example("a.b.c ｶﾞ½ 1,000.5 _x_ x__y İ", "turkish")
@given(TEXTS, st.sampled_from(sorted(ANALYZERS)))
def test_terms_spans_and_counts_agree(text, language):
    analyzer = ANALYZERS[language]
    terms, spans = analyzer.terms(text), analyzer.spans(text)
    assert [term for _, _, term in spans] == terms
    assert all(0 <= start < end <= len(text) for start, end, _ in spans)
    assert all(terms)
    assert not any(char.isspace() for term in terms for char in term)
    hashes, counts = analyzer.count([text]).row(0)
    assert dict(zip(hashes.tolist(), counts.tolist(), strict=True)) == Counter(map(term_hash, terms))


@settings(deadline=None, max_examples=60)
@given(st.lists(TEXTS, max_size=5))
def test_counting_a_batch_equals_counting_each(texts):
    analyzer = ANALYZERS["english"]
    batch = analyzer.count(texts)
    assert batch.n_rows == len(texts)
    for i, text in enumerate(texts):
        alone = analyzer.count([text]).row(0)
        assert [part.tolist() for part in batch.row(i)] == [part.tolist() for part in alone]
