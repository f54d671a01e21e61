"""What do ``engine check``, ``engine snapshot`` and ``engine restore`` do?"""

from __future__ import annotations

from pathlib import Path

import click

from cli.failures import FAILED
from cli.settings import Settings, common_options, current_settings

CHECK_EXAMPLES = """\b
Examples:
  engine check
  engine check --no-repair --json
"""
SNAPSHOT_EXAMPLES = """\b
Examples:
  engine snapshot ./backup
  engine restore ./backup --data ./restored
"""
RESTORE_EXAMPLES = """\b
Example:
  engine restore ./backup --data ./restored
"""


@click.command("check", short_help="Verify all stored data, and repair what can be.", epilog=CHECK_EXAMPLES)
@click.option("--repair/--no-repair", default=True, show_default=True, help="Rebuild damaged indexes from the store.")
@common_options
def check_command(repair: bool) -> None:
    """Verify every record and every file of the data folder against its checksum.

    Damaged indexes are rebuilt from the store. Exits with 1 when something is damaged and was not repaired: a damaged
    store can only be restored from a snapshot.
    """
    from cli.output import plain_fields, print_json
    from engine.maintenance import check

    settings = current_settings()
    _require_local(settings, "check")
    report = check(settings.data, repair=repair)
    if settings.json:
        print_json({"sound": report.is_sound, **plain_fields(report)})
    else:
        for collection in report.collections:
            counts = f"{collection.documents:,} documents, {collection.passages:,} passages"
            click.echo(f"{collection.name}: {'sound' if not collection.problems else 'damaged'}, {counts}")
            for problem in collection.problems:
                click.echo(f"  damaged: {problem}")
            for problem in collection.repaired:
                click.echo(f"  repaired: {problem}")
    if not report.is_sound:
        raise click.exceptions.Exit(FAILED)


@click.command("snapshot", short_help="Copy the data folder consistently.", epilog=SNAPSHOT_EXAMPLES)
@click.argument("target", type=click.Path(path_type=Path))
@common_options
def snapshot_command(target: Path) -> None:
    """Write a consistent, verified copy of all collections to TARGET, a folder that does not exist yet."""
    from cli.output import plain_fields, print_json
    from engine.maintenance import create_snapshot

    settings = current_settings()
    _require_local(settings, "snapshot")
    info = create_snapshot(settings.data, target)
    if settings.json:
        print_json(plain_fields(info))
    else:
        click.echo(f"Wrote {len(info.collections)} collections to {target}.")


@click.command("restore", short_help="Make a data folder from a snapshot.", epilog=RESTORE_EXAMPLES)
@click.argument("snapshot", type=click.Path(exists=True, file_okay=False, path_type=Path))
@common_options
def restore_command(snapshot: Path) -> None:
    """Verify SNAPSHOT and make the data folder from it. The data folder must not exist yet, or be empty."""
    from cli.output import plain_fields, print_json
    from engine.maintenance import restore_snapshot

    settings = current_settings()
    _require_local(settings, "restore")
    info = restore_snapshot(snapshot, settings.data)
    if settings.json:
        print_json(plain_fields(info))
    else:
        click.echo(f"Restored {len(info.collections)} collections to {settings.data}.")


def _require_local(settings: Settings, command: str) -> None:
    """These commands work on the files of a data folder, which a server would hold."""
    if settings.server:
        raise click.UsageError(f"`engine {command}` works on a data folder; leave --server out.")
    if command != "restore" and not settings.data.is_dir():
        raise click.UsageError(f"There is no data folder {settings.data}; name it with --data.")
