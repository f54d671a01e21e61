"""A collection is tuned on its own documents: better is used, no better is not, and a killed run goes on."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from cli.main import main
from engine import open_engine
from engine.errors import InvalidArgument
from engine.tuning.options import TuneOptions
from engine.tuning.pipeline import tune
from tests.support.tiny_models import save_bert
from tests.support.tuning_toys import sentence

N = 150
OPTIONS = TuneOptions(trained="layers", steps=60, lr=0.01, batch=16, held_out=0.2, negatives=1)


class Silent:
    """A watcher that remembers what it saw."""

    def __init__(self, stop_at=None):
        self.stages, self.points, self.stop_at = [], [], stop_at

    def stage(self, text):
        self.stages.append(text)

    def step(self, point):
        self.points.append(point)
        if point.step == self.stop_at:
            raise KeyboardInterrupt

    def scores(self, title, scores):
        self.stages.append(title)

    def documents(self, done, total):
        assert 0 < done <= total


def passages():
    rng = np.random.default_rng(7)
    return [sentence(rng, 10) for _ in range(N)]


def pairs(path):
    """Each passage is asked for by three of its words."""
    rng = np.random.default_rng(8)
    rows = [{"query": " ".join(rng.choice(text.split(), 3)), "positive": text} for text in passages()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(autouse=True)
def _one_thread():
    """A second thread gains nothing on tiny networks, and waits for busy cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data(tmp_path):
    with open_engine(tmp_path / "data", model=str(save_bert(tmp_path / "base"))) as engine:
        collection = engine.create_collection("c", language="none")
        collection.upsert([{"doc_id": f"d{i:03d}", "text": text} for i, text in enumerate(passages())])
    return tmp_path / "data"


@pytest.fixture
def options(tmp_path):
    return replace(OPTIONS, pairs=pairs(tmp_path / "pairs.jsonl"))


def opened(data):
    return open_engine(data, model=str(data.parent / "base"))


def test_a_better_model_is_used_and_its_card_says_by_how_much(data, options):
    watcher = Silent()
    with opened(data) as engine:
        report = tune(engine, "c", options, watcher)
        assert report.better
        assert report.migrated
        collection = engine.get_collection("c")
        assert collection.info().model == report.model
        found = [collection.query(text, mode="dense", limit=3).hits[0].doc_id for text in passages()]
        assert found == [f"d{i:03d}" for i in range(N)]
    dense, fused = report.changes[0], report.changes[-1]
    assert dense.after.ndcg_at_10 > dense.before.ndcg_at_10 + 0.1
    assert fused.after.ndcg_at_10 > fused.before.ndcg_at_10
    assert [point.step for point in watcher.points] == list(range(1, 61))
    assert [point.step for point in watcher.points if point.probe] == [10, 20, 30, 40, 50, 60]
    folder = data / "models" / "c-1"
    assert report.model == str(folder)
    card = (folder / "card.md").read_text()
    assert f"| dense | {dense.before.ndcg_at_10:.4f} | {dense.after.ndcg_at_10:.4f} |" in card
    assert "polyline" in (folder / "curves.svg").read_text()
    assert not (data / "tuning" / "c").exists()
    with open_engine(data, model=report.model) as engine:
        assert engine.get_collection("c").query("the old cat", mode="dense").hits


def test_a_model_that_is_no_better_is_not_used_unless_forced(data, options):
    worse = replace(options, lr=1e-12, steps=1)
    with opened(data) as engine:
        report = tune(engine, "c", worse, Silent())
        assert not report.better
        assert not report.migrated
        assert engine.get_collection("c").info().model == str(data.parent / "base")
        forced = tune(engine, "c", replace(worse, force=True), Silent())
        assert forced.migrated
        assert forced.model.endswith("c-2")
        assert engine.get_collection("c").info().model == forced.model


def test_an_interrupted_run_goes_on_and_ends_as_an_undisturbed_one(data, options, tmp_path):
    options = replace(options, steps=12, force=True)
    with opened(data) as engine:
        with pytest.raises(KeyboardInterrupt):
            tune(engine, "c", options, Silent(stop_at=9), output=tmp_path / "tuned")
        watcher = Silent()
        report = tune(engine, "c", options, watcher, output=tmp_path / "tuned")
    assert any("interrupted" in stage for stage in watcher.stages)
    assert watcher.points[0].step == 10, "the run did not go on from its checkpoint"
    with open_engine(tmp_path / "other", model=str(data.parent / "base")) as engine:
        collection = engine.create_collection("c", language="none")
        collection.upsert([{"doc_id": f"d{i:03d}", "text": text} for i, text in enumerate(passages())])
        undisturbed = tune(engine, "c", options, Silent(), output=tmp_path / "undisturbed")
    assert undisturbed.changes == report.changes
    weights = [(tmp_path / name / "heads.safetensors").read_bytes() for name in ("tuned", "undisturbed")]
    assert weights[0] == weights[1]


def test_documents_alone_teach_the_learned_sparse_leg(tmp_path):
    rng = np.random.default_rng(3)
    texts = [" ".join(f"{sentence(rng, 9).capitalize()}." for _ in range(4)) for _ in range(60)]
    with open_engine(tmp_path / "data", model=str(save_bert(tmp_path / "base"))) as engine:
        collection = engine.create_collection("c", language="none")
        collection.upsert([{"doc_id": f"d{i}", "text": text} for i, text in enumerate(texts)])
        sparse = TuneOptions(trained="heads", sparse_head="token_weight", steps=4, held_out=0.3, force=True)
        report = tune(engine, "c", sparse, Silent())
        assert report.examples.keys() == {"corpus"}
        assert [change.mode for change in report.changes] == ["dense", "sparse", "bm25", "hybrid"]
        assert report.changes[1].before is None
        assert collection.query("old cat", mode="sparse").hits


def test_the_minutes_decide_the_steps(data, options):
    quick = replace(options, steps=None, minutes=0.001)
    with opened(data) as engine:
        assert tune(engine, "c", quick, Silent()).steps >= 10


def test_a_collection_of_own_vectors_has_no_model_to_tune(tmp_path, options):
    with open_engine(tmp_path / "own", model=None) as engine:
        engine.create_collection("c", dim=4)
        with pytest.raises(InvalidArgument, match="migrate it to a model first"):
            tune(engine, "c", options, Silent())


def test_a_folder_that_exists_is_not_written_over(data, options, tmp_path):
    (tmp_path / "taken").mkdir()
    with opened(data) as engine, pytest.raises(InvalidArgument, match="name a new folder"):
        tune(engine, "c", options, Silent(), output=tmp_path / "taken")


def test_the_command_tunes_and_says_what_it_did(data, options):
    arguments = ["--data", str(data), "--collection", "c", "--pairs", str(options.pairs)]
    choices = ["--train", "layers", "--steps", "60", "--lr", "0.01", "--batch", "16", "--held-out", "0.2"]
    result = CliRunner().invoke(main, ["tune", *arguments, *choices, "--negatives", "1", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["better"]
    assert report["migrated"]
    assert [change["mode"] for change in report["changes"]] == ["dense", "bm25", "hybrid"]
    assert "nDCG@10 after" in result.stderr
    shown = CliRunner().invoke(main, ["query", "the old cat", "--mode", "dense", *arguments[:4], "--json"])
    assert json.loads(shown.stdout)["hits"]
    again = CliRunner().invoke(main, ["tune", *arguments, "--train", "heads", "--steps", "1", "--lr", "1e-12"])
    assert again.exit_code == 0, again.output
    assert "The result is not surely better, so c keeps its model." in again.stdout
