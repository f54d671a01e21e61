"""What does a process get that opens a data folder? Collections by name, and one model.

data/LOCK                  names the owner
data/collections/NAME/     one folder a collection (engine.collection)
"""

from __future__ import annotations

import datetime
import os
import shutil
import threading
import uuid
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import numpy as np
from threadpoolctl import threadpool_limits

from embedder.embedder import Embedder
from embedder.errors import InvalidInput
from embedder.values import DocumentInput, EmbeddedDocument, SparseVector
from engine import __version__
from engine.collection import Collection
from engine.encoding import Model
from engine.errors import CollectionExists, CollectionNotFound, EngineClosed, InvalidArgument
from engine.generators import Generators
from engine.reranking import RerankerModel
from engine.schema import DENSE_KINDS, CollectionSchema, check_dim, check_expansion, check_name, check_weights
from engine.storage.durable import fsync_path, remove_folder
from engine.storage.lock import FolderLock
from engine.validation import check_task
from engine.values import CollectionInfo, Embedding, EngineInfo, Expansion
from index.analyzer import ANALYZER_VERSION, languages

COLLECTIONS_FOLDER = "collections"
# The prefix of rotated vectors at which candidates keep 0.99 of recall@10 (docs/adr/0007).
COARSE_SHARE = 4
MIN_COARSE_DIM = 256


class EmbeddedEngine:
    """The engine of this process. Thread-safe. Implements `engine.api.EngineApi`; open it with `engine.open_engine`."""

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        model: str | None = "builtin",
        device: str | None = None,
        dtype: str | None = None,
        max_batch_tokens: int | None = None,
        generator: str | None = None,
        reranker: str | None = None,
    ) -> None:
        self.path = Path(path)
        self._lock = FolderLock(self.path)
        self._folder = self.path / COLLECTIONS_FOLDER
        self._folder.mkdir(exist_ok=True)
        for stray in self._folder.glob(".*"):
            shutil.rmtree(stray)
        # A query runs on one thread; parallelism comes from concurrent requests (ANCHORS: two BLAS threads were slower).
        threadpool_limits(1, user_api="blas")
        self._generators = Generators(self.path, generator, device=device)
        self._model = Model(
            model, device=device, dtype=dtype, max_batch_tokens=max_batch_tokens, generators=self._generators
        )
        self._models: dict[str, Model] = {}
        self._reranker = RerankerModel(reranker, device=device, dtype=dtype)
        self._open: dict[str, Collection] = {}
        self._guard = threading.RLock()
        self._closed = False

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

    def model(self, name: str | None = None) -> Model:
        """Another model on the engine's device, loaded when it is first used and closed with the engine.

        Args:
            name: "builtin", a folder or a hub id; None: the engine's own.
        """
        with self._guard:
            self._check_open()
            if name is None or name == self._model.name:
                return self._model
            if name not in self._models:
                self._models[name] = self._model.sibling(name)
            return self._models[name]

    def get_collection(self, name: str) -> Collection:
        """See `EngineApi.get_collection`. The first call opens it; later calls return the same object."""
        with self._guard:
            self._check_open()
            if name not in self._open:
                folder = self._folder / check_name(name)
                if not folder.is_dir():
                    raise CollectionNotFound(name, self._names())
                self._open[name] = Collection(folder, self._model, reranker=self._reranker)
            return self._open[name]

    def list_collections(self) -> list[CollectionInfo]:
        """See `EngineApi.list_collections`."""
        return [self.get_collection(name).info() for name in self._names()]

    def _names(self) -> list[str]:
        return sorted(path.name for path in self._folder.iterdir() if path.is_dir() and not path.name.startswith("."))

    def drop_collection(self, name: str) -> None:
        """See `EngineApi.drop_collection`."""
        with self._guard:
            self.get_collection(name).close()
            del self._open[name]
            remove_folder(self._folder / name)

    def embed(self, texts: Sequence[str], *, task: str | None = None, query: bool = False) -> list[Embedding]:
        """See `EngineApi.embed`."""
        self._check_open()
        if self._model.name is None:
            raise InvalidArgument("model", "this engine was opened without a model")
        for position, text in enumerate(texts):
            if not isinstance(text, str) or not text.strip():
                raise InvalidArgument("texts", f"the text at position {position} is empty")
        embedder = self._model.embedder()
        if not query:
            inputs = [DocumentInput("", text) for text in texts]
            return [_joined(embedder, one) for one in embedder.embed_documents(inputs, task=task)]
        embeddings = []
        for text, one in zip(texts, embedder.embed_queries(texts, task=task), strict=True):
            dense = one.dense.astype(float).tolist()
            embeddings.append(Embedding(dense, _by_term(embedder, one.sparse), [(0, len(text), dense)], one.tokens))
        return embeddings

    def info(self) -> EngineInfo:
        """See `EngineApi.info`. Loads the model."""
        self._check_open()
        if self._model.name is None:
            return EngineInfo(__version__, None, None, "none", 0, False, 0, 0, self._reranker.name)
        embedder = self._model.embedder()
        return EngineInfo(
            __version__,
            embedder.name,
            embedder.fingerprint.digest,
            embedder.device,
            embedder.dim,
            embedder.has_sparse,
            embedder.max_passage_tokens,
            embedder.multi_dim,
            self._reranker.name,
        )

    def close(self) -> None:
        """See `EngineApi.close`. A second call does nothing."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            for collection in self._open.values():
                collection.close()
            self._open.clear()
            for model in (self._model, *self._models.values()):
                model.close()
            self._generators.close()
            self._reranker.close()
            self._lock.release()

    def __enter__(self) -> Self:
        """Return the engine itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the engine."""
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise EngineClosed()


def _joined(embedder: Embedder, document: EmbeddedDocument) -> Embedding:
    """One text's passages as one embedding: the dense mean, normalised, and the greatest weight of each sparse term."""
    landmarks = [(p.start, p.end, p.vectors.dense.astype(float).tolist()) for p in document.passages]
    mean = np.mean([dense for _, _, dense in landmarks], axis=0)
    weights: dict[str, float] | None = {} if embedder.has_sparse else None
    for passage in document.passages:
        for term, weight in (_by_term(embedder, passage.vectors.sparse) or {}).items():
            assert weights is not None
            weights[term] = max(weight, weights.get(term, 0.0))
    return Embedding((mean / np.linalg.norm(mean)).tolist(), weights, landmarks, document.read)


def _by_term(embedder: Embedder, sparse: SparseVector | None) -> dict[str, float] | None:
    """Decoded term → weight, greatest first; two ids that decode alike keep the greater weight."""
    if sparse is None:
        return None
    pairs = sorted(zip(sparse.weights.tolist(), sparse.ids.tolist(), strict=True))
    return dict(reversed({embedder.term_text(term): weight for weight, term in pairs}.items()))


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


def coarse_dim(dim: int) -> int:
    """The prefix that graphs and scans use for caller-supplied vectors of this width."""
    return min(dim, max(MIN_COARSE_DIM, dim // COARSE_SHARE))
