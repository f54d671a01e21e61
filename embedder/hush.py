"""How are libraries kept from warning of what we check ourselves, mean, or do not use?

transformers prints tables of tensors that a class does not read (heads read theirs), and warns of checkpoints that are opened
by another class than their own (recipes say which). torchao, which transformers imports for training where it is installed,
has a line for each of its GPU libraries that this machine cannot load.
"""

from __future__ import annotations

import logging as standard
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


@contextmanager
def hushed_import() -> Iterator[None]:
    """Let torchao, and torch while it is imported, log errors alone in this block."""
    loggers = [standard.getLogger(name) for name in ("torchao", "torch.utils._pytree")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(standard.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
