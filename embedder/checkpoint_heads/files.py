"""Where in a checkpoint does a head's weight lie?

Only safetensors are read. A checkpoint that carries a head as a pickle is refused with the command that converts it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from embedder.errors import ModelLoadFailed

Untyped: TypeAlias = Any  # safetensors carries no types

CONVERT = "engine models convert"


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """``weight @ x + bias``; weight [out, in], bias [out] or None."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, states: Tensor) -> Tensor:
        """[t, in] to [t, out], in the weight's dtype."""
        return torch.nn.functional.linear(states.to(self.weight.dtype), self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class Place:
    """A linear layer in a checkpoint: a glob of safetensors files in its folder, and the names of the tensors."""

    files: str
    weight: str
    bias: str


def read_linear(folder: Path, places: Sequence[Place], what: str, *, device: str, dtype: torch.dtype) -> Linear:
    """The first of the places that the checkpoint has.

    Args:
        folder: of the checkpoint.
        places: where the layer may lie, by publisher's habit.
        what: the head's name, for the error.
        device: where the layer goes.
        dtype: of the layer.

    Raises:
        ModelLoadFailed: it is in none of them; a pickle beside them is named with the command that converts it.
    """
    for place in places:
        for path in sorted(folder.glob(place.files)):
            found = read_tensors(path, {"weight": place.weight, "bias": place.bias})
            if "weight" in found:
                moved = {name: tensor.to(device, dtype) for name, tensor in found.items()}
                return Linear(moved["weight"], moved.get("bias"))
    pickles = sorted({path.name for place in places for path in folder.glob(str(Path(place.files).with_suffix(".pt")))})
    if pickles:
        raise ModelLoadFailed(
            str(folder),
            f"its {what} is pickled ({', '.join(pickles)}), and only *.safetensors files are read; "
            f"convert it with `{CONVERT} {folder}`",
        )
    looked = ", ".join(f"{place.weight} in {place.files}" for place in places)
    raise ModelLoadFailed(
        str(folder),
        f"it has no {what}; looked for {looked}. One that is published as a pickle is not fetched: download the whole "
        f"checkpoint and run `{CONVERT} FOLDER`",
    )


def read_tensors(path: Path, names: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors of one file that exist, under our names: {our name: name in the file}.

    Raises:
        ModelLoadFailed: the file is damaged.
    """
    with opened(path) as file:
        present = set(file.keys())
        return {ours: file.get_tensor(theirs) for ours, theirs in names.items() if theirs in present}


@contextmanager
def opened(path: Path) -> Iterator[Untyped]:
    """A safetensors file.

    Raises:
        ModelLoadFailed: it cannot be read.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise ModelLoadFailed(str(path.parent), f"{path.name} cannot be read: {error}") from error
