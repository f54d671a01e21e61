"""Which system does a model's name mean, and which files does it need?

    NAME                 a system, or the last part of one of its checkpoints' hub ids: its published checkpoint
    OWNER/NAME, FOLDER   a checkpoint; used as the system says that lists it, else as its own files say
    NAME:CHECKPOINT      any checkpoint (folder, hub id, "builtin"), used as that system says; NAME as above
    FILE.toml:CHECKPOINT the same with a system file of one's own; FILE.toml alone: its published checkpoint

A folder that exists is meant before a system of its name.

The systems are the files of ``embedder/systems`` and those of the user's ``$XDG_CONFIG_HOME/landmark/systems``
(``~/.config`` when unset); a user's file replaces the packaged one of the same name. A user's file that cannot be used is left
out with a warning, and only its own name is refused.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType

from embedder.errors import InvalidSystem, ModelNotFound
from embedder.system import Published, System, read_system, short_name

SUFFIX = ".toml"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reference:
    """What a model's name means.

    Attributes:
        checkpoint: the folder or hub id whose weights are loaded.
        system: how it is used; None: as its own files say.
        tables: fields of ``Recipe``, one table over the other: what is known of the checkpoint, then the system's.
    """

    checkpoint: str
    system: System | None = None
    tables: tuple[Mapping[str, object], ...] = ()


def refer(model: str) -> Reference:
    """What a model's name means; nothing is loaded or fetched.

    Raises:
        ModelNotFound: it names a system that does not exist, or one that needs a checkpoint and none is given.
        InvalidSystem: a system file cannot be used.
    """
    name, colon, checkpoint = model.partition(":")
    if Path(model).expanduser().is_dir():
        return _listed(model)
    if colon and checkpoint:
        return _laid_over(find_system(name), name, checkpoint)
    if name.endswith(SUFFIX) or "/" not in name:
        system = _named(name)
        if system is not None:
            return _published(system, _first(system, name))
    return _listed(model)


def find_system(name: str) -> System:
    """A system by its name, by a checkpoint's name or hub id, or by the path of its file.

    Raises:
        ModelNotFound: there is none; the message suggests names that are close.
        InvalidSystem: a system file cannot be used.
    """
    if name.endswith(SUFFIX):
        return read_system(Path(name).expanduser())
    if isinstance(broken := _user_files().get(name.lower()), InvalidSystem):
        raise broken
    systems = all_systems()
    found = systems.get(name.lower()) or next((s for s in systems.values() if s.checkpoint(name)), None)
    if found is None:
        raise ModelNotFound(name, f"there is no system of this name{suggestion(name)}")
    return found


def all_systems() -> dict[str, System]:
    """Every system by name, in order of names, without the user's files that cannot be used: they are warned of, once."""
    found = dict(_packaged())
    for name, system in _user_files().items():
        if isinstance(system, InvalidSystem):
            _warn(f"{system} It is left out.")
            found.pop(name, None)  # it was to replace the packaged one
        else:
            found[name] = system
    return dict(sorted(found.items()))


def broken_systems() -> dict[str, str]:
    """The user's files that cannot be used, by name, and what is wrong with each."""
    return {name: str(found) for name, found in _user_files().items() if isinstance(found, InvalidSystem)}


def user_folder() -> Path:
    """Where a user's own system files are."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "landmark" / "systems"


def suggestion(name: str) -> str:
    """Names close to this one, as the end of a message; "" when none is, or when it is a known name itself."""
    names = {name: None for system in all_systems().values() for name in (system.name, *_shorts(system))}
    close = [] if short_name(name) in names else get_close_matches(short_name(name), names, n=3)
    return f"; names that are close: {', '.join(close)}" if close else ""


def _shorts(system: System) -> list[str]:
    return [published.short for published in system.checkpoints]


def _named(name: str) -> System | None:
    """The system that a name stands for; None: it is no such name."""
    try:
        return find_system(name)
    except ModelNotFound:
        return None


def _first(system: System, name: str) -> Published:
    """The checkpoint that a name of a system stands for."""
    published = system.checkpoint(name) or next(iter(system.checkpoints), None)
    if published is None:
        usage = system.facts.usage or f"name a checkpoint, as {name}:FOLDER or {name}:OWNER/NAME"
        raise ModelNotFound(name, f"this system has no checkpoint of its own: {usage}")
    return published


def _listed(model: str) -> Reference:
    """A folder or a hub id, used as the system that lists it says; a folder's weights are its own."""
    for system in all_systems().values():
        published = system.checkpoint(model)
        if published is not None:
            reference = _published(system, published)
            return reference if published.id.lower() == model.lower() else replace(reference, checkpoint=model)
    return Reference(model)


def _laid_over(system: System, name: str, checkpoint: str) -> Reference:
    """A system's fields over those that are known of the checkpoint; ``name`` may be one of its checkpoints'."""
    if not system.recipe and not system.checkpoints:
        raise ModelNotFound(system.name, f"this system is no way to use a checkpoint: {system.facts.usage}")
    listed = _listed(checkpoint)
    own = system.fields(name if system.checkpoint(name) else checkpoint)
    if not own.get("adapters"):
        _warn_of_adapters(system, checkpoint)
    below = () if listed.system is system else listed.tables
    return Reference(listed.checkpoint, system, (*below, own))


def _published(system: System, published: Published) -> Reference:
    return Reference(published.loaded, system, (system.fields(published.id),))


@cache
def _packaged() -> Mapping[str, System]:
    """The files that come with the package; they do not change while the program runs."""
    with resources.as_file(resources.files("embedder") / "systems") as folder:
        return MappingProxyType({path.stem: _read_named(path) for path in sorted(folder.glob(f"*{SUFFIX}"))})


def _user_files() -> dict[str, System | InvalidSystem]:
    """The user's systems by the names of their files, or what is wrong with them; also a file named unlike its system."""
    folder = user_folder()
    found: dict[str, System | InvalidSystem] = {}
    for path in sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []:
        try:
            found[path.stem.lower()] = _read_named(path)
        except InvalidSystem as error:
            found[path.stem.lower()] = error
    return found


def _warn_of_adapters(system: System, checkpoint: str) -> None:
    """Say that a system's published weights are adapters, and that this checkpoint gets none.

    It is no error: the adapters may have been merged into the checkpoint's own weights, which nothing in its files shows.
    """
    adapted = [published.short for published in system.checkpoints if published.recipe.get("adapters")]
    if adapted:
        _warn(
            f"The published weights of {system.name} are adapters, and {checkpoint} is used without them: its vectors are "
            "untuned, unless they were merged into it. These names merge them: "
            f"{', '.join(f'{name}:{checkpoint}' for name in adapted)}."
        )


@cache
def _warn(warning: str) -> None:
    """Say it once."""
    log.warning("%s", warning)


def _read_named(path: Path) -> System:
    system = read_system(path)
    if system.name != path.stem:
        raise InvalidSystem(str(path), f"system.name = {system.name!r}: it must be the file's name, {path.stem!r}")
    return system
