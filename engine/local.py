"""What has every engine that opens a data folder in this process? Collections by name, models, and no server.

`engine.embedded` is the one that writes, `engine.followed` those that read beside it.
"""

from __future__ import annotations

import logging
import threading
from abc import abstractmethod
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypedDict, TypeVar, Unpack

import numpy as np
from threadpoolctl import threadpool_limits

from embedder.embedder import Embedder
from embedder.errors import EmbedderError
from embedder.values import DocumentInput, EmbeddedDocument, SparseVector
from engine import __version__
from engine.encoding import BUILTIN, Model
from engine.errors import CollectionNotFound, EngineClosed, EngineError, InvalidArgument
from engine.generators import Generators
from engine.reading import CollectionReader
from engine.reranking import RerankerModel
from engine.schema import check_name
from engine.values import CollectionInfo, Embedding, EngineInfo

log = logging.getLogger(__name__)

COLLECTIONS_FOLDER = "collections"

C = TypeVar("C", bound=CollectionReader)


class ModelOptions(TypedDict, total=False):
    """What `engine.open_engine` is told about models, by the same names."""

    model: str | None
    device: str | None
    dtype: str | None
    max_batch_tokens: int | None
    generator: str | None
    reranker: str | None


class LocalEngine(Generic[C]):
    """The collections of a data folder, and the models that embed, write and rerank. Thread-safe.

    Args:
        path: the data folder.
        options: see `engine.open_engine`.

    Attributes:
        path, options: as given, for another process to open the same.
    """

    def __init__(self, path: str | PathLike[str], **options: Unpack[ModelOptions]) -> None:
        self.path = Path(path)
        self.options = options
        self._folder = self.path / COLLECTIONS_FOLDER
        # A query runs on one thread; parallelism comes from concurrent requests (ANCHORS: two BLAS threads were slower).
        threadpool_limits(1, user_api="blas")
        device, dtype = options.get("device"), options.get("dtype")
        self._generators = Generators(self.path, options.get("generator"), device=device)
        self._model = Model(
            options.get("model", BUILTIN),
            device=device,
            dtype=dtype,
            max_batch_tokens=options.get("max_batch_tokens"),
            generators=self._generators,
        )
        self._models: dict[str, Model] = {}
        self._reranker = RerankerModel(options.get("reranker"), device=device, dtype=dtype)
        self._open: dict[str, C] = {}
        self._guard = threading.RLock()
        self._closed = False

    @abstractmethod
    def _opened(self, folder: Path) -> C:
        """The collection in ``folder``, which is there."""

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

    def get_collection(self, name: str) -> C:
        """See `EngineApi.get_collection`. The first call opens it; later calls return the same object."""
        with self._guard:
            self._check_open()
            if name not in self._open:
                folder = self._folder / check_name(name)
                if not folder.is_dir():
                    raise CollectionNotFound(name, self._names())
                self._open[name] = self._opened(folder)
            return self._open[name]

    def prepare(self) -> None:
        """Open every collection and load the model that it was made with: no first query waits for that.

        What cannot be opened or loaded is logged; the calls that need it say so again.
        """
        for name in self._names():
            try:
                self.get_collection(name).prepare()
            except (EngineError, EmbedderError) as error:
                log.warning("collection %r is not ready: %s", name, error)

    def list_collections(self) -> list[CollectionInfo]:
        """See `EngineApi.list_collections`."""
        return [self.get_collection(name).info() for name in self._names()]

    def _names(self) -> list[str]:
        return sorted(path.name for path in self._folder.iterdir() if path.is_dir() and not path.name.startswith("."))

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
