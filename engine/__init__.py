"""Landmark: a vector search engine with a built-in LLM embedder.

    from engine import open_engine            # embedded: this process owns the data folder
    from engine import open_reader            # reads the folder that another process owns
    from engine.client import connect         # remote: the same methods over gRPC, without torch

Importing this package imports nothing heavy.
"""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Unpack

if TYPE_CHECKING:
    from engine.embedded import EmbeddedEngine
    from engine.followed import ReadOnlyEngine
    from engine.local import ModelOptions

__version__ = "0.1.0"


def open_engine(
    path: str | PathLike[str] = "./.landmark",
    *,
    model: str | None = "builtin",
    device: str | None = None,
    dtype: str | None = None,
    max_batch_tokens: int | None = None,
    generator: str | None = None,
    reranker: str | None = None,
) -> EmbeddedEngine:
    """Open the data folder ``path``, created when absent.

    Args:
        path: the data folder; one process at a time.
        model: "builtin", a Hugging Face folder or hub id, or a system (`embedder.catalogue`); None: callers bring their
            own vectors. Loaded on first use.
        device: "cpu", "cuda", ...; None: the best there is.
        dtype: of the models' weights: "float32" (the default), "bfloat16", "float16", "int8", "float8" (`embedder.dtypes`).
        max_batch_tokens: tokens in one forward pass; None: by device.
        generator: a causal language model that writes for expanded collections and queries, a folder or a hub id;
            None: the one that an expanded collection was made with. Loaded on first use.
        reranker: a folder or hub id of a cross-encoder or a Qwen3-Reranker, for queries with ``rerank``. Loaded on first
            use.

    Raises:
        DataFolderLocked: another process has it open.
        DataFolderReadOnly: it cannot be written.
    """
    from engine.embedded import EmbeddedEngine

    return EmbeddedEngine(
        path,
        model=model,
        device=device,
        dtype=dtype,
        max_batch_tokens=max_batch_tokens,
        generator=generator,
        reranker=reranker,
    )


def open_reader(path: str | PathLike[str] = "./.landmark", **options: Unpack[ModelOptions]) -> ReadOnlyEngine:
    """Open the data folder ``path`` for reading, beside the process that writes it, if one runs.

    Every query sees all writes that were acknowledged before it, in whichever process. What would change something raises
    DataFolderReadOnly. The model is loaded in this process, too, when the first text needs it.

    Args:
        path: the data folder; it must be there.
        options: models, as `open_engine` takes them.

    Raises:
        InvalidArgument: there is no data folder at ``path``.
    """
    from engine.followed import ReadOnlyEngine

    return ReadOnlyEngine(path, **options)
