from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from embedder.batching import plan_batches
from embedder.splitter import MAX_CHARS_PER_TOKEN, split_text
from embedder.windows import _overlapping, _owners

PIECES = [
    " ",
    "\n",
    "\n\n",
    ". ",
    "! ",
    "。",
    ", ",
    ")",
    '"',
    "word",
    "longerword",
    "字",
    "é",
    "e\u0301",
    "👩‍👩‍👧",
    "\u200b",
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=6), max_size=120).map("".join)


@given(TEXTS, st.integers(1, 30), st.sampled_from(["words", "characters"]), st.lists(st.integers(-5, 200), max_size=4))
def test_passages_ascend_and_cover_every_visible_character_once(
    text: str, budget: int, unit: str, hard: list[int]
) -> None:
    spans = split_text(text, budget, unit=unit, hard_boundaries=hard)  # type: ignore[arg-type]
    position = 0
    for start, end in spans:
        assert position <= start < end <= len(text)
        assert not text[position:start].strip()
        assert text[start:end] == text[start:end].strip()
        position = end
    assert not text[position:].strip()


@given(TEXTS, st.integers(1, 30))
def test_splitting_is_deterministic_and_keeps_the_budget_in_characters(text: str, budget: int) -> None:
    spans = split_text(text, budget, unit="characters")
    assert spans == split_text(text, budget, unit="characters")
    for start, end in spans:
        assert len("".join(text[start:end].split())) <= budget * MAX_CHARS_PER_TOKEN


@given(st.lists(st.integers(1, 300), max_size=80), st.integers(1, 600), st.booleans())
def test_every_row_is_in_one_batch_and_batches_keep_the_budget(lengths: list[int], budget: int, padded: bool) -> None:
    batches = plan_batches(lengths, budget, padded=padded)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        sizes = [lengths[row] for row in batch]
        cost = max(sizes) * len(sizes) if padded else sum(sizes)
        assert cost <= budget or len(batch) == 1


@given(st.lists(st.integers(1, 40), min_size=1, max_size=120), st.integers(40, 120), st.booleans())
def test_windows_advance_overlap_by_whole_passages_and_give_every_passage_an_owner(
    sizes: list[int], room: int, causal: bool
) -> None:
    order = [np.random.default_rng(i * 31 + sizes[i]).bytes(8) for i in range(len(sizes))]
    groups = _overlapping(sizes, room, order)
    assert groups[0][0] == 0
    assert groups[-1][1] == len(sizes)
    for (first, last), (following, end) in pairwise(groups):
        assert first < following <= last < end
    for first, last in groups:
        assert last - first == 1 or sum(sizes[first:last]) <= room
    owners = _owners(sizes, groups, causal=causal)
    assert all(groups[owner][0] <= i < groups[owner][1] for i, owner in enumerate(owners))
