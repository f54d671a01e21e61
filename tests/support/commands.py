"""Commands run in this process, and what they print."""

import json
import sys
from pathlib import Path

from click.testing import CliRunner

from cli.main import main

REPOSITORY = Path(__file__).resolve().parents[2]


def runner(data_root):
    """Runs a command on a data folder below ``data_root``, without a model, and returns click's result."""

    def run(*args, data="data", model="none", **options):
        common = ["--data", str(data_root / data), "--model", model]
        return CliRunner().invoke(main, [*map(str, args), *common], catch_exceptions=False, **options)

    return run


def command(*args):
    """The words that start a command in a process of its own."""
    return [sys.executable, "-m", "cli.main", *map(str, args)]


def value_of(result, exit_code=0):
    """What a command printed as JSON."""
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout)


def counts(result, exit_code=0):
    """How many documents a run of `engine index` added, updated, …"""
    return value_of(result, exit_code)["documents"]


def ids(engine, **options):
    """The ids of the first hundred documents."""
    return [document["doc_id"] for document in value_of(engine("get", "--limit", 100, "--json", **options))]


def write(root, files):
    """Files by name below ``root``; returns ``root``."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return root
