"""What did tuning add to a base model?

A tuned model is a folder that holds only what tuning changed, beside the name of the base:

    landmark.json        what is here, and which base it belongs to
    heads.safetensors    "sparse.*" the learned sparse head, "dense.weight" and "dense.bias" a projection,
                         "backbone.NAME" replaced parameters
    adapter/             a peft LoRA adapter, merged into the base when it is loaded
    card.md              data, steps, seed, versions and scores of the training
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedder.errors import InvalidRecipe, ModelLoadFailed

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
DESCRIPTION = "landmark.json"
TENSORS = "heads.safetensors"
ADAPTER = "adapter"
CARD = "card.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedModel:
    """What landmark.json says.

    Attributes:
        name: the tuned model's name, for people.
        base: "builtin:all-MiniLM-L6-v2" (the packaged backbone), a Hugging Face id, or an absolute folder.
        base_weights: digest of the base's weight files; another base of the same name is refused.
        recipe: the fields of the base's recipe that tuning changed, by name.
        sparse_head: the sizes of the sparse head (``sparse_heads.build_sparse_head``); None: it has none.
    """

    name: str
    base: str
    base_weights: str
    recipe: Mapping[str, Any] = field(default_factory=dict)
    sparse_head: Mapping[str, Any] | None = None


def read_tuned(folder: Path) -> TunedModel | None:
    """What a folder says it adds to a base; None when it is no tuned model.

    Raises:
        ModelLoadFailed: landmark.json is damaged, or of a later version.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        return None
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        written = fields.pop("format")
        if written != FORMAT:
            raise ModelLoadFailed(
                str(folder), f"{DESCRIPTION} has format {written!r}, this version reads {FORMAT}; update Landmark"
            )
        tuned = TunedModel(**fields)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelLoadFailed(str(folder), f"{DESCRIPTION} cannot be read: {error}") from error
    return tuned


def write_tuned(folder: Path, model: TunedModel, tensors: Mapping[str, Tensor], *, card: str) -> None:
    """Write a tuned model: all of it appears at once, replacing an earlier one of this name.

    Args:
        folder: where to. An adapter is saved by the caller into ``draft_folder(folder) / ADAPTER`` before.
        model: what landmark.json will say.
        tensors: for heads.safetensors; see the module's text for the names.
        card: Markdown: data, steps, seed, versions, scores before and after.
    """
    from safetensors.torch import save_file

    draft = draft_folder(folder)
    draft.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, draft / TENSORS)
    (draft / CARD).write_text(card, encoding="utf-8")
    described = {"format": FORMAT, **asdict(model)}
    (draft / DESCRIPTION).write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    earlier = folder.with_name(folder.name + ".old")
    shutil.rmtree(earlier, ignore_errors=True)
    if folder.exists():
        folder.rename(earlier)
    draft.rename(folder)
    shutil.rmtree(earlier, ignore_errors=True)


def draft_folder(folder: Path) -> Path:
    """Where the parts of a tuned model are put together before they become ``folder``."""
    return folder.with_name(folder.name + ".draft")


def tuned_files(folder: Path) -> list[Path]:
    """The weight files of a tuned model, in a fixed order."""
    return [folder / TENSORS, *sorted((folder / ADAPTER).glob("*.safetensors"))]


def check_base(tuned: TunedModel, weights: str) -> None:
    """Refuse a base whose weights are not those that were tuned.

    Raises:
        InvalidRecipe: they differ.
    """
    if tuned.base_weights != weights:
        raise InvalidRecipe(
            "base_weights", weights, f"{tuned.name} was tuned on {tuned.base} with weights {tuned.base_weights}"
        )
