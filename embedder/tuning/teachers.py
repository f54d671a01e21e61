"""Who knows better? A cross-encoder or a stronger embedder scores the candidates that a student then learns to score.

Scores are what the teacher gives: a cross-encoder's logits (``teacher_temperature`` 1), or cosines (as small a
temperature as the teacher was trained with, such as 0.02).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from embedder.checkpoint import locate, open_checkpoint
from embedder.embedder import DocumentInput, Embedder
from embedder.errors import InvalidInput, ModelLoadFailed
from embedder.model import choose_device
from embedder.tuning.examples import Example

Teacher = Callable[[Sequence[tuple[str, str]]], Sequence[float]]  # scores of (query, passage)

SCORED_AT_ONCE = 4096  # pairs of one call of the teacher


def with_scores(examples: Sequence[Example], teacher: Teacher) -> list[Example]:
    """The examples with the teacher's scores of their candidates, in order; those without negatives stay as they are.

    Raises:
        InvalidInput: the teacher gave another number of scores, or one that is not finite.
    """
    scored = list(examples)
    taught = [i for i, example in enumerate(examples) if example.negatives]
    pairs = [(examples[i].query, text) for i in taught for text in (examples[i].positive, *examples[i].negatives)]
    scores: list[float] = []
    for start in range(0, len(pairs), SCORED_AT_ONCE):
        batch = pairs[start : start + SCORED_AT_ONCE]
        found = [float(score) for score in teacher(batch)]
        if len(found) != len(batch):
            raise InvalidInput("teacher", len(found), f"it must give one score a pair, which is {len(batch)}")
        scores += found
    position = 0
    for i in taught:
        size = 1 + len(examples[i].negatives)
        scored[i] = replace(examples[i], scores=tuple(scores[position : position + size]))
        position += size
    return scored


def cross_encoder_teacher(model: str, *, device: str | None = None, batch: int = 32) -> Teacher:
    """A teacher that reads query and passage together: any sequence classifier with one output.

    Args:
        model: a folder, or a Hugging Face id; its weights must be safetensors.
        device: None: the first GPU when there is one.
        batch: pairs of one forward pass.

    Raises:
        ModelNotFound: there is no such model.
        ModelLoadFailed: it is no classifier with one output.
        UnsafeWeights: its weights are pickled.
        DeviceUnavailable: no such device.
    """
    import torch
    from sentence_transformers import CrossEncoder

    checkpoint = open_checkpoint(model, locate(model))
    options = {"use_safetensors": True}
    try:
        encoder = CrossEncoder(
            str(checkpoint.folder), device=choose_device(device), local_files_only=True, model_kwargs=options
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelLoadFailed(model, f"it cannot be used as a cross-encoder ({error})") from error
    if encoder.num_labels != 1:
        raise ModelLoadFailed(model, f"it has {encoder.num_labels} outputs, and a teacher has one: the relevance")

    def score(pairs: Sequence[tuple[str, str]]) -> Sequence[float]:
        asked = [list(pair) for pair in pairs]
        logits = encoder.predict(asked, batch_size=batch, activation_fn=torch.nn.Identity(), show_progress_bar=False)
        return [float(logit) for logit in logits]

    return score


def embedder_teacher(embedder: Embedder) -> Teacher:
    """A teacher whose score is the inner product of its dense vectors; of a long passage, the best part's.

    Args:
        embedder: a stronger one; it stays open.
    """

    def score(pairs: Sequence[tuple[str, str]]) -> Sequence[float]:
        texts = list(dict.fromkeys(text for _, text in pairs))
        documents = dict(zip(texts, embedder.embed_documents([DocumentInput("", text) for text in texts]), strict=True))
        queries = embedder.embed_queries([query for query, _ in pairs])
        scores = []
        for query, (_, text) in zip(queries, pairs, strict=True):
            passages = [passage.vectors.dense for passage in documents[text].passages]
            scores.append(float((np.stack(passages) @ query.dense).max()) if passages else 0.0)
        return scores

    return score
