from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from embedder.recipe import Recipe
from embedder.tokens import MAX_RUN, TextTokenizer
from embedder.windows import PackedDocument, WindowPacker

CLS, SEP, END = 1, 2, 2
WORDS = [f"w{i}" for i in range(500)]
BASE = Recipe(name="test", max_tokens=32, window_tokens=32, passage_tokens=32)
LATE = replace(BASE, passage_tokens=8, landmark="span_mean")
LANDMARK = replace(BASE, passage_tokens=8, landmark="end_token", pooling="last", attention="causal")


def make_tokenizer(prepend: tuple[int, ...] = (CLS,), append: tuple[int, ...] = (SEP,)) -> TextTokenizer:
    vocabulary = {token: i for i, token in enumerate(["[UNK]", "[CLS]", "[SEP]", ".", *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return TextTokenizer(backend, prepend, append)


def test_single_unknown_characters_get_ids_of_their_own_when_asked() -> None:
    plain = make_tokenizer()
    keeping = TextTokenizer(plain._backend, (CLS,), (SEP,), keep_unknown=True)
    size = plain.vocabulary_size
    text = "w1 Ж xx w2 " + "y" * (MAX_RUN + 1)  # the last run is cut in two, the second piece is one character
    (old,), (new,) = (tokenizer.tokenize(["p "], [text]) for tokenizer in (plain, keeping))
    assert new.ids.tolist()[-1] == size + ord("y")
    assert [int(i) for i in new.ids if i >= size] == [size + ord("p"), size + ord("ж"), size + ord("y")]
    np.testing.assert_array_equal(keeping.network_ids(new.ids), old.ids)
    assert keeping.network_ids(old.ids).tolist() == old.ids.tolist() == plain.network_ids(old.ids).tolist()
    assert (keeping.term_text(size + ord("ж")), plain.term_text(size + ord("ж"))) == ("ж", "")
    assert keeping.term_text(size + 0x110000) == ""


def prose(n_words: int, step: int = 37) -> str:
    words = [f"w{i * step % 500}" for i in range(n_words)]
    return " ".join(word + "." if i % 7 == 6 else word for i, word in enumerate(words))


def pack(text: str, recipe: Recipe = BASE, prefix: str = "", n_prompt: int = 0) -> PackedDocument:
    tokenizer = make_tokenizer(() if recipe.pooling == "last" else (CLS,))
    return WindowPacker(recipe, tokenizer).pack(text, tokenizer.tokenize([prefix], [text])[0], n_prompt)


def covered_once(packed: PackedDocument) -> bool:
    owned = sorted(number for window in packed.windows for number in window.passages)
    return owned == list(range(len(packed.spans)))


def test_a_short_document_is_one_window_with_all_its_tokens_pooled() -> None:
    packed = pack("w1 w2", prefix="w9 ")
    (window,) = packed.windows
    assert window.row.ids.tolist() == [CLS, 13, 5, 6, SEP]
    assert window.row.dense.tolist() == [[0, 5]]
    assert (packed.read, packed.dropped, packed.spans[0].last) == (3, 0, 2)


def test_a_prompt_is_not_counted_as_read() -> None:
    assert pack("w1 w2", prefix="w9 w8 ", n_prompt=2).read == 2


@pytest.mark.parametrize("n_words", [27, 28, 29, 30, 31, 32, 60, 400])
def test_every_token_of_a_long_document_is_in_a_window_and_no_window_is_too_long(n_words: int) -> None:
    text = prose(n_words)
    packed = pack(text, prefix="w9 w8 ")
    body = [i for window in packed.windows for i in window.row.ids[3:-1].tolist()]
    assert body == make_tokenizer().tokenize([""], [text])[0].ids.tolist()
    assert all(len(window.row.ids) <= 32 for window in packed.windows)
    assert all(window.row.ids[[0, 1, 2, -1]].tolist() == [CLS, 13, 12, SEP] for window in packed.windows)
    assert covered_once(packed)


def test_a_title_too_long_for_its_share_is_cut_and_the_cut_tokens_are_counted() -> None:
    packed = pack(prose(60), prefix=prose(20) + " ")
    assert packed.dropped == 22 - 8
    assert packed.read == 60 + 8 + 22


def test_a_long_title_is_whole_when_everything_fits_in_one_window() -> None:
    packed = pack("w1 w2", prefix=prose(20) + " ")
    assert (len(packed.windows), packed.dropped) == (1, 0)


def test_the_first_token_is_pooled_for_cls_and_the_last_one_for_last() -> None:
    assert pack("w1", replace(BASE, pooling="cls")).windows[0].row.dense.tolist() == [[0, 1]]
    assert pack("w1 w2", replace(BASE, pooling="last")).windows[0].row.dense.tolist() == [[2, 3]]


def test_a_prompt_may_be_left_out_of_the_mean() -> None:
    recipe = replace(BASE, pooled="after_prompt")
    assert pack("w1 w2", recipe, prefix="w9 ", n_prompt=1).windows[0].row.dense.tolist() == [[2, 5]]


@pytest.mark.parametrize("recipe", [LATE, LANDMARK], ids=["span mean", "end token"])
@pytest.mark.parametrize("n_words", [9, 26, 60, 400])
def test_passages_that_share_windows_are_owned_once_and_fit(recipe: Recipe, n_words: int) -> None:
    text = prose(n_words)
    packed = pack(text, recipe)
    assert covered_once(packed)
    assert all(len(window.row.ids) <= 32 for window in packed.windows)
    assert len(packed.windows) < len(packed.spans)


def test_a_span_mean_pools_the_tokens_of_its_own_passage() -> None:
    text = prose(120)
    packed = pack(text, LATE)
    ids = make_tokenizer().tokenize([""], [text])[0].ids
    for window in packed.windows:
        for number, (start, end) in zip(window.passages, window.row.dense, strict=True):
            span = packed.spans[number]
            assert window.row.ids[start:end].tolist() == ids[span.first : span.last].tolist()


def test_a_blended_passage_of_a_shared_window_is_read_alone_too_under_one_key() -> None:
    text = prose(120)
    shared, alone = pack(text, LATE), pack(text, replace(LATE, landmark="none"))
    packed = pack(text, replace(LATE, landmark="blend"))
    n = len(shared.windows)
    assert [window.row.ids.tolist() for window in packed.windows[:n]] == [w.row.ids.tolist() for w in shared.windows]
    assert [window.row.ids.tolist() for window in packed.windows[n:]] == [w.row.ids.tolist() for w in alone.windows]
    keys: dict[int, set[bytes]] = {}
    for window in packed.windows:
        for passage, key in zip(window.passages, window.keys, strict=True):
            keys.setdefault(passage, set()).add(key)
    assert sorted(keys) == list(range(len(packed.spans)))
    assert all(len(known) == 1 for known in keys.values())
    others = {key for window in (*shared.windows, *alone.windows) for key in window.keys}
    assert not others & set.union(*keys.values())


def test_a_passage_that_fills_its_window_is_not_blended() -> None:
    text = prose(120)
    recipe = replace(LATE, passage_tokens=30)
    blended, shared = pack(text, replace(recipe, landmark="blend")), pack(text, recipe)
    assert [window.keys for window in blended.windows] == [window.keys for window in shared.windows]


def test_a_landmark_is_the_end_token_right_after_its_passage() -> None:
    text = prose(120)
    packed = pack(text, LANDMARK)
    ids = make_tokenizer(()).tokenize([""], [text])[0].ids
    for window in packed.windows:
        for number, (start, end) in zip(window.passages, window.row.dense, strict=True):
            span = packed.spans[number]
            assert end == start + 1
            assert window.row.ids[start] == END
            assert (
                window.row.ids[start - (span.last - span.first) : start].tolist()
                == ids[span.first : span.last].tolist()
            )


def test_a_passage_in_the_middle_has_text_before_it() -> None:
    packed = pack(prose(400), LANDMARK)
    owner = {number: window for window in packed.windows for number in window.passages}
    before = [
        owner[number].row.dense[owner[number].passages.index(number)][0] for number in range(1, len(packed.spans))
    ]
    sizes = [span.last - span.first for span in packed.spans[1:]]
    assert all(position > size for position, size in zip(before, sizes, strict=True))


def test_equal_windows_have_equal_keys_and_keys_differ_otherwise() -> None:
    first, again, other = pack(prose(200), LATE), pack(prose(200), LATE), pack(prose(200, 41), LATE)

    def keys(packed: PackedDocument) -> list[bytes]:
        return [key for window in packed.windows for key in window.keys]

    assert keys(first) == keys(again)
    assert len(set(keys(first))) == len(first.spans)
    assert not set(keys(first)) & set(keys(other))
    assert {len(key) for key in keys(first)} == {16}


@pytest.mark.parametrize("recipe", [BASE, LATE, LANDMARK], ids=["single", "span mean", "end token"])
def test_a_small_edit_changes_few_windows(recipe: Recipe) -> None:
    words = prose(450 * 10, 389).split()
    before = " ".join(words)
    after = " ".join([*words[:400], "w3", "w4", "w5.", *words[400:]])
    old = {key for window in pack(before, recipe).windows for key in window.keys}
    windows = pack(after, recipe).windows
    changed = [window for window in windows if not old.issuperset(window.keys)]
    assert len(windows) > 100
    assert len(changed) <= 15


def test_a_run_without_spaces_is_tokenised_in_pieces_with_right_offsets() -> None:
    text = "w1 " + "x" * (3 * MAX_RUN + 5) + " w2"
    tokens = make_tokenizer().tokenize([""], [text])[0]
    starts, ends = tokens.offsets
    assert len(tokens.ids) == 6
    assert starts.tolist() == [0, 3, 3 + MAX_RUN, 3 + 2 * MAX_RUN, 3 + 3 * MAX_RUN, len(text) - 2]
    assert ends[-1] == len(text)


def test_offsets_are_those_of_the_text_without_its_prefix() -> None:
    tokens = make_tokenizer().tokenize(["w9: "], ["w1 w2"])[0]
    starts, ends = tokens.offsets
    assert tokens.n_prefix == 2
    assert (starts.tolist(), ends.tolist()) == ([0, 3], [2, 5])


def test_a_lone_surrogate_is_tokenised_like_any_unknown_character() -> None:
    tokens = make_tokenizer().tokenize([""], ["w1 \ud800 w2"])[0]
    assert np.stack(tokens.offsets).tolist() == [[0, 3, 5], [2, 4, 7]]
