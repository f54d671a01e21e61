"""How far is it?

In a terminal: a live line with documents, passages, passages per second and the time left, on stderr. In a pipe: a
plain line every ten seconds. Failures are printed as they happen, the first hundred of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from cli.output import printable, stderr_console

if TYPE_CHECKING:
    from rich.progress import Progress

    from cli.ingestion import Tally

Item = TypeVar("Item")

SHOWN_FAILURES = 100
LINE_EVERY_S = 10.0
REFRESH_S = 0.1


class IndexProgress:
    """Shows a tally while it grows. ``notice`` may be called from any thread, at any rate."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._console = stderr_console()
        self._progress = _bar(self._console.is_terminal)
        self._task = self._progress.add_task("", total=max(1, tally.total_bytes), state="")
        self._lock = threading.Lock()
        self._shown_failures = 0
        self._started = self._refreshed = self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        """Starts the display."""
        self._progress.start()
        self.notice()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the display with the last state."""
        self._refreshed = 0.0
        self.notice()
        hidden = self._tally.failed - self._shown_failures
        if hidden > 0:
            self._console.print(f"... and {hidden:,} more failures", markup=False)
        self._progress.stop()

    def notice(self) -> None:
        """Shows new failures, and the new state if enough time has passed."""
        with self._lock:
            self._show_failures()
            now = time.monotonic()
            if now - self._refreshed < REFRESH_S:
                return
            self._refreshed = now
            self._progress.update(self._task, completed=self._tally.done_bytes, state=self._state(now))
            if not self._console.is_terminal and now - self._last_line > LINE_EVERY_S:
                self._last_line = now
                share = self._tally.done_bytes / max(1, self._tally.total_bytes)
                self._console.print(f"{share:4.0%}  {self._state(now)}", markup=False)

    def settling(self) -> None:
        """Says that the documents are in and the index is being put in order."""
        message = "Settling: sealing the index and choosing the fusion weights."
        self._progress.console.print(message, style="dim", markup=False)

    def _show_failures(self) -> None:
        while self._shown_failures < min(self._tally.failed, SHOWN_FAILURES):
            failure = self._tally.failures[self._shown_failures]
            self._shown_failures += 1
            line = printable(f"failed  {failure.where}: {failure.reason}")
            self._progress.console.print(line, style="red", markup=False, soft_wrap=True)

    def _state(self, now: float) -> str:
        tally = self._tally
        rate = tally.passages / max(now - self._started, 1e-9)
        written = f"  {tally.generated:,} answers generated" if tally.generated else ""
        return f"{tally.documents:,} documents  {tally.passages:,} passages  {rate:,.0f} passages/s{written}"


def _bar(is_terminal: bool) -> Progress:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    return Progress(
        SpinnerColumn(),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.fields[state]}", markup=False),
        TextColumn("left", style="dim"),
        TimeRemainingColumn(compact=True),
        console=stderr_console(),
        transient=True,
        disable=not is_terminal,
    )


@contextmanager
def counting(name: str) -> Iterator[Callable[[int, int], None]]:
    """Gives a function to call with (done, total), which shows them on stderr: a bar, or a plain line now and then."""
    console = stderr_console()
    progress = _bar(console.is_terminal)
    task = progress.add_task("", total=None, state=name)
    last_line = time.monotonic()

    def notice(done: int, total: int) -> None:
        nonlocal last_line
        state = f"{name} {done:,} of {total:,}"
        progress.update(task, completed=done, total=total, state=state)
        if not console.is_terminal and time.monotonic() - last_line > LINE_EVERY_S:
            last_line = time.monotonic()
            console.print(state, markup=False)

    with progress:
        yield notice


def steps(items: Iterable[Item], name: str, total: int) -> Iterator[Item]:
    """Yields the items, with a bar on stderr while it is a terminal."""
    from rich.progress import track

    console = stderr_console()
    return iter(
        track(items, description=name, total=total, console=console, transient=True, disable=not console.is_terminal)
    )
