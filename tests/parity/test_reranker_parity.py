"""Reranker scores are those of sentence-transformers, and of the published code of Qwen3-Reranker."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BertModel

from embedder.errors import DeviceUnavailable, InvalidInput, ModelLoadFailed, ModelNotFound
from embedder.reranker import Reranker
from tests.support.tiny_models import WORDS, save_bert
from tests.support.tiny_rerankers import save_cross_encoder, save_yes_no

QUERY = "the old cat ran"
PASSAGES = [
    "the cat sat on the mat",
    "a dog",
    "birds sang near the old tree while the dog slept under the hill and the river ran far",
    "the old cat ran over the hill",
    "mat",
]
LONG = " ".join(WORDS[i % len(WORDS)] for i in range(400))


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory):
    return save_cross_encoder(tmp_path_factory.mktemp("cross"))


@pytest.fixture(scope="module")
def yes_no(tmp_path_factory):
    return save_yes_no(tmp_path_factory.mktemp("yes-no"))


def test_a_cross_encoder_scores_as_sentence_transformers_does(cross_encoder):
    from sentence_transformers import CrossEncoder

    expected = CrossEncoder(str(cross_encoder)).predict([(QUERY, passage) for passage in [*PASSAGES, LONG]])
    found = Reranker.load(str(cross_encoder)).score(QUERY, [*PASSAGES, LONG])
    assert found.scores == pytest.approx(expected, abs=1e-5)
    assert found.scores.std() > 0.01
    assert found.truncated == 1


# The code of the model card (Qwen/Qwen3-Reranker-0.6B), one pair at a time, with all logits.
CARD_PREFIX = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
CARD_SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


def card_score(folder, query, passage, task, max_tokens):
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    prefix = tokenizer.encode(CARD_PREFIX, add_special_tokens=False)
    suffix = tokenizer.encode(CARD_SUFFIX, add_special_tokens=False)
    pair = f"<Instruct>: {task}\n<Query>: {query}\n<Document>: {passage}"
    body = tokenizer.encode(pair, add_special_tokens=False)[: max_tokens - len(prefix) - len(suffix)]
    with torch.no_grad():
        logits = model(torch.tensor([prefix + body + suffix])).logits[0, -1]
    no, yes = (logits[tokenizer.convert_tokens_to_ids(word)] for word in ("no", "yes"))
    return float(torch.log_softmax(torch.stack([no, yes]), dim=0)[1].exp())


@pytest.mark.parametrize("task", [None, "find the old cat"])
def test_a_yes_no_model_scores_as_the_code_of_its_card_does(yes_no, task):
    reranker = Reranker.load(str(yes_no))
    found = reranker.score(QUERY, [*PASSAGES, LONG], task=task)
    said = task or "Given a web search query, retrieve relevant passages that answer the query"
    expected = [card_score(yes_no, QUERY, passage, said, reranker.max_tokens) for passage in [*PASSAGES, LONG]]
    assert found.scores == pytest.approx(expected, abs=1e-5)
    assert found.scores.std() > 0.01
    assert found.truncated == 1


@pytest.mark.parametrize("kind", ["cross_encoder", "yes_no"])
def test_a_score_does_not_depend_on_the_other_passages(kind, request):
    reranker = Reranker.load(str(request.getfixturevalue(kind)))
    together = reranker.score(QUERY, PASSAGES).scores
    alone = [reranker.score(QUERY, [passage]).scores[0] for passage in PASSAGES]
    many = reranker.score(QUERY, PASSAGES * 30).scores  # several batches
    assert together == pytest.approx(alone, abs=1e-5)
    assert many == pytest.approx(np.tile(together, 30), abs=1e-5)
    assert reranker.score(QUERY, []).scores.shape == (0,)


@pytest.mark.parametrize("kind", ["cross_encoder", "yes_no"])
def test_a_query_that_leaves_no_room_for_a_passage_is_refused(kind, request):
    reranker = Reranker.load(str(request.getfixturevalue(kind)))
    with pytest.raises(InvalidInput, match="leaves no room for a passage"):
        reranker.score(LONG, [LONG])


def test_what_is_no_reranker_is_refused(tmp_path, cross_encoder):
    with pytest.raises(ModelLoadFailed, match="2 classes"):
        Reranker.load(str(save_cross_encoder(tmp_path / "two", labels=2)))
    with pytest.raises(ModelLoadFailed, match="BertModel is neither"):
        Reranker.load(str(save_bert(tmp_path / "bert")))
    decoder = save_yes_no(tmp_path / "decoder")
    config = (decoder / "config.json").read_text().replace("ForCausalLM", "ForSequenceClassification")
    (decoder / "config.json").write_text(config)
    with pytest.raises(ModelLoadFailed, match="name the causal checkpoint"):
        Reranker.load(str(decoder))
    with pytest.raises(ModelLoadFailed, match='"yes" and "no"'):
        Reranker.load(str(save_yes_no(tmp_path / "mute", answers=("maybe",))))
    with pytest.raises(ModelNotFound):
        Reranker.load(str(tmp_path / "nothing"))
    with pytest.raises(InvalidInput, match="dtype"):
        Reranker.load(str(cross_encoder), dtype="int3")
    with pytest.raises(DeviceUnavailable):
        Reranker.load(str(cross_encoder), device="warp")


def test_a_checkpoint_without_its_classifier_is_refused(tmp_path):
    folder = save_cross_encoder(tmp_path / "headless")
    network = BertModel.from_pretrained(folder)
    network.config.architectures = ["BertForSequenceClassification"]
    network.save_pretrained(folder)
    config = (folder / "config.json").read_text().replace('"BertModel"', '"BertForSequenceClassification"')
    (folder / "config.json").write_text(config)
    with pytest.raises(ModelLoadFailed, match="weights lack classifier"):
        Reranker.load(str(folder))
