"""How do documents and queries become vectors? The face of this package.

Documents: tokenise → split into passages → pack into windows → batches → scheduler → model → back in order. Tokenising
runs in the caller's thread while the scheduler's workers run the model.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

from embedder.dtypes import Dtype, check_dtype
from embedder.errors import EmbedderClosed, InvalidInput, InvalidRecipe
from embedder.fingerprint import Fingerprint, fingerprint_of
from embedder.ingest import IngestJob, IngestPipeline, groups
from embedder.queries import QueryPipeline
from embedder.recipe import Recipe
from embedder.scheduler import Scheduler
from embedder.source import ModelSource, find_model
from embedder.tokens import TextTokenizer, load_tokenizer
from embedder.values import (
    DocumentInput,
    EmbeddedDocument,
    EmbeddedPassage,
    EmbeddedQuery,
    PassageVectors,
    SparseVector,
)

if TYPE_CHECKING:
    from embedder.model import Model

__all__ = [
    "DocumentInput",
    "EmbeddedDocument",
    "EmbeddedPassage",
    "EmbeddedQuery",
    "Embedder",
    "PassageVectors",
    "SparseVector",
]

# Measured on a CPU with the built-in model: 512 to 4,096 tokens a batch are within 8 %, 8,192 are 20 % slower (the
# intermediate arrays leave the cache).
BATCH_TOKENS_CPU = 2048
BATCH_TOKENS_GPU = 32768
LEAST_COARSE_DIM, MOST_COARSE_DIM = 256, 512
WAITING_BATCHES = 32  # batches that may wait before ingest callers block and queries are refused


class Embedder:
    """A loaded model that embeds documents and queries. Every method may be called from any thread.

    Attributes:
        name: the model's name.
        recipe: how the checkpoint is used.
        fingerprint: what identifies its vectors.
        dim: width of the dense vectors.
        coarse_dim: the prefix suggested for coarse search.
        matryoshka: whether the model was trained for prefixes (then ``coarse_dim`` is one of ``matryoshka_dims``).
        matryoshka_dims: the prefixes that it was trained for, descending.
        has_dense: whether the dense vectors were trained for search; a SPLADE checkpoint's were not.
        has_sparse: whether vectors come with a learned sparse part.
        multi_dim: width of the token vectors that come with them; 0 for a model that gives none.
        sparse_idf: whether sparse queries are to be multiplied by the index's inverse document frequencies.
        device: "cpu" or "cuda:0".
        max_passage_tokens: the most tokens of one passage.
        window_tokens: the longest input of a document, special tokens included.
    """

    def __init__(
        self, model: Model, tokenizer: TextTokenizer, recipe: Recipe, fingerprint: Fingerprint, limits: _Limits
    ) -> None:
        self.recipe = recipe
        self.fingerprint = fingerprint
        self.name = recipe.name
        self.dim = model.dim
        self.coarse_dim = coarse_dim(model.dim, recipe.matryoshka_dims)
        self.matryoshka_dims = tuple(width for width in recipe.matryoshka_dims if width <= model.dim)
        self.matryoshka = bool(self.matryoshka_dims)
        self.has_dense = recipe.has_dense
        self.has_sparse = recipe.sparse_head != "none"
        self.multi_dim = model.multi_dim
        self.sparse_idf = recipe.sparse_idf
        self.device = model.device
        self.max_passage_tokens = recipe.passage_tokens
        self.window_tokens = recipe.window_tokens
        self._tokenizer = tokenizer
        self._is_closed = False
        self._scheduler = limits.scheduler(model)
        budget = limits.batch_tokens(model)
        self._ingest = IngestPipeline(recipe, tokenizer, self._scheduler, max_batch_tokens=budget, pads=model.pads)
        self._queries = QueryPipeline(recipe, tokenizer, self._scheduler, max_batch_tokens=budget, pads=model.pads)

    @classmethod
    def load(
        cls,
        model: str = "builtin",
        *,
        device: str | None = None,
        dtype: str | None = None,
        max_batch_tokens: int | None = None,
        threads: int | None = None,
        workers: int | None = None,
        recipe: Recipe | None = None,
        passage_tokens: int | None = None,
        window_tokens: int | None = None,
    ) -> Embedder:
        """Load a model and start its scheduler.

        Args:
            model: "builtin", a folder (also of a tuned model), a Hugging Face id, or a system, alone or before a
                checkpoint ("prompteol:./llm"; ``catalogue``). Only an id that is not cached uses the network.
            device: "cpu", "cuda", "cuda:1"; None: the first GPU when there is one.
            dtype: "float32" (the default), "bfloat16", "float16", or of the weights alone "int8" or "float8" (`dtypes`).
            max_batch_tokens: tokens of one forward pass.
            threads: CPU threads of all workers together; None: the cores this process may use.
            workers: forward passes that run at once; None: one per CPU thread on the CPU, one on a GPU.
            recipe: replaces the recipe that the files describe.
            passage_tokens: replaces that field of the recipe.
            window_tokens: replaces that field of the recipe.

        Raises:
            ModelNotFound: no such folder, and the hub does not have it or cannot be reached.
            ModelLoadFailed: the files do not make a model (also its leaves UnsafeWeights, DigestMismatch).
            InvalidRecipe: the checkpoint's description, or a size, cannot be used.
            InvalidInput: another argument cannot be used.
            DeviceUnavailable: no such device, or it cannot compute with this dtype.
        """
        chosen = check_dtype(dtype)
        limits = _Limits(max_batch_tokens, threads, workers)
        source = find_model(model)
        recipe = _resized(source.recipe if recipe is None else recipe, passage_tokens, window_tokens)
        return cls._assemble(replace(source, recipe=recipe), device, chosen, limits)

    @classmethod
    def _assemble(cls, source: ModelSource, device: str | None, dtype: Dtype, limits: _Limits) -> Embedder:
        """Load tokenizer and network; torch is imported here."""
        from embedder.model import Model, choose_device

        checkpoint, recipe, tuned = source.checkpoint, source.recipe, source.tuned
        tokenizer = load_tokenizer(checkpoint, recipe)
        network = Model(checkpoint, recipe, device=choose_device(device), dtype=dtype, tokenizer=tokenizer, tuned=tuned)
        special = tokenizer.all_special()
        fingerprint = fingerprint_of(checkpoint, recipe, dtype=dtype, dim=network.dim, special=special, tuned=tuned)
        return cls(network, tokenizer, recipe, fingerprint, limits)

    def embed_documents(self, documents: Sequence[DocumentInput], *, task: str | None = None) -> list[EmbeddedDocument]:
        """Split and embed documents, in order. Blocks while too much ingest waits; queries overtake it.

        Args:
            documents: what to embed.
            task: what the documents are for, for the few models whose documents have an instruction; None: the
                recipe's default.

        Raises:
            InvalidInput: a title or text is not a string, or the model's documents have no task; nothing was embedded.
            DeviceOutOfMemory: a batch did not fit.
            EmbedderClosed: the embedder is closed.
        """
        self._check_open()
        for i, document in enumerate(documents):
            _check_text(f"documents[{i}].title", document.title)
            _check_text(f"documents[{i}].text", document.text)
        if task is not None:
            self.check_task(task, query=False)
        jobs: list[IngestJob] = []
        try:
            for group in groups(documents):
                jobs.append(self._ingest.submit(group, task))
            return [document for job in jobs for document in job.collect()]
        finally:
            for job in jobs:
                job.cancel()

    def embed_queries(
        self, texts: Sequence[str], *, task: str | None = None, shots: Sequence[tuple[str, str]] = ()
    ) -> list[EmbeddedQuery]:
        """Embed queries, in order; they overtake ingest, and equal ones come from a cache.

        Args:
            texts: the queries, without prompt.
            task: what the query asks for, for models that take an instruction: a name of the recipe's ``tasks``, or the
                instruction; None: the recipe's default.
            shots: examples as (query, document), for models that take them (``Recipe.shot_template``).

        Raises:
            InvalidInput: a text is not a string, the model takes no examples or no task, or it has none of this name.
            SchedulerFull: too many queries wait; retry later.
            DeviceOutOfMemory: a batch did not fit.
            EmbedderClosed: the embedder is closed.
        """
        self._check_open()
        for i, text in enumerate(texts):
            _check_text(f"texts[{i}]", text)
        if task is not None:
            self.check_task(task)
        if shots and not self.recipe.shot_template:
            raise InvalidInput("shots", len(shots), f"{self.name} takes no examples")
        return self._queries.embed(texts, task, shots)

    def check_task(self, task: str, *, query: bool = True) -> None:
        """Refuse a task that the model cannot be asked for.

        Raises:
            InvalidInput: its queries, or its documents, have no place for one, or there is none of this name.
        """
        if not self.recipe.takes_task(query=query):
            raise InvalidInput("task", task, f"{'queries' if query else 'documents'} of {self.name} have no task")
        self.recipe.instruction(task)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without prompt and special tokens."""
        return [len(tokens.ids) for tokens in self._tokenizer.tokenize([""] * len(texts), texts)]

    def term_text(self, term_id: int) -> str:
        """The text of a sparse vector's term; "" for an id that the vocabulary does not have."""
        return self._tokenizer.term_text(term_id)

    def close(self) -> None:
        """Finish the running batches, give up the waiting ones, end the threads. May be called again."""
        self._is_closed = True
        self._scheduler.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._is_closed:
            raise EmbedderClosed


class _Limits:
    """How much of the machine the model may use; None means the default for its device."""

    def __init__(self, max_batch_tokens: int | None, threads: int | None, workers: int | None) -> None:
        for name, value in (("max_batch_tokens", max_batch_tokens), ("threads", threads), ("workers", workers)):
            if value is not None and value < 1:
                raise InvalidInput(name, value, "it must be at least 1")
        self._max_batch_tokens = max_batch_tokens
        self._threads = threads
        self._workers = workers

    def batch_tokens(self, model: Model) -> int:
        """Tokens of one forward pass."""
        return self._max_batch_tokens or (BATCH_TOKENS_CPU if model.device == "cpu" else BATCH_TOKENS_GPU)

    def scheduler(self, model: Model) -> Scheduler:
        """The scheduler before the model. On a CPU, single-threaded workers side by side beat one threaded worker."""
        from embedder.model import set_threads

        n_threads = self._threads or len(os.sched_getaffinity(0))
        n_workers = self._workers or (n_threads if model.device == "cpu" else 1)
        budget = self.batch_tokens(model)
        return Scheduler(
            model.run,
            max_batch_tokens=budget,
            max_waiting_tokens=WAITING_BATCHES * budget,
            n_workers=n_workers,
            on_start=lambda: set_threads(max(1, n_threads // n_workers)),
        )


def _check_text(field: str, value: object) -> None:
    if not isinstance(value, str):
        raise InvalidInput(field, type(value).__name__, "it must be a string")


def coarse_dim(dim: int, trained: Sequence[int] = ()) -> int:
    """The prefix by which candidates are found among vectors of this width; docs/adr/0013 has what was measured.

    The widest trained one from 256 dimensions to half of the vector (beyond 1,536: a third). Where there is none, half of the
    vector, beyond 2,048 dimensions a quarter. Half of the vector means 256 to 512 dimensions.
    """
    half = min(max(LEAST_COARSE_DIM, dim // 2), MOST_COARSE_DIM)
    fitting = [width for width in trained if LEAST_COARSE_DIM <= width <= max(half, dim // 3)]
    return min(dim, max(fitting, default=max(half, dim // 4)))


def _resized(recipe: Recipe, passage_tokens: int | None, window_tokens: int | None) -> Recipe:
    """The recipe with other sizes; passages that were not asked for shrink with their window."""
    window = recipe.window_tokens if window_tokens is None else window_tokens
    passage = min(recipe.passage_tokens, window) if passage_tokens is None else passage_tokens
    if passage < 1:
        raise InvalidRecipe("passage_tokens", passage, "it must be at least 1")
    return replace(recipe, window_tokens=window, passage_tokens=passage)
