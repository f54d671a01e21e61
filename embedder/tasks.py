"""What may a query ask for? Instructions by name, as data.

``tasks = "e5"`` in a recipe names a table of ``tasks.toml``; a table ``[recipe.tasks]`` holds instructions of its own.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, TypeAlias

from embedder.errors import InvalidInput, InvalidRecipe

Tasks: TypeAlias = tuple[tuple[str, str], ...]  # (name, instruction) pairs, by name


def tasks_of(value: object) -> Tasks:
    """The tasks that a recipe's table holds, or names.

    Raises:
        InvalidRecipe: there is no table of this name, or a task is no text.
    """
    if isinstance(value, str):
        return _packaged(value)
    if not isinstance(value, Mapping):
        raise InvalidRecipe("tasks", value, "it must be a table of instructions, or the name of one")
    for name, instruction in value.items():
        if not isinstance(instruction, str) or not instruction.strip() or set(name) & set(" \n\t"):
            raise InvalidRecipe("tasks", {name: instruction}, "a name without spaces, and an instruction as text")
    return tuple(sorted(value.items()))


def instruction_of(task: str, tasks: Tasks) -> str:
    """The instruction of a task, by its name; any other text is an instruction itself.

    Raises:
        InvalidInput: it is one word and no task's name, where tasks have names.
    """
    known = dict(tasks)
    if task in known or not known or len(task.split()) > 1:
        return known.get(task, task)
    names = ", ".join(known)
    raise InvalidInput(
        "task", task, f"there is no task of this name; name one of {names}, or say in words what is asked"
    )


@cache
def _packaged(name: str) -> Tasks:
    """A table of ``tasks.toml``: instructions, or those of the table that it is ``like``, with an ``end``."""
    tables: dict[str, Any] = tomllib.loads(
        resources.files("embedder").joinpath("tasks.toml").read_text(encoding="utf-8")
    )
    if name not in tables:
        raise InvalidRecipe("tasks", name, f"there are no such tasks; there are {', '.join(tables)}")
    table = tables[name]
    if "like" not in table:
        return tasks_of(table["tasks"])
    end = table["end"]
    return tuple((task, said.removesuffix(end) + end) for task, said in _packaged(table["like"]))
