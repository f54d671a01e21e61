"""How do arrays reach the disk and come back? One ``.npy`` file each, plus one small JSON file of facts.

Arrays that come back are memory-mapped and read-only. Arrays that an index keeps in memory are frozen the same way, so
that a built and a loaded index run the same compiled kernels (numba compiles anew for writable arrays).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from index.errors import CorruptIndexFile

Real: TypeAlias = float | np.float32
Floats: TypeAlias = NDArray[np.float32]
Doubles: TypeAlias = NDArray[np.float64]
Bits: TypeAlias = NDArray[np.uint16]
Bytes: TypeAlias = NDArray[np.uint8]
Codes: TypeAlias = NDArray[np.int8]
Links: TypeAlias = NDArray[np.int32]
Halves: TypeAlias = NDArray[np.float16]
Rows: TypeAlias = NDArray[np.int64]
Terms: TypeAlias = NDArray[np.uint64]
Ordinals: TypeAlias = NDArray[np.uint32]
Mask: TypeAlias = NDArray[np.bool_]

Array = TypeVar("Array", bound="NDArray[Any]")


def freeze(array: Array) -> Array:
    """Return a C-contiguous, read-only view of ``array`` (a copy only when it is not contiguous)."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view  # type: ignore[return-value]


def save_array(folder: Path, name: str, array: NDArray[Any]) -> None:
    """Write ``folder/name.npy``; the folder exists already."""
    np.save(folder / f"{name}.npy", array, allow_pickle=False)


def load_array(folder: Path, name: str) -> NDArray[Any]:
    """Map ``folder/name.npy`` read-only.

    Raises:
        CorruptIndexFile: the file is missing or is no ``.npy`` file; rebuild the segment.
    """
    path = folder / f"{name}.npy"
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise CorruptIndexFile(path, f"it cannot be read ({error})") from error
    return np.asarray(mapped)


def save_facts(path: Path, facts: dict[str, Any]) -> None:
    """Write a small JSON object."""
    path.write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def load_facts(path: Path, *versions: int) -> dict[str, Any]:
    """Read what ``save_facts`` wrote and check that its ``version`` field is one of ``versions``.

    Raises:
        CorruptIndexFile: missing, not JSON, or another version; rebuild the segment.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorruptIndexFile(path, f"it cannot be read ({error})") from error
    if not isinstance(facts, dict) or facts.get("version") not in versions:
        raise CorruptIndexFile(path, f"it has not format version {' or '.join(map(str, versions))}")
    return facts
