"""How does one JSON object become a document?

``_id`` (else ``id``) is the document's id, ``title`` and ``text`` are what is searched, and every other field is
metadata. Metadata holds scalars and lists of scalars, so a nested object is flattened (``author.name``), an object
called ``metadata`` is merged as it is (the BEIR and LangChain layout), nulls are left out, and a list that holds lists
or objects is kept as JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import NoReturn

from cli.readers.reader import FILE_FIELD, ROOT_FIELD, SourceFile
from engine.values import Document, Scalar

MetadataValue = Scalar | list[Scalar]


class MalformedRow(Exception):
    """A row is not JSON, or not a document; the message is the reason, for the user."""


def parse_json(text: str | bytes) -> object:
    """Parses strict JSON: NaN and Infinity are refused.

    Raises:
        MalformedRow: with the position of the mistake.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        raise MalformedRow(f"malformed JSON: {error.msg} (at {place})") from error
    except UnicodeDecodeError as error:
        raise MalformedRow(f"not UTF-8 (at byte {error.start + 1})") from error
    except RecursionError as error:
        raise MalformedRow("malformed JSON: nested too deep") from error
    except ValueError as error:  # an integer of more than 4,300 digits
        raise MalformedRow(f"malformed JSON: {error}") from error


def document_from_row(row: object, file: SourceFile, default_id: str) -> Document:
    """Makes a document of a parsed JSON value.

    Args:
        row: the value.
        file: where it stands.
        default_id: its id when it names none.

    Raises:
        MalformedRow: it is not an object, or its id, title or text has the wrong type, or it has neither title nor
            text.
    """
    if not isinstance(row, dict):
        raise MalformedRow(f"expected a JSON object, found {_kind(row)}")
    fields = dict(row)
    id_field = next((name for name in ("_id", "id") if fields.get(name) not in (None, "")), None)
    doc_id = default_id if id_field is None else _id(id_field, fields.pop(id_field))
    title, text = (_words(name, fields.pop(name, None)) for name in ("title", "text"))
    if not title.strip() and not text.strip() and not isinstance(fields.get("vector"), list):
        raise MalformedRow('it has neither a "text" nor a "title"')
    metadata: dict[str, MetadataValue] = dict(_flat(fields, ""))
    metadata |= {ROOT_FIELD: file.root, FILE_FIELD: file.name}
    return Document(doc_id=doc_id, title=title, text=text, metadata=metadata)


def _id(name: str, value: object) -> str:
    if isinstance(value, str):
        return _sound(name, value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise MalformedRow(f'"{name}" must be a string or an integer, not {_kind(value)}')


def _words(name: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return _sound(name, value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise MalformedRow(f'"{name}" must be a string, not {_kind(value)}')


def _sound(name: str, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise MalformedRow(f'"{name}" holds half of a surrogate pair, which is not text') from error
    return value


def _flat(fields: Mapping[str, object], prefix: str) -> Iterator[tuple[str, MetadataValue]]:
    for name, value in fields.items():
        key = _sound("a field name", prefix + name)
        if isinstance(value, str):
            yield key, _sound(key, value)
        elif isinstance(value, int | float):  # bool is an int
            yield key, value
        elif isinstance(value, dict):
            yield from _flat(value, "" if key == "metadata" else f"{key}.")
        elif isinstance(value, list):
            scalars = [item for item in value if isinstance(item, str | int | float)]
            known = [item for item in value if item is not None]
            if len(scalars) == len(known):
                yield key, [_sound(key, item) if isinstance(item, str) else item for item in scalars]
            else:
                yield key, json.dumps(value, ensure_ascii=False)


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedRow(f"malformed JSON: {name} is not a JSON number")
