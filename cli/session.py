"""Which engine answers this command: the one in this process, or a server?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.failures import CommandFailure
from cli.settings import DEFAULT_DTYPE, DEFAULT_MODEL, NO_MODEL, Settings
from engine.errors import CollectionNotFound

if TYPE_CHECKING:
    from engine.api import CollectionApi, EngineApi
    from engine.embedded import EmbeddedEngine
    from engine.values import Expansion


NOTHING_TO_WRITE = (
    "--generator has nothing to write: it writes about passages with --questions or --rewrites, which a new collection is "
    "given, and about queries with --expand."
)


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
def open_data(
    settings: Settings, *, command: str, create: bool = False, reranker: str | None = None
) -> Iterator[EmbeddedEngine]:
    """Opens the data folder in this process, for commands that no server answers.

    Args:
        settings: of the running command; without a model, the one that made the collection is loaded.
        command: its name, for the messages.
        create: make the data folder if there is none.
        reranker: a folder or a hub id.

    Raises:
        click.UsageError: ``--server`` was given, or there is no data folder.
    """
    if settings.server:
        raise click.UsageError(f"`engine {command}` works on a data folder that no server holds; leave --server out.")
    if not create and not settings.data.is_dir():
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


def ensure_collection(
    engine: EngineApi,
    name: str,
    *,
    multi: bool = False,
    task: str | None = None,
    expansion: Expansion | None = None,
    writes: bool = False,
) -> CollectionApi:
    """Opens a collection, or creates it with the engine's defaults.

    Args:
        engine: holds the collection.
        name: its name.
        multi: it keeps token vectors.
        task: what queries of a new collection ask for; None: what it was created with, or the model's default.
        expansion: what a new collection's passages are expanded with; None: what it was created with, or nothing.
        writes: a generator was named to write about the passages.

    Raises:
        CommandFailure: it exists, and was created without the token vectors, or with another task or expansion.
        click.UsageError: there is nothing for the generator to write.
    """
    try:
        collection = engine.get_collection(name)
    except CollectionNotFound:
        if writes and expansion is None:
            raise click.UsageError(NOTHING_TO_WRITE) from None
        return engine.create_collection(name, multi=multi, task=task, expansion=expansion)
    info = collection.info()
    if writes and expansion is None and info.expansion is None:
        raise click.UsageError(NOTHING_TO_WRITE)
    if task is not None and info.task != task:
        raise CommandFailure(
            f"The queries of collection {name!r} ask for {info.task or 'what its model says'}, which was chosen when it was "
            "created. Give --task with each query, or index into another collection."
        )
    if multi and "multi" not in info.legs:
        raise CommandFailure(
            f"Collection {name!r} was created without token vectors; index with --multi into a new collection.",
            kind="LegMissing",
        )
    if expansion is not None and info.expansion != expansion:
        raise CommandFailure(
            f"The collection {name!r} exists, and its passages are expanded otherwise ({info.expansion or 'not at all'}). "
            "What is written about passages is chosen when a collection is created: leave these options out, or index into "
            "another collection."
        )
    return collection


def _open(settings: Settings, reranker: str | None) -> EmbeddedEngine:
    """Opens the data folder with the model and dtype that were asked for, else with those that made the collection.

    The engine loads a model when the first text needs it, so opening twice costs little.
    """
    from engine import open_engine

    generator = None if settings.generator is None else named_model(settings.generator)

    def opened(model: str | None, dtype: str | None) -> EmbeddedEngine:
        return open_engine(
            settings.data, model=model, device=settings.device, dtype=dtype, generator=generator, reranker=reranker
        )

    model = named_model(settings.model or DEFAULT_MODEL)
    engine = opened(model, settings.dtype)
    if settings.model is not None and settings.dtype is not None:
        return engine
    try:
        info = engine.get_collection(settings.collection).info()
    except CollectionNotFound:
        return engine
    except BaseException:
        engine.close()
        raise
    recorded, dtype = info.model, settings.dtype or info.dtype
    if settings.model is not None or recorded is None or recorded.partition(":")[0] == DEFAULT_MODEL:
        recorded = model  # "builtin:landmark-1" is the builtin of some version
    if (recorded, dtype or DEFAULT_DTYPE) == (model, settings.dtype or DEFAULT_DTYPE):
        return engine
    engine.close()
    return opened(recorded, dtype)


def named_model(name: str) -> str | None:
    """The engine's name of a ``--model``. Paths in it are named from the root, so that they are found from anywhere.

    ``SYSTEM:MODEL`` holds up to two: a system file of one's own, and a folder.
    """
    if name == NO_MODEL:
        return None
    if Path(name).is_dir():
        return str(Path(name).resolve())
    system, colon, model = name.partition(":")
    if system.endswith(".toml") and Path(system).is_file():
        system = str(Path(system).resolve())
    if model and Path(model).is_dir():
        model = str(Path(model).resolve())
    return system + colon + model


def _connect(settings: Settings, address: str) -> EngineApi:
    from engine.client import Tls, connect

    return connect(address, api_key=settings.api_key, tls=Tls(ca=settings.tls_ca) if settings.tls else None)
