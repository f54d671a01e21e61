"""What does the built-in sparse head make of each token where it occurs? Recorded over the first passages of the scale corpus.

The head's forward pass is watched while the embedder embeds them; for every token, what its occurrences give is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.scale_data import Passages
from benchmarks.scale_texts import PASSAGE_TOKENS
from embedder.embedder import DocumentInput, Embedder
from embedder.sparse_heads import COMMON_IDF, NeighbourHead

RECORDED = 2_500  # passages
MOST_USES = 48  # occurrences kept of a token


@dataclass(frozen=True)
class Uses:
    """What tokens give to terms, by recorded occurrence.

    Attributes:
        ptr: int64[v + 1], the occurrences of each token; every token has one.
        amounts: float32[uses, m + 1]: for each of the token's m candidate terms, and last for its own.
        candidates: int32[v, m].
        special: bool[v], tokens that give nothing.
        length: the head's mean length.
    """

    ptr: np.ndarray
    amounts: np.ndarray
    candidates: np.ndarray
    special: np.ndarray
    length: float


def recorded_uses(folder: Path, passages: Passages) -> Uses:
    """Record, or load what was recorded."""
    path = folder / "uses.npz"
    if not path.exists():
        np.savez(path, **vars(_record(passages)))
    with np.load(path) as kept:
        parts = {name: kept[name] for name in kept.files}
    return Uses(**{**parts, "length": float(parts["length"])})


def _record(passages: Passages) -> Uses:
    watched: list[tuple[torch.Tensor, torch.Tensor]] = []
    heads: list[NeighbourHead] = []
    with _watching(watched, heads), Embedder.load("builtin", passage_tokens=PASSAGE_TOKENS) as embedder:
        texts = passages.texts(0, min(RECORDED, len(passages)))
        embedder.embed_documents([DocumentInput("", text) for text in texts])
    head = heads[0]
    ids = torch.cat([ids for ids, _ in watched]).numpy()
    amounts = torch.cat([amounts for _, amounts in watched]).numpy()
    order = np.argsort(ids, kind="stable")
    counts = np.bincount(ids, minlength=head.config.vocabulary)
    rank = np.arange(len(ids)) - np.repeat(np.cumsum(counts) - counts, counts)
    order = order[rank < MOST_USES]
    counts = np.minimum(counts, MOST_USES)
    static = _static_amounts(head, amounts, ids)
    missing = np.flatnonzero(counts == 0)
    all_ids = np.concatenate([ids[order], missing])
    all_amounts = np.concatenate([amounts[order], static[missing]])
    by_token = np.argsort(all_ids, kind="stable")
    ptr = np.concatenate([[0], np.cumsum(np.maximum(counts, 1))])
    candidates = head.candidates[:, : head.config.neighbours].int().numpy()
    return Uses(ptr, all_amounts[by_token], candidates, head.special.numpy(), float(head.mean_length))


@contextmanager
def _watching(watched: list[tuple[torch.Tensor, torch.Tensor]], heads: list[NeighbourHead]) -> Iterator[None]:
    """Keep (ids, amounts) of every document that a NeighbourHead reads."""
    forward = NeighbourHead.forward

    def watch(
        head: NeighbourHead,
        states: torch.Tensor,
        ids: torch.Tensor,
        owners: torch.Tensor,
        n: int,
        *,
        query: bool = False,
    ) -> torch.Tensor:
        if not query:
            heads[:] = [head]
            real = torch.nonzero(head.is_known(ids)).squeeze(1)
            watched.append((ids[real], _amounts(head, states[real], ids[real])))
        return forward(head, states, ids, owners, n, query=query)

    NeighbourHead.forward = watch  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        NeighbourHead.forward = forward  # type: ignore[method-assign]


def _amounts(head: NeighbourHead, states: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """What each token gives to its candidates and to its own term, as in ``NeighbourHead.forward``: float32[t, m + 1]."""
    direction, importance = head.document(states.to(head.decoder.dtype), head.centre)
    return _given(head, direction, importance, ids)


def _given(head: NeighbourHead, direction: torch.Tensor, importance: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    terms = head.candidates[ids, : head.config.neighbours].long()
    cosines = torch.bmm(head.decoder[terms], direction[:, :, None]).squeeze(2).float()
    lends = (head.frequency[ids] > COMMON_IDF)[:, None] & (terms != ids[:, None])
    shared = head.document.shared(cosines) * importance[:, 1:] * lends
    own = head.document.own((direction * head.decoder[ids]).sum(dim=1).float()) * importance[:, 0]
    return torch.cat([shared, own[:, None]], dim=1)


def _static_amounts(head: NeighbourHead, amounts: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """For tokens that were not met: their mean direction in place of a state, scaled to what states give on average."""
    with torch.inference_mode():
        every = torch.arange(head.config.vocabulary)
        importance = torch.full((len(every), 2), float(np.log1p(np.exp(float(head.document.outer.bias[0])))))
        static = _given(head, head.decoder, importance, every).numpy()
    scale = amounts.mean(axis=0, dtype=np.float64) / np.maximum(static[ids].mean(axis=0, dtype=np.float64), 1e-9)
    return (static * scale).astype(np.float32)
