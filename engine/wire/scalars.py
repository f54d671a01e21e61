"""How do JSON values cross the wire with integers and floats kept apart?

Metadata, filter parameters and query plans are maps of ``engine.v1.Value``. Messages are filled in place: a protobuf
map of messages cannot be assigned to.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager

import numpy as np

from engine.errors import InvalidArgument
from engine.v1 import engine_pb2 as pb

Rejection = type[InvalidArgument]
MAX_NESTING = 16  # protobuf itself writes and reads at most 100 messages deep


@contextmanager
def checked_types(what: str, reject: Rejection = InvalidArgument) -> Iterator[None]:
    """Refuses arguments that protobuf refuses: another type, an integer out of range, text that is no Unicode.

    Raises:
        InvalidArgument: (``reject``) names ``what``.
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        raise reject(what, f"has a value of the wrong type or range: {error}") from error


def values_to_wire(
    target: MutableMapping[str, pb.Value], values: Mapping[str, object], field: str, reject: Rejection
) -> None:
    """Fills a map of values from metadata or parameters.

    Args:
        target: the message's map field; ``field`` is its name in errors.
        values: names and their JSON values.
        field: what to blame, say "metadata".
        reject: the error to raise.

    Raises:
        InvalidArgument: (``reject``) a value is no JSON value, an integer leaves int64, or a key is no text.
    """
    if not isinstance(values, Mapping):
        raise reject(field, f"expected a mapping of names to values, got {type(values).__name__}")
    for key, value in values.items():
        try:
            _fill(target[key], value, MAX_NESTING)
        except (TypeError, ValueError) as error:
            raise reject(f"{field}.{key}", f"{value!r:.80} cannot be stored: {error}") from error


def plan_to_wire(target: MutableMapping[str, pb.Value], plan: Mapping[str, object]) -> None:
    """Fills a map of values from the engine's own plan; what JSON does not know becomes text."""
    for key, value in plan.items():
        _fill(target[str(key)], _plain(value, MAX_NESTING), MAX_NESTING)


def plan_from_wire(plan: Mapping[str, pb.Value]) -> dict[str, object]:
    """Reads values that need no check. Keys are sorted: a protobuf map has no order of its own."""
    return {key: value_from_wire(plan[key]) for key in sorted(plan)}


def values_from_wire(values: Mapping[str, pb.Value], field: str, reject: Rejection) -> dict[str, object]:
    """Reads metadata or parameters.

    Raises:
        InvalidArgument: (``reject``) a value has no kind, or is NaN or infinite.
    """
    found = plan_from_wire(values)
    for key, value in found.items():
        if not _is_sound(value):
            raise reject(f"{field}.{key}", "expected finite numbers, and a kind for every value")
    return found


def value_from_wire(value: pb.Value) -> object:
    """Reads one value; ``...`` stands for a value without a kind, which no caller may pass on."""
    kind = value.WhichOneof("kind")
    if kind is None:
        return ...
    if kind == "null_value":
        return None
    if kind == "list_value":
        return [value_from_wire(item) for item in value.list_value.values]
    if kind == "map_value":
        return plan_from_wire(value.map_value.values)
    found: object = getattr(value, kind)
    return found


def _is_sound(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list):
        return all(map(_is_sound, value))
    if isinstance(value, dict):
        return all(map(_is_sound, value.values()))
    return value is not ...


def _fill(target: pb.Value, value: object, levels: int) -> None:
    # bool before int: it is a subclass.
    if isinstance(value, str):
        target.string_value = value
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int):
        target.int_value = value
    elif isinstance(value, float):
        target.double_value = value
    elif value is None:
        target.null_value = 0
    elif levels == 0:
        raise ValueError(f"lists are nested more than {MAX_NESTING} deep")
    elif isinstance(value, list | tuple):
        target.list_value.SetInParent()
        for item in value:
            _fill(target.list_value.values.add(), item, levels - 1)
    else:
        _fill_rare(target, value, levels)


def _fill_rare(target: pb.Value, value: object, levels: int) -> None:
    if isinstance(value, Mapping):
        target.map_value.SetInParent()
        for key, item in value.items():
            _fill(target.map_value.values[key], item, levels - 1)
    elif isinstance(value, np.generic):
        _fill(target, value.item(), levels - 1)
    else:
        raise TypeError(f"{type(value).__name__} is neither text, number, boolean nor a list of them")


def _plain(value: object, levels: int) -> object:
    """Replaces by text what JSON does not know, and what is nested too deep."""
    if value is None or isinstance(value, str | bool | float):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping) and levels:
        return {str(key): _plain(item, levels - 1) for key, item in value.items()}
    if isinstance(value, list | tuple) and levels:
        return [_plain(item, levels - 1) for item in value]
    return str(value)
