"""The commands on the real engine. ``--model none`` (BM25 only) where vectors do not matter: it needs no torch."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import main
from engine import open_engine
from tests.unit.test_cli_readers import pdf_bytes

REPOSITORY = Path(__file__).resolve().parents[2]
SUMMARY = {"documents", "passages", "tokens", "seconds"}
STATUSES = {"added", "updated", "unchanged", "removed", "failed"}


@pytest.fixture
def engine(tmp_path):
    """Runs a command on a data folder of its own and returns click's result."""

    def run(*args, data="data", model="none", **options):
        common = ["--data", str(tmp_path / data), "--model", model]
        return CliRunner().invoke(main, [*map(str, args), *common], catch_exceptions=False, **options)

    return run


def value_of(result, exit_code=0):
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout)


def counts(result, exit_code=0):
    return value_of(result, exit_code)["documents"]


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


@pytest.fixture
def docs(tmp_path):
    return write(
        tmp_path / "docs",
        {
            "intro.md": "# Landmarks\n\nA landmark token closes each passage.\n",
            "guide/fusion.md": "# Fusion\n\nScores of several legs become one score.\n",
            "code/search.py": "def search(query):\n    return rank(query)\n",
            "rows.jsonl": '{"_id": "r1", "title": "Row one", "text": "harbour lights", "year": 2020}\n{"_id": \n',
            "broken.pdf": b"not a pdf",
            "sealed.pdf": pdf_bytes(["secret"], password="pw"),
            "blob.bin": b"\0\1",
            "weird.xyz": "unknown",
            "__init__.py": "",
        },
    )


def test_index_json_has_the_shape_of_the_contract(engine, docs):
    result = engine("index", docs, "--json")
    summary = value_of(result)
    assert set(summary) == SUMMARY
    assert set(summary["documents"]) == STATUSES
    assert summary["documents"] == {"added": 4, "updated": 0, "unchanged": 0, "removed": 0, "failed": 3}
    assert set(summary["tokens"]) == {"read", "embedded", "dropped"}
    assert summary["tokens"]["read"] == summary["tokens"]["embedded"] + summary["tokens"]["dropped"]
    assert summary["passages"] >= 4
    for line in ("rows.jsonl:2: malformed JSON", "broken.pdf: damaged PDF", "sealed.pdf: it is encrypted"):
        assert line in result.stderr
    assert "3 files (1 binary, 1 empty, 1 unknown type)" in result.stderr


def test_index_summary_for_people(engine, docs):
    result = engine("index", docs)
    assert result.exit_code == 0
    assert "4 added, 0 updated, 0 unchanged, 3 failed" in result.stdout
    assert "\x1b[" not in result.output


def test_unchanged_files_are_not_indexed_again(engine, docs):
    engine("index", docs)
    (docs / "intro.md").write_text("# Landmarks\n\nNew words here.\n")
    summary = value_of(engine("index", docs, "--json"))
    assert summary["documents"] == {"added": 0, "updated": 1, "unchanged": 3, "removed": 0, "failed": 3}
    assert summary["passages"] == 1


def test_index_fails_when_everything_failed_or_when_strict(engine, tmp_path, docs):
    assert counts(engine("index", docs / "broken.pdf", "--json"), 1)["failed"] == 1
    assert engine("index", docs, "--strict").exit_code == 1


def test_empty_folder_is_nothing_to_do(engine, tmp_path):
    (tmp_path / "empty").mkdir()
    assert counts(engine("index", tmp_path / "empty", "--json"))["added"] == 0


def ids(engine, **options):
    return [document["doc_id"] for document in value_of(engine("get", "--limit", 100, "--json", **options))]


def test_prune_removes_vanished_files_of_that_path_only(engine, tmp_path):
    first = write(tmp_path / "first", {"a.md": "alpha", "sub/b.md": "beta", "rows.jsonl": '{"_id":"x","text":"x"}'})
    second = write(tmp_path / "second", {"c.md": "gamma", "d.md": "delta"})
    engine("index", first, second)
    (first / "a.md").unlink()
    (second / "c.md").unlink()
    (first / "rows.jsonl").write_text('{"_id":"y","text":"y"}')
    assert counts(engine("index", first, "--json"))["removed"] == 0
    assert counts(engine("index", first, "--prune", "--json"))["removed"] == 2
    assert ids(engine) == ["c.md", "d.md", "sub/b.md", "y"]
    assert counts(engine("index", first, second, "--prune", "--json"))["removed"] == 1
    assert ids(engine) == ["d.md", "sub/b.md", "y"]


def test_prune_of_a_file_looks_at_that_file_only(engine, tmp_path):
    root = write(tmp_path / "root", {"a.md": "alpha", "rows.csv": "text\none\ntwo\n"})
    engine("index", root)
    (root / "a.md").unlink()
    (root / "rows.csv").write_text("text\none\n")
    assert counts(engine("index", root / "rows.csv", "--prune", "--json"))["removed"] == 1
    assert ids(engine) == ["a.md", "rows.csv#1"]
    assert counts(engine("index", root, "--prune", "--json"))["removed"] == 1


def test_prune_keeps_the_documents_of_a_file_that_could_not_be_read(engine, tmp_path):
    root = write(
        tmp_path / "root", {"a.pdf": pdf_bytes(["words"]), "rows.jsonl": '{"_id":"x","text":"x"}', "b.md": "b"}
    )
    engine("index", root)
    (root / "a.pdf").write_bytes(b"now damaged")
    (root / "rows.jsonl").write_text('{"_id":"x","te')
    (root / "b.md").unlink()
    assert counts(engine("index", root, "--prune", "--json"), 1) == {
        "added": 0, "updated": 0, "unchanged": 0, "removed": 1, "failed": 2
    }  # fmt: skip
    assert ids(engine) == ["a.pdf", "x"]


def test_the_same_id_twice_in_one_run_is_reported(engine, tmp_path):
    first, second = write(tmp_path / "one", {"a.md": "first"}), write(tmp_path / "two", {"a.md": "second"})
    result = engine("index", first, second, "--json")
    assert counts(result) == {"added": 1, "updated": 0, "unchanged": 0, "removed": 0, "failed": 1}
    assert "already read a document with this id" in result.stderr


def test_rows_that_the_engine_refuses_are_failures_and_the_rest_goes_on(engine, tmp_path):
    rows = [
        {"_id": "a" * 511, "text": "longest id"},
        {"_id": "b" * 512, "text": "too long"},
        {"_id": "c", "text": "x", "n": 2**63},
        {"_id": "d", "text": "  "},
    ]
    root = write(tmp_path / "rows", {"rows.jsonl": "\n".join(map(json.dumps, rows))})
    result = engine("index", root, "--json")
    assert counts(result) == {"added": 1, "updated": 0, "unchanged": 0, "removed": 0, "failed": 3}
    assert "has 512 bytes; at most 511 are allowed" in result.stderr


def test_the_data_folder_is_not_indexed(engine, tmp_path):
    write(tmp_path / "all", {"a.md": "alpha"})
    engine("index", tmp_path / "all", data="all/index")
    assert counts(engine("index", tmp_path / "all", "--json", data="all/index"))["unchanged"] == 1


def test_own_vectors_come_from_the_field_vector(engine, tmp_path):
    rows = ['{"_id":"a","text":"x","vector":[1,0]}', '{"_id":"b","text":"y","vector":[0,1]}', '{"_id":"c","text":"z"}']
    root = write(tmp_path / "rows", {"a.jsonl": "\n".join(rows)})
    engine("collections", "create", "default", "--dim", 2)
    assert counts(engine("index", root, "--json")) == {
        "added": 2, "updated": 0, "unchanged": 0, "removed": 0, "failed": 1
    }  # fmt: skip
    assert value_of(engine("collections", "info", "--json"))["dim"] == 2


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
    for command in (("collections",), ("collections", "info", "papers"), ("collections", "stats", "papers")):
        assert "papers" in engine(*command).stdout
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


def command(*args):
    return [sys.executable, "-m", "cli.main", *map(str, args)]


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


def test_data_folder_that_cannot_be_made_is_one_clear_line(engine, docs, tmp_path):
    (tmp_path / "file").write_text("in the way")
    result = engine("index", docs, "--json", data="file/data")
    assert value_of(result, 1)["error"]["message"]
    assert "Traceback" not in result.output


def test_interrupted_index_keeps_what_was_acknowledged_and_goes_on(tmp_path):
    n_rows = 60_000
    rows = "".join(f'{{"_id":"{n}","text":"row {n} of a long file about ships and harbours"}}\n' for n in range(n_rows))
    write(tmp_path, {"rows.jsonl": rows})
    args = command("index", tmp_path / "rows.jsonl", "--data", tmp_path / "data", "--model", "none", "--json")
    process = subprocess.Popen(
        args,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        # A shell's background job ignores SIGINT, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    store = tmp_path / "data" / "collections" / "default" / "store"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and sum(path.stat().st_size for path in store.glob("*")) < 3_000_000:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Run the same command again" in stderr
    summary = json.loads(stdout)
    kept = summary["documents"]["added"]
    assert summary["interrupted"]
    assert 0 < kept < n_rows
    again = json.loads(subprocess.run(args, capture_output=True, text=True, check=True, cwd=REPOSITORY).stdout)
    assert again["documents"]["unchanged"] >= kept
    assert again["documents"]["unchanged"] + again["documents"]["added"] == n_rows


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
