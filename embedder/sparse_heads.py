"""How do token states become a learned sparse vector?

One module, used for training and for inference, gives every passage a non-negative weight for terms of the model's
vocabulary; a document's score is the dot product with the query's vector. The kinds differ in where a weight may come
from:

    token_weight   each of the passage's own tokens, weighed in its context; no expansion
    landmark_lm    the passage's pooled state through the vocabulary: expansion, one projection a passage
    union          token weights, and through the vocabulary the pooled state and the heaviest tokens
    neighbours     soft term frequencies: every token counts for its own term, and a little for the terms that it resembles
    mlm_max        every token through the vocabulary: the dearest, as large as the backbone itself

Queries are short, so every token of a query is projected in landmark_lm and union too.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from embedder.errors import InvalidRecipe
from embedder.sampled_products import row_products, silence_beta_warning

SparseHeadKind = Literal["token_weight", "landmark_lm", "union", "neighbours", "mlm_max"]
SparsePooling = Literal["max", "sum"]
SparseActivation = Literal["relu", "log1p", "log1p_log1p"]
BM25_K1, BM25_B = 1.2, 0.75  # saturation and length normalisation, as in the BM25 leg
COMMON_IDF = 1.0  # a term of a lower inverse document frequency is in more than a third of all passages
IMPORTANCE_SCALE = 4.0  # unit vectors have small coordinates; this brings them into the range where gelu bends
VOCABULARY_CHUNK = 4096  # columns of logits held at a time: at 2,048 tokens, 32 MiB of float32


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseHeadConfig:
    """The sizes of a sparse head.

    Attributes:
        kind: where weights come from; see the module's text.
        hidden: width of the token states.
        vocabulary: terms.
        units: width of the token weights' inner layer.
        salient_every: of a document's tokens, one in so many (the heaviest) goes through the vocabulary in ``union``.
        neighbours: candidate terms of a document's token in ``neighbours``; a query's token has query_neighbours.
        max_terms: a passage keeps its heaviest terms only; 0: all of them.
    """

    kind: SparseHeadKind
    hidden: int
    vocabulary: int
    units: int = 256
    salient_every: int = 12
    neighbours: int = 16
    query_neighbours: int = 32
    max_terms: int = 0

    def __post_init__(self) -> None:
        if self.kind not in get_args(SparseHeadKind):
            raise InvalidRecipe("sparse_head", self.kind, f"it must be one of {', '.join(get_args(SparseHeadKind))}")
        for name in ("hidden", "vocabulary", "units", "salient_every", "neighbours", "query_neighbours"):
            if getattr(self, name) < 1:
                raise InvalidRecipe(f"sparse_head.{name}", getattr(self, name), "it must be at least 1")


class SparseHead(nn.Module):
    """Term weights of passages from token states: what every kind has in common."""

    special: Tensor

    def __init__(self, config: SparseHeadConfig, special_ids: Tensor) -> None:
        """``special_ids``: int64, the terms that always weigh zero."""
        super().__init__()
        self.config = config
        mask = torch.zeros(config.vocabulary, dtype=torch.bool)
        mask[special_ids] = True
        self.register_buffer("special", mask)

    def forward(self, states: Tensor, ids: Tensor, owners: Tensor, n_passages: int, *, query: bool = False) -> Tensor:
        """Weigh every term of the vocabulary for every passage.

        Args:
            states: [t, h], the last hidden states of the passages' tokens; no padding.
            ids: int64[t], the tokens themselves.
            owners: int64[t], ascending: the passage that each token belongs to; every passage has a token.
            n_passages: how many passages there are.
            query: whether they are queries.

        Returns:
            float32[n_passages, v], zero or greater; special tokens always weigh zero.
        """
        raise NotImplementedError

    def _greatest(self, weights: Tensor, terms: Tensor, owners: Tensor, n_passages: int) -> Tensor:
        """float32[n_passages, v]: the greatest of each passage's weights of a term; the three are aligned, any shape."""
        flat = weights.new_zeros(n_passages * self.config.vocabulary)
        places = (owners * self.config.vocabulary + terms).reshape(-1)
        return flat.scatter_reduce(0, places, weights.reshape(-1), "amax").view(n_passages, -1)

    def _pruned(self, weights: Tensor) -> Tensor:
        """The ``max_terms`` heaviest terms of each passage; the rest become zero."""
        limit = self.config.max_terms
        if not 0 < limit < weights.shape[1]:
            return weights
        crowded = torch.nonzero((weights > 0).sum(dim=1) > limit).squeeze(1)
        rows = weights[crowded]
        least = rows.topk(limit, dim=1).values[:, -1:]
        return weights.index_put((crowded,), rows * (rows >= least))


class ProjectionHead(SparseHead):
    """``token_weight``, ``landmark_lm``, ``union`` and ``mlm_max``.

    A token's own weight is ``log(1 + softplus(u . gelu(A state) + c[id]))``, the maximum where an id repeats (uniCOIL,
    Lin and Ma 2021; BGE-M3); ``c`` learns what an inverse document frequency would say. A projected weight is
    ``log(1 + relu(logit))``, the maximum over the projected states (SPLADE, Formal et al. 2021).
    """

    def __init__(self, config: SparseHeadConfig, special_ids: Tensor) -> None:
        super().__init__(config, special_ids)
        hidden, n_terms = config.hidden, config.vocabulary
        if config.kind in ("token_weight", "union"):
            self.inner = nn.Linear(hidden, config.units)
            self.outer = nn.Linear(config.units, 1)
            self.term_bias = nn.Parameter(torch.zeros(n_terms))
        if config.kind != "token_weight":
            self.token_transform = nn.Linear(hidden, hidden)
            self.decoder = nn.Parameter(torch.zeros(n_terms, hidden))
            self.bias = nn.Parameter(torch.zeros(n_terms))
        if config.kind in ("landmark_lm", "union"):
            self.passage_transform = nn.Linear(hidden, hidden)
            self.passage_bias = nn.Parameter(torch.zeros(1))

    def forward(self, states: Tensor, ids: Tensor, owners: Tensor, n_passages: int, *, query: bool = False) -> Tensor:
        """See ``SparseHead.forward``."""
        kind = self.config.kind
        parts = []
        own = self._token_weights(states, ids) if kind in ("token_weight", "union") else None
        if own is not None:
            parts.append(self._greatest(own, ids, owners, n_passages))
        if kind == "mlm_max" or (query and kind != "token_weight"):
            parts.append(self._project(states, ids, owners, n_passages, torch.arange(len(ids), device=ids.device)))
        elif kind == "union" and own is not None:
            chosen = _heaviest(own.detach(), owners, n_passages, self.config.salient_every)
            parts.append(self._project(states, ids, owners, n_passages, chosen))
        if kind in ("landmark_lm", "union"):
            parts.append(self._project_passages(states, owners, n_passages))
        weights = parts[0]
        for part in parts[1:]:
            weights = torch.maximum(weights, part)
        return self._pruned(weights.masked_fill(self.special, 0.0))

    def _token_weights(self, states: Tensor, ids: Tensor) -> Tensor:
        """The weight of each token on its own: float32[t]; zero for special tokens."""
        inner = nn.functional.gelu(self.inner(states.to(self.inner.weight.dtype)))
        raw = self.outer(inner).squeeze(-1).float() + self.term_bias[ids]
        return torch.log1p(nn.functional.softplus(raw)) * ~self.special[ids]

    def _project(self, states: Tensor, ids: Tensor, owners: Tensor, n_passages: int, chosen: Tensor) -> Tensor:
        """The maximum of the chosen tokens' projections: float32[n_passages, v]."""
        chosen = chosen[~self.special[ids[chosen]]]
        inputs = self.token_transform(states[chosen].to(self.decoder.dtype))
        counts = torch.bincount(owners[chosen], minlength=n_passages)
        return vocabulary_weights(inputs, counts.tolist(), self.decoder, self.bias)

    def _project_passages(self, states: Tensor, owners: Tensor, n_passages: int) -> Tensor:
        """The projection of the passages' mean states: float32[n_passages, v]."""
        sums = torch.zeros(n_passages, states.shape[1], device=states.device).index_add(0, owners, states.float())
        means = sums / torch.bincount(owners, minlength=n_passages)[:, None]
        inputs = self.passage_transform(means.to(self.decoder.dtype))
        logits = nn.functional.linear(inputs, self.decoder, self.bias) + self.passage_bias
        return torch.log1p(torch.relu(logits)).float()


class NeighbourHead(SparseHead):
    """``neighbours``: BM25 over soft term frequencies.

    Every term has a direction, where the states of its tokens point on average. A token counts for its own term, the more
    the more typical its use of it, and a little for the terms that are used as it is used here: those of its id's nearest
    terms (``candidates``) whose direction its own resembles. A passage adds its tokens up, and saturates the sums as BM25
    does. A query's sums stay as they are: the index multiplies them by its own inverse document frequencies
    (``Recipe.sparse_idf``). ``frequency`` holds those of the text that the head was made from.

    So a query and a passage meet in a term when each has a token that is used as that term is: a sparse code of late
    interaction (ColBERT, Khattab and Zaharia 2020) that keeps what makes BM25 strong.
    """

    candidates: Tensor
    centre: Tensor
    mean_length: Tensor

    def __init__(self, config: SparseHeadConfig, special_ids: Tensor) -> None:
        super().__init__(config, special_ids)
        hidden, n_terms = config.hidden, config.vocabulary
        most = max(config.neighbours, config.query_neighbours)
        self.register_buffer("candidates", torch.zeros(n_terms, most, dtype=torch.int32))
        self.register_buffer("centre", torch.zeros(hidden))
        self.register_buffer("mean_length", torch.tensor(100.0))
        self.decoder = nn.Parameter(torch.zeros(n_terms, hidden))
        self.frequency = nn.Parameter(torch.ones(n_terms), requires_grad=False)
        self.document, self.query = _Side(hidden, config.units, 1.0), _Side(hidden, config.units, 0.3)
        silence_beta_warning()

    def forward(self, states: Tensor, ids: Tensor, owners: Tensor, n_passages: int, *, query: bool = False) -> Tensor:
        """See ``SparseHead.forward``."""
        lengths = self._lengths(ids, owners, n_passages)
        real = torch.nonzero(self.is_known(ids)).squeeze(1)
        ids, owners = ids[real], owners[real]
        side, count = (self.query, self.config.query_neighbours) if query else (self.document, self.config.neighbours)
        direction, importance = side(states[real].to(self.decoder.dtype), self.centre)
        own = side.own((direction * self.decoder[ids]).sum(dim=1).float()) * importance[:, 0]
        # Words that most passages have lend nothing, and a token's own term is counted already.
        lends = torch.nonzero(self.frequency[ids] > COMMON_IDF).squeeze(1)
        terms = self.candidates[ids[lends], :count].long()
        shared = side.shared(row_products(direction[lends], self.decoder, terms)) * importance[lends, 1:]
        given = torch.nonzero((shared > 0) & (terms != ids[lends, None]) & ~self.special[terms], as_tuple=True)
        places = torch.cat([owners[lends][given[0]] * self.config.vocabulary + terms[given],
                            owners * self.config.vocabulary + ids])  # fmt: skip
        places, inverse = torch.unique(places, return_inverse=True)
        sums = own.new_zeros(len(places)).index_add(0, inverse, torch.cat([shared[given], own]))
        if not query:
            sums = _saturated(sums, lengths[places // self.config.vocabulary])
        flat = own.new_zeros(n_passages * self.config.vocabulary)
        return self._pruned(flat.index_put((places,), sums).view(n_passages, -1))

    def unknown(
        self, ids: Tensor, owners: Tensor, n_passages: int, *, query: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Weigh the terms beyond the vocabulary (``Recipe.sparse_unknown``): each of their tokens counts once.

        ``ids``, ``owners``, ``n_passages`` and ``query`` are those of ``forward``.

        Returns:
            The passage and the id of each term, int64[m] each, ascending; and its weight, float32[m].
        """
        places = torch.nonzero(ids >= self.config.vocabulary).squeeze(1)
        pairs = torch.stack([owners[places], ids[places]], dim=1)
        found, counts = torch.unique(pairs, dim=0, return_counts=True)
        weights = counts.float()
        if not query:
            weights = _saturated(weights, self._lengths(ids, owners, n_passages)[found[:, 0]])
        return found[:, 0], found[:, 1], weights

    def is_known(self, ids: Tensor) -> Tensor:
        """bool[t]: tokens of the vocabulary that stand for text."""
        n_terms = self.config.vocabulary
        return (ids < n_terms) & ~self.special[ids.clamp(max=n_terms - 1)]

    def _lengths(self, ids: Tensor, owners: Tensor, n_passages: int) -> Tensor:
        """float32[n_passages]: the tokens of each passage that stand for text, relative to the mean length."""
        counted = owners[self.is_known(ids) | (ids >= self.config.vocabulary)]
        return torch.bincount(counted, minlength=n_passages) / self.mean_length


def _saturated(sums: Tensor, lengths: Tensor) -> Tensor:
    """BM25's term part of term frequencies ``sums`` in passages of these relative lengths."""
    return sums * (BM25_K1 + 1) / (sums + BM25_K1 * (1 - BM25_B + BM25_B * lengths))


class _Side(nn.Module):
    """How the tokens of documents, or of queries, are read."""

    def __init__(self, hidden: int, units: int, gain: float) -> None:
        super().__init__()
        self.turn = nn.Linear(hidden, hidden, bias=False)
        self.inner = nn.Linear(hidden, units)
        self.outer = nn.Linear(units, 2)
        self.threshold = nn.Parameter(torch.tensor(0.35))
        self.own_threshold = nn.Parameter(torch.tensor(0.35))
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, states: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
        """Unit directions [t, h], and importances float32[t, 2], above zero: for the own term, and for others."""
        centred = states - centre
        direction = nn.functional.normalize(self.turn(centred), dim=1)
        inner = nn.functional.gelu(self.inner(IMPORTANCE_SCALE * nn.functional.normalize(centred, dim=1)))
        return direction, nn.functional.softplus(self.outer(inner)).float()

    def own(self, cosines: Tensor) -> Tensor:
        """How often a token counts for its own term, 0.2 to 2, by the cosine with its direction."""
        return 2 * ((cosines - self.own_threshold) / (1 - self.own_threshold)).clamp(0.1, 1.0).float()

    def shared(self, cosines: Tensor) -> Tensor:
        """How often it counts for other terms, zero below the threshold."""
        return (self.gain * torch.relu(cosines - self.threshold) / (1 - self.threshold)).float()


def vocabulary_weights(
    inputs: Tensor,
    counts: list[int],
    decoder: Tensor,
    bias: Tensor | None,
    *,
    pooling: SparsePooling = "max",
    activation: SparseActivation = "log1p",
    softcap: float = 0.0,
) -> Tensor:
    """SPLADE's weights: over a passage's states, the maximum (or the sum) of ``log(1 + relu(logit))``.

    The logits are computed for a slice of the vocabulary at a time and reduced to one row a passage at once; states
    times vocabulary never exists. A maximum is taken before the activation, which is monotonic.

    Args:
        inputs: [t, h], one passage's states after another's.
        counts: states of each passage; zero gives a row of zeros.
        decoder: [v, h].
        bias: [v], or None.
        pooling: "sum" is SPLADE's first version (Formal et al. 2021).
        activation: "log1p_log1p" takes the logarithm twice (OpenSearch's v3 models), "relu" not at all.
        softcap: c > 0 bends logits to ``c tanh(logit / c)`` first (Gemma 2).

    Returns:
        float32[len(counts), v].
    """
    slices = []
    for start in range(0, len(decoder), VOCABULARY_CHUNK):
        end = start + VOCABULARY_CHUNK
        logits = nn.functional.linear(inputs, decoder[start:end], None if bias is None else bias[start:end])
        nothing = logits.new_zeros(logits.shape[1], dtype=torch.float32)
        parts = torch.split(logits, counts)
        if pooling == "sum":
            rows = [activate(part.float(), activation, softcap).sum(0) if len(part) else nothing for part in parts]
            slices.append(torch.stack(rows))
        elif logits.is_cuda:
            slices.append(greatest_by_segment(logits, counts))
        else:
            slices.append(torch.stack([part.amax(0).float() if len(part) else nothing for part in parts]))
    weights = torch.cat(slices, dim=1)
    return weights if pooling == "sum" else activate(weights, activation, softcap)


def greatest_by_segment(logits: Tensor, counts: list[int]) -> Tensor:
    """The maximum of each passage's logits [t, c], or 0 if that is greater: float32[len(counts), c], in one kernel.

    Hundreds of short passages and dozens of slices of the vocabulary would be thousands of launches otherwise; on a CPU
    the loop is faster.
    """
    lengths = torch.tensor(counts, device=logits.device)
    return torch.segment_reduce(logits, "max", lengths=lengths, axis=0, unsafe=True, initial=0).float()


def activate(logits: Tensor, activation: SparseActivation, softcap: float = 0.0) -> Tensor:
    """Term weights, zero or greater, from logits; see ``vocabulary_weights``."""
    weights = torch.relu(softcap * torch.tanh(logits / softcap) if softcap else logits)
    for _ in range({"relu": 0, "log1p": 1, "log1p_log1p": 2}[activation]):
        weights = torch.log1p(weights)
    return weights


def build_sparse_head(sizes: dict[str, Any], special_ids: Tensor) -> SparseHead:
    """An untrained head of the sizes that a tuned model's description gives.

    Raises:
        InvalidRecipe: a size is unknown or cannot be used.
    """
    known = {field.name for field in fields(SparseHeadConfig)}
    if unknown := sorted(set(sizes) - known):
        raise InvalidRecipe("sparse_head", ", ".join(unknown), f"known sizes: {', '.join(sorted(known))}")
    config = SparseHeadConfig(**sizes)
    return (NeighbourHead if config.kind == "neighbours" else ProjectionHead)(config, special_ids)


def _heaviest(weights: Tensor, owners: Tensor, n_passages: int, every: int) -> Tensor:
    """Positions, ascending, of each passage's heaviest tokens: one in ``every``, at least one; the earlier of equals."""
    lengths = torch.bincount(owners, minlength=n_passages)
    by_weight = torch.argsort(weights, descending=True, stable=True)
    order = by_weight[torch.argsort(owners[by_weight], stable=True)]
    starts = torch.cumsum(lengths, 0) - lengths
    rank = torch.arange(len(weights), device=weights.device) - starts[owners[order]]
    kept: Tensor = order[rank < (lengths // every + 1)[owners[order]]].sort().values
    return kept
