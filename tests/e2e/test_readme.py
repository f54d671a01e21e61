"""What the README shows works as shown, and what the documents name exists."""

import re
from pathlib import Path

import pytest

from engine import open_engine
from engine.server import Server, ServerConfig

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "ARCHITECTURE.md",
    *(ROOT / "docs").rglob("*.md"),
    ROOT / "benchmarks" / "README.md",
]


def test_the_embedded_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(EXAMPLES[0], "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("a ")


def test_the_grpc_example_runs(tmp_path, capsys):
    with open_engine(tmp_path) as engine, Server(engine, ServerConfig(address="127.0.0.1:0")) as server:
        exec(compile(EXAMPLES[1].replace("127.0.0.1:50051", server.address), "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("note-0 added ")
    assert printed[-1].endswith(" 3 1")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_a_document_names_exists(path):
    text = path.read_text()
    links = re.findall(r"\]\((?!http)([^)#]+)\)", text)
    named = re.findall(r"`((?:engine|index|embedder|cli|tests|benchmarks|docs|proto)/[\w./-]+\.\w+)`", text)
    missing = [name for name in links if not (path.parent / name).exists()]
    missing += [name for name in named if not (ROOT / name).exists()]
    assert not missing


def test_every_make_target_that_the_readme_names_exists():
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"make ([a-z-]+)", README))
    assert named
    assert all(f"\n{target}:" in makefile for target in named)
