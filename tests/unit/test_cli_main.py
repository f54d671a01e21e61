"""The group: lazy commands, help, common options, and how failures are reported. Nothing here opens an engine."""

import json
import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from cli import expansions
from cli.commands import querying
from cli.failures import CommandFailure, reported
from cli.main import COMMANDS, main
from cli.settings import current_settings
from engine import values
from engine.errors import CollectionNotFound, InvalidDocument, InvalidFilter, InvalidQuery

HEAVY = {"torch", "transformers", "numpy", "rich", "grpc", "engine.embedded", "engine.values", "lxml", "lmdb"}


def run(*args, **options):
    return CliRunner().invoke(main, list(args), **options)


def leaf_commands():
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        yield [name], command
        if isinstance(command, click.Group):
            for child, leaf in command.commands.items():
                yield [name, child], leaf


@pytest.mark.parametrize(("path", "command"), list(leaf_commands()), ids=lambda value: str(value))
def test_every_command_has_help_with_an_example(path, command):
    result = run(*path, "--help")
    assert result.exit_code == 0
    assert command.help
    assert f"engine {path[0]}" in result.output
    assert "--json" in result.output
    assert "LANDMARK_DATA" in result.output


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from cli.main import main\n"
        "try: main(['--help'])\n"
        f"finally: sys.stderr.write(' '.join(sorted({HEAVY!r} & set(sys.modules))))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "collections" in result.stdout
    assert result.stderr == ""


def test_help_takes_less_than_a_third_of_a_second():
    spent = []
    for _ in range(3):
        before = os.times()
        subprocess.run([sys.executable, "-m", "cli.main", "--help"], capture_output=True, check=True)
        after = os.times()
        spent.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(spent) < 0.3


def test_modes_and_fusions_are_those_of_the_engine():
    assert querying.MODES == values.MODES
    assert querying.FUSIONS == values.FUSIONS
    assert expansions.QUERY_METHODS == values.QUERY_EXPANSION_METHODS
    assert expansions.USES == values.EXPANSION_USES


@pytest.mark.parametrize(
    "args",
    [
        ("--bogus",),
        ("nonsense",),
        ("query",),
        ("query", "x", "--bogus"),
        ("query", "x", "--limit", "1000000000"),
        ("query", "x", "--limit", "0"),
        ("query", "x", "--mode", "magic"),
        ("query", "x", "--fusion", "magic"),
        ("query", "x", "--weights", "dense"),
        ("query", "x", "--weights", "dense=much"),
        ("query", "x", "--param", "novalue"),
        ("query", "x", "--server", "h:1", "--model", "builtin"),
        ("query", "x", "--server", "h:1", "--data", "d"),
        ("index",),
        ("index", "/does/not/exist"),
        ("eval", "/does/not/exist"),
        ("eval", ".", "--modes", "dense,magic"),
        ("eval", ".", "--modes", "hybrid:magic"),
        ("eval", ".", "--server", "h:1"),
        ("delete",),
        ("delete", "a", "--filter", "b == 1"),
        ("get", "a", "--filter", "b == 1"),
        ("embed",),
        ("serve", "--server", "h:1"),
        ("check", "--data", "/does/not/exist"),
        ("snapshot", "x", "--server", "h:1"),
        ("restore", "/does/not/exist"),
        ("collections", "create"),
    ],
)
def test_wrong_usage_exits_with_2_and_one_json_value(args):
    plain = run(*args)
    assert plain.exit_code == 2
    assert "Error: " in plain.stderr
    assert "Traceback" not in plain.output
    with_json = run(*args, "--json")
    assert with_json.exit_code == 2
    if args != ("query",):
        error = json.loads(with_json.stdout)["error"]
        assert error["type"] == "WrongUsage"
        assert error["message"]


def settings_of(*args, env=None):
    seen = []
    command = main.get_command(click.Context(main), "models")
    before, command.callback = command.callback, lambda: seen.append(current_settings())
    try:
        result = run(*args, env=env)
        assert result.exit_code == 0, result.output
    finally:
        command.callback = before
    return seen[0]


def test_common_options_stand_before_or_after_the_command():
    for args in (("--data", "d", "--json", "models"), ("models", "--data", "d", "--json")):
        settings = settings_of(*args)
        assert (str(settings.data), settings.json, settings.collection) == ("d", True, "default")


def test_option_after_the_command_wins_then_before_then_environment_then_default():
    env = {"LANDMARK_DATA": "from-env"}
    assert str(settings_of("--data", "before", "models", "--data", "after", env=env).data) == "after"
    assert str(settings_of("--data", "before", "models", env=env).data) == "before"
    assert str(settings_of("models", env=env).data) == "from-env"
    assert str(settings_of("models").data) == ".landmark"


def test_server_settings_come_from_the_environment():
    env = {"LANDMARK_SERVER": "host:1", "LANDMARK_API_KEY": "k", "LANDMARK_COLLECTION": "c"}
    settings = settings_of("models", "--tls-ca", "ca.pem", env=env)
    assert (settings.server, settings.api_key, settings.collection, settings.tls) == ("host:1", "k", "c", True)


class ModelNotFound(Exception):
    pass


class EmbedderError(Exception):
    """Stands for the embedder's base, which the command line knows by name only."""


class ModelBroken(EmbedderError):
    pass


@pytest.mark.parametrize(
    ("error", "exit_code", "kind"),
    [
        (CollectionNotFound("c"), 1, "CollectionNotFound"),
        (InvalidQuery("limit", "too many"), 2, "InvalidQuery"),
        (InvalidFilter("a ==", "ends"), 2, "InvalidFilter"),
        (InvalidDocument("text", "is empty"), 1, "InvalidDocument"),
        (ModelBroken("weights"), 1, "ModelBroken"),
        (PermissionError(13, "Permission denied", "/x"), 1, "PermissionError"),
        (CommandFailure("nothing there"), 1, "CommandFailure"),
    ],
)
def test_expected_errors_become_one_line_and_an_exit_code(error, exit_code, kind, capsys):
    context = click.Context(main)
    context.meta["landmark.settings"] = {"json": True}
    with pytest.raises(click.ClickException) as raised, reported(context):
        raise error
    assert raised.value.exit_code == exit_code
    assert json.loads(capsys.readouterr().out)["error"]["type"] == kind


def test_unexpected_errors_keep_their_traceback():
    with pytest.raises(ModelNotFound), reported(click.Context(main)):
        raise ModelNotFound


def test_interruption_exits_with_130():
    with pytest.raises(click.exceptions.Exit) as raised, reported(click.Context(main)):
        raise KeyboardInterrupt
    assert raised.value.exit_code == 130


def test_params_are_json_or_text():
    params = querying.parse_params(["y=2020", "l=en", "f=true", 't=["a","b"]', "$d=1.5", 'q="2020"', "n=null", "e=a=b"])
    assert params == {
        "y": 2020, "l": "en", "f": True, "t": ["a", "b"], "d": 1.5, "q": "2020", "n": "null", "e": "a=b"
    }  # fmt: skip
