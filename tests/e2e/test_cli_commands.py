"""The commands but `index` on the real engine. ``--model none`` (BM25 only) where vectors do not matter: it needs no torch."""

import json
import signal
import subprocess

import pytest
from click.testing import CliRunner

from cli.main import main
from engine import open_engine
from tests.support.commands import REPOSITORY, command, counts, ids, value_of, write


def test_query_json_has_the_shape_of_the_contract(engine, docs):
    engine("index", docs)
    answer = value_of(engine("query", "harbour", "lights", "--json"))
    assert set(answer) == {"hits", "timings_ms", "plan"}
    hit = answer["hits"][0]
    assert set(hit) == {"doc_id", "title", "score", "metadata", "passages", "score_detail"}
    assert (hit["doc_id"], hit["title"], hit["metadata"]["year"]) == ("r1", "Row one", 2020)
    assert set(hit["passages"][0]) == {"text", "start", "end", "score"}
    assert set(hit["score_detail"]) == {"dense", "sparse", "bm25", "ranks", "terms"}
    assert set(hit["score_detail"]["terms"][0]) == {"term", "leg", "contribution"}


def test_query_for_people_shows_title_path_score_and_passage(engine, docs):
    engine("index", docs)
    result = engine("query", "landmark token")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split()[:2] == ["1", "Landmarks"]
    assert "intro.md" in lines[1]
    assert "A landmark token closes each passage." in result.stdout
    assert "\x1b[" not in result.stdout


def test_query_highlights_in_a_terminal(engine, docs, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    engine("index", docs)
    result = engine("query", "landmarks", color=True)
    assert "\x1b[1;33mlandmark" in result.stdout


def test_explain_shows_legs_terms_plan_and_timings(engine, docs):
    engine("index", docs)
    result = engine("query", "fusion scores", "--explain")
    for words in ("leg", "rank", "weight", "bm25", "adds", "plan.", "timings."):
        assert words in result.stdout


def test_filter_and_params(engine, docs):
    engine("index", docs)
    answer = value_of(engine("query", "lights", "--filter", "year >= $y", "--param", "y=2020", "--json"))
    assert [hit["doc_id"] for hit in answer["hits"]] == ["r1"]
    assert value_of(engine("query", "lights", "--filter", 'extension == ".md"', "--json"))["hits"] == []
    nothing = engine("query", "lights", "--filter", 'extension == ".md"')
    assert "None of the 4 documents matches. You could drop or widen --filter" in nothing.stdout


@pytest.mark.parametrize(
    ("args", "exit_code", "kind"),
    [
        (("query", "x", "--filter", "lang =="), 2, "InvalidFilter"),
        (("query", "x", "--filter", "lang == $unbound"), 2, "InvalidFilter"),
        (("query", "x", "--offset", "9999", "--limit", "1000"), 2, "InvalidQuery"),
        (("query", "  "), 2, "InvalidQuery"),
        (("query", "x", "--weights", "magic=1"), 2, "InvalidArgument"),
        (("query", "x", "--mode", "dense"), 1, "LegMissing"),
        (("query", "x", "--mode", "sparse"), 1, "LegMissing"),
        (("query", "x", "--collection", "absent"), 1, "CollectionNotFound"),
        (("get", "x", "--collection", "absent"), 1, "CollectionNotFound"),
        (("collections", "drop", "absent"), 1, "CollectionNotFound"),
        (("collections", "create", "default"), 1, "CollectionExists"),
        (("collections", "create", "bad/name"), 2, "InvalidArgument"),
        (("collections", "create", "c", "--language", "klingon"), 2, "InvalidArgument"),
        (("delete", "--filter", "a ="), 2, "InvalidFilter"),
    ],
)
def test_bad_input_gives_the_right_error(engine, docs, args, exit_code, kind):
    engine("index", docs / "intro.md")
    result = engine(*args, "--json")
    error = value_of(result, exit_code)["error"]
    assert error["message"] in result.stderr
    assert error["type"] == kind or (kind == "InvalidArgument" and error["type"].startswith("Invalid"))


def test_query_without_an_index_says_what_to_do(engine, tmp_path):
    result = engine("query", "x")
    assert result.exit_code == 1
    assert "Run `engine index PATH` first" in result.stderr
    assert not (tmp_path / "data").exists()


def test_collections_are_created_listed_described_and_dropped(engine):
    assert value_of(engine("collections", "--json")) == []
    engine("collections", "create", "papers", "--language", "german")
    (info,) = value_of(engine("collections", "list", "--json"))
    assert (info["name"], info["language"], info["documents"]) == ("papers", "german", 0)
    assert value_of(engine("collections", "stats", "papers", "--json"))["info"] == info
    for words in (("collections",), ("collections", "info", "papers"), ("collections", "stats", "papers")):
        assert "papers" in engine(*words).stdout
    assert value_of(engine("collections", "drop", "papers", "--json")) == {"dropped": "papers"}


def test_get_and_delete(engine, docs):
    engine("index", docs)
    found = value_of(engine("get", "r1", "absent", "--json"), 1)
    assert (found[0]["doc_id"], found[1]) == ("r1", None)
    assert "harbour lights" in engine("get", "r1").stdout
    assert value_of(engine("delete", "r1", "absent", "--json")) == {"deleted": 1}
    assert value_of(engine("delete", "--filter", "extension == $e", "--param", "e=.md", "--json")) == {"deleted": 2}
    assert ids(engine) == ["code/search.py"]


def test_check_snapshot_and_restore(engine, docs, tmp_path):
    engine("index", docs)
    report = value_of(engine("check", "--json"))
    assert (report["sound"], report["collections"][0]["documents"]) == (True, 4)
    assert "default: sound, 4 documents" in engine("check").stdout
    assert value_of(engine("snapshot", tmp_path / "copy", "--json")) == {"collections": ["default"]}
    assert engine("snapshot", tmp_path / "copy").exit_code == 2
    assert engine("restore", tmp_path / "copy", data="restored").exit_code == 0
    assert len(ids(engine, data="restored")) == 4
    assert engine("restore", tmp_path / "copy", data="restored").exit_code == 2


def test_eval_json_has_the_shape_of_the_contract(engine, tmp_path):
    corpus = [
        {"_id": f"d{n}", "title": "", "text": text} for n, text in enumerate(("red ships", "blue boats", "grey gulls"))
    ]
    queries = [{"_id": "q1", "text": "ships"}, {"_id": "q2", "text": "gulls"}, {"_id": "q3", "text": "unjudged"}]
    root = write(
        tmp_path / "harbour",
        {
            "corpus.jsonl": "\n".join(map(json.dumps, corpus)),
            "queries.jsonl": "\n".join(map(json.dumps, queries)),
            "qrels.tsv": "query-id\tcorpus-id\tscore\nq1\td0\t1\nq2\td1\t1\n",
        },
    )
    report = value_of(engine("eval", root, "--json"))
    assert set(report) == {"dataset", "n_docs", "n_queries", "fingerprint", "modes", "seconds"}
    assert (report["dataset"], report["n_docs"], report["n_queries"], report["fingerprint"]) == ("harbour", 3, 2, None)
    assert set(report["seconds"]) == {"index", "query"}
    assert list(report["modes"]) == ["dense", "sparse", "bm25", "hybrid"]
    assert (report["modes"]["dense"], report["modes"]["sparse"]) == (None, None)
    assert report["modes"]["bm25"] == {"ndcg_at_10": 0.5, "recall_at_100": 0.5, "mrr_at_10": 0.5}
    assert not (tmp_path / "data").exists()
    kept = engine("eval", root, "--keep", "--modes", "bm25,hybrid:rrf")
    assert "hybrid:rrf" in kept.stdout
    assert value_of(engine("collections", "--json"))[0]["name"] == "eval-harbour"


def test_commands_work_on_a_server(engine, docs, tmp_path):
    from engine.server import Server, ServerConfig

    with (
        open_engine(tmp_path / "served", model=None) as local,
        Server(local, ServerConfig(address="127.0.0.1:0")) as server,
    ):

        def remote(*args):
            return CliRunner().invoke(main, [*map(str, args), "--server", server.address, "--json"])

        assert counts(remote("index", docs))["added"] == 4
        assert value_of(remote("query", "harbour"))["hits"][0]["doc_id"] == "r1"
        (docs / "intro.md").unlink()
        assert counts(remote("index", docs, "--prune"))["removed"] == 1
        assert value_of(remote("delete", "r1")) == {"deleted": 1}
        assert value_of(remote("query", "x", "--filter", "a =="), 2)["error"]["type"] == "InvalidFilter"
        assert value_of(remote("query", "x", "--mode", "sparse"), 1)["error"]["type"] == "LegMissing"


def test_server_that_is_not_there_is_one_clear_line():
    result = CliRunner().invoke(main, ["query", "x", "--server", "127.0.0.1:1", "--json"])
    assert value_of(result, 1)["error"]["type"] == "RemoteFailure"
    assert result.stderr.count("\n") == 1


def test_serve_prints_its_address_answers_and_stops_on_sigterm(engine, docs, tmp_path):
    engine("index", docs)
    args = command("serve", "--address", "127.0.0.1:0", "--data", tmp_path / "data", "--model", "none", "--json")
    process = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY)
    try:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["address"]
        answer = CliRunner().invoke(main, ["query", "harbour", "--server", address, "--json"])
        assert value_of(answer)["hits"][0]["doc_id"] == "r1"
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, stderr
    assert "Traceback" not in stderr


def test_serve_refuses_to_be_open_to_other_machines(engine):
    error = value_of(engine("serve", "--address", "0.0.0.0:0", "--json"), 2)["error"]
    assert error["type"] == "UnsafeAddress"


def test_second_process_on_the_same_folder_is_refused(engine, docs, tmp_path):
    engine("index", docs)
    with open_engine(tmp_path / "data", model=None):
        args = command("query", "x", "--data", tmp_path / "data", "--model", "none", "--json")
        result = subprocess.run(args, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert result.returncode == 1
    assert json.loads(result.stdout)["error"]["type"] == "DataFolderLocked"


def test_built_in_model_from_the_first_command_to_the_answer(engine, docs):
    assert counts(engine("index", docs, "--json", model="builtin"))["added"] == 4
    answer = value_of(engine("query", "how are several rankings combined?", "--json", model="builtin"))
    assert answer["hits"][0]["doc_id"] == "guide/fusion.md"
    assert answer["hits"][0]["score_detail"]["dense"] > 0
    question = "how are several rankings combined?"
    learned = value_of(engine("query", question, "--mode", "sparse", "--json", model="builtin"))
    assert learned["hits"][0]["doc_id"] == "guide/fusion.md"
    assert any(term.get("expansion") for term in learned["hits"][0]["score_detail"]["terms"])
    (embedding,) = value_of(engine("embed", "some words", "--json", model="builtin"))
    assert set(embedding) == {"dense", "sparse", "tokens"}
    assert len(embedding["dense"]) == 384
    assert embedding["sparse"]["words"] > 0
    lines = value_of(engine("embed", "--query", "--landmarks", "--json", input="one\n\ntwo\n", model="builtin"))
    assert len(lines) == 2
