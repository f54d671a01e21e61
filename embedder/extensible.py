"""How can a decoder read a document of which most tokens were compressed?

Extensible embedding (the method of Extensible Tokenization, Shao et al. 2024): a compressor, the first few layers of the
model itself, reads the document in chunks; of each chunk the last state of every ``group`` tokens is kept; the model reads
the kept states of all earlier chunks, as if they were token embeddings, and then the tokens of the last chunk. The model
stays frozen and the compressor is trained. Untrained it is a working mechanism and no more: the model has never seen the
states of its own middle layers as inputs. A text of one chunk is read exactly as without it.
"""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from embedder.context_extension import ContextExtension
from embedder.errors import InvalidRecipe, ModelLoadFailed

Untyped: TypeAlias = Any  # transformers' models and configs

COMPRESSOR = "compressor.safetensors"  # beside the checkpoint's weights, once trained


class ExtensibleDecoder(nn.Module):
    """A decoder behind its compressor; stands in for the base model when states are wanted.

    Attributes:
        config: the model's.
        network: the frozen base model.
        compressor: the trainable layers.
    """

    def __init__(self, network: Untyped, extension: ContextExtension) -> None:
        """Build the compressor from the model's own first layers.

        Raises:
            InvalidRecipe: the model has no stack of layers, or fewer than wanted.
        """
        super().__init__()
        found = len(getattr(network, "layers", ()))
        if found < extension.layers:
            raise InvalidRecipe("context_extension.layers", extension.layers, f"the model has {found} decoder layers")
        self.config = network.config
        self.network = network
        self.compressor: Untyped = _first_layers(network, extension.layers)
        self._group = extension.group
        self._chunk = extension.window

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        use_cache: bool = False,
        output_hidden_states: bool = False,
    ) -> SimpleNamespace:
        """The state that stands for each token: int64[b, n], padded on the right, to ``last_hidden_state`` [b, n, h].

        The ``group`` tokens of a kept state share what the model makes of it, so a mean over tokens weighs it by them.

        Raises:
            InvalidRecipe: the states of another layer than the last are wanted.
        """
        if output_hidden_states:
            raise InvalidRecipe(
                "hidden_layer", -2, 'with the "extensible" context_extension only the last layer is read'
            )
        n_rows, longest = input_ids.shape
        lengths = [longest] * n_rows if attention_mask is None else attention_mask.sum(1).tolist()
        inputs = [self._compress(row[:length]) for row, length in zip(input_ids, lengths, strict=True)]
        embeddings = nn.utils.rnn.pad_sequence(inputs, batch_first=True)
        sizes = torch.tensor([len(row) for row in inputs], device=input_ids.device)
        seen = (torch.arange(embeddings.shape[1], device=input_ids.device) < sizes[:, None]).long()
        arguments = {} if bool(seen.all()) else {"attention_mask": seen}
        read = self.network(inputs_embeds=embeddings, use_cache=use_cache, **arguments).last_hidden_state
        states = read.new_zeros(n_rows, longest, read.shape[2])
        for i, length in enumerate(lengths):
            states[i, :length] = read[i, self._read_at(length).to(read.device)]
        return SimpleNamespace(last_hidden_state=states)

    @property
    def base_model(self) -> ExtensibleDecoder:
        """Itself: it has no head."""
        return self

    def get_input_embeddings(self) -> nn.Module:
        """The model's."""
        embeddings: nn.Module = self.network.get_input_embeddings()
        return embeddings

    def _compress(self, ids: Tensor) -> Tensor:
        """What the model reads for one text of int64[n]: kept states, then token embeddings, [m, h]."""
        embedded: Tensor = self.network.get_input_embeddings()(ids)
        n_compressed = self._n_compressed(len(ids))
        if not n_compressed:
            return embedded
        chunks = embedded[:n_compressed].view(-1, self._chunk, embedded.shape[1])
        states = self.compressor(inputs_embeds=chunks, use_cache=False).last_hidden_state
        return torch.cat((states[:, self._group - 1 :: self._group].flatten(0, 1), embedded[n_compressed:]))

    def _n_compressed(self, length: int) -> int:
        """Tokens in the chunks before the last one, which holds 1 to ``window`` tokens."""
        return (length - 1) // self._chunk * self._chunk

    def _read_at(self, length: int) -> Tensor:
        """For each token of a text, the input of the model that stands for it: int64[n]."""
        positions, n_compressed = torch.arange(length), self._n_compressed(length)
        kept = n_compressed // self._group
        return torch.where(positions < n_compressed, positions // self._group, positions - n_compressed + kept)

    def save_compressor(self, folder: Path) -> None:
        """Write the trained compressor beside the checkpoint's weights, where ``extensible`` finds it."""
        tensors = {name: tensor.contiguous() for name, tensor in self.compressor.state_dict().items()}
        save_file(tensors, folder / COMPRESSOR)


def extensible(network: Untyped, extension: ContextExtension, folder: Path) -> ExtensibleDecoder:
    """The decoder behind its compressor, with the trained one of the checkpoint's folder when there is one.

    Raises:
        InvalidRecipe: the model does not have the layers.
        ModelLoadFailed: the folder's compressor is of another model, or has another number of layers.
    """
    decoder = ExtensibleDecoder(network, extension)
    path = folder / COMPRESSOR
    if path.is_file():
        try:
            decoder.compressor.load_state_dict(load_file(path))
        except (OSError, RuntimeError) as error:
            raise ModelLoadFailed(str(path), str(error).strip().splitlines()[0]) from error
    return decoder.eval()


def _first_layers(network: Untyped, n_layers: int) -> Untyped:
    """A copy of the first layers of a model that reads embeddings and leaves its last states without the final norm."""
    config = copy.deepcopy(network.config)
    config.num_hidden_layers = n_layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:n_layers]
    compressor: Untyped = type(network)(config).to(network.device, network.dtype)
    compressor.set_input_embeddings(nn.Identity())  # those of the model are used
    compressor.layers.load_state_dict(network.layers[:n_layers].state_dict())
    compressor.norm = nn.Identity()
    for mine, theirs in zip(compressor.modules(), network.modules(), strict=False):
        if hasattr(theirs, "is_causal") and hasattr(mine, "is_causal"):
            mine.is_causal = theirs.is_causal
    return compressor
