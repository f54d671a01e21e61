"""What did an ingestion do, in one table or one JSON value?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from cli.ingestion import Tally


def index_json(tally: Tally, seconds: float, interrupted: bool) -> dict[str, object]:
    """The JSON form of ``engine index``.

    ``interrupted`` is there only when the user stopped it, ``generated`` only when a generator wrote something.
    """
    value: dict[str, object] = {
        "documents": {
            **{status: tally.statuses[status] for status in ("added", "updated", "unchanged")},
            "removed": tally.removed,
            "failed": tally.failed,
        },
        "passages": tally.passages,
        "tokens": {"read": tally.read, "embedded": tally.embedded, "dropped": tally.dropped},
        "seconds": round(seconds, 3),
    }
    if tally.generated:
        value["generated"] = tally.generated
    return {**value, "interrupted": True} if interrupted else value


def index_table(tally: Tally, seconds: float) -> Table:
    """The summary for people."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column()
    counts = [f"{tally.statuses[status]:,} {status}" for status in ("added", "updated", "unchanged")]
    counts += [f"{tally.removed:,} removed"] if tally.removed else []
    counts += [f"[red]{tally.failed:,} failed[/red]"] if tally.failed else []
    table.add_row("documents", ", ".join(counts))
    if tally.skipped:
        table.add_row("skipped", skipped_text(tally))
    table.add_row("passages", f"{tally.passages:,}")
    table.add_row("tokens", f"{tally.read:,} read, {tally.embedded:,} embedded, {tally.dropped:,} dropped")
    if tally.generated:
        rate = f", {tally.generated / seconds:,.1f} a second" if seconds > 0 else ""
        table.add_row("generated", f"{tally.generated:,} answers{rate}")
    rate = f", {tally.passages / seconds:,.0f} passages/s" if tally.passages and seconds > 0 else ""
    table.add_row("time", f"{seconds:.1f} s{rate}")
    return table


def skipped_text(tally: Tally) -> str:
    """How many files were skipped, by reason."""
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(tally.skipped.items()))
    count = sum(tally.skipped.values())
    return f"{count:,} {'file' if count == 1 else 'files'} ({reasons})"


def interruption_text(tally: Tally) -> str:
    """What a user who pressed Ctrl-C wants to know."""
    done = tally.statuses["added"] + tally.statuses["updated"]
    return (
        f"Interrupted. {done:,} documents of this run were acknowledged and are kept, with {tally.passages:,} passages. "
        "Run the same command again to go on: what is done is not embedded again."
    )
