"""Which files beside the backbone's own decide a vector?"""

from __future__ import annotations

from pathlib import Path

from embedder.checkpoint import Checkpoint, locate
from embedder.recipe import Recipe

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_TENSORS = "adapter_model.safetensors"
IDF_TABLE = "idf.json"
IDF_WEIGHTS = "*SparseStaticEmbedding/model.safetensors"  # the same table as sentence-transformers stores it
STANDARDS = "router_standards.safetensors"


def find_adapter(checkpoint: Checkpoint, name: str) -> Path:
    """The folder of an adapter: inside the checkpoint, else a folder or a Hugging Face id.

    Raises:
        ModelNotFound: there is no such folder, and the hub does not have it or cannot be reached.
    """
    inside = checkpoint.root / name
    return inside if (inside / ADAPTER_CONFIG).is_file() else locate(name)


def idf_table(checkpoint: Checkpoint) -> Path:
    """What the terms of a query weigh: ``idf.json``, else the weights of sentence-transformers' static embedding."""
    table = checkpoint.root / IDF_TABLE
    return table if table.is_file() else next(iter(sorted(checkpoint.root.glob(IDF_WEIGHTS))), table)


def head_files(checkpoint: Checkpoint, recipe: Recipe) -> list[Path]:
    """The files that the recipe's heads and adapters read beyond the checkpoint's own folder, in a fixed order."""
    names = [*recipe.adapters, recipe.query_adapter, recipe.document_adapter]
    folders = [find_adapter(checkpoint, name) for name in names if name]
    files = [path for folder in folders for path in (folder / ADAPTER_CONFIG, folder / ADAPTER_TENSORS)]
    if recipe.sparse_query == "idf":
        files.append(idf_table(checkpoint))
    if recipe.router_weight:
        files.append(checkpoint.root / STANDARDS)
    if recipe.sparse_head == "token_linear" or recipe.multi_head == "token_linear":
        files += sorted(checkpoint.folder.glob("*_linear/*.safetensors"))
    return files
