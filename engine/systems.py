"""Which embedding systems does the engine know, and does a checkpoint compute what was published?

The public names of ``embedder.catalogue``, ``embedder.system`` and ``embedder.verification``, and what a checkpoint may need
once: safetensors for its pickles, constants to standardise with.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from embedder.catalogue import all_systems, broken_systems, find_system, user_folder
from embedder.system import EVIDENCE, System
from embedder.verification import Comparison, Verification, verify

__all__ = [
    "EVIDENCE",
    "Comparison",
    "System",
    "Verification",
    "all_systems",
    "broken_systems",
    "convert",
    "find_system",
    "standardise",
    "user_folder",
    "verify",
]


def convert(folder: Path) -> list[Path]:
    """See ``embedder.checkpoint_heads.convert``; imports torch."""
    from embedder.checkpoint_heads.convert import convert

    return convert(folder)


def standardise(model: str, texts: Sequence[str]) -> Path:
    """See ``embedder.standards``; imports torch."""
    from embedder.standards import standardise

    return standardise(model, texts)
