"""What does ``engine migrate`` do?"""

from __future__ import annotations

from dataclasses import replace

import click

from cli.settings import DEFAULT_MODEL, common_options, current_settings

EXAMPLES = """\b
Examples:
  engine migrate                                  to the built-in model of this version
  engine migrate --collection papers --model Qwen/Qwen3-Embedding-0.6B
  engine migrate --model ./tuned --json
  engine migrate --collection papers --model ./cde-small-v2 --contextual
"""


@click.command("migrate", short_help="Embed a collection again with another model.", epilog=EXAMPLES)
@click.option(
    "--contextual",
    is_flag=True,
    help="The model reads documents of the collection before each text (CDE): draw them first.",
)
@common_options
def migrate_command(contextual: bool) -> None:
    """Give every document of a collection the vectors of another model: --model, or the built-in one.

    The stored texts are embedded again beside the old vectors, and the collection changes over at the end, all at once.
    A run that was stopped or killed goes on where it was when it is started again with the same model. While a server
    holds the data folder, let it do the work: `engine serve --migrate-to MODEL`.

    With --contextual a model of the collection's own is written to DATA/models first; name that one with --model to go on
    with a migration that was stopped.
    """
    from cli.output import plain_fields, print_json
    from cli.progress import counting
    from cli.session import open_data
    from engine.contextual import contextual_model
    from engine.migration import migrate

    settings = current_settings()
    settings = replace(settings, model=settings.model or DEFAULT_MODEL)
    with open_data(settings, command="migrate") as engine, counting("documents") as notice:
        model = None
        if contextual:
            model = str(contextual_model(engine, settings.collection, engine.model().name or ""))
        report = migrate(engine, settings.collection, model=model, on_progress=notice)
    if settings.json:
        print_json(plain_fields(report))
    elif report.embedded:
        click.echo(
            f"{report.collection}: {report.documents:,} documents, {report.passages:,} passages now have the vectors of "
            f"{report.model} ({report.embedded:,} embedded in {report.seconds:.1f} s)."
        )
    else:
        click.echo(f"{report.collection} has the vectors of {report.model}; nothing was embedded.")
