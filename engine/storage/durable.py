"""How do bytes outside LMDB become durable, and how is damage found?

The only file that calls fsync or rename. A folder becomes durable by `seal_folder`: a manifest with the size and xxh3 hash
of every file is written last, and everything is fsynced, so a folder without a valid manifest was never finished.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import xxhash

from engine.errors import CorruptData

MANIFEST = "manifest.json"
_CHUNK = 1 << 22


class FileEntry(msgspec.Struct, frozen=True):
    """One file of a sealed folder: its size in bytes and the hex xxh3-64 of its content."""

    size: int
    hash: str


def fsync_path(path: Path) -> None:
    """Force a file's content, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data``: after a crash the old content or the new one is there, never a mixture."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    fsync_path(path.parent)


def hash_file(path: Path) -> str:
    """The hex xxh3-64 of a file's content."""
    digest = xxhash.xxh3_64()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / MANIFEST)


def seal_folder(folder: Path) -> None:
    """Write the manifest of ``folder`` and fsync its files, itself and its parent, in that order."""
    entries = {}
    for path in _files(folder):
        fsync_path(path)
        entries[str(path.relative_to(folder))] = FileEntry(path.stat().st_size, hash_file(path))
    for inner in sorted((p for p in folder.rglob("*") if p.is_dir()), reverse=True):
        fsync_path(inner)
    write_atomic(folder / MANIFEST, msgspec.json.encode(entries))
    fsync_path(folder.parent)


def verify_folder(folder: Path) -> None:
    """Check every file of a sealed folder against its manifest.

    Raises:
        CorruptData: a file is missing, too many, or its bytes changed; names the first one found.
    """
    try:
        entries = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=dict[str, FileEntry])
    except (OSError, msgspec.DecodeError) as error:
        raise CorruptData(str(folder), f"its manifest cannot be read ({error})") from error
    found = {str(path.relative_to(folder)) for path in _files(folder)}
    if found != entries.keys():
        raise CorruptData(str(folder), f"files missing or added: {sorted(found ^ entries.keys())}")
    for name, entry in entries.items():
        path = folder / name
        if path.stat().st_size != entry.size or hash_file(path) != entry.hash:
            raise CorruptData(str(path), "its bytes do not match the manifest")


def link_folder(source: Path, target: Path, *, without: str) -> None:
    """Make ``target`` of a sealed folder's files but those named ``without`` and the manifest; `seal_folder` ends it.

    The files are hard links, or copies where the file system has none: sealed files never change.
    """
    shutil.copytree(source, target, copy_function=_link, ignore=shutil.ignore_patterns(without, MANIFEST))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def folder_size(folder: Path) -> int:
    """The bytes that the files of ``folder`` occupy (allocated blocks, so a sparse file counts what it holds)."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def remove_folder(folder: Path) -> None:
    """Delete ``folder``; a crash in between leaves a folder of another name, which `sweep` removes at the next open."""
    if folder.exists():
        doomed = folder.with_name(f".doomed-{folder.name}")
        os.replace(folder, doomed)
        fsync_path(folder.parent)
        shutil.rmtree(doomed)


def sweep(parent: Path, keep: set[str]) -> list[str]:
    """Delete every folder below ``parent`` that is not in ``keep``: what crashes left unfinished. Returns their names."""
    strays = [path for path in parent.iterdir() if path.is_dir() and path.name not in keep]
    for path in strays:
        shutil.rmtree(path)
    return [path.name for path in strays]
