"""How are libraries kept from warning of what we check ourselves, mean, or do not use?

transformers prints tables of tensors that a class does not read (heads read theirs), and warns of checkpoints that are opened
by another class than their own (recipes say which). torchao, which transformers imports where it is installed, has a line for
each of its GPU libraries that this machine cannot load.
"""

from __future__ import annotations

import logging as standard
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_LOUD_IMPORTS = ("torchao", "torch.utils._pytree")


@contextmanager
def hushed() -> Iterator[None]:
    """Let transformers, and what it imports, log errors alone in this block."""
    loggers = [standard.getLogger(name) for name in _LOUD_IMPORTS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(standard.ERROR)
    import transformers

    logging: Any = transformers.logging
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
