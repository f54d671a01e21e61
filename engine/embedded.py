"""What does the process get that writes a data folder? Collections by name, and one model.

data/LOCK                  names that process; others may read beside it (engine.followed)
data/collections/NAME/     one folder a collection (engine.collection)
"""

from __future__ import annotations

import datetime
import os
import shutil
import uuid
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Unpack

import msgspec

from embedder.embedder import Embedder, coarse_dim
from embedder.errors import InvalidInput
from engine.collection import Collection
from engine.encoding import Model
from engine.errors import CollectionExists, InvalidArgument
from engine.local import LocalEngine, ModelOptions
from engine.query_validation import check_task
from engine.schema import DENSE_KINDS, CollectionSchema, check_dim, check_expansion, check_name, check_weights
from engine.storage.durable import fsync_path, remove_folder
from engine.storage.lock import FolderLock
from engine.values import Expansion
from index.analyzer import ANALYZER_VERSION, languages


class EmbeddedEngine(LocalEngine[Collection]):
    """The engine that writes. Thread-safe. Implements `engine.api.EngineApi`; open it with `engine.open_engine`."""

    def __init__(self, path: str | PathLike[str], **options: Unpack[ModelOptions]) -> None:
        self._lock = FolderLock(Path(path))
        super().__init__(path, **options)
        self._folder.mkdir(exist_ok=True)
        for stray in self._folder.glob(".*"):
            shutil.rmtree(stray)

    def _opened(self, folder: Path) -> Collection:
        return Collection(folder, self._model, reranker=self._reranker)

    def create_collection(
        self,
        name: str,
        *,
        dim: int | None = None,
        sparse: bool | None = None,
        multi: bool = False,
        multi_dim: int | None = None,
        language: str = "english",
        dense_kind: str = "auto",
        weights: Mapping[str, float] | None = None,
        expansion: Expansion | None = None,
        task: str | None = None,
    ) -> Collection:
        """See `EngineApi.create_collection`."""
        check_name(name)
        if language not in languages():
            raise InvalidArgument("language", f"{language!r} is unknown; choose from {', '.join(languages())}")
        if dense_kind not in DENSE_KINDS:
            raise InvalidArgument("dense_kind", f"{dense_kind!r} is unknown; choose from {', '.join(DENSE_KINDS)}")
        with self._guard:
            self._check_open()
            folder = self._folder / name
            if folder.exists():
                raise CollectionExists(name)
            schema = bare_schema(name, language, dense_kind)
            if dim is None and self._model.name is not None:
                if multi_dim is not None:
                    raise InvalidArgument("multi_dim", "is the model's; give it only for vectors of your own")
                schema = with_model(schema, self._model, sparse=sparse, multi=multi, task=task)
            else:
                if task is not None:
                    raise InvalidArgument("task", "is for a model that embeds queries, and this collection has none")
                schema = with_own_vectors(schema, dim, sparse, _own_multi_dim(multi, multi_dim))
            schema = msgspec.structs.replace(schema, weights=check_weights(weights or {}, schema.legs))
            if expansion is not None:
                schema = self._with_expansion(schema, check_expansion(expansion))
            # Made under another name and renamed, so that a crash leaves no half-made collection.
            unfinished = self._folder / f".new-{uuid.uuid4().hex}"
            Collection.create(unfinished, schema)
            os.replace(unfinished, folder)
            fsync_path(self._folder)
            return self.get_collection(name)

    def _with_expansion(self, schema: CollectionSchema, expansion: Expansion) -> CollectionSchema:
        name = self._generators.name
        if name is None:
            raise InvalidArgument(
                "expansion",
                "needs a generator, a causal language model that writes: name one with generator=, or --generator",
            )
        if schema.model is None or not schema.dim:
            raise InvalidArgument("expansion", "needs a model with dense vectors, and the collection has none")
        identity = self._generators.get(name).identity
        return msgspec.structs.replace(schema, expansion=expansion, generator=name, generator_identity=identity)

    def drop_collection(self, name: str) -> None:
        """See `EngineApi.drop_collection`."""
        with self._guard:
            self.get_collection(name).close()
            del self._open[name]
            remove_folder(self._folder / name)

    def close(self) -> None:
        """See `EngineApi.close`. A second call does nothing."""
        super().close()
        self._lock.release()


def _own_multi_dim(multi: bool, multi_dim: int | None) -> int:
    if multi and multi_dim is None:
        raise InvalidArgument("multi_dim", "is needed: there is no model whose token vectors could be kept")
    return 0 if multi_dim is None else check_dim(multi_dim, "multi_dim")


def bare_schema(name: str, language: str, dense_kind: str) -> CollectionSchema:
    """The schema of a collection without vectors: BM25 alone."""
    return CollectionSchema(
        name=name,
        dim=0,
        coarse_dim=0,
        rotate=True,
        sparse=False,
        model=None,
        fingerprint=None,
        language=language,
        analyzer_version=ANALYZER_VERSION,
        dense_kind=dense_kind,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def with_own_vectors(
    schema: CollectionSchema, dim: int | None, sparse: bool | None, multi_dim: int
) -> CollectionSchema:
    """The schema for vectors that the callers bring; a width of 0: none of that kind."""
    dim = 0 if not dim else check_dim(dim)
    return msgspec.structs.replace(
        schema, dim=dim, coarse_dim=coarse_dim(dim), sparse=bool(sparse), multi_dim=multi_dim
    )


def with_model(
    schema: CollectionSchema, model: Model, *, sparse: bool | None, multi: bool, task: str | None = None
) -> CollectionSchema:
    """The schema for vectors that a model makes. Loads the model.

    Args:
        schema: a bare one.
        model: not one without a name.
        sparse: keep a learned sparse leg; None: if the model has one.
        multi: keep token vectors.
        task: what queries ask for that name no task.

    Raises:
        InvalidArgument: a sparse leg, token vectors or a task are asked for and the model has none.
    """
    embedder = model.embedder()
    if sparse and not embedder.has_sparse:
        raise InvalidArgument("sparse", f"the model {embedder.name!r} has no learned sparse head")
    if multi and not embedder.multi_dim:
        raise InvalidArgument("multi", f"the model {embedder.name!r} gives no token vectors")
    if task is not None:
        _check_task(embedder, task)
    return msgspec.structs.replace(
        schema,
        dim=embedder.dim if embedder.has_dense else 0,
        coarse_dim=embedder.coarse_dim if embedder.has_dense else 0,
        rotate=not embedder.matryoshka,
        sparse=embedder.has_sparse if sparse is None else sparse,
        multi_dim=embedder.multi_dim if multi else 0,
        sparse_idf=embedder.sparse_idf,
        model=model.recorded_name,
        fingerprint=model.fingerprint(),
        task=task,
    )


def _check_task(embedder: Embedder, task: str) -> None:
    check_task(task)
    try:
        embedder.check_task(task)
    except InvalidInput as error:
        raise InvalidArgument("task", error.problem) from error
