"""The system files are sound, every system of the survey is there, and a model's name means what the docs say."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pytest

from embedder.catalogue import all_systems, broken_systems, find_system, refer, user_folder
from embedder.embedder import DocumentInput, Embedder
from embedder.errors import InvalidRecipe, InvalidSystem, ModelNotFound
from embedder.recipe import Recipe
from embedder.source import find_model
from embedder.system import System, read_system
from tests.support import tiny_models
from tests.support.system_files import system_file

ROOT = Path(__file__).parents[2]
SURVEY = {
    name
    for line in (
        "sgpt instructor gte-qwen1.5 gte-qwen2 e5-mistral-7b-instruct gritlm-7b echo-mistral-lasttoken",
        "echo-mistral-meantoken llm2vec-llama-3 llm2vec-mistral llm2vec-sheared-llama sfr-embedding-mistral",
        "nv-embed-v1 nv-embed-v2 linq-embed-mistral nv-retriever-v1 bge-en-icl qwen3-embedding bge-m3",
        "jina-embeddings-v3 gte-multilingual-base gecko gemini-embedding embeddinggemma-300m bge-en-v1.5 e5-v2",
        "all-minilm splade-v2 splade-pp splade-v3 mistral-splade opensearch-doc-v2 opensearch-doc-v3 prompteol",
        "prompteol-icl promptsth promptsum pretended-cot knowledge-enhancement metaeol geneol promptreps-llama-3",
        "promptreps-mistral promptreps-phi-3 promptreps echo moee moee-prompteol rare cde hyde o1-embedder debater",
        "doc2query landmark-windows landmark-embedding late-chunking parallel-windows grouped-positions",
        "recurrent-positions position-interpolation ntk self-extend extensible",
    )
    for name in line.split()
}

FILE = system_file(
    'query_template = "ask: {text}"\npooling = "cls"\n',
    more="""
[[checkpoint]]
id = "me/my-other"
weights = "them/their-weights"
recipe = { max_tokens = 64 }
""",
)


@pytest.fixture(autouse=True)
def no_files_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def write(text: str, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def write_user_file(text: str, name: str = "mine") -> Path:
    return write(text, user_folder() / f"{name}.toml")


@pytest.fixture(params=sorted(all_systems()))
def system(request: pytest.FixtureRequest) -> System:
    return all_systems()[request.param]


def test_every_system_of_the_survey_is_there() -> None:
    assert set(all_systems()) >= SURVEY


def test_the_files_come_with_the_package() -> None:
    names = {file.name for file in (resources.files("embedder") / "systems").iterdir()}
    assert names == {f"{name}.toml" for name in all_systems()}
    assert 'packages = ["engine", "index", "embedder", "cli"]' in (ROOT / "pyproject.toml").read_text()
    assert "toml" not in (ROOT / ".gitignore").read_text()  # hatch leaves out what git ignores


def test_every_recipe_is_one_for_each_of_its_checkpoints(system: System) -> None:
    for checkpoint in ("", *(published.id for published in system.checkpoints)):
        assert isinstance(system.overlaid(checkpoint), Recipe)


def test_every_system_says_how_well_it_is_known_and_how_it_is_asked_for(system: System) -> None:
    assert system.weakest_evidence is not None
    assert system.checkpoints or system.facts.usage
    assert system.facts.proof
    if system.facts.retrieval is not None:
        assert 10 < system.facts.retrieval < 80


def test_every_proof_is_a_test_that_exists(system: System) -> None:
    path, _, name = system.facts.proof.partition("::")
    source = (ROOT / path).read_text(encoding="utf-8")
    assert not name or re.search(rf"^def {name}\(", source, re.MULTILINE), system.facts.proof


def test_a_hub_id_belongs_to_one_system() -> None:
    ids = [published.id for system in all_systems().values() for published in system.checkpoints]
    assert len(ids) == len(set(ids))
    owners = {(published.short, system.name) for system in all_systems().values() for published in system.checkpoints}
    assert len(owners) == len({short for short, _ in owners})


@pytest.mark.parametrize(
    ("name", "query", "document"),
    [
        ("qwen3-embedding", "Instruct: {task}\nQuery:Q<|endoftext|>", "T D<|endoftext|>"),
        ("e5-mistral-7b-instruct", "<s>Instruct: {task}\nQuery: Q</s>", "<s>T D</s>"),
        ("sgpt", "[Q]", "{T D}"),
        ("gritlm-7b", "<s><|user|>\n{task}\n<|embed|>\nQ", "<s><|embed|>\nT D"),
        ("prompteol", 'This sentence : "Q." means in one word:"', 'This sentence : "T D." means in one word:"'),
        ("embeddinggemma-300m", "task: search result | query: Q", "title: T | text: D"),
        (
            "echo-mistral-meantoken",
            "<s>Instruct:{task},\nQuery:Q\nQuery again:Q</s>",
            "<s>Document:T D\nDocument again:T D</s>",
        ),
        (
            "llm2vec-mistral",
            "<s>[INST] {task}: Q [/INST]",
            "<s>[INST] T D [/INST]",
        ),
    ],
)
def test_an_example_is_what_the_model_reads(name: str, query: str, document: str) -> None:
    queries, documents = find_system(name).example("Q", "T", "D")
    assert queries == [query.replace("{task}", find_system(name).overlaid().default_task)]
    assert documents == [document]


def test_metaeol_has_eight_prompts_that_hold_the_sentence_once() -> None:
    queries, _ = find_system("metaeol").example("Q", "", "D")
    assert len(set(queries)) == 8
    for prompt in queries:
        assert prompt.count('this sentence : "Q."') == 1
        assert prompt.endswith('in one word:"')


@pytest.mark.parametrize(
    "name", ["qwen3-embedding", "qwen3-embedding-0.6b", "Qwen3-Embedding-0.6B", "Qwen/Qwen3-Embedding-0.6B"]
)
def test_a_name_and_a_hub_id_mean_the_published_checkpoint(name: str) -> None:
    reference = refer(name)
    assert reference.checkpoint == "Qwen/Qwen3-Embedding-0.6B"
    assert reference.system is all_systems()["qwen3-embedding"]


def test_a_folder_of_a_known_name_is_used_as_its_system_says(tmp_path: Path) -> None:
    folder = tiny_models.save_bert(tmp_path / "bge-small-en-v1.5")
    reference = refer(str(folder))
    assert reference.checkpoint == str(folder)
    assert find_model(str(folder)).recipe.query_text("q", None).endswith("relevant passages: q")


def test_adapters_and_converted_weights_are_loaded_from_where_they_are() -> None:
    name = "McGill-NLP/LLM2Vec-Meta-Llama-3-8B-Instruct-mntp"
    reference = refer(f"{name}-unsup-simcse")
    assert reference.checkpoint == "meta-llama/Meta-Llama-3-8B-Instruct"
    assert reference.tables[0]["adapters"] == [name, f"{name}-unsup-simcse"]
    assert refer("Alibaba-NLP/gte-multilingual-base").checkpoint == "alibaba-nlp-community/gte-multilingual-base"
    assert refer("meta-llama/Meta-Llama-3-8B-Instruct").system is None  # the base alone is no embedding model


def test_a_system_is_laid_over_what_is_known_of_the_checkpoint() -> None:
    reference = refer("ntk:intfloat/e5-mistral-7b-instruct")
    assert reference.checkpoint == "intfloat/e5-mistral-7b-instruct"
    below, above = reference.tables
    assert below["query_template"] == "Instruct: {task}\nQuery: {text}"
    assert above["context_extension"] == {"method": "ntk"}


def test_a_tuning_free_system_uses_any_folder(tmp_path: Path) -> None:
    folder = tiny_models.save_llama(tmp_path / "llm")
    source = find_model(f"prompteol:{folder}")
    assert source.recipe.query_text("q", None) == 'This sentence : "q." means in one word:"'
    assert source.recipe.name == f"prompteol:{folder}"  # what a collection records opens it again
    assert refer("prompteol:owner/llm").checkpoint == "owner/llm"


def test_a_system_is_laid_over_the_builtin_model() -> None:
    source = find_model("parallel-windows:builtin")
    assert source.recipe.name == "parallel-windows:builtin"
    assert source.recipe.context_extension is not None
    assert source.recipe.context_extension.original_tokens == 256
    assert source.recipe.pooling == "mean"


def test_the_builtin_model_keeps_its_sparse_head_in_a_system_that_has_no_other(tmp_path: Path) -> None:
    for head, kept in (("", True), ('sparse_head = "none"', False)):
        file = tmp_path / "small.toml"
        file.write_text(system_file(f"passage_tokens = 64\n{head}\n", name="small", published=()))
        source = find_model(f"{file}:builtin")
        assert source.recipe.passage_tokens == 64
        assert (source.tuned is not None) == kept
        assert source.recipe.sparse_head == ("tuned" if kept else "none")


def test_short_passages_share_windows_and_keep_the_heads_of_the_built_in_model() -> None:
    with Embedder.load("short-passages:builtin", threads=1) as embedder:
        document, alone = embedder.embed_documents(
            [DocumentInput("", "The ferry left at noon. " * 60), DocumentInput("", "The ferry left at noon. " * 10)]
        )
    assert embedder.name == "short-passages:builtin"
    assert len(document.passages) > 5
    assert all(passage.tokens <= 64 for passage in document.passages)
    assert all(passage.vectors.sparse is not None for passage in document.passages)
    # The same words after other sentences and before others: a vector that knows its surroundings is another one.
    cosine = float(document.passages[2].vectors.dense @ alone.passages[0].vectors.dense)
    assert 0.8 < cosine < 0.9999


@pytest.mark.parametrize("name", ["prompteol", "metaeol", "hyde", "ntk"])
def test_a_system_without_a_checkpoint_says_how_it_is_asked_for(name: str) -> None:
    with pytest.raises(ModelNotFound, match=re.escape(all_systems()[name].facts.usage.split(",")[0])):
        refer(name)


def test_a_method_is_no_way_to_use_a_checkpoint() -> None:
    with pytest.raises(ModelNotFound, match="--expand hyde"):
        refer("hyde:owner/llm")


def test_a_wrong_name_is_answered_with_names_that_are_close() -> None:
    with pytest.raises(ModelNotFound, match="prompteol"):
        refer("prompt-eol:owner/llm")
    with pytest.raises(ModelNotFound, match="gritlm-7b"):
        find_system("gritlm")


def test_a_file_of_the_user_is_a_system(tmp_path: Path) -> None:
    write_user_file(FILE)
    assert refer("mine").checkpoint == "me/my-encoder"
    assert refer("my-other").checkpoint == "them/their-weights"
    folder = tiny_models.save_bert(tmp_path / "my-other")
    assert find_model(str(folder)).recipe.max_tokens == 64
    assert find_model(f"mine:{folder}").recipe.pooling == "cls"


def test_a_file_of_the_user_replaces_the_packaged_one_of_its_name() -> None:
    write_user_file(FILE.replace('"mine"', '"prompteol"'), "prompteol")
    assert find_system("prompteol").facts.title == "Mine"


def test_a_path_of_a_system_file_is_a_name(tmp_path: Path) -> None:
    path = write(FILE, tmp_path / "elsewhere" / "other.toml")
    folder = tiny_models.save_bert(tmp_path / "model")
    assert find_model(f"{path}:{folder}").recipe.query_text("q", None) == "ask: q"
    assert refer(str(path)).checkpoint == "me/my-encoder"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('title = "Mine"', "", "title"),
        ('title = "Mine"', "title = 3", r"system\.title"),
        ("summary", "sumary", "sumary"),
        ('"encoder"', '"decoder"', r"system\.family"),
        ('id = "me/my-encoder"', "", r"checkpoint\[0\]"),
        ('pooling = "cls"', 'pooling = "max"', "pooling"),
        ('pooling = "cls"', "poling = 1", "poling"),
        ("max_tokens = 64", 'max_tokens = "64"', "max_tokens"),
        ('summary = "A test."', 'summary = "A test."\nretrieval = 50', "benchmark"),
        ('name = "mine"', 'name = "Mine!"', "name"),
        ('name = "mine"', 'name = "yours"', "yours"),
        ("[recipe]", "[recipe", "line"),
        (
            "[recipe]",
            '[[parity]]\ncheckpoint = "me/my-encoder"\nqueries = ["a"]\ndocuments = ["b"]\nexpected = [[1, 2]]\n[recipe]',
            r"parity\[0\]\.expected",
        ),
        (
            "[recipe]",
            '[[parity]]\ncheckpoint = "me/no"\nqueries = ["a"]\ndocuments = ["b"]\nexpected = [[1]]\n[recipe]',
            "me/no",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_what_is_wrong(old: str, new: str, problem: str) -> None:
    assert old in FILE
    path = write_user_file(FILE.replace(old, new, 1))
    with pytest.raises(InvalidSystem, match=problem) as caught:
        find_system("mine")
    assert str(path) in str(caught.value)


def test_a_broken_file_of_the_user_breaks_no_other_name(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    folder = tiny_models.save_bert(tmp_path / "model")
    path = write_user_file("[system", "broken")
    write_user_file(FILE)
    assert "broken" not in all_systems()
    assert refer("mine").checkpoint == "me/my-encoder"
    assert refer("qwen3-embedding").checkpoint == "Qwen/Qwen3-Embedding-0.6B"
    assert find_model(str(folder)).recipe.pooling == "mean"
    assert f"{path} cannot be used" in caplog.text
    assert caplog.text.count("It is left out.") == 1, "it is said once"
    assert list(broken_systems()) == ["broken"]
    for name in ("broken", "Broken", f"broken:{folder}"):
        with pytest.raises(InvalidSystem, match=r"broken\.toml"):
            refer(name)


def test_a_broken_file_does_not_give_way_to_the_packaged_one_that_it_replaces() -> None:
    write_user_file(FILE, "prompteol")  # its system is named otherwise
    with pytest.raises(InvalidSystem, match="it must be the file's name"):
        find_system("prompteol")
    assert "prompteol" not in all_systems()


def test_a_system_of_adapters_says_so_when_a_checkpoint_gets_none(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    folder = tiny_models.save_llama(tmp_path / "bare")
    adapted = f"llm2vec-sheared-llama-mntp-supervised:{folder}"
    assert refer(adapted).tables[-1]["adapters"]
    assert not caplog.text
    refer(f"llm2vec-sheared-llama:{folder}")
    assert f"{folder} is used without them" in caplog.text
    assert adapted in caplog.text
    caplog.clear()
    refer(f"prompteol:{folder}")
    assert not caplog.text


def test_the_example_of_the_docs_is_a_system() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "models.md").read_text(encoding="utf-8"), re.DOTALL)
    write_user_file(example, "my-model")
    assert refer("my-model").checkpoint == "us/my-model"
    assert find_system("my-model").overlaid().query_text("q", "T") == "Instruct: T\nQuery: q"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSystem, match=r"gone\.toml"):
        read_system(tmp_path / "gone.toml")


def test_a_tuned_model_is_not_used_by_another_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_models.save_bert(tmp_path / "tuned")
    monkeypatch.setattr("embedder.source.read_tuned", lambda path: object())
    with pytest.raises(InvalidRecipe, match="recipe of its own"):
        find_model(f"prompteol:{folder}")
