"""``engine models``: what it lists, shows and verifies; and a system by name from index to query."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from cli.main import main
from embedder.catalogue import all_systems
from tests.support import tiny_heads, tiny_systems
from tests.support.system_files import system_file

ROOT = Path(__file__).parents[2]
QUERIES = ("who sang?", "where did the cat sleep")
DOCUMENTS = ("birds sang near the river", "a cat slept under the old tree")


@pytest.fixture(autouse=True)
def no_files_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("LANDMARK_MODEL", raising=False)


def run(*args: str) -> Result:
    return CliRunner().invoke(main, args)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    tiny_systems.save(folder, "bert")
    return folder


def published_matrix(folder: Path) -> list[list[float]]:
    """The cosines of the queries and documents by transformers alone, times 100."""
    network, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)

    def vector(text: str) -> np.ndarray:
        with torch.inference_mode():
            state = network(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, 0].numpy()
        return state / np.linalg.norm(state)

    return [[100 * float(vector("ask: " + q) @ vector(d)) for d in DOCUMENTS] for q in QUERIES]


def saved_system(folder: Path, expected: list[list[float]]) -> Path:
    """A system of one's own with a matrix, as a file."""
    path = folder / "mine.toml"
    path.write_text(
        system_file(
            'query_template = "ask: {text}"\ndocument_template = "{text}"\npooling = "cls"\n',
            more=f"""
[[parity]]
checkpoint = "me/my-encoder"
queries = {json.dumps(QUERIES)}
documents = {json.dumps(DOCUMENTS)}
expected = {expected}
scale = 100.0
tolerance = 0.0001
""",
        ),
        encoding="utf-8",
    )
    return path


def test_a_checkpoint_that_computes_what_was_published_is_verified(tmp_path: Path, encoder: Path) -> None:
    path = saved_system(tmp_path, published_matrix(encoder))
    result = run("models", "verify", str(path), "--folder", str(encoder), "--device", "cpu", "--json")
    assert result.exit_code == 0, result.output
    outcome = json.loads(result.stdout)
    assert outcome["holds"] is True
    assert len(outcome["comparisons"]) == 4
    assert outcome["checkpoint"] == "me/my-encoder"


def test_a_checkpoint_that_computes_something_else_is_not(tmp_path: Path, encoder: Path) -> None:
    matrix = published_matrix(encoder)
    matrix[1][0] += 0.05  # of 100
    path = saved_system(tmp_path, matrix)
    result = run("models", "verify", str(path), "--folder", str(encoder), "--device", "cpu")
    assert result.exit_code == 1
    assert result.stdout.count("OFF") == 1
    assert "NOT as published" in result.stdout


def test_a_system_without_published_numbers_cannot_be_verified() -> None:
    result = run("models", "verify", "prompteol", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]["type"] == "InvalidInput"


def test_the_list_has_every_system_and_every_kind_of_name() -> None:
    plain = run("models")
    assert plain.exit_code == 0, plain.output
    listed = json.loads(run("models", "--json").stdout)
    assert [system["system"]["name"] for system in listed["systems"]] == list(all_systems())
    for name in all_systems():
        assert f"  {name} " in plain.stdout
    for choice in listed["choices"]:
        assert choice["model"] in plain.stdout


@pytest.mark.parametrize("name", sorted(all_systems()))
def test_every_system_can_be_shown(name: str) -> None:
    result = run("models", "show", name)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(all_systems()[name].facts.title)
    for trap in all_systems()[name].facts.traps:
        assert trap in result.stdout


def test_an_unknown_system_is_answered_with_close_names() -> None:
    result = run("models", "show", "gritlm", "--json")
    assert result.exit_code == 1
    assert "gritlm-7b" in json.loads(result.stdout)["error"]["message"]


def test_the_table_of_the_docs_is_current() -> None:
    result = run("models", "list", "--markdown")
    assert result.exit_code == 0, result.output
    assert (ROOT / "docs" / "models.md").read_text(encoding="utf-8") == result.stdout, (
        "run: engine models list --markdown > docs/models.md"
    )


def test_pickled_weights_are_converted_and_then_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    tiny_systems.save(folder, "bert")
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    refused = run("embed", "cat", "--model", str(folder), "--json")
    assert refused.exit_code == 1
    assert "engine models convert" in json.loads(refused.stdout)["error"]["message"]
    written = json.loads(run("models", "convert", str(folder), "--json").stdout)["written"]
    assert written == [str(folder / "model.safetensors")]
    assert run("embed", "cat", "--model", str(folder), "--device", "cpu", "--json").exit_code == 0
    assert "nothing to convert" in run("models", "convert", str(folder)).stdout


def test_the_constants_of_a_mixture_of_experts_are_measured_on_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "mixture"
    tiny_heads.save_mixture(folder, "qwen2_moe")
    tiny_heads.save_byte_tokenizer(folder, "<s> $A")
    (tmp_path / "sample.txt").write_text("the dog ran far\n\nbirds sang\nan old tree\n")
    before = run("embed", "cat", "--model", f"moee:{folder}", "--device", "cpu", "--json")
    written = run("models", "standardise", f"moee:{folder}", str(tmp_path / "sample.txt"), "--json")
    assert written.exit_code == 0, written.output
    assert Path(json.loads(written.stdout)["written"]).parent == folder
    after = run("embed", "cat", "--model", f"moee:{folder}", "--device", "cpu", "--json")
    assert json.loads(after.stdout)[0]["dense"] != json.loads(before.stdout)[0]["dense"]
    assert run("models", "standardise", str(folder), str(tmp_path / "sample.txt")).exit_code == 1


def test_any_causal_model_makes_a_collection_that_opens_again_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_systems.save(tmp_path / "llm", "llama")
    (tmp_path / "docs").mkdir()
    for i, text in enumerate(DOCUMENTS):
        (tmp_path / "docs" / f"{i}.txt").write_text(text)
    monkeypatch.chdir(tmp_path)
    made = run("index", "docs", "--model", "prompteol:llm", "--device", "cpu", "--data", "data")
    assert made.exit_code == 0, made.output
    monkeypatch.chdir(tmp_path / "docs")  # the model is found from anywhere
    found = run("query", "birds", "--data", "../data", "--device", "cpu", "--mode", "dense", "--json")
    assert found.exit_code == 0, found.output
    assert len(json.loads(found.stdout)["hits"]) == 2
