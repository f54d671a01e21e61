"""How are the constants measured by which MoEE's two vectors are standardised?

On a sample of texts, once, and stored beside the checkpoint; from then on they are part of the model and of its fingerprint
(``checkpoint_heads.routing``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from embedder.errors import InvalidInput, InvalidRecipe
from embedder.inputs import InputBuilder
from embedder.source import find_model
from embedder.tokens import load_tokenizer


def standardise(model: str, texts: Sequence[str]) -> Path:
    """Measure mean and deviation of every dimension over a sample of texts, and store them beside the checkpoint.

    Args:
        model: a mixture of experts with a recipe that reads its router, such as "moee:FOLDER".
        texts: the sample; blank ones do not count.

    Returns:
        The file written; an earlier one is replaced.

    Raises:
        InvalidInput: there are fewer than two texts.
        InvalidRecipe: the recipe does not read the router, or the model has none.
        ModelNotFound: there is no such model.
        ModelLoadFailed: its files cannot be used.
    """
    import torch

    from embedder.checkpoint_heads.paths import STANDARDS
    from embedder.checkpoint_heads.routing import measure_standards, routing_weights, write_standards
    from embedder.network import load_network

    source = find_model(model)
    recipe, checkpoint = source.recipe, source.checkpoint
    sample = [text for text in texts if text.strip()]
    if not recipe.router_weight:
        raise InvalidRecipe("router_weight", 0.0, f"{model} does not read the router")
    if len(sample) < 2:
        raise InvalidInput("texts", len(sample), "a deviation needs at least two texts that are not blank")
    builder = InputBuilder(recipe, load_tokenizer(checkpoint, recipe))
    network = load_network(checkpoint, recipe, torch.float32).base_model
    states, routes = [], []
    with torch.inference_mode():
        for text in sample:
            row = builder.passages("", [text])[0].row
            ids, last = torch.from_numpy(row.ids.astype(np.int64))[None], int(row.dense[0, 1]) - 1
            output = network(input_ids=ids, output_router_logits=True, use_cache=False)
            if not getattr(output, "router_logits", None):
                raise InvalidRecipe("router_weight", recipe.router_weight, "the model is no mixture of experts")
            states.append(output.last_hidden_state[0, last])
            routes.append(routing_weights(output.router_logits, torch.tensor([last]))[0])
    path = checkpoint.root / STANDARDS
    write_standards(path, measure_standards(torch.stack(states), torch.stack(routes)))
    return path
