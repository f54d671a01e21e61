"""How do writes leave the processor and the interpreter to queries?

Batches of documents are prepared and committed on the cores where queries run, and under the interpreter lock, which a thread in
a Python loop keeps for milliseconds. So these loops pause after every few documents while a query is being answered; each
pause has an end, so that many clients slow writing down and never stop it (docs/adr/0014 has the figures).

The state is the process's, as the processor is. Readers in other processes are not seen.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

DOCUMENTS = 128  # between two pauses: about a millisecond of a loop
LONGEST_PAUSE_S = 0.002  # about one query

_lock = threading.Lock()
_running = 0
_none_runs = threading.Event()
_none_runs.set()


@contextmanager
def answering() -> Generator[None, None, None]:
    """Work that gives way pauses while the block runs."""
    global _running
    with _lock:
        _running += 1
        _none_runs.clear()
    try:
        yield
    finally:
        with _lock:
            _running -= 1
            if not _running:
                _none_runs.set()


def give_way() -> None:
    """Wait until no query is being answered, at most `LONGEST_PAUSE_S`."""
    _none_runs.wait(LONGEST_PAUSE_S)


def giving_way(items: Iterable[T]) -> Iterator[T]:
    """The items as they are, giving way before every `DOCUMENTS` of them."""
    for place, item in enumerate(items):
        if place % DOCUMENTS == 0:
            give_way()
        yield item
