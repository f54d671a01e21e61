"""Is a BERT read without transformers the one that transformers reads, and left to it where something is unusual?"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, BertForMaskedLM, BertModel

from embedder.builtin import model_folder
from embedder.checkpoint import open_checkpoint
from embedder.packed import pack_bert
from embedder.plain_bert import read_bert
from embedder.tokens import plain_bert_tokenizer
from tests.support import tiny_models

TEXTS = [
    *(
        "",
        "Héllo WÖRLD naïve",
        "日本語 と 中文",
        "a\x00b\tc\u200dd",
        "[CLS] said [MASK] [SEP]",
        "it's 3.14 – isn't it?",
        "🙂 x",
    ),
    *("e\u0301 combined", "ＦＵＬＬ", "supercalifragilistic " * 30, "ǅ ß İ"),
]
ROWS = [np.arange(4, 12, dtype=np.int32), np.asarray([5, 4, 9], np.int32)]


def no_pause() -> None:
    pass


def test_the_built_in_models_texts_are_tokenised_as_transformers_does() -> None:
    folder = model_folder()
    plain = plain_bert_tokenizer(folder)
    assert plain is not None
    whole = AutoTokenizer.from_pretrained(folder).backend_tokenizer
    for backend in (plain, whole):
        backend.no_truncation()
        backend.no_padding()
    for text in TEXTS:
        one, other = plain.encode(text), whole.encode(text)
        assert (one.ids, one.offsets, one.tokens) == (other.ids, other.offsets, other.tokens)
    assert plain.get_vocab() == whole.get_vocab()


@pytest.mark.parametrize("kind", [BertModel, BertForMaskedLM])
def test_the_states_are_those_of_transformers(tmp_path: Path, kind: type) -> None:
    torch.manual_seed(0)
    kind(BertConfig(**tiny_models._SIZES)).save_pretrained(tmp_path)
    weights = read_bert(open_checkpoint("m", tmp_path), torch.float32)
    assert weights is not None
    expected = AutoModel.from_pretrained(tmp_path).eval()
    with torch.inference_mode():
        packed = pack_bert(weights)
        assert packed is not None
        states = packed(ROWS, no_pause)
        alone = [expected(torch.from_numpy(row.astype(np.int64))[None]).last_hidden_state[0] for row in ROWS]
    torch.testing.assert_close(states, torch.cat(alone), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "setting", [{"hidden_act": "relu"}, {"model_type": "roberta"}, {"is_decoder": True}, {"num_hidden_layers": 3}]
)
def test_an_unusual_bert_is_left_to_transformers(tmp_path: Path, setting: dict[str, object]) -> None:
    tiny_models.save_bert(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | setting))
    assert read_bert(open_checkpoint("m", tmp_path), torch.float32) is None


def test_a_setting_that_is_not_said_is_left_to_transformers(tmp_path: Path) -> None:
    tiny_models.save_bert(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["layer_norm_eps"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_bert(open_checkpoint("m", tmp_path), torch.float32) is None


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("tokenizer_config.json", {"do_lower_case": False}),
        ("tokenizer_config.json", {"strip_accents": True}),
        ("tokenizer_config.json", {"tokenizer_class": "MPNetTokenizer"}),
        ("tokenizer.json", {"normalizer": None}),
    ],
)
def test_a_tokenizer_whose_files_disagree_is_left_to_transformers(
    tmp_path: Path, file: str, change: dict[str, object]
) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        content = json.loads((model_folder() / name).read_text())
        (tmp_path / name).write_text(json.dumps(content | change if name == file else content))
    assert plain_bert_tokenizer(tmp_path) is None


def test_a_query_to_the_built_in_model_imports_no_transformers() -> None:
    code = (
        "import sys; from embedder.embedder import Embedder\n"
        "with Embedder.load(device='cpu') as e: e.embed_queries(['who declares war?'])\n"
        "print(sorted(name for name in sys.modules if name in ('transformers', 'scipy', 'peft')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
