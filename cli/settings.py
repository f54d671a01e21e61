"""Where is the data, which server, which collection, how is the answer printed?

These options stand before or after the command (``engine --data d query x``, ``engine query x --data d``). The order of
precedence: after the command, before it, the environment, the default. This is the one place that reads the
environment.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

DEFAULT_DATA = "./.landmark"
DEFAULT_COLLECTION = "default"
DEFAULT_MODEL = "builtin"
DEFAULT_DTYPE = "float32"
NO_MODEL = "none"
"""What ``--model`` takes for an engine without a model: BM25 only, or the caller's own vectors."""
ENVIRONMENT = {
    "data": "LANDMARK_DATA",
    "server": "LANDMARK_SERVER",
    "api_key": "LANDMARK_API_KEY",
    "collection": "LANDMARK_COLLECTION",
    "model": "LANDMARK_MODEL",
    "device": "LANDMARK_DEVICE",
    "dtype": "LANDMARK_DTYPE",
    "generator": "LANDMARK_GENERATOR",
}
_OF_THIS_PROCESS = ("model", "device", "dtype", "generator")
_MEMORY = "landmark.settings"


@dataclass(frozen=True, slots=True)
class Settings:
    """The options that every command has, resolved.

    ``server`` None: the engine runs in this process, on the folder ``data``. ``model`` None: the one that the folder
    was made with, and so is ``dtype``. ``generator`` None: the one that the collection was expanded with.
    """

    data: Path
    server: str | None
    api_key: str | None
    tls: bool
    tls_ca: Path | None
    collection: str
    model: str | None
    device: str | None
    dtype: str | None
    json: bool
    generator: str | None = None


def common_options(command: Callable[..., None]) -> Callable[..., None]:
    """Decorates a command's function with the options of ``Settings``; their values are remembered, not passed on."""
    for option in reversed(_options()):
        command = option(command)
    return command


def generator_option(command: Callable[..., None]) -> Callable[..., None]:
    """Decorates a command's function with ``--generator``, for those whose engine may write; remembered like the others."""
    return click.option(
        "--generator",
        metavar="NAME",
        help="A language model that writes for expansions: a folder or a hub id.  [env: LANDMARK_GENERATOR]",
        default=None,
        expose_value=False,
        callback=_remember,
    )(command)


def current_settings() -> Settings:
    """The settings of the command that is running.

    Raises:
        click.UsageError: options that exclude each other.
    """
    context = click.get_current_context()
    given: dict[str, object] = context.meta.get(_MEMORY, {})
    values = {name: given.get(name) or os.environ.get(variable) for name, variable in ENVIRONMENT.items()}
    server = _text(values["server"])
    if server and any(given.get(name) for name in _OF_THIS_PROCESS):
        raise click.UsageError(
            "--model, --device, --dtype and --generator choose the models of this process; with --server, the server's "
            "are used."
        )
    if server and given.get("data"):
        raise click.UsageError("--data and --server exclude each other: the server owns its data folder.")
    tls_ca = _text(given.get("tls_ca"))
    return Settings(
        data=Path(_text(values["data"]) or DEFAULT_DATA),
        server=server,
        api_key=_text(values["api_key"]),
        tls=bool(given.get("tls") or tls_ca),
        tls_ca=Path(tls_ca) if tls_ca else None,
        collection=_text(values["collection"]) or DEFAULT_COLLECTION,
        model=_text(values["model"]),
        device=_text(values["device"]),
        dtype=_text(values["dtype"]),
        json=bool(given.get("json")),
        generator=_text(values["generator"]),
    )


def is_given(option: str) -> bool:
    """Whether an option of ``Settings`` is on the command line, and not only in the environment."""
    given: dict[str, object] = click.get_current_context().meta.get(_MEMORY, {})
    return bool(given.get(option))


def wants_json(context: click.Context) -> bool:
    """Whether ``--json`` was given, also when the rest of the command line was wrong."""
    return bool(context.meta.get(_MEMORY, {}).get("json"))


def remember_json(context: click.Context) -> None:
    """Notes that ``--json`` is on the command line, before it is parsed."""
    context.meta.setdefault(_MEMORY, {})["json"] = True


def _text(value: object) -> str | None:
    return str(value) if value else None


def _remember(context: click.Context, parameter: click.Parameter, value: object) -> None:
    if value not in (None, False) and parameter.name is not None:
        context.meta.setdefault(_MEMORY, {})[parameter.name] = value


def _options() -> list[Callable[[Callable[..., None]], Callable[..., None]]]:
    def option(
        *names: str, metavar: str | None = None, help: str, is_flag: bool = False
    ) -> Callable[..., Callable[..., None]]:
        return click.option(
            *names, metavar=metavar, help=help, is_flag=is_flag, default=None, expose_value=False, callback=_remember
        )

    return [
        option("--data", metavar="DIR", help=f"Data folder.  [default: {DEFAULT_DATA}; env: LANDMARK_DATA]"),
        option("--server", metavar="HOST:PORT", help="Talk to a running server instead.  [env: LANDMARK_SERVER]"),
        option(
            "--api-key",
            metavar="KEY",
            help="API key for the server; better in the environment.  [env: LANDMARK_API_KEY]",
        ),
        option("--tls", is_flag=True, help="Encrypt the connection to the server."),
        option("--tls-ca", metavar="FILE", help="Trust this certificate authority (PEM); implies --tls."),
        option("--collection", metavar="NAME", help="Collection.  [default: default; env: LANDMARK_COLLECTION]"),
        option(
            "--model",
            metavar="NAME",
            help="builtin, none, a folder, a hub id, or a system of `engine models`.  [env: LANDMARK_MODEL]",
        ),
        option(
            "--device",
            metavar="NAME",
            help="cpu, cuda, cuda:1, mps...  [default: the best there is; env: LANDMARK_DEVICE]",
        ),
        option(
            "--dtype",
            metavar="NAME",
            help="Of the weights: float32, bfloat16, float16, int8, float8.  [default: the collection's; env: LANDMARK_DTYPE]",
        ),
        option("--json", is_flag=True, help="Print one JSON value on stdout; progress and logs go to stderr."),
    ]
