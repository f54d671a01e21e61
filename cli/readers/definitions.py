"""Where do the definitions of a source file begin?

By tree-sitter's grammars, for the languages that have one installed; a passage is best begun there. Counted are
functions, classes and types at the top level and inside classes, namespaces and ``impl`` blocks, each with the
comments and decorators right above it; what is defined inside a function belongs to it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

GRAMMARS = {
    "python": ("tree_sitter_python", "language"),
    "javascript": ("tree_sitter_javascript", "language"),
    "typescript": ("tree_sitter_typescript", "language_typescript"),
    "tsx": ("tree_sitter_typescript", "language_tsx"),
    "go": ("tree_sitter_go", "language"),
    "rust": ("tree_sitter_rust", "language"),
    "java": ("tree_sitter_java", "language"),
    "c": ("tree_sitter_c", "language"),
    "cpp": ("tree_sitter_cpp", "language"),
}
DEFINITIONS = (
    "_definition _declaration _item _specifier _signature_item method_definition export_statement template_declaration"
)
SUFFIXES = tuple(DEFINITIONS.split())
LEFT_OUT = frozenset(
    ("import_declaration", "package_declaration", "use_declaration", "extern_crate_declaration", "import_statement")
)
CONTAINERS = (
    "class interface impl mod_item namespace enum trait struct object declaration_list block body export template"
)
CONTAINER_WORDS = tuple(CONTAINERS.split())
WRAPPERS = frozenset(("decorated_definition", "export_statement", "template_declaration"))
"""They begin where the definition in them begins, or above it."""

FUNCTIONS = ("function", "method", "constructor")
ABOVE = ("comment", "decorator", "attribute_item", "annotation")
MIN_LINES = 2
"""A definition of one line (a constant, a forward declaration) is not worth a passage of its own."""

MAX_DEPTH = 12


def definition_starts(text: str, language: str) -> tuple[int, ...]:
    """Character offsets of the lines where definitions begin, ascending; () for a language without a grammar.

    Args:
        text: the source, with Unix line ends.
        language: as in ``cli.readers.source_code.LANGUAGES``.
    """
    if language not in GRAMMARS:
        return ()
    tree = _parser(language).parse(text.encode())
    rows = sorted(set(_definition_rows(tree.root_node)))
    line_starts = [0]
    for line in text.split("\n"):
        line_starts.append(line_starts[-1] + len(line) + 1)
    return tuple(line_starts[row] for row in rows)


@functools.cache
def _parser(language: str) -> Parser:
    from tree_sitter import Language, Parser

    module, function = GRAMMARS[language]
    return Parser(Language(getattr(import_module(module), function)()))


def _definition_rows(root: Node) -> Iterator[int]:
    pending = [(root, 0)]
    while pending:
        parent, depth = pending.pop()
        for node in parent.children:
            if _is_definition(node) and parent.type not in WRAPPERS:
                yield _first_row(node)
            if depth < MAX_DEPTH and _may_hold_definitions(node):
                pending.append((node, depth + 1))


def _is_definition(node: Node) -> bool:
    if not node.is_named or node.type in LEFT_OUT or not node.type.endswith(SUFFIXES):
        return False
    return node.end_point.row - node.start_point.row + 1 >= MIN_LINES


def _may_hold_definitions(node: Node) -> bool:
    if any(word in node.type for word in FUNCTIONS):
        return False
    return any(word in node.type for word in CONTAINER_WORDS) or node.type in WRAPPERS


def _last_row(node: Node) -> int:
    """The last row of a node; Rust's line comments reach to the beginning of the next row."""
    end = node.end_point
    return end.row - 1 if end.column == 0 else end.row


def _first_row(node: Node) -> int:
    """The row where a definition begins, with the comments and decorators that stand right above it."""
    row = node.start_point.row
    above = node.prev_sibling
    while above is not None and above.type.endswith(ABOVE) and _last_row(above) >= row - 1:
        before = above.prev_sibling
        if before is not None and _last_row(before) == above.start_point.row:
            break  # a comment behind code is about that code
        row = above.start_point.row
        above = before
    return row
