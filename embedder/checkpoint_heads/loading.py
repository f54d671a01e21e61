"""What do a recipe's heads make of the token states of a batch?

Loads the heads that a recipe names, once, and applies them. The order is that of the model: adapters change the network
itself, the token head its states, the rest reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedder import heads
from embedder.checkpoint import Checkpoint
from embedder.checkpoint_heads import adapters, routing, term_queries, token_heads
from embedder.checkpoint_heads.content_words import content_words, may_expand
from embedder.checkpoint_heads.files import Linear, read_linear, read_tensors
from embedder.checkpoint_heads.latent_attention import HEADS, LatentAttention, load_latent_attention
from embedder.checkpoint_heads.paths import STANDARDS, find_adapter, idf_table
from embedder.checkpoint_heads.vocabulary import NextTokenOptions, VocabularyLayer, next_token_vectors
from embedder.recipe import Recipe
from embedder.sparse_heads import vocabulary_weights
from embedder.tokens import TextTokenizer
from embedder.values import SparseVector

Untyped: TypeAlias = Any  # transformers' models


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Rows of one batch, flat.

    Attributes:
        ids: int64[t], the tokens of all rows, one after another.
        dense: int64[k, 2], the positions of each dense vector, in ``ids``.
        sparse: int64[k, 2], those of each sparse vector and of each multi-vector.
    """

    ids: NDArray[np.int64]
    dense: NDArray[np.int64]
    sparse: NDArray[np.int64]


class CheckpointHeads:
    """The heads of one checkpoint. Every method may be called from several threads at once."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        recipe: Recipe,
        network: Untyped,
        vocabulary: VocabularyLayer | None,
        tokenizer: TextTokenizer,
    ) -> None:
        """Load what the recipe names; adapters are merged into the network, or put beside its layers.

        Args:
            checkpoint: where the heads lie.
            recipe: which heads there are.
            network: the backbone, on its device.
            vocabulary: the output layer, for heads that project states to terms.
            tokenizer: of the checkpoint.

        Raises:
            ModelLoadFailed: a head's files are missing, damaged, pickled, or do not fit.
            InvalidRecipe: a head does not fit what the recipe says.
        """
        self._recipe = recipe
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        weight = network.get_input_embeddings().weight
        device, dtype = str(weight.device), weight.dtype
        n_terms = weight.shape[0] if vocabulary is None else max(weight.shape[0], vocabulary.weight.shape[0])
        self._special = token_heads.dropped_ids(tokenizer.special_ids, n_terms)
        self._token_head: LatentAttention | None = None
        if recipe.token_head == "latent_attention":
            settings = checkpoint.config.get("latent_attention_config") or {}
            count = int(settings.get("num_cross_heads", HEADS))
            self._token_head = load_latent_attention(checkpoint.folder, count, device=device, dtype=dtype)
        self._weigh: Linear | None = None
        if recipe.sparse_head == "token_linear":
            self._weigh = read_linear(
                checkpoint.folder, token_heads.SPARSE_PLACES, "sparse head", device=device, dtype=dtype
            )
        self._multi: Linear | None = None
        if recipe.multi_head == "token_linear":
            self._multi = read_linear(
                checkpoint.folder, token_heads.MULTI_PLACES, "multi-vector head", device=device, dtype=dtype
            )
        self._standards: routing.Standards | None = None
        if recipe.router_weight and (checkpoint.root / STANDARDS).is_file():
            self._standards = routing.read_standards(checkpoint.root / STANDARDS, device)
        self._expandable = _expandable(tokenizer, n_terms) if recipe.sparse_expansion else None
        self._term_weights = _term_weights(checkpoint, recipe, tokenizer, self._special)
        self._sides = _adapt(checkpoint, recipe, network)

    @property
    def multi_dim(self) -> int:
        """Width of the tokens' vectors; 0 when there are none."""
        return 0 if self._multi is None else len(self._multi.weight)

    @property
    def changes_network(self) -> bool:
        """Whether the network must run by its own layers, since adapters add to them."""
        return self._sides is not None

    def side(self, *, query: bool) -> AbstractContextManager[None]:
        """Run the network with the adapter of queries, or of documents."""
        return nullcontext() if self._sides is None else self._sides.of("query" if query else "document")

    def token_states(self, states: Tensor) -> Tensor:
        """The states [t, h] as they are pooled."""
        return states if self._token_head is None else self._token_head(states)

    def routed(self, pooled: Tensor, router_logits: Sequence[Tensor], batch: Batch) -> Tensor:
        """Pooled states float32[k, h] beside the routing of the last pooled token: float32[k, h + layers * experts]."""
        positions = torch.from_numpy(batch.dense[:, 1] - 1).to(pooled.device)
        weights = routing.routing_weights(router_logits, positions)
        return routing.combine(pooled, weights, self._recipe.router_weight, self._standards)

    def sparse_vectors(self, states: Tensor, batch: Batch) -> list[SparseVector]:
        """The sparse vectors of a batch, by the recipe's head.

        Args:
            states: [t, h], the vocabulary layer's inputs where the head projects, else the token states.
            batch: the tokens, and where they are read.
        """
        recipe = self._recipe
        if recipe.sparse_head == "token_linear":
            assert self._weigh is not None
            vectors = token_heads.weigh_tokens(states, batch.ids, batch.sparse, self._weigh, self._special)
        elif recipe.sparse_head == "next_token":
            return self._next_token(states, batch)
        else:
            layer = self._layer()
            chosen = heads.take_rows(states, heads.span_positions(batch.sparse)[1])
            weights = vocabulary_weights(
                chosen,
                (batch.sparse[:, 1] - batch.sparse[:, 0]).tolist(),
                layer.weight,
                layer.bias,
                pooling=recipe.sparse_pooling,
                activation=recipe.sparse_activation,
                softcap=layer.softcap,
            )
            if recipe.sparse_query != "model":
                weights[:, self._special[: weights.shape[1]]] = 0.0  # no query can ask for them
            vectors = heads.sparse_vectors(weights)
        return [_limited(vector, recipe.sparse_terms, recipe.sparse_scale) for vector in vectors]

    def multi_vectors(self, states: Tensor, batch: Batch) -> list[NDArray[np.float32]]:
        """A unit vector for every token but the first of each text: float32[m, d] each."""
        assert self._multi is not None
        return token_heads.token_vectors(states, batch.sparse, self._multi)

    def term_queries(self, batch: Batch) -> list[SparseVector] | None:
        """The queries' own terms, for models whose queries need no network; None for the others."""
        if self._term_weights is None:
            return None
        parts = [batch.ids[start:end] for start, end in batch.sparse.tolist()]
        return [term_queries.term_query(part, self._term_weights) for part in parts]

    def _next_token(self, states: Tensor, batch: Batch) -> list[SparseVector]:
        recipe = self._recipe
        options = NextTokenOptions(
            terms=recipe.sparse_terms,
            scale=recipe.sparse_scale,
            expansion=recipe.sparse_expansion,
            activation=recipe.sparse_activation,
        )
        last = heads.take_rows(states, batch.dense[:, 1] - 1)
        texts = [self._tokenizer.text_of(batch.ids[start:end]) for start, end in batch.sparse.tolist()]
        allowed = [self._own_terms(text) for text in texts]
        return next_token_vectors(last, allowed, self._layer(), options, self._expandable)

    def _own_terms(self, text: str) -> NDArray[np.int64]:
        """The distinct tokens of a text's content words, each tokenised on its own."""
        words = content_words(text)
        if not words:
            return np.empty(0, np.int64)
        ids = np.concatenate([tokens.ids for tokens in self._tokenizer.tokenize([""] * len(words), words)])
        distinct = np.unique(ids.astype(np.int64))
        return distinct[~self._special[distinct]]

    def _layer(self) -> VocabularyLayer:
        assert self._vocabulary is not None, "the model gives the output layer to heads that project"
        return self._vocabulary


def _adapt(checkpoint: Checkpoint, recipe: Recipe, network: Untyped) -> adapters.SideAdapters | None:
    """Merge the adapters that every text shares; those that differ between the sides are added at run time."""
    shared = [find_adapter(checkpoint, name) for name in recipe.adapters]
    if recipe.query_adapter and recipe.query_adapter == recipe.document_adapter:
        shared.append(find_adapter(checkpoint, recipe.query_adapter))
    adapters.merge_all(network, shared)
    names: dict[adapters.Side, str] = {"query": recipe.query_adapter, "document": recipe.document_adapter}
    if recipe.query_adapter == recipe.document_adapter:
        return None
    return adapters.SideAdapters(
        network, {side: find_adapter(checkpoint, name) for side, name in names.items() if name}
    )


def _term_weights(
    checkpoint: Checkpoint, recipe: Recipe, tokenizer: TextTokenizer, special: NDArray[np.bool_]
) -> NDArray[np.float32] | None:
    """What each term of a query weighs, for models whose queries need no network."""
    if recipe.sparse_query == "binary":
        return term_queries.binary_weights(special)
    if recipe.sparse_query == "idf":
        path = idf_table(checkpoint)
        if path.suffix == ".json":
            return term_queries.read_table(path, tokenizer.vocabulary, special)
        weights = np.zeros(len(special), dtype=np.float32)
        stored = read_tensors(path, {"weight": "weight"}).get("weight", torch.zeros(0)).float().numpy()[: len(special)]
        weights[: len(stored)] = stored
        return np.where(special, 0.0, weights).astype(np.float32)
    return None


def _expandable(tokenizer: TextTokenizer, n_terms: int) -> NDArray[np.bool_]:
    """bool[n_terms]: the terms that PromptReps may add, read without the mark of a leading space."""
    mask = np.zeros(n_terms, dtype=np.bool_)
    for token, term in tokenizer.vocabulary.items():
        mask[term] = may_expand(token[1:] if token[:1] in ("▁", "Ġ", " ") else token)
    return mask


def _limited(vector: SparseVector, terms: int, scale: float) -> SparseVector:
    """The heaviest terms only, and weights in whole units; 0 leaves either as it is."""
    ids, weights = vector.ids, vector.weights
    if 0 < terms < len(ids):
        kept = np.sort(np.argsort(-weights, kind="stable")[:terms])
        ids, weights = ids[kept], weights[kept]
    if scale:
        weights = np.rint(weights * scale).astype(np.float32)
        ids, weights = ids[weights > 0], weights[weights > 0]
    return SparseVector(ids, weights)
