"""The rules of the house hold: layers, light imports, formatting, types."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "command",
    [["lint-imports"], ["ruff", "format", "--check", "."], ["ruff", "check", "."]],
    ids=["import contracts", "format", "lint"],
)
def test_the_checks_of_make_check_pass(command):
    program = Path(sys.executable).with_name(command[0])
    result = subprocess.run([program, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("module", ["engine", "engine.client", "engine.values", "cli.main"])
def test_light_modules_load_nothing_heavy(module):
    heavy = {"torch", "transformers", "numba", "faiss", "hnswlib", "lmdb"}
    code = f"import sys, {module}; print(sorted({heavy!r} & sys.modules.keys()))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_every_module_is_short_enough_to_read():
    packages = ("engine", "index", "embedder", "cli", "benchmarks")
    modules = [path for package in packages for path in (ROOT / package).rglob("*.py") if "v1" not in path.parts]
    assert modules
    assert [str(path) for path in modules if len(path.read_text().splitlines()) > 400] == []


def test_the_floors_of_grpc_and_protobuf_are_those_of_the_generated_code():
    generated = (ROOT / "engine" / "v1" / "engine_pb2_grpc.py").read_text()
    dependencies = (ROOT / "pyproject.toml").read_text()
    version = generated.split("GRPC_GENERATED_VERSION = '")[1].split("'")[0]
    assert f'"grpcio>={version}"' in dependencies
