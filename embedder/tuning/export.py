"""How does a student become a model that the embedder loads?

Only what was trained is written (``embedder.tuned``): the heads; of the backbone, a LoRA adapter or the parameters that
changed. The recipe's fields that differ from the base's go into landmark.json.
"""

from __future__ import annotations

import copy
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from embedder.errors import TuningFailed
from embedder.fingerprint import weights_digest
from embedder.network import load_network
from embedder.recipe import Recipe
from embedder.source import find_model
from embedder.tuned import ADAPTER, TunedModel, draft_folder, write_tuned
from embedder.tuning.student import Student

_OWN_FIELDS = ("name", "sparse_head")  # of the recipe; landmark.json says these by itself


def export(student: Student, folder: Path, card: str, *, name: str | None = None, merge_adapter: bool = False) -> Path:
    """Write the tuned model; it appears at once, replacing an earlier one.

    Args:
        student: after training.
        folder: where to.
        card: Markdown: data, steps, seed, versions, scores before and after.
        name: the model's name, for people; None: the folder's.
        merge_adapter: add LoRA to the weights and write those: larger, but it loads without peft.

    Returns:
        The folder.

    Raises:
        TuningFailed: the adapter must be merged, because the base was tuned before.
    """
    draft = draft_folder(folder)
    shutil.rmtree(draft, ignore_errors=True)
    base_name = student.source.checkpoint.name if student.source.tuned is None else student.source.tuned[1].base
    base = find_model(base_name)
    tensors = _heads(student)
    has_adapter = hasattr(student.parts.network, "peft_config")
    if has_adapter and not merge_adapter:
        if student.source.tuned is not None:
            raise TuningFailed(
                f"{student.recipe.name} was tuned before: export with merge_adapter, or tune {base_name}"
            )
        student.parts.network.save_pretrained(draft / ADAPTER, save_embedding_layers=False)
        (draft / ADAPTER / "README.md").unlink(missing_ok=True)  # peft's empty form; card.md says it all
    elif student.trains_backbone or student.source.tuned is not None:
        tensors |= _changed(student)
    head = student.parts.sparse
    model = TunedModel(
        name=name or folder.name,
        base=base_name,
        base_weights=weights_digest(base.checkpoint, base.recipe),
        recipe=_differing(student, base.recipe),
        sparse_head=None if head is None else {f.name: getattr(head.config, f.name) for f in fields(head.config)},
    )
    write_tuned(folder, model, tensors, card=card)
    return folder


def _heads(student: Student) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for prefix, module in (("dense", student.parts.dense), ("sparse", student.parts.sparse)):
        if module is not None:
            found |= {f"{prefix}.{name}": tensor.detach().cpu() for name, tensor in module.state_dict().items()}
    return found


def _changed(student: Student) -> dict[str, Tensor]:
    """The parameters of the backbone that are not the base checkpoint's, adapters merged."""
    network = student.parts.network
    if hasattr(network, "peft_config"):
        network = copy.deepcopy(network).merge_and_unload()
    original = load_network(student.source.checkpoint, student.recipe, next(network.parameters()).dtype).base_model
    known: dict[str, Tensor] = dict(original.named_parameters())
    return {
        f"backbone.{name}": parameter.detach().cpu()
        for name, parameter in network.named_parameters()
        if not torch.equal(parameter.detach().cpu(), known[name])
    }


def _differing(student: Student, base: Recipe) -> dict[str, Any]:
    """The fields of the student's recipe that the base's has not so."""
    return {
        field.name: getattr(student.recipe, field.name)
        for field in fields(base)
        if field.name not in _OWN_FIELDS and getattr(student.recipe, field.name) != getattr(base, field.name)
    }
