"""How does a collection get vectors that were made in its own context?

A contextual embedding model (CDE) reads some documents of the collection before each text. They are drawn here, and their vectors
become weights of a model that belongs to the collection (`embedder.contextual`): DATA/models/NAME-context-1, -2, ... The
collection is bound to it by the fingerprint like to any model, and gets its vectors by a migration.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from engine.api import CollectionApi
from engine.embedded import EmbeddedEngine
from engine.errors import InvalidArgument

MODELS_FOLDER = "models"
SAMPLE = 4096  # documents that the context is drawn from; a context has a few hundred
SEED = 42
PAGE = 256


def contextual_model(engine: EmbeddedEngine, name: str, model: str, *, seed: int = SEED) -> Path:
    """The model of a collection's own context; `engine.migration.migrate` gives the collection its vectors.

    Args:
        engine: holds the collection.
        name: of the collection.
        model: a contextual checkpoint, by name, folder or hub id.
        seed: of the draw. The same documents and seed give the same vectors.

    Returns:
        Its folder. Keep it: every query needs it.

    Raises:
        CollectionNotFound: there is none of this name.
        InvalidArgument: the collection has no text.
        EmbedderError: the model cannot be loaded, or is not contextual.
    """
    from embedder.contextual import contextualise

    texts = sampled_texts(engine.get_collection(name), seed)
    if not texts:
        raise InvalidArgument("collection", f"{name!r} has no text to draw a context from; index documents first")
    parent = engine.path / MODELS_FOLDER
    parent.mkdir(exist_ok=True)
    folders = (parent / f"{name}-context-{number}" for number in itertools.count(1))
    folder = next(folder for folder in folders if not folder.exists())
    return contextualise(model, texts, folder.resolve(), name=folder.name, seed=seed)


def sampled_texts(collection: CollectionApi, seed: int) -> list[str]:
    """Title and text of up to ``SAMPLE`` documents that have one, drawn evenly, in the order of their ids."""
    random = np.random.default_rng(seed)
    chosen: list[tuple[int, str]] = []  # Algorithm R: every document is in it with the same probability
    after, seen = None, 0
    while True:
        page = collection.scroll(limit=PAGE, after=after)
        for document in page.documents:
            text = f"{document.title} {document.text}".strip()
            if not text:
                continue
            if len(chosen) < SAMPLE:
                chosen.append((seen, text))
            elif (place := int(random.integers(seen + 1))) < SAMPLE:
                chosen[place] = (seen, text)
            seen += 1
        if (after := page.next_after) is None:
            return [text for _, text in sorted(chosen)]
