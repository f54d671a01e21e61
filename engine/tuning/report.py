"""What did a tuning run do, for people: the training card and its curves?"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.metadata import PackageNotFoundError, version

from engine import __version__
from engine.tuning.judging import Change, JudgedSet
from engine.tuning.material import Material
from engine.tuning.training import CurvePoint

PACKAGES = ("torch", "transformers", "sentence-transformers", "peft")
BARS = "▁▂▃▄▅▆▇█"
WIDTH, HEIGHT, MARGIN = 720, 260, 48
COLOURS = {"loss": "#888888", "dense": "#1f6feb", "sparse": "#d9730d"}
SMOOTHING = 50  # points of the loss curve


@dataclass(frozen=True, slots=True)
class TuneReport:
    """What ``engine tune`` found and did.

    Attributes:
        collection: its name.
        model: the folder of the tuned model; base: the name of the model that it was made from.
        examples: learned ones by stage.
        queries, passages: of the judged set.
        steps: of the training; tokens: read in them; dropped: those of them that did not fit a passage.
        changes: nDCG@10 and the rest before and after, by mode.
        better: whether the fused nDCG@10 surely rose (`engine.tuning.judging.is_better`).
        migrated: whether the collection has the tuned model's vectors now.
        seconds: of this run.
    """

    collection: str
    model: str
    base: str
    examples: Mapping[str, int]
    queries: int
    passages: int
    steps: int
    tokens: int
    dropped: int
    changes: tuple[Change, ...]
    better: bool
    migrated: bool
    seconds: float


def card(
    *,
    collection: str,
    base: str,
    options: Mapping[str, object],
    material: Material,
    judged: JudgedSet,
    curve: Sequence[CurvePoint],
    tokens: int,
    dropped: int,
    changes: Sequence[Change] = (),
) -> str:
    """The training card, Markdown: what was learned, how, and what came of it; without ``changes``, before judging."""
    stages = "\n".join(f"- {name}: {len(examples):,} examples" for name, examples in material.stages)
    chosen = "\n".join(f"- {name}: {value}" for name, value in options.items() if value not in (None, (), []))
    parts = [
        f"# A model tuned on the collection {collection!r}",
        f"Base: `{base}`. Landmark {__version__}, Python {platform.python_version()}, {_versions()}.",
        f"## What was learned\n\n{stages}\n\n{len(curve):,} steps over {tokens:,} tokens; {dropped:,} more did not fit a "
        "training passage.",
        f"## How\n\n{chosen}",
        f"## Curves\n\n![loss and nDCG@10](curves.svg)\n\n{_last_values(curve)}",
    ]
    if changes:
        parts.append(
            f"## Before and after\n\n{len(judged.queries):,} held-out queries among {len(judged.passages):,} passages; "
            "nothing that asks was learned. The interval holds 95 % of 2,000 resampled differences in nDCG@10.\n\n"
            + _table(changes)
        )
    return "\n\n".join(parts) + "\n"


def _table(changes: Sequence[Change]) -> str:
    rows = ["| leg | nDCG@10 before | after | difference | recall@100 before | after |", "|---|---|---|---|---|---|"]
    for change in changes:
        before, after = change.before, change.after
        difference = "new" if before is None else "gone" if after is None else ""
        if before is not None and after is not None:
            difference = f"{after.ndcg_at_10 - before.ndcg_at_10:+.4f} ({change.low:+.4f} to {change.high:+.4f})"
        cells = [
            "" if metrics is None else f"{getattr(metrics, field):.4f}"
            for field in ("ndcg_at_10", "recall_at_100")
            for metrics in (before, after)
        ]
        rows.append(f"| {change.mode} | {cells[0]} | {cells[1]} | {difference} | {cells[2]} | {cells[3]} |")
    return "\n".join(rows)


def _versions() -> str:
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def _last_values(curve: Sequence[CurvePoint]) -> str:
    probes = [point for point in curve if point.probe]
    if not probes:
        return ""
    first, last = probes[0], probes[-1]
    legs = [f"{leg} {first.probe[leg]:.3f} → {value:.3f}" for leg, value in last.probe.items() if leg in first.probe]
    return (
        f"nDCG@10 of the probe, step {first.step} → {last.step}: {', '.join(legs)}. Loss: {sparkline(losses(curve))}."
    )


def losses(curve: Sequence[CurvePoint]) -> list[float]:
    """The loss, as at most SMOOTHING means of consecutive steps."""
    values = [point.loss for point in curve]
    size = max(1, -(-len(values) // SMOOTHING))
    return [sum(part) / len(part) for part in (values[i : i + size] for i in range(0, len(values), size))]


def sparkline(values: Sequence[float]) -> str:
    """Values as bars of text, the least as the lowest."""
    if not values:
        return ""
    low, high = min(values), max(values)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((value - low) * scale)] for value in values)


def plot(curve: Sequence[CurvePoint]) -> str:
    """The curves as an SVG image: the loss against its own axis at the left, nDCG@10 against 0 to 1 at the right."""
    smooth = losses(curve)
    last = max((point.step for point in curve), default=1)
    top = max(smooth, default=1.0) or 1.0
    lines = {"loss": [((i + 1) * last / len(smooth), value / top) for i, value in enumerate(smooth)]}
    for leg in ("dense", "sparse"):
        points = [(float(point.step), point.probe[leg]) for point in curve if leg in point.probe]
        if points:
            lines[leg] = points
    body = [_polyline(name, points, last) for name, points in lines.items()]
    labels = [
        f'<text x="{MARGIN + 120 * i}" y="20" fill="{COLOURS[name]}">{escape(_label(name))}</text>'
        for i, name in enumerate(lines)
    ]
    axes = (
        f'<rect x="{MARGIN}" y="32" width="{WIDTH - 2 * MARGIN}" height="{HEIGHT - 72}" fill="none" stroke="#cccccc"/>'
        f'<text x="4" y="40">{top:.2f}</text><text x="4" y="{HEIGHT - 40}">0</text>'
        f'<text x="{WIDTH - MARGIN + 6}" y="40">1</text><text x="{WIDTH - MARGIN + 6}" y="{HEIGHT - 40}">0</text>'
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle">{last:,} steps</text>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" '
        f'font-size="12">{axes}{"".join(labels)}{"".join(body)}</svg>\n'
    )


def _label(name: str) -> str:
    return name if name == "loss" else f"nDCG@10 {name}"


def _polyline(name: str, points: Sequence[tuple[float, float]], last: int) -> str:
    """Points (step, share of the axis) in the coordinates of the image."""
    width, height = WIDTH - 2 * MARGIN, HEIGHT - 72
    placed = " ".join(f"{MARGIN + step / last * width:.1f},{32 + (1 - share) * height:.1f}" for step, share in points)
    return f'<polyline points="{placed}" fill="none" stroke="{COLOURS[name]}" stroke-width="1.5"/>'
