"""What is being trained? A base model with trainable parts, read and pooled as the embedder would.

The student is the network of ``embedder.model`` with gradients: the same loader, the same rows (``inputs``), the same
pooling. What is trained on it: LoRA adapters or its last layers, a projection after the pooling, a learned sparse head.
``export`` writes just those.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor, nn

from embedder import heads
from embedder.batching import plan_batches
from embedder.checkpoint import is_decoder
from embedder.errors import TuningFailed
from embedder.model import padded
from embedder.packed import PackedBert, pack_bert
from embedder.source import ModelSource
from embedder.sparse_heads import NeighbourHead, SparseHead
from embedder.tuning.batches import derive_seed
from embedder.tuning.config import TuningConfig
from embedder.tuning.inputs import InputBuilder
from embedder.windows import Row

Side = Literal["query", "passage"]
Untyped: TypeAlias = Any  # transformers' networks


@dataclass(frozen=True, slots=True, eq=False)
class Vectors:
    """The vectors of n texts: ``dense`` float32[n, d]; ``sparse`` float32[n, v], None without a sparse head."""

    dense: Tensor
    sparse: Tensor | None

    def parts(self) -> list[Tensor]:
        """Both, those that there are."""
        return [self.dense] if self.sparse is None else [self.dense, self.sparse]


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """The modules of a student; the heads that it does not have are None.

    Attributes:
        network: the backbone; its adapters are in it.
        projections: of the checkpoint itself, after the pooling; not trained.
        dense: the trained projection after those.
        sparse: the learned sparse head.
    """

    network: Untyped
    projections: Sequence[heads.Projection]
    dense: nn.Linear | None
    sparse: SparseHead | None

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that have gradients, by name, in a fixed order: "backbone.", "dense.", "sparse." and so on."""
        modules: dict[str, nn.Module | None] = {
            "backbone": self.network,
            "dense": self.dense,
            "sparse": self.sparse,
        }
        return {
            f"{prefix}.{name}": parameter
            for prefix, module in modules.items()
            if module is not None
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }


class Student:
    """A model in training. ``loading.load_student`` makes one.

    Attributes:
        source: the base, with the recipe by which the tuned model will be used.
        recipe: that recipe.
        parts: its modules.
        inputs: makes rows of texts.
        trains_backbone: whether gradients go through the network.
        trains_dense: whether any trained parameter changes the dense vectors.
    """

    def __init__(self, source: ModelSource, parts: Parts, inputs: InputBuilder, config: TuningConfig) -> None:
        self.source = source
        self.recipe = source.recipe
        self.parts = parts
        self.inputs = inputs
        self.device = device = next(parts.network.parameters()).device
        names = parts.trainable()
        self.trains_backbone = any(name.startswith("backbone.") for name in names)
        self.trains_dense = self.trains_backbone or parts.dense is not None
        self._batch_tokens = config.batch_tokens
        self._autocast = config.precision == "bfloat16"
        self._is_decoder = is_decoder(parts.network.config.model_type)
        # Nothing of a frozen network changes, so its packed form (half the time on a CPU) stays true.
        self._packed: PackedBert | None = None
        if not self.trains_backbone and device.type == "cpu" and not self._autocast:
            self._packed = pack_bert(parts.network)

    def passes(self, rows: Sequence[Row]) -> list[list[int]]:
        """Which rows run in which forward pass: similar lengths together, each pass within ``batch_tokens``."""
        return plan_batches([len(row.ids) for row in rows], self._batch_tokens, padded=self._packed is None)

    def forward(self, rows: Sequence[Row], *, seed: int | None = None) -> Vectors:
        """The vectors of every passage of every row, in order, with gradients where they are enabled.

        Args:
            rows: of one side.
            seed: of the dropout of each pass: the same seed and rows give the same vectors, whatever ran before.
        """
        plan = self.passes(rows)
        done = [self.run_pass([rows[i] for i in batch], seed=_pass_seed(seed, n)) for n, batch in enumerate(plan)]
        return _in_order(rows, plan, done)

    def backward(self, rows: Sequence[Row], seed: int, vectors: Vectors) -> None:
        """Run ``forward(rows, seed=seed)`` again, pass by pass, and back-propagate each pass's share of a gradient.

        Args:
            rows: those of ``forward``.
            seed: that of ``forward``.
            vectors: what ``forward`` gave, with the loss's gradient on them.
        """
        plan = self.passes(rows)
        sizes = np.asarray([len(row.dense) for row in rows])
        starts = np.cumsum(sizes) - sizes
        for number, batch in enumerate(plan):
            numbers = np.concatenate([np.arange(starts[i], starts[i] + sizes[i]) for i in batch])
            places = torch.from_numpy(numbers).to(self.device)
            found = self.run_pass([rows[i] for i in batch], seed=_pass_seed(seed, number))
            pairs = [
                (part, leaf.grad[places])
                for part, leaf in zip(found.parts(), vectors.parts(), strict=True)
                if part.requires_grad and leaf.grad is not None
            ]
            if pairs:
                torch.autograd.backward([part for part, _ in pairs], [gradient for _, gradient in pairs])

    def run_pass(self, rows: Sequence[Row], *, seed: int | None = None) -> Vectors:
        """The vectors of rows that run together, in order."""
        if seed is not None:
            torch.manual_seed(seed)
        states = self.states([row.ids for row in rows])
        starts = np.cumsum([0, *(len(row.ids) for row in rows[:-1])])
        dense = np.concatenate([row.dense + start for row, start in zip(rows, starts, strict=True)]).astype(np.int64)
        sparse = np.concatenate([row.sparse + start for row, start in zip(rows, starts, strict=True)]).astype(np.int64)
        ids = torch.from_numpy(np.concatenate([row.ids for row in rows]).astype(np.int64)).to(self.device)
        return Vectors(
            self._dense(states, dense, [len(row.ids) for row in rows]),
            self._sparse(states, ids, sparse, query=rows[0].query),
        )

    def states(self, inputs: list[NDArray[np.int32]]) -> Tensor:
        """Last hidden states of the tokens of all inputs, one after another: [t, h], without padding."""
        if self._packed is not None:
            with torch.no_grad():
                return self._packed(inputs, lambda: None)
        ids, mask = padded(inputs)
        ids, mask = ids.to(self.device), mask.to(self.device)
        frozen: AbstractContextManager[object] = nullcontext() if self.trains_backbone else torch.no_grad()
        with frozen, torch.autocast(self.device.type, torch.bfloat16, enabled=self._autocast):
            arguments: dict[str, object] = {"use_cache": False} if self._is_decoder else {}
            if not bool(mask.all()):
                arguments["attention_mask"] = mask
            states: Tensor = self.parts.network(input_ids=ids, **arguments).last_hidden_state
        return states[mask.bool()]

    def _dense(self, states: Tensor, spans: NDArray[np.int64], lengths: Sequence[int]) -> Tensor:
        weights = heads.positions_from_one(lengths) if self.recipe.pooling == "weighted_mean" else None
        pooled = heads.pool_spans(states, spans, weights)
        for projection in self.parts.projections:
            pooled = projection(pooled.to(projection.weight.dtype)).float()
        if self.parts.dense is not None:
            pooled = self.parts.dense(pooled)
        return nn.functional.normalize(pooled, dim=1) if self.recipe.normalise else pooled

    def _sparse(self, states: Tensor, ids: Tensor, spans: NDArray[np.int64], *, query: bool) -> Tensor | None:
        if self.parts.sparse is None:
            return None
        owners, positions = heads.span_positions(spans)
        chosen, at = heads.take_rows(states, positions), torch.from_numpy(positions).to(self.device)
        owned = torch.from_numpy(owners).to(self.device)
        weights: Tensor = self.parts.sparse(chosen, ids[at], owned, len(spans), query=query)
        if query and isinstance(self.parts.sparse, NeighbourHead):
            return weights * self.parts.sparse.frequency  # in the place of an index's document frequencies
        return weights

    def training(self) -> AbstractContextManager[None]:
        """Dropout is active inside, when the network is trained at all."""
        return self._mode(self.trains_backbone)

    def evaluating(self) -> AbstractContextManager[None]:
        """Dropout is not active inside, even within ``training``."""
        return self._mode(False)

    @contextmanager
    def _mode(self, mode: bool) -> Iterator[None]:
        network = self.parts.network
        before = network.training
        network.train(mode)
        try:
            yield
        finally:
            network.train(before)

    @torch.no_grad()
    def encode(self, texts: Sequence[str], side: Side) -> Vectors:
        """The vectors that the tuned model will give, one a text (of a long passage, its beginning).

        Sparse queries are weighed by inverse document frequencies where an index would weigh them.
        """
        built = self.inputs.queries(texts) if side == "query" else self.inputs.passages(texts)
        with self.evaluating():
            return self.forward(built.rows)

    @property
    def dim(self) -> int:
        """Width of the dense vectors."""
        if self.parts.dense is not None:
            return self.parts.dense.out_features
        if self.parts.projections:
            return int(self.parts.projections[-1].weight.shape[0])
        return hidden_width(self.parts.network)

    def vocabulary(self) -> Tensor:
        """The weights of the language model's last layer, [v, h]: the input embeddings where the two are tied.

        Raises:
            TuningFailed: they are not tied, and the checkpoint has no lm_head.
        """
        config = self.parts.network.config.get_text_config()
        if config.tie_word_embeddings:
            weights: Tensor = self.parts.network.get_input_embeddings().weight.detach()
            return weights
        for path in sorted(self.source.checkpoint.folder.glob("*.safetensors")):
            with safe_open(path, framework="pt", device=str(self.device)) as file:
                if "lm_head.weight" in file.keys():  # noqa: SIM118 (it is not a mapping)
                    head: Tensor = file.get_tensor("lm_head.weight")
                    return head
        raise TuningFailed(f"{self.recipe.name} has no lm_head.weight, so its masked tokens cannot be predicted")


def hidden_width(network: Untyped) -> int:
    """The width of a network's last states."""
    return int(getattr(network.config, "hidden_size", 0)) or int(network.get_input_embeddings().embedding_dim)


def _pass_seed(seed: int | None, number: int) -> int | None:
    return None if seed is None else derive_seed(seed, number)


def _in_order(rows: Sequence[Row], plan: Sequence[Sequence[int]], done: Sequence[Vectors]) -> Vectors:
    """The vectors of passes, put back into the order of the rows and their passages."""
    sizes = np.asarray([len(row.dense) for row in rows])
    starts = np.cumsum(sizes) - sizes
    places = np.concatenate([np.arange(starts[i], starts[i] + sizes[i]) for batch in plan for i in batch])
    order = torch.from_numpy(np.argsort(places)).to(done[0].dense.device)
    sparse = [vectors.sparse for vectors in done if vectors.sparse is not None]
    return Vectors(torch.cat([vectors.dense for vectors in done])[order], torch.cat(sparse)[order] if sparse else None)
