"""How is transformers kept from warning of what we check ourselves, or mean?

It prints tables of tensors that a class does not read (heads read theirs), and warns of checkpoints that are opened by another
class than their own (recipes say which).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def hushed() -> Iterator[None]:
    """Let transformers log errors alone in this block."""
    import transformers

    logging: Any = transformers.logging
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
