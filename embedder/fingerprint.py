"""What identifies the vectors of a model?

Everything that decides which vector a text gets: weights, tokenizer, architecture, and the recipe. Two embedders of the
same fingerprint may share a collection; the device and the batch size are not part of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import xxhash

from embedder.checkpoint import Checkpoint
from embedder.checkpoint_heads.paths import head_files
from embedder.dtypes import Dtype
from embedder.recipe import Recipe
from embedder.tuned import TunedModel, tuned_files

FORMAT = 1  # raise it when splitting, packing or pooling changes the vectors of an unchanged recipe
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "spiece.model",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
)
# The recipe's fields by the part that shows them. The first ones always count; of the others, those that differ from
# their default, so that a field that a later version adds changes no fingerprint of a recipe that does not use it.
_LAYOUT_FIELDS = ("window_tokens", "passage_tokens", "landmark")
_PROMPT_FIELDS = ("query_template", "document_template", "empty_title", "default_task")
_MORE_PROMPT_FIELDS = (
    *("default_document_task", "shot_template", "cleanup", "separate_pieces", "query_tokens"),
    *("pooled", "kept_prompt_tokens"),
)
_POOLING_FIELDS = ("hidden_layer", "token_head", "router_weight", "context_extension", "context_documents")
_SPARSE_FIELDS = (
    *(
        "sparse_activation",
        "sparse_pooling",
        "sparse_query",
        "sparse_terms",
        "sparse_scale",
        "sparse_expansion",
        "sparse_idf",
        "sparse_unknown",
    ),
    "multi_head",
)
_NETWORK_FIELDS = (
    *("adapters", "query_adapter", "document_adapter"),
    *("backbone", "backbone_config", "weights_prefix", "sliding_window"),
)
# Prepended and appended tokens count by their ids, projections by their names; the rest does not change
# a document's vector.
NOT_COUNTED = (
    "name",
    "tasks",
    "prepend",
    "append",
    "query_prepend",
    "query_append",
    "similarity",
    "matryoshka_dims",
    "has_dense",
)
# Keys of config.json that say who wrote the file, not how the model computes.
_PROVENANCE = frozenset({"_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache", "_commit_hash"})


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The parts that decide a model's vectors; each is short text, so that a difference can be shown.

    Attributes:
        format: the version of this package's own splitting, packing and pooling.
        weights, tokenizer, config: digests of the files.
        pooling: pooling, normalisation, projections, attention and layer of the dense vector.
        sparse: the sparse head.
        prompts: the templates and the special tokens.
        layout: passage and window sizes.
        max_tokens: the longest input.
        dtype: in which numbers the weights are held.
        dim: the width of the dense vector.
    """

    format: int
    weights: str
    tokenizer: str
    config: str
    pooling: str
    sparse: str
    prompts: str
    layout: str
    max_tokens: int
    dtype: str
    dim: int

    @property
    def digest(self) -> str:
        """32 hexadecimal digits over all parts."""
        text = json.dumps(self.as_dict(), sort_keys=True, ensure_ascii=False)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def as_dict(self) -> dict[str, str | int]:
        """The parts by name, as JSON can hold them."""
        return asdict(self)

    def differences(self, other: Mapping[str, object]) -> dict[str, tuple[object, object]]:
        """Parts that differ from stored ones, as {part: (stored, loaded)}; a part that one side lacks is None there."""
        mine: dict[str, Any] = self.as_dict()
        names = [*mine, *(name for name in other if name not in mine)]
        return {name: (other.get(name), mine.get(name)) for name in names if other.get(name) != mine.get(name)}


def fingerprint_of(
    checkpoint: Checkpoint,
    recipe: Recipe,
    *,
    dtype: Dtype,
    dim: int,
    special: tuple[list[int], ...],
    tuned: tuple[Path, TunedModel] | None = None,
) -> Fingerprint:
    """Compute the fingerprint: reads every weight file once (about 5 GB/s from the page cache)."""
    values = asdict(recipe)
    config = {key: value for key, value in checkpoint.config.items() if key not in _PROVENANCE}
    prompts = {name: values[name] for name in _PROMPT_FIELDS} | {"special": special}
    prompts |= _unusual(recipe, _MORE_PROMPT_FIELDS)
    network = _unusual(recipe, _NETWORK_FIELDS)
    norm = ["normalised"] if recipe.normalise else []
    weights = base_weights(checkpoint, recipe)
    sparse = _with(str(recipe.sparse_head), _unusual(recipe, _SPARSE_FIELDS))
    if tuned is not None:
        folder, description = tuned
        weights += tuned_files(folder)
        sparse += " " + _short(description.sparse_head)
    return Fingerprint(
        format=FORMAT,
        weights=hash_files(weights),
        tokenizer=hash_files([checkpoint.folder / name for name in _TOKENIZER_FILES]),
        config=_short({"config": config, "recipe": network} if network else config),
        pooling=_with(
            " ".join([recipe.pooling, recipe.attention, *norm, *recipe.projections]), _unusual(recipe, _POOLING_FIELDS)
        ),
        sparse=sparse,
        prompts=_short(prompts),
        layout=" ".join(f"{name}={values[name]}" for name in _LAYOUT_FIELDS),
        max_tokens=recipe.max_tokens,
        dtype=dtype,
        dim=dim,
    )


def base_weights(checkpoint: Checkpoint, recipe: Recipe) -> list[Path]:
    """The weight files of a base model, in a fixed order."""
    folders = [checkpoint.folder, *(checkpoint.root / folder for folder in recipe.projections)]
    files = [path for folder in folders for path in sorted(folder.glob("*.safetensors"))]
    return files + head_files(checkpoint, recipe)


def weights_digest(checkpoint: Checkpoint, recipe: Recipe) -> str:
    """What identifies the weights of a base model, as a tuned model records them."""
    return hash_files(base_weights(checkpoint, recipe))


def hash_files(paths: list[Path]) -> str:
    """xxh3-128 over the contents of the files that exist, in order, each with its length."""
    state = xxhash.xxh3_128()
    for path in paths:
        if not path.is_file():
            continue
        state.update(path.stat().st_size.to_bytes(8, "little"))
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                state.update(block)
    return state.hexdigest()


def _unusual(recipe: Recipe, names: tuple[str, ...]) -> dict[str, Any]:
    """Those of the recipe's fields that differ from their default."""
    values, usual = asdict(recipe), {field.name: field.default for field in fields(Recipe)}
    return {name: values[name] for name in names if values[name] != usual[name]}


def _with(text: str, values: Mapping[str, object]) -> str:
    return " ".join([text, *(f"{name}={value}" for name, value in values.items())])


def _short(value: object) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
