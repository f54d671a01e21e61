"""`engine index` on the real engine: what is added, left alone, removed, refused, and kept when it is interrupted."""

import json
import signal
import subprocess
import time

from tests.support.commands import REPOSITORY, command, counts, ids, value_of, write
from tests.unit.test_cli_readers import pdf_bytes

SUMMARY = {"documents", "passages", "tokens", "seconds"}
STATUSES = {"added", "updated", "unchanged", "removed", "failed"}


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
