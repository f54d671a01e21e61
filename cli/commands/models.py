"""What does ``engine models`` do?"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import click

from cli.settings import common_options, current_settings

EXAMPLES = """\b
Examples:
  engine models
  engine index ./docs --model Qwen/Qwen3-Embedding-0.6B --device cuda
  engine index ./docs --model ./my-model-folder
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
    Choice("OWNER/NAME", "a hub id: sentence-transformers models, plain encoders (BERT, E5, BGE, ...)", False),
    Choice("OWNER/NAME", "a decoder LLM (Qwen3-Embedding, ...); a GPU is advised", False),
    Choice("OWNER/NAME", "a SPLADE checkpoint (masked-LM head): adds learned sparse vectors", False),
)


@click.command("models", short_help="List what --model accepts.", epilog=EXAMPLES)
@common_options
def models_command() -> None:
    """List what --model accepts. A collection keeps the model that it was made with; another one is refused."""
    from rich.table import Table

    from cli.output import print_json, stdout_console

    if current_settings().json:
        print_json([asdict(choice) for choice in CHOICES])
        return
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
    for column in ("--model", "what it is", "offline"):
        table.add_column(column, overflow="fold")
    for choice in CHOICES:
        table.add_row(choice.model, choice.what, "yes" if choice.offline else "after the first download")
    stdout_console().print(table)
