"""How does a collection get a contextual model of its own?

Some of its documents are drawn, read once by the first network of a CDE checkpoint (``checkpoint_heads.context``), and their
vectors are written as a tuned model of that checkpoint. A collection that uses it, or migrates to it, is bound to these
vectors by the model's fingerprint, like to any other weights; another draw is another model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from embedder.errors import InvalidInput, InvalidRecipe
from embedder.fingerprint import weights_digest
from embedder.source import find_model
from embedder.tokens import load_tokenizer
from embedder.tuned import TunedModel, write_tuned

SEED = 42  # as mteb draws


def contextualise(model: str, texts: Sequence[str], folder: Path, *, name: str = "", seed: int = SEED) -> Path:
    """Write the contextual model of a collection.

    Args:
        model: a CDE checkpoint, by name, folder or hub id.
        texts: the collection's documents; as many as the recipe's ``context_documents`` are drawn from them, some more
            than once if there are fewer.
        folder: where the model is written; ``Embedder.load`` reads it.
        name: the model's name; "": the folder's.
        seed: of the draw.

    Returns:
        The folder.

    Raises:
        InvalidInput: there is no text.
        InvalidRecipe: the model reads no context.
        ModelNotFound: there is no such model.
        ModelLoadFailed: its files cannot be used.
    """
    import torch

    from embedder.checkpoint_heads.context import CONTEXT, FIRST_BACKBONE, draw, first_stage
    from embedder.network import load_network

    source = find_model(model)
    recipe, checkpoint = source.recipe, source.checkpoint
    if not recipe.context_documents:
        raise InvalidRecipe("context_documents", 0, f"{model} does not read its texts in a context")
    documents = [text for text in texts if text.strip()]
    if not documents:
        raise InvalidInput("texts", len(texts), "a context needs at least one text that is not blank")
    tokenizer = load_tokenizer(checkpoint, recipe)
    chosen = draw(len(documents), recipe.context_documents, seed)
    drawn = sorted(set(chosen))
    prompt = recipe.document_prefix("")
    tokens = tokenizer.tokenize([prompt] * len(drawn), [documents[i].strip() for i in drawn])
    room = recipe.max_tokens - tokenizer.n_special
    network = load_network(checkpoint, replace(recipe, weights_prefix=FIRST_BACKBONE), torch.float32)
    vectors = first_stage(network, checkpoint.folder, [tokenizer.wrap(each.ids[:room]) for each in tokens])
    described = TunedModel(name=name or folder.name, base=model, base_weights=weights_digest(checkpoint, recipe))
    card = f"Context of {recipe.context_documents} of {len(documents)} documents (seed {seed}), read by {model}.\n"
    write_tuned(folder, described, {CONTEXT: vectors[[drawn.index(i) for i in chosen]]}, card=card)
    return folder
