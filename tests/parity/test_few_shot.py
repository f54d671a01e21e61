"""Few-shot queries (BGE-en-ICL, RARe) against the published strings, tokenised whole and run by transformers alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from embedder.embedder import Embedder
from embedder.errors import InvalidInput
from embedder.recipe import Recipe
from tests.support import tiny_models

SHOTS = [("where is the dog", "the dog sat on the mat"), ("a cat ?", "the old cat slept")]
TASK = "birds near the river"
SHARED = {
    "prepend": ("<s>",),
    "append": ("</s>",),
    "attention": "causal",
    "pooling": "last",
    "max_tokens": 128,
    "document_template": "{text}",
    "default_task": TASK,
    "query_tokens": 28,
    "window_tokens": 128,
    "passage_tokens": 64,
}
RECIPES = {
    "bge-en-icl": Recipe(
        name="icl",
        query_template="{shots}<instruct>{task}\n<query>{text}\n<response>",
        shot_template="<instruct>{task}\n<query>{query}\n<response>{document}\n\n",
        **SHARED,
    ),
    "rare": Recipe(
        name="rare",
        query_template="Instruct: {task}\n{shots}Query: {text}",
        shot_template="Query: {query}\nPositive Document: {document}\n\n",
        **SHARED,
    ),
}
TEXTS = ["the cat", "a dog ran far over the hill while birds sang"]


def published(system: str, text: str, shots) -> str:
    """The string as the systems' own code builds it."""
    if system == "bge-en-icl":
        blocks = [f"<instruct>{TASK}\n<query>{query}\n<response>{document}" for query, document in shots]
        prefix = "\n\n".join(blocks) + "\n\n" if blocks else ""
        return f"{prefix}<instruct>{TASK}\n<query>{text}\n<response>"
    blocks = [f"Query: {query}\nPositive Document: {document}\n\n" for query, document in shots]
    return f"Instruct: {TASK}\n{''.join(blocks)}Query: {text}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny_models.save_qwen3(tmp_path_factory.mktemp("decoder"))


def reference(folder: Path, string: str) -> np.ndarray:
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    bos, eos = tiny_models.VOCABULARY["<s>"], tiny_models.VOCABULARY["</s>"]
    ids = [bos, *tokenizer(string, add_special_tokens=False)["input_ids"], eos]
    with torch.inference_mode():
        state = model(torch.tensor([ids]), use_cache=False).last_hidden_state[0, -1]
    return (state / state.norm()).numpy()


@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize("system", RECIPES)
def test_the_query_is_read_behind_its_examples(folder: Path, system: str, n: int):
    with Embedder.load(str(folder), device="cpu", recipe=RECIPES[system]) as embedder:
        together = embedder.embed_queries(TEXTS, shots=SHOTS[:n])
        alone = [embedder.embed_queries([text], shots=SHOTS[:n])[0] for text in TEXTS]
    for text, one, other in zip(TEXTS, together, alone, strict=True):
        expected = reference(folder, published(system, text, SHOTS[:n]))
        assert one.dense @ expected >= 0.9999
        assert other.dense @ expected >= 0.9999
        assert one.dropped == 0


@pytest.mark.parametrize("n", [0, 2])
def test_a_long_query_is_cut_before_its_suffix_and_examples_come_on_top(folder: Path, n: int):
    recipe = RECIPES["bge-en-icl"]
    # 28 tokens: two special ones, those of the template, and so many words of the query.
    tokenizer = AutoTokenizer.from_pretrained(folder)
    fixed = len(tokenizer(published("bge-en-icl", "", ()), add_special_tokens=False)["input_ids"])
    kept = recipe.query_tokens - 2 - fixed
    words = ("the dog ran over the hill and slept " * 4).split()
    with Embedder.load(str(folder), device="cpu", recipe=recipe) as embedder:
        (one,) = embedder.embed_queries([" ".join(words)], shots=SHOTS[:n])
    assert one.dropped == len(words) - kept > 0
    expected = reference(folder, published("bge-en-icl", " ".join(words[:kept]), SHOTS[:n]))
    assert one.dense @ expected >= 0.9999


def test_other_examples_give_another_vector_and_are_not_mixed_up_in_the_cache(folder: Path):
    with Embedder.load(str(folder), device="cpu", recipe=RECIPES["rare"]) as embedder:
        found = [embedder.embed_queries(["the cat"], shots=shots)[0].dense for shots in ((), SHOTS, SHOTS[::-1], ())]
    assert found[0] is found[3] or np.array_equal(found[0], found[3])
    assert found[0] @ found[1] < 0.9999
    assert found[1] @ found[2] < 0.9999


def test_a_model_without_a_place_for_examples_refuses_them(folder: Path):
    with (
        Embedder.load(str(folder), device="cpu") as embedder,
        pytest.raises(InvalidInput, match="takes no examples"),
    ):
        embedder.embed_queries(["the cat"], shots=SHOTS)
