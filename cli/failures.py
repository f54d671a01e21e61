"""How does a failure reach the user?

One clear line on stderr and an exit code: 1 failed, 2 wrong usage, 130 interrupted. With ``--json`` also one JSON value
on stdout, ``{"error": {"type", "message"}}``. An error that nobody expected keeps its traceback: it is ours to mend.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import click

from cli.settings import wants_json
from engine.errors import EngineError, InvalidArgument, InvalidDocument

FAILED = 1
WRONG_USAGE = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells report it
EXPECTED_BASES = frozenset(("EngineError", "EmbedderError", "SearchIndexError"))


class CommandFailure(click.ClickException):
    """A command that failed for a reason which the user can act on; ``kind`` names the reason for programs."""

    exit_code = FAILED

    def __init__(self, message: str, *, kind: str = "CommandFailure") -> None:
        super().__init__(message)
        self.kind = kind


class WrongArgument(CommandFailure):
    """An argument that the engine refused: wrong usage, though click could not see it."""

    exit_code = WRONG_USAGE


@contextmanager
def reported(context: click.Context) -> Iterator[None]:
    """Turns expected errors into click's, which end the process with a line and a code; prints the JSON form."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None
    except (click.exceptions.Exit, click.Abort, click.exceptions.NoArgsIsHelpError):
        raise
    except click.ClickException as error:
        _print_json(context, _kind_of(error), error.format_message())
        raise
    except OSError as error:
        if error.errno is None or isinstance(error, BrokenPipeError):
            raise
        where = f": {error.filename}" if error.filename else ""
        raise _failure(context, type(error).__name__, f"{error.strerror}{where}") from error
    except Exception as error:
        if not _is_expected(error):
            _print_json(context, type(error).__name__, str(error))
            raise
        usage = isinstance(error, InvalidArgument) and not isinstance(error, InvalidDocument)
        failure = WrongArgument if usage else CommandFailure
        raise _failure(context, type(error).__name__, str(error), failure) from error


def _failure(
    context: click.Context, kind: str, message: str, failure: type[CommandFailure] = CommandFailure
) -> CommandFailure:
    _print_json(context, kind, message)
    return failure(message, kind=kind)


def _is_expected(error: Exception) -> bool:
    """Whether our packages raised it on purpose. The bases go by name: cli imports neither embedder nor index."""
    return isinstance(error, EngineError) or any(base.__name__ in EXPECTED_BASES for base in type(error).__mro__)


def _kind_of(error: click.ClickException) -> str:
    if isinstance(error, CommandFailure):
        return error.kind
    return "WrongUsage" if isinstance(error, click.UsageError) else type(error).__name__


def _print_json(context: click.Context, kind: str, message: str) -> None:
    if wants_json(context):
        click.echo(json.dumps({"error": {"type": kind, "message": message}}, ensure_ascii=False))
