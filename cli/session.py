"""Which engine answers this command: the one in this process, or a server?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.failures import CommandFailure
from cli.settings import DEFAULT_MODEL, NO_MODEL, Settings
from engine.errors import CollectionNotFound

if TYPE_CHECKING:
    from engine.api import CollectionApi, EngineApi
    from engine.embedded import EmbeddedEngine


@contextmanager
def open_session(settings: Settings, *, create: bool = False, reranker: str | None = None) -> Iterator[EngineApi]:
    """Opens the engine that the settings name, and closes it at the end.

    Args:
        settings: of the running command.
        create: make the data folder if there is none; otherwise its absence is a failure that says what to do.
        reranker: of this process's engine; a folder or a hub id.

    Raises:
        click.UsageError: a reranker was given for a server.
    """
    if settings.server:
        if reranker is not None:
            raise click.UsageError("--reranker is for this process; with --server, the server's is used.")
        with _connect(settings, settings.server) as remote:
            yield remote
        return
    if not create and not settings.data.is_dir():
        raise CommandFailure(
            f"There is no index in {settings.data} yet. Run `engine index PATH` first, or name its folder with --data.",
            kind="CollectionNotFound",
        )
    with _open(settings, reranker) as local:
        yield local


@contextmanager
def open_data(settings: Settings, *, command: str, reranker: str | None = None) -> Iterator[EmbeddedEngine]:
    """Opens the data folder in this process, for commands that no server answers.

    Args:
        settings: of the running command; without a model, the one that made the collection is loaded.
        command: its name, for the messages.
        reranker: a folder or a hub id.

    Raises:
        click.UsageError: ``--server`` was given, or there is no data folder.
    """
    if settings.server:
        raise click.UsageError(f"`engine {command}` works on a data folder that no server holds; leave --server out.")
    if not settings.data.is_dir():
        raise click.UsageError(f"There is no data folder {settings.data}; name it with --data.")
    with _open(settings, reranker) as engine:
        yield engine


def find_collection(engine: EngineApi, settings: Settings) -> CollectionApi:
    """Opens the collection that the settings name.

    Raises:
        CommandFailure: there is none; the message says how to make one.
    """
    try:
        return engine.get_collection(settings.collection)
    except CollectionNotFound as error:
        name = "" if settings.collection == "default" else f" --collection {settings.collection}"
        raise CommandFailure(f"{error} Run `engine index PATH{name}` first.", kind="CollectionNotFound") from error


def ensure_collection(engine: EngineApi, name: str, *, multi: bool = False) -> CollectionApi:
    """Opens a collection, or creates it with the engine's defaults.

    Args:
        engine: holds the collection.
        name: its name.
        multi: it keeps token vectors.

    Raises:
        CommandFailure: it exists, and was created without the token vectors that are asked for.
    """
    try:
        collection = engine.get_collection(name)
    except CollectionNotFound:
        return engine.create_collection(name, multi=multi)
    if multi and "multi" not in collection.info().legs:
        raise CommandFailure(
            f"Collection {name!r} was created without token vectors; index with --multi into a new collection.",
            kind="LegMissing",
        )
    return collection


def _open(settings: Settings, reranker: str | None) -> EmbeddedEngine:
    """Opens the data folder with the model that was asked for, else with the one that made the collection.

    The engine loads a model when the first text needs it, so opening twice costs little.
    """
    from engine import open_engine

    def opened(model: str | None) -> EmbeddedEngine:
        return open_engine(settings.data, model=model, device=settings.device, reranker=reranker)

    if settings.model is not None:
        return opened(named_model(settings.model))
    engine = opened(DEFAULT_MODEL)
    try:
        recorded = engine.get_collection(settings.collection).info().model
    except CollectionNotFound:
        recorded = None
    except BaseException:
        engine.close()
        raise
    if recorded is None or recorded.partition(":")[0] == DEFAULT_MODEL:  # "builtin:all-MiniLM-L6-v2"
        return engine
    engine.close()
    return opened(recorded)


def named_model(name: str) -> str | None:
    """The engine's name of a ``--model``. A folder is named from the root, so that it is found from anywhere later."""
    if name == NO_MODEL:
        return None
    folder = Path(name)
    return str(folder.resolve()) if folder.is_dir() else name


def _connect(settings: Settings, address: str) -> EngineApi:
    from engine.client import Tls, connect

    return connect(address, api_key=settings.api_key, tls=Tls(ca=settings.tls_ca) if settings.tls else None)
