"""Which files make the model of this name, and how are they used?

builtin       the packaged backbone with Landmark's own heads, also under its full name, builtin:landmark-1
builtin:all-MiniLM-L6-v2   the packaged backbone alone
a folder      a checkpoint, or a tuned model that names its base
owner/name    a checkpoint on the Hugging Face hub, or in its local cache
a system      its published checkpoint, or with ``:checkpoint`` any other (``catalogue``)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from embedder import builtin
from embedder.catalogue import refer, suggestion
from embedder.checkpoint import Checkpoint, locate, open_checkpoint, recipe_for
from embedder.errors import InvalidRecipe, ModelLoadFailed, ModelNotFound
from embedder.fingerprint import weights_digest
from embedder.recipe import Recipe
from embedder.tuned import TunedModel, check_base, read_tuned

BUILTIN = ("builtin", builtin.NAME)


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A base checkpoint, the recipe to use it by, and the tuned model on top of it, if any, with its folder."""

    checkpoint: Checkpoint
    recipe: Recipe
    tuned: tuple[Path, TunedModel] | None = None


def find_model(name: str) -> ModelSource:
    """Find a model; nothing is loaded yet.

    Raises:
        ModelNotFound: no such folder, and the hub does not have it or cannot be reached.
        ModelLoadFailed: the files do not make a model.
        InvalidSystem: a system file cannot be used.
        InvalidRecipe: the checkpoint's description cannot be used, or it is not the base that was tuned.
    """
    if name == builtin.BACKBONE:
        return _base(name)
    if name in BUILTIN:
        heads = read_tuned(builtin.HEADS)
        assert heads is not None, "the package brings it"
        return _tuned(builtin.HEADS, heads)
    reference = refer(name)
    if reference.checkpoint in BUILTIN:
        return _overlaid(find_model(builtin.NAME), name, reference.tables)
    folder = _locate(name, reference.checkpoint)
    tuned = read_tuned(folder)
    if tuned is None:
        return _base(name)
    if reference.checkpoint != name:
        raise InvalidRecipe("name", name, "a tuned model has a recipe of its own; give its folder alone")
    return _tuned(folder, tuned)


def _base(name: str) -> ModelSource:
    if name == builtin.BACKBONE:
        return ModelSource(open_checkpoint(builtin.BACKBONE, builtin.model_folder()), builtin.RECIPE)
    reference = refer(name)
    checkpoint = open_checkpoint(name, _locate(name, reference.checkpoint))
    return ModelSource(checkpoint, recipe_for(checkpoint, *reference.tables))


def _overlaid(source: ModelSource, name: str, tables: Sequence[Mapping[str, Any]]) -> ModelSource:
    """The model as a system uses it. Its heads stay, unless the system has a sparse head of its own."""
    recipe = replace(source.recipe, name=name)
    for table in tables:
        recipe = recipe.overlaid(table)
    return replace(
        source, recipe=recipe, tuned=source.tuned if recipe.sparse_head == source.recipe.sparse_head else None
    )


def _locate(name: str, checkpoint: str) -> Path:
    """The checkpoint's folder; a name that means nothing is answered with names that are close."""
    try:
        return locate(checkpoint)
    except ModelNotFound as error:
        raise ModelNotFound(name, error.problem + suggestion(name)) from error


def _tuned(folder: Path, tuned: TunedModel) -> ModelSource:
    base = _base(tuned.base)
    check_base(tuned, weights_digest(base.checkpoint, base.recipe))
    fields: dict[str, Any] = {
        field: tuple(value) if isinstance(value, list) else value  # JSON has no tuples
        for field, value in tuned.recipe.items()
    }
    sparse = base.recipe.sparse_head if tuned.sparse_head is None else "tuned"
    try:
        recipe = replace(base.recipe, name=tuned.name, sparse_head=sparse, **fields)
    except TypeError as error:
        raise ModelLoadFailed(str(folder), f"its recipe names a field that does not exist: {error}") from error
    if base.recipe.sparse_head == "mlm_max" and tuned.sparse_head is not None:
        raise InvalidRecipe("sparse_head", tuned.sparse_head["kind"], f"{tuned.base} has a sparse head of its own")
    return ModelSource(base.checkpoint, recipe, (folder, tuned))
