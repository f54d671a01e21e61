"""How does a batch of token ids run through the network?

Loads a checkpoint with transformers' own classes (remote code is never run, only safetensors are read) and turns rows
into vectors. Together with ``heads`` and ``packed`` this is the only place that knows torch; it is imported when a model
is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from embedder import heads
from embedder.checkpoint import Checkpoint, is_decoder, read_json
from embedder.errors import DeviceOutOfMemory, DeviceUnavailable, InvalidRecipe, ModelLoadFailed
from embedder.packed import PackedBert, pack_bert
from embedder.recipe import Dtype, Recipe
from embedder.sparse_heads import vocabulary_weights
from embedder.tuned import TunedModel
from embedder.tuned_weights import apply_tuned
from embedder.values import PassageVectors, SparseVector
from embedder.windows import Row

Untyped: TypeAlias = Any  # transformers' models, configs and loaders: their types do not survive the Auto classes

_TORCH_DTYPES: dict[Dtype, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


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
        tuned: tuple[Path, TunedModel] | None = None,
    ) -> None:
        """Load the weights onto a device; ``tuned``: the folder of a tuned model of this base, and what it says.

        Raises:
            ModelLoadFailed: the files do not make a model that transformers can load.
            InvalidRecipe: the recipe asks for a head that the checkpoint lacks.
        """
        self.device = device
        self._recipe = recipe
        torch_dtype = _TORCH_DTYPES[dtype]
        network: Untyped = load_network(checkpoint, recipe, torch_dtype).to(device)
        self._vocabulary: nn.Linear | None = None
        if recipe.sparse_head == "mlm_max":
            self._vocabulary = _detach_vocabulary_layer(network, recipe)
        self._head = network if self._vocabulary is not None else None
        self._network: Untyped = network.base_model
        self._projections = [
            load_projection(checkpoint.root / path, torch_dtype, device) for path in recipe.projections
        ]
        self._sparse = None
        if tuned is not None:
            added = apply_tuned(self._network, *tuned, device=device, dtype=torch_dtype)
            self._sparse = added.sparse
            self._projections += [added.projection] if added.projection is not None else []
        self._packed: PackedBert | None = pack_bert(self._network) if device == "cpu" and self._head is None else None
        self.pads = self._packed is None
        self._is_decoder = is_decoder(network.config.model_type)
        if self._is_decoder and recipe.attention == "bidirectional":
            check_bidirectional(lambda inputs: self._states(inputs, _no_pause)[0], checkpoint.name)
        width = int(getattr(network.config, "hidden_size", 0)) or int(network.get_input_embeddings().embedding_dim)
        self.dim = int(self._projections[-1].weight.shape[0]) if self._projections else width
        self.multi_dim = 0

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
        states, vocabulary_states = self._states([row.ids for row in rows], pause)
        starts = np.cumsum([0, *(len(row.ids) for row in rows[:-1])])
        spans = np.concatenate([row.dense + start for row, start in zip(rows, starts, strict=True)]).astype(np.int64)
        pooled = heads.pool_spans(states, spans)
        dense = heads.finish_dense(pooled, self._projections, normalise=self._recipe.normalise)
        sparse: Sequence[SparseVector | None] = [None] * len(dense)
        if self._sparse is not None or self._vocabulary is not None:
            spans = np.concatenate([row.sparse + start for row, start in zip(rows, starts, strict=True)]).astype(
                np.int64
            )
            weights = self._sparse_weights(rows, states if vocabulary_states is None else vocabulary_states, spans)
            sparse = heads.sparse_vectors(weights)
        vectors = iter([PassageVectors(vector, terms) for vector, terms in zip(dense, sparse, strict=True)])
        return [[next(vectors) for _ in row.dense] for row in rows]

    def _sparse_weights(self, rows: Sequence[Row], states: Tensor, spans: NDArray[np.int64]) -> Tensor:
        """Term weights float32[k, v] of the spans, by the tuned head or by the checkpoint's vocabulary layer."""
        owners, positions = heads.span_positions(spans)
        chosen = heads.take_rows(states, positions)
        if self._sparse is None:
            assert self._vocabulary is not None
            counts = (spans[:, 1] - spans[:, 0]).tolist()
            return vocabulary_weights(chosen, counts, self._vocabulary.weight, self._vocabulary.bias)
        ids = torch.from_numpy(np.concatenate([row.ids for row in rows]).astype(np.int64)[positions])
        owned = torch.from_numpy(owners)
        # The scheduler never puts queries and passages into one batch.
        query = rows[0].query
        return self._sparse(chosen, ids.to(self.device), owned.to(self.device), len(spans), query=query)

    def _states(self, inputs: list[NDArray[np.int32]], pause: Callable[[], None]) -> tuple[Tensor, Tensor | None]:
        """Last hidden states of the real tokens, flat [t, h]; and the vocabulary layer's input when there is one."""
        if self._packed is not None:
            return self._packed(inputs, pause), None
        ids, mask = padded(inputs)
        ids, real = ids.to(self.device), mask.to(self.device).bool()
        arguments: dict[str, Any] = {"input_ids": ids}
        # An absent mask lets sdpa use its fastest kernel. Padding is on the right: states of real tokens cannot see it.
        if not bool(mask.all()):
            arguments["attention_mask"] = mask.to(self.device)
        if self._is_decoder:
            arguments["use_cache"] = False
        if self._head is None:
            return self._network(**arguments).last_hidden_state[real], None
        output = self._head(**arguments, output_hidden_states=True)
        return output.hidden_states[-1][real], output.logits[real]


def _no_pause() -> None:
    """For batches that nothing can overtake."""


@torch.inference_mode()
def check_bidirectional(states: Callable[[list[NDArray[np.int32]]], Tensor], name: str) -> None:
    """Change the last of eight tokens, beside a shorter row: the state of the first token must change.

    Some versions of transformers ignore the setting, all of them or only in padded batches, and say nothing.

    Args:
        states: gives the flat states of rows of token ids.
        name: of the model, for the error.

    Raises:
        ModelLoadFailed: the first token does not see the last one.
    """
    short, row, changed = (np.asarray(ids, np.int32) for ids in ([1, 2], range(1, 9), (1, 2, 3, 4, 5, 6, 7, 9)))
    for others in ([], [short]):
        if torch.equal(states([row, *others])[0], states([changed, *others])[0]):
            raise ModelLoadFailed(name, "its attention stays causal with this version of transformers; use 5 or later")


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


def load_network(checkpoint: Checkpoint, recipe: Recipe, dtype: torch.dtype) -> Untyped:
    """The transformers model in evaluation mode, with the recipe's attention."""
    import transformers

    logging: Untyped = transformers.logging
    logging.disable_progress_bar()  # a bar a model on stderr, even for a query
    loader = transformers.AutoModelForMaskedLM if recipe.sparse_head == "mlm_max" else transformers.AutoModel
    try:
        config = transformers.AutoConfig.from_pretrained(
            checkpoint.folder, trust_remote_code=False, local_files_only=True
        )
        _set_attention(config, recipe)
        network = _from_pretrained(loader, checkpoint, config, dtype)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, AttributeError) as error:
        raise ModelLoadFailed(
            checkpoint.name, (str(error).strip().splitlines() or [type(error).__name__])[0]
        ) from error
    if recipe.attention == "bidirectional" and is_decoder(network.config.model_type):
        # transformers 5: the config decides for sdpa and eager, the modules' own flag for flash attention; set both.
        for module in network.modules():
            if hasattr(module, "is_causal"):
                module.is_causal = False
    return network.eval().requires_grad_(False)


def _set_attention(config: Untyped, recipe: Recipe) -> None:
    """Make a causal config bidirectional when the recipe says so; a sliding window would still hide far tokens."""
    if recipe.attention == "bidirectional" and is_decoder(config.model_type) and getattr(config, "is_causal", True):
        config.is_causal = False
        if getattr(config, "sliding_window", None) is not None:
            config.sliding_window = None


def _from_pretrained(loader: Untyped, checkpoint: Checkpoint, config: Untyped, dtype: torch.dtype) -> Untyped:
    """Load with sdpa attention, or eager for the architectures that lack it (gemma2, gptj)."""
    for attention in ("sdpa", "eager"):
        try:
            network, report = loader.from_pretrained(
                checkpoint.folder,
                config=config,
                dtype=dtype,
                attn_implementation=attention,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
        except ValueError as error:
            if attention == "eager" or "attention" not in str(error).lower():
                raise
            continue
        missing = sorted(key for key in report["missing_keys"] if "pooler" not in key)
        if missing:
            raise ModelLoadFailed(checkpoint.name, f"its weights lack {', '.join(missing[:5])}")
        return network
    raise AssertionError("unreachable: eager attention either loads or raises")


def _detach_vocabulary_layer(network: Untyped, recipe: Recipe) -> nn.Linear:
    """Take the vocabulary layer out of a masked-language model, so that its "logits" are that layer's input.

    Raises:
        InvalidRecipe: the checkpoint has no vocabulary layer.
    """
    layer = network.get_output_embeddings()
    if not isinstance(layer, nn.Linear):
        raise InvalidRecipe("sparse_head", recipe.sparse_head, "the checkpoint has no vocabulary layer")
    for name, module in network.named_modules():
        if module is layer:
            parent, _, leaf = name.rpartition(".")
            setattr(network.get_submodule(parent), leaf, nn.Identity())
            return layer
    raise InvalidRecipe("sparse_head", recipe.sparse_head, "the vocabulary layer is not part of the model")


def load_projection(folder: Path, dtype: torch.dtype, device: str) -> heads.Projection:
    """A sentence-transformers Dense module."""
    config = read_json(folder / "config.json") or {}
    activation = str(config.get("activation_function", "Tanh")).rsplit(".", 1)[-1]
    if activation not in heads.ACTIVATIONS:
        raise InvalidRecipe("projections", activation, f"supported activations: {', '.join(heads.ACTIVATIONS)}")
    try:
        tensors = load_file(folder / "model.safetensors")
        weight, bias = tensors["linear.weight"], tensors.get("linear.bias")
    except (OSError, KeyError) as error:
        raise ModelLoadFailed(str(folder), f"the dense layer has no usable model.safetensors ({error})") from error
    moved = None if bias is None else bias.to(device, dtype)
    return heads.Projection(weight.to(device, dtype), moved, activation)


def padded(inputs: list[NDArray[np.int32]]) -> tuple[Tensor, Tensor]:
    """Rows padded on the right with id 0: ids and mask, int64[b, longest]. Masked positions are read by nobody."""
    longest = max(len(ids) for ids in inputs)
    ids = np.zeros((len(inputs), longest), dtype=np.int64)
    mask = np.zeros((len(inputs), longest), dtype=np.int64)
    for i, row in enumerate(inputs):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)
