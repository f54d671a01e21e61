"""Where does what lie in a collection's folder?

    NAME/store/, NAME/segments/                the first generation
    NAME/generation-2/store/, .../segments/    the second; the first is gone when CURRENT names this one
    NAME/CURRENT                               the folder of the generation that serves; absent: the first

Replacing CURRENT is the one step that decides which generation a crash leaves behind. A newer folder than the one that it
names is an unfinished migration, which can be resumed; older ones are swept when the collection is opened.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from engine.storage.durable import remove_folder, write_atomic

STORE_FOLDER = "store"
SEGMENTS_FOLDER = "segments"
CURRENT = "CURRENT"
_PREFIX = "generation-"


def current_folder(collection: Path) -> Path:
    """The folder of the generation that serves."""
    pointer = collection / CURRENT
    return collection / pointer.read_text().strip() if pointer.exists() else collection


def next_folder(collection: Path) -> Path:
    """The folder of the generation after the one that serves; an unfinished migration lies there."""
    return collection / f"{_PREFIX}{_number(collection, current_folder(collection)) + 1}"


def make_current(collection: Path, generation: Path) -> None:
    """Decide that ``generation`` serves, also after a crash; atomic and durable when this returns."""
    write_atomic(collection / CURRENT, f"{generation.name}\n".encode())


def sweep_generations(collection: Path) -> None:
    """Remove the generations before the one that serves."""
    serving = _number(collection, current_folder(collection))
    for folder in collection.glob(f"{_PREFIX}*"):
        if _number(collection, folder) < serving:
            remove_folder(folder)
    if serving > 1:
        for name in (STORE_FOLDER, SEGMENTS_FOLDER):
            remove_folder(collection / name)
    for doomed in collection.glob(".doomed-*"):
        shutil.rmtree(doomed)


def _number(collection: Path, folder: Path) -> int:
    return 1 if folder == collection else int(folder.name.removeprefix(_PREFIX))
