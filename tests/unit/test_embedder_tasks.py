"""What a query asks for: by the name of a task, in words, or by default; and where there is no place for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embedder.catalogue import all_systems
from embedder.embedder import DocumentInput, Embedder
from embedder.errors import InvalidInput, InvalidRecipe
from embedder.recipe import WEB_SEARCH_TASK, Recipe
from tests.support import tiny_models

BEIR = {
    *("arguana", "climate-fever", "cqadupstack", "dbpedia", "fever", "fiqa", "hotpotqa", "msmarco", "nfcorpus", "nq"),
    *("quora", "scidocs", "scifact", "touche", "trec-covid"),
}
RECIPE = Recipe(name="r", query_template="Instruct: {task}\nQuery: {text}")
NQ = "Given a question, retrieve Wikipedia passages that answer the question"


def test_a_name_an_instruction_or_nothing_says_what_is_asked() -> None:
    recipe = RECIPE.overlaid({"tasks": {"greet": "Say hello to", "part": "Say goodbye to"}})
    assert recipe.query_text("you", "part") == "Instruct: Say goodbye to\nQuery: you"
    assert recipe.query_text("you", "Sing for") == "Instruct: Sing for\nQuery: you"
    assert recipe.query_text("you", None) == f"Instruct: {WEB_SEARCH_TASK}\nQuery: you"
    with pytest.raises(InvalidInput, match="no task of this name; name one of greet, part, or say in words"):
        recipe.query_text("you", "prat")
    assert RECIPE.query_text("you", "prat") == "Instruct: prat\nQuery: you", (
        "without names, every word is an instruction"
    )


@pytest.mark.parametrize(
    ("tasks", "problem"),
    [
        ("e6", "there are e5, bge-en-icl, gemini"),
        (3, "must be a table"),
        ({"a": 1}, "as text"),
        ({"a b": "c"}, "without spaces"),
        ({"a": " "}, "as text"),
    ],
)
def test_tasks_that_cannot_be_used_are_refused(tasks: object, problem: str) -> None:
    with pytest.raises(InvalidRecipe, match=problem):
        RECIPE.overlaid({"tasks": tasks})


def test_the_instructed_systems_know_every_set_of_beir() -> None:
    instructed = {name for name, system in all_systems().items() if system.recipe.get("tasks") in ("e5", "bge-en-icl")}
    assert {"e5-mistral-7b-instruct", "qwen3-embedding", "gte-qwen2", "linq-embed-mistral", "bge-en-icl"} <= instructed
    for name in instructed:
        tasks = dict(all_systems()[name].overlaid().tasks)
        assert tasks.keys() >= BEIR
        assert all(said.endswith(".") == (name == "bge-en-icl") for task, said in tasks.items() if task != "sts")
        assert not any(said.endswith("..") for said in tasks.values())
    qwen = all_systems()["qwen3-embedding"].overlaid()
    assert qwen.query_text("who sang?", "nq") == f"Instruct: {NQ}\nQuery:who sang?"
    gemma = all_systems()["embeddinggemma-300m"].overlaid()
    assert gemma.query_text("sort a list", "code") == "task: code retrieval | query: sort a list"
    assert gemma.query_text("birds", None) == "task: search result | query: birds"


@pytest.mark.parametrize("name", sorted(all_systems()))
def test_a_systems_tasks_have_a_place_in_its_template_and_hold_its_default(name: str) -> None:
    recipe = all_systems()[name].overlaid()
    if recipe.tasks:
        assert recipe.takes_task(query=True)
        assert recipe.default_task in dict(recipe.tasks).values()


def test_a_model_without_a_place_for_a_task_refuses_one(tmp_path: Path) -> None:
    folder = str(tiny_models.save_bert(tmp_path))
    with Embedder.load(folder, device="cpu", workers=1, threads=1) as embedder:
        with pytest.raises(InvalidInput, match=r"queries of .* have no task"):
            embedder.embed_queries(["cat"], task="the cat")
        with pytest.raises(InvalidInput, match=r"documents of .* have no task"):
            embedder.embed_documents([DocumentInput("", "cat")], task="the cat")


def test_a_named_task_gives_the_vector_of_its_instruction(tmp_path: Path) -> None:
    folder = str(tiny_models.save_bert(tmp_path))
    recipe = Recipe(name="r", query_template="{task}: {text}", max_tokens=128, window_tokens=128, passage_tokens=128)
    recipe = recipe.overlaid({"tasks": {"animals": "the dog ran far"}})
    with Embedder.load(folder, recipe=recipe, device="cpu", workers=1, threads=1) as embedder:
        named, said, other = (
            embedder.embed_queries(["cat"], task=task)[0].dense
            for task in ("animals", "the dog ran far", "the old tree")
        )
    np.testing.assert_array_equal(named, said)
    assert float(named @ other) < 0.9999
