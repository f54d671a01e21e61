"""How does a typed error cross the wire, so that the client raises the same one?

The trailing metadata ``landmark-error-bin`` holds a JSON object::

    {"type": "engine.CollectionNotFound", "message": "There is no ...", "fields": {"name": "docs"}, "incident": null}

A tuple among the fields is written as ``{"tuple": [...]}``. gRPC refuses trailers above 8 KiB, so long texts are
shortened.
"""

from __future__ import annotations

import importlib
import json

from engine.errors import RemoteFailure

ERROR_KEY = "landmark-error-bin"
MAX_TEXT_BYTES = 1_000
MAX_PAYLOAD_BYTES = 4_000
# The packages whose errors may cross; named, not imported, because a client needs them only once something failed.
ERROR_HOMES = (
    ("engine.errors", "EngineError"),
    ("embedder.errors", "EmbedderError"),
    ("index.errors", "SearchIndexError"),
)


def error_to_wire(error: Exception, incident: str | None = None) -> bytes:
    """Writes an error with its typed fields, in at most ``MAX_PAYLOAD_BYTES``; fields that do not fit are left out."""
    fields = {name: _to_json(value) for name, value in vars(error).items() if not name.startswith("_")}
    short = {name: value for name, value in fields.items() if len(json.dumps(value)) <= MAX_TEXT_BYTES // 4}
    encoded = b""
    for kept in (fields, short, {}):
        payload = {
            "type": qualified_name(type(error)),
            "message": shorten(str(error)),
            "fields": kept,
            "incident": incident,
        }
        encoded = json.dumps(payload, ensure_ascii=False).encode("utf-8", "replace")
        if len(encoded) <= MAX_PAYLOAD_BYTES:
            break
    return encoded


def error_from_wire(data: bytes, code: str) -> Exception:
    """Reads an error: the same type, message and fields as it had on the server.

    Returns:
        The typed error; RemoteFailure (with ``code``, the gRPC status name) where the type is unknown here.
    """
    try:
        payload = json.loads(data)
        name, message, fields = str(payload["type"]), str(payload["message"]), dict(payload["fields"])
    except (ValueError, KeyError, TypeError):
        return RemoteFailure(code, "the server's error could not be read")
    kind = known_errors().get(name)
    if kind is None:
        return RemoteFailure(code, message)
    # Not through __init__: constructors build their message from arguments that are not all kept as fields.
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    for field, value in fields.items():
        if not field.startswith("_"):
            setattr(error, field, _from_json(value))
    return error


def known_errors() -> dict[str, type[Exception]]:
    """Every typed error of the engine, the embedder and the index, by its qualified name."""
    found: dict[str, type[Exception]] = {}
    for module, name in ERROR_HOMES:
        waiting: list[type[Exception]] = [getattr(importlib.import_module(module), name)]
        while waiting:
            kind = waiting.pop()
            found[qualified_name(kind)] = kind
            waiting.extend(kind.__subclasses__())
    return found


def qualified_name(kind: type[Exception]) -> str:
    """The name of an error on the wire, "package.Class"; packages have errors of the same class name."""
    return f"{kind.__module__.partition('.')[0]}.{kind.__name__}"


def shorten(text: str) -> str:
    """Cuts a text to what fits a trailer, and says so."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= MAX_TEXT_BYTES:
        return encoded.decode()
    return encoded[:MAX_TEXT_BYTES].decode("utf-8", "ignore") + " ... (shortened)"


def _to_json(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return shorten(value)
    if isinstance(value, tuple):
        return {"tuple": [_to_json(item) for item in value]}
    if isinstance(value, list):
        return [_to_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _to_json(item) for key, item in value.items()}
    return shorten(str(value))


def _from_json(value: object) -> object:
    if isinstance(value, dict):
        if value.keys() == {"tuple"} and isinstance(value["tuple"], list):
            return tuple(_from_json(item) for item in value["tuple"])
        return {key: _from_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    return value
