"""How does an answer look, in a terminal and as JSON?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cli.highlight import best_window, matched_spans
from cli.output import printable
from cli.readers.reader import FILE_FIELD

if TYPE_CHECKING:
    from rich.console import Console

    from engine.values import Hit, PassageHit, Query, QueryResult, ScoreDetail

SNIPPET_CHARS = 420
SHOWN_TERMS = 8
MATCH_STYLE = "bold yellow"
MODEL_STAGES = {"embed": "model", "generate": "generator", "rerank": "reranker"}  # stages that are no search


def result_json(result: QueryResult) -> dict[str, object]:
    """The JSON form of ``engine query``."""
    return {
        "hits": [_hit_json(hit) for hit in result.hits],
        "timings_ms": dict(result.timings_ms),
        "plan": dict(result.plan),
    }


def _hit_json(hit: Hit) -> dict[str, object]:
    detail = hit.score_detail
    return {
        "doc_id": hit.doc_id,
        "title": hit.title,
        "score": hit.score,
        "metadata": dict(hit.metadata),
        "passages": [
            {"text": passage.text, "start": passage.start, "end": passage.end, "score": passage.score}
            for passage in hit.passages
        ],
        "score_detail": {
            "dense": detail.dense,
            "sparse": detail.sparse,
            "bm25": detail.bm25,
            **{name: value for name in ("multi", "rerank", "fused") if (value := getattr(detail, name)) is not None},
            "ranks": dict(detail.ranks),
            "terms": [
                {"term": term.term, "leg": term.leg, "contribution": term.contribution}
                | ({"expansion": True} if term.expansion else {})
                for term in detail.terms
            ],
        },
    }


def print_result(
    console: Console, query: Query, result: QueryResult, *, documents: int, explain: bool, full: bool
) -> None:
    """Prints the hits for people; ``documents`` is the size of the collection, told when nothing was found."""
    if not result.hits:
        console.print(_nothing_found(query, documents), markup=False)
    for rank, hit in enumerate(result.hits, start=query.offset + 1):
        console.print(_heading(rank, hit, console.width))
        console.print(_indented(_place(hit)))
        for passage in hit.passages if full else hit.passages[:1]:
            console.print(_indented(_snippet(passage, hit, query.text or "", full)))
        if explain:
            console.print()
            console.print(_indented(_legs_table(hit.score_detail)))
            if hit.score_detail.terms:
                console.print()
                console.print(_indented(_terms_table(hit.score_detail)))
        console.print()
    if explain:
        console.print(_facts_table("plan", result.plan))
        console.print(_facts_table("timings", {name: f"{value:.2f} ms" for name, value in result.timings_ms.items()}))
    elif result.hits:
        console.print(_footer(query, result))


def _nothing_found(query: Query, documents: int) -> str:
    if documents == 0:
        return "The collection is empty. Run `engine index PATH` first."
    hints = []
    if query.filter:
        hints.append("drop or widen --filter")
    if query.score_threshold is not None:
        hints.append("lower --threshold")
    if query.mode in ("bm25", "sparse"):
        hints.append("try --mode hybrid, which also finds other words for the same thing")
    if query.offset:
        hints.append("lower --offset")
    advice = f" You could {' or '.join(hints)}." if hints else ""
    return f"None of the {documents:,} documents matches.{advice}"


def _heading(rank: int, hit: Hit, width: int) -> Text:
    score = f"{hit.score:.3f}"
    title = printable(" ".join((hit.title or _path(hit)).split()))
    line = Text().append(f"{rank:>2}  ", style="bold cyan")
    name = Text(title, style="bold")
    name.truncate(max(20, width - len(score) - 8), overflow="ellipsis")
    line.append_text(name)
    line.append(" " * max(2, width - line.cell_len - len(score) - 1))
    line.append(score, style="green")
    return line


def _place(hit: Hit) -> Text:
    place = Text(overflow="fold")
    if hit.title and hit.title != _path(hit):
        place.append(f"{printable(_path(hit))}  ", style="cyan")
    if hit.passages:
        place.append(f"characters {hit.passages[0].start:,} to {hit.passages[0].end:,}", style="dim")
    return place


def _path(hit: Hit) -> str:
    path = hit.metadata.get(FILE_FIELD) or hit.metadata.get("path")
    return f"{path}  {hit.doc_id}" if path and not hit.doc_id.startswith(str(path)) else hit.doc_id


def _snippet(passage: PassageHit, hit: Hit, question: str, full: bool) -> Text:
    terms = [term.term for term in hit.score_detail.terms] or [word for word in question.split() if len(word) > 2]
    lines_matter = full or "language" in hit.metadata  # source code
    text = printable(passage.text if full else _squeezed(passage.text, lines_matter))
    spans = matched_spans(text, terms)
    begin, end = (0, len(text)) if full else best_window(text, spans, SNIPPET_CHARS, "\n" if lines_matter else " ")
    shown = Text(text)
    for start, stop in spans:
        shown.stylize(MATCH_STYLE, start, stop)
    shown = shown[begin:end]
    shown.rstrip()
    return Text("… " if begin > 0 and not lines_matter else "") + shown + Text(" …" if end < len(text) else "")


def _squeezed(text: str, keep_lines: bool) -> str:
    """The text without the white space that only takes room; ``keep_lines``: all but blank lines."""
    if keep_lines:
        return "\n".join(line.rstrip() for line in text.split("\n") if line.strip())
    return " ".join(text.split())


def _indented(content: Text | Table) -> Padding:
    return Padding(content, (0, 2, 0, 4), expand=False)


def _legs_table(detail: ScoreDetail) -> Table:
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
    for name in ("leg", "score", "rank", "weight"):
        table.add_column(name, justify="left" if name == "leg" else "right")
    for leg in ("dense", "sparse", "bm25", "multi", "rerank", "fused"):
        score = getattr(detail, leg)
        if score is not None:
            rank, weight = detail.ranks.get(leg), detail.weights.get(leg)
            table.add_row(leg, f"{score:.4f}", f"{rank or '-'}", "-" if weight is None else f"{weight:.3f}")
    return table


def _terms_table(detail: ScoreDetail) -> Table:
    terms = sorted(detail.terms, key=lambda term: (-term.contribution, term.term))
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
    for name in ("term", "leg", "adds"):
        table.add_column(name, justify="right" if name == "adds" else "left")
    for term in terms[:SHOWN_TERMS]:
        label = Text(printable(term.term), style=MATCH_STYLE)
        if term.expansion:
            label.append("  added by the model", style="dim")
        table.add_row(label, term.leg, f"{term.contribution:.4f}")
    if len(terms) > SHOWN_TERMS:
        table.add_row(f"and {len(terms) - SHOWN_TERMS} more", "", f"{_sum(terms[SHOWN_TERMS:]):.4f}")
    return table


def _sum(terms: Sequence[object]) -> float:
    return sum(getattr(term, "contribution", 0.0) for term in terms)


def _facts_table(name: str, facts: Mapping[str, object]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for key, value in facts.items():
        table.add_row(f"{name}.{key}", Text(_fact(value)))
    return table


def _fact(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_fact(item)}" for key, item in value.items()) or "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(_fact(item) for item in value) or "-"
    return str(value)


def _footer(query: Query, result: QueryResult) -> Text:
    timings, count = result.timings_ms, len(result.hits)
    spent = {who: timings.get(stage, 0.0) for stage, who in MODEL_STAGES.items()}
    searching = timings.get("total", sum(timings.values())) - sum(spent.values())
    parts = [f"{count} {'hit' if count == 1 else 'hits'}, {query.mode}", f"search {searching:.0f} ms"]
    parts += [
        f"{who} {ms / 1000:.1f} s" if ms >= 1000 else f"{who} {ms:.0f} ms" for who, ms in spent.items() if ms >= 1
    ]
    return Text(", ".join(parts), style="dim")
