"""Which values may TOML and JSON hold for a recipe's field, by its annotation?"""

from __future__ import annotations

from typing import Any

from embedder.errors import InvalidRecipe

# A field of choices, whose annotation is not here, holds a string.
_TYPES: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "int | None": (int,),
    "float": (int, float),
    "Template": (str, tuple),
    "tuple[str, ...]": (tuple,),
    "tuple[str, ...] | None": (tuple,),
    "tuple[int, ...]": (tuple,),
}


def checked_value(name: str, annotation: str, value: object) -> Any:  # noqa: ANN401 - annotations are checked at run time
    """A field's value from a table, with tuples for its arrays.

    Raises:
        InvalidRecipe: it has another type.
    """
    if isinstance(value, list):
        value = tuple(value)
    allowed = _TYPES.get(annotation, (str,))
    items = value if isinstance(value, tuple) else ()
    item = int if "int" in annotation else str
    wrong = not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed)
    if wrong or not all(type(each) is item for each in items):
        raise InvalidRecipe(name, value, f"it must be of the type {annotation}")
    return value
