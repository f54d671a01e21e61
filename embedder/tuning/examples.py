"""What is there to learn from? Examples, how files hold them, and how some are kept apart for judging.

A file has one JSON object a line (.jsonl, or .jsonl.zst), in one of these shapes:

    {"query": ..., "positive": ...}                                    a pair
    {"query": ..., "positive": ..., "negatives": [...]}                hard negatives; "negative": one of them
    {"query": ..., "positive": ..., "negatives": [...], "scores": [...]}   a teacher's scores: positive, then negatives
    {"sentence1": ..., "sentence2": ..., "score": ...}                 a graded pair

"source" names the dataset; other keys are ignored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import xxhash
import zstandard

from embedder.errors import InvalidExamples, InvalidInput


@dataclass(frozen=True, slots=True)
class Example:
    """A query and what answers it.

    Attributes:
        query: as a user would type it, without prompt.
        positive: the passage that answers it; of a graded pair, the second text (the first is read as a query).
        negatives: passages that do not answer it, though they look as if.
        scores: of a teacher, for the positive and then the negatives; of a graded pair, its grade; else empty.
        source: the dataset; a batch holds examples of one.
    """

    query: str
    positive: str
    negatives: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            InvalidInput: a text is blank, or the number of scores is wrong.
        """
        for name, text in (("query", self.query), ("positive", self.positive)):
            if not text.strip():
                raise InvalidInput(name, text, "it must not be blank")
        if self.scores and len(self.scores) != 1 + len(self.negatives):
            raise InvalidInput(
                "scores", len(self.scores), f"there must be one a candidate, which is {1 + len(self.negatives)}"
            )
        if not all(map(math.isfinite, self.scores)):
            raise InvalidInput("scores", self.scores, "they must be finite")

    @property
    def is_graded(self) -> bool:
        """Whether this is a graded pair: a score and nothing to compare it with but other pairs."""
        return len(self.scores) == 1


def read_examples(path: Path) -> list[Example]:
    """All examples of a file, in order.

    Raises:
        InvalidExamples: the file or a line of it cannot be used; says which line.
    """
    examples = []
    with closing(_lines(path)) as lines:
        for number, line in lines:
            if not line.strip():
                continue
            try:
                examples.append(_parse(json.loads(line)))
            except (ValueError, InvalidInput) as error:
                raise InvalidExamples(str(path), number, str(error)) from error
    if not examples:
        raise InvalidExamples(str(path), 0, "it holds no examples")
    return examples


def split_held_out(examples: Sequence[Example], *, fraction: float, seed: int) -> tuple[list[Example], list[Example]]:
    """Keep some examples apart: (to learn from, to judge by), each in the given order.

    Examples that share a query or a positive are kept together, so nothing that judges was learned. Which side a group
    falls on depends on its texts and the seed alone, not on the order of the examples.

    Args:
        examples: all of them.
        fraction: of the examples to keep apart, about; between 0 and 1.
        seed: another seed keeps others apart.

    Raises:
        InvalidInput: the fraction leaves one side without examples.
    """
    groups = _connected(examples)
    members: dict[int, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    ranked = sorted(members.values(), key=lambda own: min(_rank(examples[i], seed) for i in own))
    wanted, held = fraction * len(examples), set[int]()
    for own in ranked:
        # Large groups (one passage with many queries) may be taken only while they do not overshoot by half of them.
        if len(held) + len(own) / 2 <= wanted:
            held.update(own)
    if not 0 < len(held) < len(examples):
        raise InvalidInput("fraction", fraction, f"of {len(examples)} examples it leaves one side empty")
    learn = [example for i, example in enumerate(examples) if i not in held]
    return learn, [examples[i] for i in sorted(held)]


def _lines(path: Path) -> Generator[tuple[int, str], None, None]:
    """The lines of a file, plain or compressed, with their numbers from 1."""
    try:
        with (
            zstandard.open(path, "rt", encoding="utf-8")
            if path.suffix == ".zst"
            else path.open(encoding="utf-8") as file
        ):
            yield from enumerate(file, start=1)
    except (OSError, UnicodeDecodeError, zstandard.ZstdError) as error:
        raise InvalidExamples(str(path), 0, f"it cannot be read ({error})") from error


def _parse(fields: object) -> Example:
    """One line's example.

    Raises:
        InvalidInput: a key is missing or has a value of the wrong kind.
    """
    if not isinstance(fields, dict):
        raise InvalidInput("line", type(fields).__name__, "it must be a JSON object")
    source = _text(fields, "source") if "source" in fields else ""
    if "sentence1" in fields:
        grade = (_number("score", fields.get("score")),)
        return Example(_text(fields, "sentence1"), _text(fields, "sentence2"), (), grade, source)
    negatives = fields.get("negatives", fields.get("negative", []))
    listed = [negatives] if isinstance(negatives, str) else negatives
    if not isinstance(listed, list) or not all(isinstance(text, str) for text in listed):
        raise InvalidInput("negatives", listed, "it must be a list of strings")
    scores = fields.get("scores") or []
    if not isinstance(scores, list):
        raise InvalidInput("scores", scores, "it must be a list of numbers")
    numbers = tuple(_number("scores", score) for score in scores)
    return Example(_text(fields, "query"), _text(fields, "positive"), tuple(listed), numbers, source)


def _text(fields: dict[str, object], key: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str):
        raise InvalidInput(key, value, "it must be a string")
    return value


def _number(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput(key, value, "it must be a number")
    return float(value)


def _connected(examples: Iterable[Example]) -> list[int]:
    """The group of each example: those that share a query or a positive, directly or through others."""
    parents: list[int] = []
    first: dict[tuple[str, str], int] = {}

    def root(i: int) -> int:
        while parents[i] != i:
            parents[i] = parents[parents[i]]
            i = parents[i]
        return i

    for i, example in enumerate(examples):
        parents.append(i)
        for key in (("query", example.query), ("positive", example.positive)):
            other = root(first.setdefault(key, i))
            parents[max(root(i), other)] = min(root(i), other)
    return [root(i) for i in range(len(parents))]


def _rank(example: Example, seed: int) -> int:
    return int(xxhash.xxh3_64_intdigest(f"{example.query}\0{example.positive}".encode("utf-8", "replace"), seed=seed))
