"""What does ``engine tune`` do?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.failures import CommandFailure
from cli.settings import common_options, current_settings

if TYPE_CHECKING:
    from rich.table import Table

    from engine.tuning.judging import Scores
    from engine.tuning.report import TuneReport
    from engine.tuning.training import CurvePoint

# engine.tuning.options.Trained, Objective and MINUTES, repeated so that --help imports nothing; a test compares them.
TRAINED = ("heads", "layers", "lora")
OBJECTIVES = ("contrastive", "joint", "distillation")
MINUTES = 20.0
EXTRA = ("peft", "sentence_transformers")

EXAMPLES = """\b
Examples:
  engine tune                                          on the documents alone
  engine tune --pairs questions.jsonl --minutes 30     on questions with the passages that answer them
  engine tune --train heads --minutes 5 --json
  engine tune --pairs scored.jsonl --objective distillation
  engine tune --model ./my-decoder --bidirectional --mntp-steps 500 --device cuda
"""


@click.command("tune", short_help="Train the collection's model on its own documents.", epilog=EXAMPLES)
@click.option(
    "--pairs",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="JSON lines with query, positive and, if you like, negatives and scores.  [default: made from the documents]",
)
@click.option(
    "--minutes", type=click.FloatRange(0, min_open=True), default=MINUTES, show_default=True, help="To train."
)
@click.option("--steps", type=click.IntRange(1), help="Train so many steps instead.")
@click.option(
    "--lr", type=click.FloatRange(0, min_open=True), help="Peak learning rate.  [default: by what is trained]"
)
@click.option(
    "--train",
    "trained",
    type=click.Choice(TRAINED),
    help="What is trained.  [default: heads on a processor, lora on a GPU or with --bidirectional]",
)
@click.option("--objective", type=click.Choice(OBJECTIVES), default="contrastive", show_default=True, help="The loss.")
@click.option(
    "--sparse-head",
    metavar="KIND",
    help="Train a new learned sparse head: token_weight, landmark_lm, union, neighbours, mlm_max.",
)
@click.option("--matryoshka", metavar="DIM,...", help="Make these prefixes of the dense vector good, too.")
@click.option("--bidirectional", is_flag=True, help="Let a decoder look both ways.")
@click.option(
    "--mntp-steps", type=click.IntRange(0), default=0, help="Masked next token prediction first, for decoders."
)
@click.option("--generator", metavar="MODEL", help="A causal language model that writes queries for the passages.")
@click.option("--negatives", type=click.IntRange(0), default=1, show_default=True, help="Hard negatives an example.")
@click.option("--batch", type=click.IntRange(2), default=32, show_default=True, help="Examples a step.")
@click.option(
    "--passage-tokens",
    type=click.IntRange(8),
    default=128,
    show_default=True,
    help="Longest training passage; the rest of a longer one is not learned.",
)
@click.option(
    "--held-out",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.1,
    show_default=True,
    help="Part of the examples that judges the result and is not learned.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of everything random.")
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR", help="The tuned model.  [default: in --data]")
@click.option("--force", is_flag=True, help="Use the result even when it is not surely better.")
@common_options
def tune_command(matryoshka: str | None, output: Path | None, **choices: object) -> None:
    """Teach the collection's model its own documents, and use the result if it answers held-out queries better.

    Measures before and after, by leg and fused, on queries that were not learned. When the fused nDCG@10 surely rose
    (in four of five resamplings of the queries), the collection is migrated to the tuned model; otherwise everything stays
    as it is, and the tuned model lies in its folder. A run that was stopped goes on when it is started again with the same
    options.
    """
    from cli.output import plain_fields, print_json, stdout_console
    from cli.session import open_data
    from engine.tuning.options import TuneOptions
    from engine.tuning.pipeline import tune

    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        raise CommandFailure(
            f'Tuning needs {" and ".join(missing)}: run `pip install "landmark-engine[tune]"`.', kind="MissingExtra"
        )
    settings = current_settings()
    options = TuneOptions(matryoshka=_dims(matryoshka), **choices)  # type: ignore[arg-type]  # click checked them
    with open_data(settings, command="tune") as engine, _watcher() as watcher:
        report = tune(engine, settings.collection, options, watcher, output=output)
    if settings.json:
        print_json(plain_fields(report))
        return
    console = stdout_console()
    console.print(_table(report))
    console.print(_verdict(report), markup=False)


def _dims(text: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no list of numbers", param_hint="--matryoshka") from error


class _TerminalWatcher:
    """Shows stages as lines, and the training and the migration as bars, on stderr."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        from cli.output import stderr_console

        self._console = stderr_console()
        self.progress = Progress(
            BarColumn(bar_width=24),
            TextColumn("{task.fields[state]}", markup=False),
            TimeRemainingColumn(compact=True),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self.progress.add_task("", total=None, state="")
        self._curve: list[CurvePoint] = []

    def stage(self, text: str) -> None:
        self.progress.console.print(text, style="dim", markup=False)
        self.progress.reset(self._task, total=None, state="")

    def step(self, point: CurvePoint) -> None:
        from engine.tuning.report import losses, sparkline

        self._curve.append(point)
        state = f"{point.stage}  step {point.step:,} of {point.n_steps:,}  loss {point.loss:.3f}"
        self.progress.update(self._task, completed=point.step, total=point.n_steps, state=state)
        if point.probe:
            legs = "  ".join(f"{leg} {value:.3f}" for leg, value in point.probe.items())
            line = f"{state} {sparkline(losses(self._curve)[-24:])}  nDCG@10 {legs}"
            self.progress.console.print(line, markup=False, soft_wrap=True)

    def scores(self, title: str, scores: Scores) -> None:
        modes = "  ".join(f"{mode} {metrics.ndcg_at_10:.3f}" for mode, metrics in scores.metrics.items())
        self.progress.console.print(f"nDCG@10 {title}: {modes}", markup=False)

    def documents(self, done: int, total: int) -> None:
        self.progress.update(self._task, completed=done, total=total, state=f"documents {done:,} of {total:,}")


@contextmanager
def _watcher() -> Iterator[_TerminalWatcher]:
    watcher = _TerminalWatcher()
    with watcher.progress:
        yield watcher


def _table(report: TuneReport) -> Table:
    from rich.table import Table

    caption = f"{report.queries:,} held-out queries among {report.passages:,} passages; 95 % interval of the difference"
    table = Table(title="nDCG@10", caption=caption, title_justify="left", caption_justify="left")
    table.add_column("leg")
    for name in ("before", "after", "difference"):
        table.add_column(name, justify="right")
    for change in report.changes:
        before, after = change.before, change.after
        difference = ""
        if before is not None and after is not None:
            gained = after.ndcg_at_10 - before.ndcg_at_10
            difference = f"{gained:+.4f} ({change.low:+.4f} to {change.high:+.4f})"
        figures = ["-" if metrics is None else f"{metrics.ndcg_at_10:.4f}" for metrics in (before, after)]
        table.add_row(change.mode, *figures, difference)
    return table


def _verdict(report: TuneReport) -> str:
    where = f"The tuned model and its card are in {report.model}."
    if report.better:
        return f"{report.collection} now has the vectors of the tuned model. {where}"
    if report.migrated:
        return f"The result is not surely better; {report.collection} was migrated to it as --force asks. {where}"
    return f"The result is not surely better, so {report.collection} keeps its model. {where}"
