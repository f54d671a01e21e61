"""Which embedding systems does the engine know, and does a checkpoint compute what was published?

The public names of ``embedder.catalogue``, ``embedder.system`` and ``embedder.verification``.
"""

from __future__ import annotations

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
    "find_system",
    "user_folder",
    "verify",
]
