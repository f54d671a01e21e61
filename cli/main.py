"""Which commands does ``engine`` have?

The group finds a command's module when the command is looked up; a command's module imports its work when it runs. So
``engine --help`` loads click and nothing heavy.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module

import click

from cli.failures import reported
from cli.settings import common_options, remember_json

COMMANDS: Mapping[str, str] = {
    "index": "indexing:index_command",
    "query": "querying:query_command",
    "eval": "evaluating:eval_command",
    "serve": "serving:serve_command",
    "embed": "embedding:embed_command",
    "collections": "collection_admin:collections_group",
    "get": "documents:get_command",
    "delete": "documents:delete_command",
    "tune": "tuning:tune_command",
    "migrate": "migrating:migrate_command",
    "check": "upkeep:check_command",
    "snapshot": "upkeep:snapshot_command",
    "restore": "upkeep:restore_command",
    "models": "models:models_command",
}


class EngineGroup(click.Group):
    """The group ``engine``: commands by the table above, failures by ``cli.failures``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of the table, which is the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the module of a command and returns the command."""
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name].split(":")
        command = getattr(import_module(f"cli.commands.{module}"), name)
        assert isinstance(command, click.Command)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses the group's own options; a mistake among them is reported like any other."""
        if "--json" in args[: args.index("--")] if "--" in args else "--json" in args:
            remember_json(ctx)
        with reported(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Runs the command and reports its failure."""
        with reported(ctx):
            return super().invoke(ctx)


EXAMPLES = """\b
Begin with:
  engine index ./docs                 index a folder into ./.landmark
  engine query "how does it work"     ask it
  engine query --help                 every command has examples
"""


@click.group(
    cls=EngineGroup,
    name="engine",
    epilog=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="landmark-engine", prog_name="landmark", message="%(prog)s %(version)s")
@common_options
def main() -> None:
    """Landmark: a vector search engine with a built-in embedder.

    Text goes in, ranked passages come out. One process holds the model and the index, offline.
    """


if __name__ == "__main__":
    sys.exit(main())
