"""What does source code say about itself? Docstrings and doc comments, and the code that they describe."""

from __future__ import annotations

import ast
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import PurePath

import regex

MIN_COMMENT_WORDS, MAX_COMMENT_WORDS = 4, 80
MAX_BODY_LINES = 60
_BRACES = frozenset(
    (".js", ".jsx", ".ts", ".tsx", ".java", ".c", ".h", ".cpp", ".cc", ".hpp", ".go", ".rs", ".cs", ".kt")
)
_DOC_COMMENT = regex.compile(
    r"^[ \t]*(?:/\*\*(?P<block>.*?)\*/|(?P<lines>(?:///?[^\n]*\n[ \t]*)+))\s*?(?P<code>[^\s/*][^\n{};]*\([^{};]*\)[^{};]*\{)",
    regex.MULTILINE | regex.DOTALL,
)
_MARKS = regex.compile(r"^[ \t]*(?:\*|///?!?)[ \t]?", regex.MULTILINE)
_TAG = regex.compile(
    r"^\s*(?:@\w+|:\w+|Args:|Parameters|Returns?:|Raises:|# (?:Examples?|Panics|Errors))", regex.MULTILINE
)


def is_code(path: str) -> bool:
    """Whether a file's ending says that it is source code whose comments can be found."""
    return PurePath(path).suffix in _BRACES | {".py"}


def docstring_pairs(text: str, path: str) -> Iterator[tuple[str, str]]:
    """(What it says that it does, the code that does it), for each described function and class, in order.

    The description is the comment's first part, up to its arguments; the code does not repeat it. Code that cannot be
    parsed gives nothing.
    """
    found = _python(text) if PurePath(path).suffix == ".py" else _braces(text)
    for comment, code in found:
        said = " ".join(_TAG.split(comment, maxsplit=1)[0].split())
        if MIN_COMMENT_WORDS <= len(said.split()) <= MAX_COMMENT_WORDS and code.strip():
            yield said, "\n".join(code.strip("\n").splitlines()[:MAX_BODY_LINES])


def _python(text: str) -> Iterator[tuple[str, str]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in the strings of others' code
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return
    lines = text.splitlines()
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        comment = ast.get_docstring(node)
        if comment and len(node.body) > 1:
            first = node.body[0]
            # The signature above the docstring, and what is below it.
            kept = (
                lines[node.lineno - 1 : first.lineno - 1] + lines[(first.end_lineno or first.lineno) : node.end_lineno]
            )
            yield comment, textwrap.dedent("\n".join(kept))


def _braces(text: str) -> Iterator[tuple[str, str]]:
    for match in _DOC_COMMENT.finditer(text):
        comment = _MARKS.sub("", match["block"] or match["lines"])
        body = _balanced(text, match.end() - 1)
        if body is not None:
            yield comment, textwrap.dedent(match["code"] + text[match.end() : body])


def _balanced(text: str, start: int) -> int | None:
    """One past the brace that closes the one at ``start``; None when there is none. Braces in strings count too."""
    depth = 0
    for i in range(start, min(len(text), start + 20_000)):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            return i + 1
    return None
