"""How does a batch of token ids run through the network, and through its heads?

Like all modules that know torch, it is imported when a model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedder import heads
from embedder.checkpoint import Checkpoint, is_decoder
from embedder.checkpoint_heads.context import with_context
from embedder.checkpoint_heads.loading import Batch, CheckpointHeads
from embedder.dtypes import Dtype, is_quantised
from embedder.errors import DeviceOutOfMemory, DeviceUnavailable, InvalidRecipe
from embedder.network import check_bidirectional, load_network, load_projection, output_layer
from embedder.packed import PackedBert, pack_bert
from embedder.plain_bert import read_bert
from embedder.quantisation import computing_dtype, quantise
from embedder.recipe import Recipe
from embedder.sparse_heads import NeighbourHead, SparseHead
from embedder.tokens import TextTokenizer
from embedder.tuned import ADAPTER, TunedModel
from embedder.tuned_weights import apply_tuned
from embedder.unpadded import unpad, unpadded
from embedder.values import PassageVectors, SparseVector
from embedder.windows import Row

Untyped: TypeAlias = Any  # transformers' models, configs and loaders: their types do not survive the Auto classes


@dataclass(frozen=True, slots=True, eq=False)
class _Output:
    """What the network says of the real tokens of a batch, flat.

    Attributes:
        states: [t, h], to pool.
        projected: [t, h], the inputs of the vocabulary layer.
        router: [t, experts] of each layer, raw; empty unless the recipe reads the router.
    """

    states: Tensor
    projected: Tensor
    router: tuple[Tensor, ...] = ()


class Model:
    """A loaded network with its heads. ``run`` may be called from several threads at once.

    Attributes:
        device: "cpu" or "cuda:0".
        dim: width of the dense vectors.
        multi_dim: width of the token vectors; 0 without a head that gives them.
        pads: whether batches are padded to their longest row; otherwise rows are packed without padding.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        recipe: Recipe,
        *,
        device: str,
        dtype: Dtype,
        tokenizer: TextTokenizer,
        tuned: tuple[Path, TunedModel] | None = None,
    ) -> None:
        """Load the weights onto a device.

        Args:
            checkpoint: the model's files.
            recipe: how they are used.
            device: "cpu" or "cuda:0".
            dtype: of the weights.
            tokenizer: for heads that read the text's words.
            tuned: the folder of a tuned model of this base, and what it says.

        Raises:
            ModelLoadFailed: the files do not make a model that transformers can load.
            InvalidRecipe: the recipe asks for a head that the checkpoint lacks.
        """
        self.device = device
        self._recipe = recipe
        self._tokenizer = tokenizer
        self._weighted = recipe.pooling == "weighted_mean"
        torch_dtype = computing_dtype(dtype, device)
        network: Untyped = None
        if device == "cpu" and _runs_as_published(recipe, tuned):
            network = read_bert(checkpoint, torch_dtype)
        if network is None:
            network = load_network(checkpoint, recipe, torch_dtype).to(device)
        vocabulary = output_layer(network, recipe)
        self._head = network if recipe.sparse_head == "mlm_max" else None
        self._network: Untyped = network.base_model
        self._heads = CheckpointHeads(checkpoint, recipe, self._network, vocabulary, tokenizer)
        self._projections = [
            load_projection(checkpoint.root / path, torch_dtype, device) for path in recipe.projections
        ]
        self._sparse = None
        if tuned is not None:
            added = apply_tuned(self._network, *tuned, device=device, dtype=torch_dtype)
            self._sparse = added.sparse
            self._projections += [added.projection] if added.projection is not None else []
        _check_unknown(recipe, self._sparse)
        packs = device == "cpu" and self._head is None and not self._heads.changes_network and recipe.hidden_layer == -1
        self._packed: PackedBert | None = pack_bert(self._network, int8=dtype == "int8") if packs else None
        if is_quantised(dtype) and self._packed is None:  # everything is merged now
            quantise(self._network, dtype, device)
        if recipe.context_documents:
            if tuned is None or added.context is None:
                problem = "the model reads its texts in a context; draw one with `engine migrate --contextual`"
                raise InvalidRecipe("context_documents", recipe.context_documents, problem)
            self._network, layers = with_context(self._network, checkpoint.folder, added.context)
            self._projections += layers
        self.pads = self._packed is None
        self._unpadded = False
        self._is_decoder = self._packed is None and is_decoder(network.config.model_type)
        if self._is_decoder and recipe.attention == "bidirectional":
            check_bidirectional(lambda inputs: self._states(inputs, _no_pause).states, checkpoint.name)
        altered = recipe.context_extension is not None or recipe.context_documents or self._head is not None
        if self._packed is None and not altered:
            self._unpadded = unpad(
                self._network,
                lambda inputs: self._states(inputs, _no_pause).projected,
                device=device,
                causal=recipe.attention == "causal",
            )
            self.pads = not self._unpadded
        width = int(getattr(network.config, "hidden_size", 0)) or int(network.get_input_embeddings().embedding_dim)
        self.dim = int(self._projections[-1].weight.shape[0]) if self._projections else width
        self.dim += self._router_width()
        self.multi_dim = self._heads.multi_dim
        if self._packed is not None:
            self._network = None  # it has what it needs

    @torch.inference_mode()
    def run(self, rows: Sequence[Row], pause: Callable[[], None]) -> list[list[PassageVectors]]:
        """The vectors of every passage of every row, in order. Calls ``pause`` between layers where it can.

        Raises:
            DeviceOutOfMemory: the batch did not fit.
        """
        try:
            return self._run(rows, pause)
        except torch.OutOfMemoryError as error:
            raise DeviceOutOfMemory(self.device, sum(len(row.ids) for row in rows)) from error

    def _run(self, rows: Sequence[Row], pause: Callable[[], None]) -> list[list[PassageVectors]]:
        # The scheduler never puts queries and passages into one batch.
        query = rows[0].query
        batch, inputs = _flat(rows), [self._tokenizer.network_ids(ids) for row in rows for ids in row.inputs]
        if query and not self._recipe.has_dense and (terms := self._heads.term_queries(batch)) is not None:
            nothing = np.zeros(self.dim, np.float32)
            return _by_row(rows, [PassageVectors(nothing, vector) for vector in terms])
        with self._heads.side(query=query):
            output = self._states(inputs, pause)
        weights = heads.positions_from_one([len(ids) for ids in inputs]) if self._weighted else None
        pooled = heads.pool_spans(self._heads.token_states(output.states), batch.dense, weights)
        if output.router:
            pooled = self._heads.routed(pooled, output.router, batch)
        counts = [count for row in rows for count in ([len(row.dense)] if row.breaks else [1] * len(row.dense))]
        pooled = heads.mean_of_inputs(pooled, counts)
        dense = heads.finish_dense(pooled, self._projections, normalise=self._recipe.normalise)
        sparse: Sequence[SparseVector | None] = [None] * len(dense)
        if self._recipe.sparse_head != "none":
            sparse = self._sparse_vectors(output, batch, query=query)
        multi: Sequence[NDArray[np.float32] | None] = [None] * len(dense)
        if self.multi_dim:
            multi = self._heads.multi_vectors(output.states, batch)
        return _by_row(rows, [PassageVectors(*vectors) for vectors in zip(dense, sparse, multi, strict=True)])

    def _sparse_vectors(self, output: _Output, batch: Batch, *, query: bool) -> list[SparseVector]:
        """The sparse vectors of a batch: by the query's own terms, the tuned head, or the checkpoint's."""
        if query and (terms := self._heads.term_queries(batch)) is not None:
            return terms
        if self._sparse is None:
            return self._heads.sparse_vectors(output.projected, batch)
        owners, positions = heads.span_positions(batch.sparse)
        chosen, ids = heads.take_rows(output.states, positions), torch.from_numpy(batch.ids[positions])
        owned, ids = torch.from_numpy(owners).to(self.device), ids.to(self.device)
        weights, beyond = self._sparse(chosen, ids, owned, len(batch.sparse), query=query), None
        if self._recipe.sparse_unknown and isinstance(self._sparse, NeighbourHead):
            beyond = self._sparse.unknown(ids, owned, len(batch.sparse), query=query)
        return heads.sparse_vectors(weights, beyond)

    def _states(self, inputs: list[NDArray[np.int32]], pause: Callable[[], None]) -> _Output:
        """Run rows of token ids."""
        if self._packed is not None:
            states = self._packed(inputs, pause)
            return _Output(states, states)
        arguments, real = self._arguments(inputs)
        if self._head is not None:
            output = self._head(**arguments, output_hidden_states=True)
            return _Output(output.hidden_states[-1][real], output.logits[real])
        if self._recipe.router_weight:
            arguments["output_router_logits"] = True
        deep = self._recipe.hidden_layer != -1
        output = self._network(**arguments, output_hidden_states=deep)
        last = output.last_hidden_state[real]
        states = output.hidden_states[self._recipe.hidden_layer][real] if deep else last
        layers = getattr(output, "router_logits", None) or ()
        return _Output(states, last, tuple(layer.view(*real.shape, -1)[real] for layer in layers))

    def _arguments(self, inputs: list[NDArray[np.int32]]) -> tuple[dict[str, Any], Tensor]:
        """The network's arguments for rows of token ids; and which positions hold real tokens, bool[b, t]."""
        if self._unpadded:
            causal = self._recipe.attention == "causal"
            arguments = unpadded(self._network, inputs, device=self.device, causal=causal)
            return arguments, torch.ones_like(arguments["input_ids"], dtype=torch.bool)
        ids, mask = padded(inputs)
        arguments = {"input_ids": ids.to(self.device)}
        real = mask.to(self.device).bool()
        # An absent mask lets sdpa use its fastest kernel. Padding is on the right: states of real tokens cannot see it.
        if not bool(mask.all()):
            arguments["attention_mask"] = mask.to(self.device)
        if self._is_decoder:
            arguments["use_cache"] = False
        return arguments, real

    def _router_width(self) -> int:
        """Experts of all layers together, as a probe shows them; 0 when the recipe does not read the router."""
        if not self._recipe.router_weight:
            return 0
        with torch.inference_mode():
            router = self._states([np.zeros(2, np.int32)], _no_pause).router
        if not router:
            raise InvalidRecipe("router_weight", self._recipe.router_weight, "the model is no mixture of experts")
        return sum(layer.shape[1] for layer in router)


def _check_unknown(recipe: Recipe, head: SparseHead | None) -> None:
    """Refuse a recipe whose head would be given terms beyond the vocabulary and cannot count them."""
    if recipe.sparse_unknown and not isinstance(head, NeighbourHead):
        problem = "only the tuned head `neighbours` counts characters that its vocabulary lacks"
        raise InvalidRecipe("sparse_unknown", recipe.sparse_unknown, problem)


def _runs_as_published(recipe: Recipe, tuned: tuple[Path, TunedModel] | None) -> bool:
    """Whether nothing is changed in the network, or read of it but its last states."""
    changes = (
        *(recipe.adapters, recipe.query_adapter, recipe.document_adapter),
        *(recipe.context_extension, recipe.context_documents, recipe.backbone, recipe.weights_prefix),
        *(recipe.router_weight, recipe.hidden_layer != -1, tuned is not None and (tuned[0] / ADAPTER).is_dir()),
    )
    return not any(changes) and recipe.sparse_head in ("none", "tuned", "token_linear")


def _flat(rows: Sequence[Row]) -> Batch:
    """The rows' tokens one after another, and their spans counted in them."""
    starts = np.cumsum([0, *(len(row.ids) for row in rows[:-1])])
    dense, sparse = (
        np.concatenate([spans + start for spans, start in zip(all_spans, starts, strict=True)]).astype(np.int64)
        for all_spans in ([row.dense for row in rows], [row.sparse for row in rows])
    )
    return Batch(np.concatenate([row.ids for row in rows]).astype(np.int64), dense, sparse)


def _by_row(rows: Sequence[Row], vectors: Sequence[PassageVectors]) -> list[list[PassageVectors]]:
    """Vectors in the order of all spans, as a list for each row."""
    each = iter(vectors)
    return [[next(each) for _ in range(row.n_vectors)] for row in rows]


def _no_pause() -> None:
    """For batches that nothing can overtake."""


def choose_device(device: str | None) -> str:
    """The device to run on; None takes the first GPU when there is one.

    Raises:
        DeviceUnavailable: the device asked for is not on this machine.
    """
    if device is None:
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise DeviceUnavailable(device, "there is no such kind of device") from error
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        raise DeviceUnavailable(device, f"this machine has {torch.cuda.device_count()} CUDA devices")
    if wanted.type not in ("cpu", "cuda"):
        raise DeviceUnavailable(device, 'only "cpu" and "cuda" are supported')
    return "cpu" if wanted.type == "cpu" else f"cuda:{wanted.index or 0}"


def set_threads(n_threads: int) -> None:
    """Let the calling thread, and only it, use ``n_threads`` threads inside each operation."""
    torch.set_num_threads(n_threads)


def padded(inputs: list[NDArray[np.int32]]) -> tuple[Tensor, Tensor]:
    """Rows padded on the right with id 0: ids and mask, int64[b, longest]. Masked positions are read by nobody."""
    longest = max(len(ids) for ids in inputs)
    ids = np.zeros((len(inputs), longest), dtype=np.int64)
    mask = np.zeros((len(inputs), longest), dtype=np.int64)
    for i, row in enumerate(inputs):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)
