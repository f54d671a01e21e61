"""What vectors do passages get that the model has not read? Two students of the model, which cost no forward pass.

Dense: the normalised sum of a vector a token. The table is fitted to the true vectors by ridge regression, first through the
model's own word embeddings, then a correction a token, so that a query's true vector and a passage's student vector live in one
space. Its cosine to the truth on passages that it was not fitted to is printed.

Sparse: the formula of the built-in head (``NeighbourHead``) on token states that are borrowed: each token of a passage takes what
the head made of the same token at one of its true occurrences, chosen by the place. A mean over occurrences would give
every candidate term a little; borrowing keeps the head's own sparsity. Then sums, saturation and pruning as in the head.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import scipy.sparse
from numba import njit
from safetensors.numpy import load_file

from benchmarks.scale_data import Passages
from benchmarks.scale_states import Uses, recorded_uses
from embedder.builtin import model_folder
from embedder.sparse_heads import BM25_B, BM25_K1

HELD_OUT = 0.05  # of the true passages: not fitted, but measured
COMMON = 1e-3  # a token that makes up this share of all weighs half of a rare one
RIDGE = 1e-4  # of the regression through the word embeddings, relative to the mean variance
TOKEN_RIDGE = 1.0  # of the correction, relative to a column's squared length
ROUNDS = 20  # of conjugate gradients, stopped where the held-out cosine falls
PATIENCE = 0.005
CHUNK = 20_000
MAX_TERMS = 256

Integers: TypeAlias = np.ndarray
Floats: TypeAlias = np.ndarray
UseArrays: TypeAlias = tuple[
    np.ndarray, np.ndarray, np.ndarray, np.ndarray, float
]  # the fields of ``Uses``, special first


def make(folder: Path, seed: int) -> dict[str, object]:
    """Write ``dense``, ``sparse_*`` and ``true`` of all passages; what is known of their quality."""
    passages = Passages.load(folder)
    shards = list(_true_shards(folder))
    n_true = sum(len(shard["dense"]) for shard in shards)
    if not n_true:
        raise SystemExit("the step student needs true vectors: run the step embed first")
    dense = np.concatenate([shard["dense"] for shard in shards])
    table, cosine = fit_dense(_counts(passages, 0, n_true), dense.astype(np.float32), seed)
    _write(folder, "true", np.arange(len(passages)) < n_true)
    _write_dense(folder, passages, dense, table)
    uses = recorded_uses(folder, passages)
    similar = _write_sparse(folder, passages, shards, uses)
    return {"n": len(passages), "n_true": n_true, "student_held_out_cosine": round(cosine, 4), **similar}


def _true_shards(folder: Path) -> Iterator[dict[str, np.ndarray]]:
    """The shards of the embed step, without a gap from the first row on."""
    at = 0
    for path in sorted((folder / "shards").glob("*.npz")):
        if int(path.stem) != at:
            return
        with np.load(path) as shard:
            part = {name: shard[name] for name in shard.files}
        at += len(part["dense"])
        yield part


def _write(folder: Path, name: str, array: np.ndarray) -> None:
    """Replace ``name.npy`` at once: who has the old one mapped keeps it."""
    part = folder / f"{name}.part"
    with part.open("wb") as file:
        np.save(file, array)
    part.rename(folder / f"{name}.npy")


def _counts(passages: Passages, start: int, end: int) -> scipy.sparse.csr_array:
    """float32[end - start, vocabulary + 1]: the share of each token in each passage, and 1 (the special tokens)."""
    ptr = passages.token_ptr[start : end + 1] - passages.token_ptr[start]
    ids = passages.tokens[passages.token_ptr[start] : passages.token_ptr[end]].astype(np.int32)
    shares = np.repeat(1.0 / np.maximum(1, np.diff(ptr)), np.diff(ptr)).astype(np.float32)
    counts = scipy.sparse.csr_array((shares, ids, ptr), shape=(end - start, len(_word_embeddings())))
    ones = scipy.sparse.csr_array(np.ones((end - start, 1), np.float32))
    return scipy.sparse.csr_array(scipy.sparse.hstack([counts, ones], format="csr"))


def _word_embeddings() -> np.ndarray:
    """float32[vocabulary, hidden]: the model's own."""
    weights = load_file(model_folder() / "model.safetensors")
    return next(tensor for name, tensor in weights.items() if name.endswith("embeddings.word_embeddings.weight"))


def fit_dense(counts: scipy.sparse.csr_array, vectors: np.ndarray, seed: int) -> tuple[np.ndarray, float]:
    """The token table float32[vocabulary + 1, dim], and its mean cosine to the truth on held-out passages."""
    held = np.random.default_rng(seed).random(len(vectors)) < HELD_OUT
    fitted, targets = counts[~held], vectors[~held]
    common = np.asarray(fitted.mean(axis=0)).ravel()
    words = np.vstack([_word_embeddings(), np.zeros((1, vectors.shape[1]), np.float32)])
    words *= (COMMON / (COMMON + common))[:, None]  # smooth inverse frequency (Arora et al. 2017)
    words = np.hstack([words, np.eye(1, len(words), len(words) - 1, dtype=np.float32).T]).astype(np.float32)
    inputs = fitted @ words
    gram = inputs.T @ inputs
    gram += RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram), dtype=np.float32)
    table = (words @ np.linalg.solve(gram, inputs.T @ targets)).astype(np.float32)
    best = (_cosine(counts[held] @ table, vectors[held]), table)
    print(f"  through the word embeddings: held-out cosine {best[0]:.4f}", flush=True)
    scale = 1.0 / np.sqrt(np.asarray(fitted.multiply(fitted).sum(axis=0)).ravel() + 1e-6)
    scaled = scipy.sparse.csr_array(fitted @ scipy.sparse.diags_array(scale.astype(np.float32)))
    for change in _corrections(scaled, targets - fitted @ table):
        tried = table + scale[:, None].astype(np.float32) * change
        cosine = _cosine(counts[held] @ tried, vectors[held])
        if cosine < best[0] - PATIENCE:
            break
        best = max(best, (cosine, tried), key=lambda pair: pair[0])
    print(f"  with a correction a token: held-out cosine {best[0]:.4f}", flush=True)
    return best[1], best[0]


def _corrections(scaled: scipy.sparse.csr_array, targets: np.ndarray) -> Iterator[np.ndarray]:
    """Conjugate gradients for the ridge regression of targets on columns of unit length; a system a column of targets."""
    residual = scaled.T @ targets
    direction, change = residual.copy(), np.zeros_like(residual)
    norms = (residual * residual).sum(axis=0)
    for _ in range(ROUNDS):
        product = scaled.T @ (scaled @ direction) + TOKEN_RIDGE * direction
        step = norms / np.maximum((direction * product).sum(axis=0), 1e-20)
        change = change + step * direction
        residual = residual - step * product
        renewed = (residual * residual).sum(axis=0)
        direction, norms = residual + (renewed / np.maximum(norms, 1e-20)) * direction, renewed
        yield change


def _cosine(found: np.ndarray, truth: np.ndarray) -> float:
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(truth, axis=1)
    return float(((found * truth).sum(axis=1) / np.maximum(lengths, 1e-12)).mean())


def _write_dense(folder: Path, passages: Passages, true: np.ndarray, table: np.ndarray) -> None:
    part = folder / "dense.part"
    dense = np.lib.format.open_memmap(part, mode="w+", dtype=np.float16, shape=(len(passages), true.shape[1]))
    dense[: len(true)] = true
    for start in range(len(true), len(passages), CHUNK):
        end = min(start + CHUNK, len(passages))
        vectors = _counts(passages, start, end) @ table
        dense[start:end] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    dense.flush()
    part.rename(folder / "dense.npy")


@dataclass
class _SparseParts:
    """The pieces of a growing CSR matrix."""

    counts: list[np.ndarray]
    terms: list[np.ndarray]
    values: list[np.ndarray]

    def add(self, indptr: np.ndarray, terms: np.ndarray, values: np.ndarray) -> None:
        self.counts.append(np.diff(indptr))
        self.terms.append(terms.astype(np.uint32))
        self.values.append(values.astype(np.float16))


def _write_sparse(
    folder: Path, passages: Passages, shards: list[dict[str, np.ndarray]], uses: Uses
) -> dict[str, object]:
    """Write the sparse rows; how the student's differ from the true ones on the first shard."""
    parts = _SparseParts([], [], [])
    for shard in shards:
        parts.add(shard["indptr"], shard["terms"], shard["values"])
    n_true = sum(len(counts) for counts in parts.counts)
    for start in range(n_true, len(passages), CHUNK):
        parts.add(*_sparse(passages, start, min(start + CHUNK, len(passages)), uses))
    _write(folder, "sparse_indptr", np.concatenate([[0], np.cumsum(np.concatenate(parts.counts))]))
    _write(folder, "sparse_terms", np.concatenate(parts.terms))
    _write(folder, "sparse_values", np.concatenate(parts.values))
    check = len(parts.counts[0])
    indptr, _, values = _sparse(passages, 0, check, uses)
    return {
        "sparse_terms_true": round(float(parts.counts[0].mean()), 1),
        "sparse_terms_student": round(float(np.diff(indptr).mean()), 1),
        "sparse_weight_true": round(float(parts.values[0].mean(dtype=np.float64)), 4),
        "sparse_weight_student": round(float(values.mean()), 4),
    }


def _sparse(passages: Passages, start: int, end: int, uses: Uses) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The student's sparse vectors of the passages start to end as CSR."""
    ptr = passages.token_ptr[start : end + 1]
    tokens = np.array(passages.tokens[ptr[0] : ptr[-1]])
    return _borrow(np.array(ptr - ptr[0]), tokens, (uses.special, uses.ptr, uses.amounts, uses.candidates, uses.length))


@njit(nogil=True, cache=True)
def _borrow(ptr: Integers, tokens: Integers, uses: UseArrays) -> tuple[Integers, Integers, Floats]:
    """The head's sums, saturation and pruning over borrowed amounts: CSR, terms ascending."""
    special = uses[0]
    n = ptr.size - 1
    sums = np.zeros(special.size, np.float32)
    indptr = np.zeros(n + 1, np.int64)
    terms = np.empty(n * MAX_TERMS, np.uint16)
    values = np.empty(n * MAX_TERMS, np.float32)
    filled = 0
    for row in range(n):
        touched, length = _add_up(tokens[ptr[row] : ptr[row + 1]], ptr[row], uses, sums)
        norm = BM25_K1 * (1.0 - BM25_B + BM25_B * length / uses[4])
        weights = np.empty(touched.size, np.float32)
        for i in range(touched.size):
            total = sums[touched[i]]
            weights[i] = 0.0 if special[touched[i]] else total * (BM25_K1 + 1.0) / (total + norm)
            sums[touched[i]] = 0.0
        least = np.sort(weights)[touched.size - MAX_TERMS] if touched.size > MAX_TERMS else np.float32(0.0)
        for i in range(touched.size):
            if weights[i] > 0.0 and weights[i] >= least and filled - indptr[row] < MAX_TERMS:
                terms[filled] = touched[i]
                values[filled] = weights[i]
                filled += 1
        indptr[row + 1] = filled
    return indptr, terms[:filled].copy(), values[:filled].copy()


@njit(nogil=True, cache=True)
def _add_up(tokens: Integers, first: int, uses: UseArrays, sums: Floats) -> tuple[Integers, int]:
    """Add the borrowed amounts of one passage into ``sums``; the terms that got any, ascending, and the tokens that count."""
    special, use_ptr, amounts, candidates, _ = uses
    width = candidates.shape[1]
    touched = np.empty(tokens.size * (width + 1), np.int64)
    n_touched, length = 0, 0
    for place in range(tokens.size):
        token = tokens[place]
        if special[token]:
            continue
        length += 1
        choice = (np.uint64(first + place + 1) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(33)
        use = use_ptr[token] + np.int64(choice % np.uint64(use_ptr[token + 1] - use_ptr[token]))
        for j in range(width + 1):
            if amounts[use, j] > 0.0:
                term = np.int64(token) if j == width else np.int64(candidates[token, j])
                if sums[term] == 0.0:
                    touched[n_touched] = term
                    n_touched += 1
                sums[term] += amounts[use, j]
    return np.sort(touched[:n_touched]), length
