"""What does ``engine models`` do?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from cli.settings import common_options, current_settings

if TYPE_CHECKING:
    from rich.table import Table

    from engine.systems import System, Verification

EXAMPLES = """\b
Examples:
  engine models
  engine models show qwen3-embedding
  engine index ./docs --model qwen3-embedding-0.6b --device cuda
  engine index ./docs --model prompteol:./my-llm-folder
  engine index ./docs --model ./my-model-folder
"""
SHOW_EXAMPLES = """\b
Examples:
  engine models show e5-mistral-7b-instruct
  engine models show ./my-system.toml
"""
VERIFY_EXAMPLES = """\b
Examples:
  engine models verify qwen3-embedding-0.6b
  engine models verify gritlm-7b --folder ./GritLM-7B --device cuda --json
"""
CONVERT_EXAMPLES = """\b
Examples:
  engine models convert ./bge-m3
"""
STANDARDISE_EXAMPLES = """\b
Examples:
  engine models standardise moee:./OLMoE-1B-7B-0924 sample.txt
"""


@dataclass(frozen=True, slots=True)
class Choice:
    """What can be given to ``--model``, and what it is."""

    model: str
    what: str
    offline: bool


CHOICES = (
    Choice("builtin", "all-MiniLM-L6-v2, 384 dimensions, comes with the installation, runs on any CPU", True),
    Choice("none", "no model: BM25 only, or your own vectors (`engine collections create --dim`)", True),
    Choice("FOLDER", "a folder with config.json, tokenizer.json and model.safetensors, as Hugging Face saves it", True),
    Choice("OWNER/NAME", "a hub id: encoders, decoder LLMs (a GPU is advised), SPLADE checkpoints", False),
    Choice("NAME", "a system of the list below: its published checkpoint, used as its authors do", False),
    Choice("NAME:MODEL", "any folder or hub id, used as that system does; FILE.toml:MODEL with a file of yours", False),
)


@click.group(
    "models",
    short_help="List and verify what --model accepts.",
    invoke_without_command=True,
    epilog=EXAMPLES,
)
@common_options
@click.pass_context
def models_command(context: click.Context) -> None:
    """List what --model accepts. A collection keeps the model that it was made with; another one is refused.

    Systems of your own: one file each in ~/.config/landmark/systems, as `engine models show NAME --json` prints them.
    """
    if context.invoked_subcommand is None:
        _list()


@models_command.command("list", short_help="List what --model accepts.", epilog=EXAMPLES)
@click.option("--markdown", is_flag=True, help="Print the page docs/models.md.")
@common_options
def list_command(markdown: bool) -> None:
    """List what --model accepts."""
    if markdown:
        from cli.system_page import system_page
        from engine.systems import all_systems

        click.echo(system_page(all_systems().values()), nl=False)
        return
    _list()


@models_command.command("show", short_help="Describe a system: recipe, example, traps, evidence.", epilog=SHOW_EXAMPLES)
@click.argument("name")
@common_options
def show_command(name: str) -> None:
    """Describe the system NAME: its recipe, an example of what the model reads, what breaks silently, what is known."""
    from cli.output import print_json, stdout_console
    from engine.systems import find_system

    system = find_system(name)
    if current_settings().json:
        print_json(system.as_dict())
        return
    console = stdout_console()
    for line in _description(system):
        console.print(line, markup=False, soft_wrap=True)


@models_command.command("verify", short_help="Compare a checkpoint with what was published.", epilog=VERIFY_EXAMPLES)
@click.argument("name")
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The checkpoint's files.  [default: fetched, or from the local cache]",
)
@common_options
@click.pass_context
def verify_command(context: click.Context, name: str, folder: Path | None) -> None:
    """Load a checkpoint of the system NAME, compute what its authors published, and exit with 1 if a number is off."""
    from cli.output import print_json, stdout_console
    from engine.systems import verify

    settings = current_settings()
    source = str(folder.resolve()) if folder else None
    outcome = verify(name, folder=source, device=settings.device, dtype=settings.dtype)
    if settings.json:
        print_json(asdict(outcome) | {"holds": outcome.holds})
    else:
        console = stdout_console()
        console.print(_comparison_table(outcome))
        console.print(f"{outcome.checkpoint}: {'as published' if outcome.holds else 'NOT as published'}")
    if not outcome.holds:
        context.exit(1)


@models_command.command("convert", short_help="Write safetensors beside pickled weights.", epilog=CONVERT_EXAMPLES)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@common_options
def convert_command(folder: Path) -> None:
    """Write a .safetensors file beside each .bin and .pt file of a checkpoint's FOLDER that has none yet.

    Pickles can run code when they are opened, so no other command opens them. This one rebuilds tensors and nothing else; a
    pickle that holds more is refused.
    """
    from cli.output import print_json
    from engine.systems import convert

    written = convert(folder)
    if current_settings().json:
        print_json({"written": [str(path) for path in written]})
    else:
        click.echo("\n".join(f"wrote {path}" for path in written) or f"There is nothing to convert in {folder}.")


@models_command.command("standardise", short_help="Measure MoEE's constants.", epilog=STANDARDISE_EXAMPLES)
@click.argument("name", metavar="MODEL")
@click.argument("texts", type=click.File(encoding="utf-8"))
@common_options
def standardise_command(name: str, texts: TextIO) -> None:
    """Measure by what the two vectors of a mixture of experts are standardised, on a sample: TEXTS has one text a line.

    They are stored beside the checkpoint and are part of the model from then on: collections made without them are refused.
    """
    from cli.output import print_json
    from cli.session import named_model
    from engine.systems import standardise

    written = standardise(named_model(name) or name, texts.read().splitlines())
    if current_settings().json:
        print_json({"written": str(written)})
    else:
        click.echo(f"wrote {written}")


def _list() -> None:
    """Print the kinds of names and the systems."""
    from cli.output import print_json, stdout_console
    from engine.systems import EVIDENCE, all_systems, broken_systems, user_folder

    systems = all_systems()
    if current_settings().json:
        choices, described = [asdict(choice) for choice in CHOICES], [system.as_dict() for system in systems.values()]
        print_json({"choices": choices, "systems": described, "broken": broken_systems()})
        return
    console = stdout_console()
    console.print(_choice_table())
    console.print()
    console.print(_system_table(systems.values()))
    console.print("\nscore: published retrieval score. * on MTEB eng v2, ° on other sets than the survey's 15 tasks")
    console.print("of BEIR in MTEB v1: not comparable with the others. known, the least known fact of a recipe:")
    console.print(f"{', '.join(f'{tag} {meaning}' for tag, meaning in EVIDENCE.items())}.", soft_wrap=True)
    console.print(f"Files of yours in {user_folder()} are listed too.", soft_wrap=True)


def _choice_table() -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
    for column in ("--model", "what it is", "offline"):
        table.add_column(column, overflow="fold")
    for choice in CHOICES:
        table.add_row(choice.model, choice.what, "yes" if choice.offline else "after the first download")
    return table


def _system_table(systems: Iterable[System]) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("system", "params", "dims", "context", "score", "adds", "known"):
        table.add_column(column, justify="right" if column in ("params", "dims", "context", "score") else "left")

    def family(system: System) -> str:
        return system.facts.family

    for name, members in groupby(sorted(systems, key=family), key=family):
        table.add_row(f"[dim]{name}[/dim]")
        for system in members:
            table.add_row(f"  {system.name}", *_cells(system))
    return table


def _cells(system: System) -> Iterator[str]:
    """The columns of one system after its name."""
    sizes = [published.parameters for published in system.checkpoints if published.parameters]
    dims = [published.dim for published in system.checkpoints if published.dim]
    yield _range([_count(size) for size in (min(sizes), max(sizes))]) if sizes else ""
    yield _range([str(dim) for dim in (min(dims), max(dims))]) if dims else ""
    yield _tokens(system.facts.context)
    yield _score(system)
    heads = {"sparse": "sparse_head", "multi": "multi_head"}
    yield ", ".join(what for what, field in heads.items() if system.recipe.get(field, "none") != "none")
    yield system.weakest_evidence or ""


def _range(ends: list[str]) -> str:
    return ends[0] if ends[0] == ends[1] else "–".join(ends)


def _count(parameters: int) -> str:
    """Parameters as people write them: 596M, 7.1B."""
    return f"{parameters / 1e9:.1f}B" if parameters >= 1e9 else f"{parameters / 1e6:.0f}M"


def _tokens(context: int) -> str:
    return f"{context // 1024}k" if context >= 1024 else str(context or "")


def _score(system: System) -> str:
    if system.facts.retrieval is None:
        return ""
    benchmark = system.facts.benchmark
    mark = "*" if "eng v2" in benchmark else " " if "MTEB v1" in benchmark else "°"
    return f"{system.facts.retrieval:.1f}{mark}"


def _description(system: System) -> Iterator[str]:
    """What ``engine models show`` prints, line by line."""
    facts = system.facts
    yield f"{facts.title} ({facts.family})"
    yield facts.summary
    if facts.usage:
        yield f"use: {facts.usage}"
    for published in system.checkpoints:
        weights = f", weights of {published.weights}" if published.weights else ""
        yield f"checkpoint: {published.id}{weights}{_size(published.parameters, published.dim)}"
    named = {"class": facts.architecture, "context": facts.context, "licence": facts.licence, "tested by": facts.proof}
    yield from (f"{label}: {value}" for label, value in named.items() if value)
    if facts.retrieval is not None:
        yield f"retrieval score: {facts.retrieval} ({facts.benchmark})"
    if system.recipe:
        yield "\nrecipe (what is not named is as the checkpoint's own files say)"
        yield from _fields(system.recipe)
        yield from _examples(system)
    yield from _listed("tasks, for --task", [f"{name}: {said}" for name, said in system.overlaid().tasks])
    yield from _listed("traps", facts.traps)
    never_loaded = ["the published weights were never loaded: tested with random ones"]
    yield from _listed("not verified", [*(() if facts.loaded_here else never_loaded), *facts.not_verified])
    yield from _listed("evidence", [f"{what}: {tag}" for what, tag in facts.evidence.items()])
    yield from _listed("published numbers", _published(system))
    if system.parities or system.terms:
        yield f"\n`engine models verify {system.name}` compares them with what the checkpoint computes."


def _published(system: System) -> Iterator[str]:
    """One line for each matrix and each sparse vector."""
    for parity in system.parities:
        scale = f" times {parity.scale:g}" if parity.scale != 1 else ""
        rows = ", ".join(f"[{', '.join(f'{cell:g}' for cell in row)}]" for row in parity.expected)
        yield f"{parity.checkpoint}, {parity.score}{scale}, within {parity.tolerance:g}: {rows}"
    for entry in system.terms:
        weights = ", ".join(f"{term} {weight:g}" for term, weight in entry.expected.items())
        yield f"{entry.checkpoint}, terms of {entry.text!r}, within {entry.tolerance:g}: {weights}"


def _size(parameters: int, dim: int) -> str:
    parts = [f"{_count(parameters)} parameters" if parameters else "", f"{dim} dimensions" if dim else ""]
    return "".join(f", {part}" for part in parts if part)


def _fields(recipe: Mapping[str, object]) -> Iterator[str]:
    for name, value in recipe.items():
        values = value if isinstance(value, list) else [value]
        if name.endswith("template") and len(values) > 1:
            yield f"  {name}: {len(values)} of them, the vectors are averaged"
            yield from (f"    {each!r}" for each in values)
        else:
            yield f"  {name}: {value!r}"


def _examples(system: System) -> Iterator[str]:
    queries, documents = system.example("how tall is it", "Towers", "It is 330 metres tall.")
    yield "\nwhat the model reads"
    yield f"  query:    {queries[0]!r}"
    yield f"  document: {documents[0]!r}"


def _listed(title: str, lines: Iterable[str]) -> Iterator[str]:
    lines = list(lines)
    if lines:
        yield f"\n{title}"
        yield from (f"  - {line}" for line in lines)


def _comparison_table(outcome: Verification) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("what", overflow="fold")
    for column in ("published", "computed", "difference", "allowed", ""):
        table.add_column(column, justify="right")
    for each in outcome.comparisons:
        numbers = (each.expected, each.got, each.difference, each.tolerance)
        table.add_row(each.what, *(f"{number:.4f}" for number in numbers), "ok" if each.holds else "OFF")
    return table
