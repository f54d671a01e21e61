"""Every typed error crosses the wire as itself."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest

import engine.server.config  # noqa: F401  # its errors count too
from engine.errors import FingerprintMismatch, InvalidFilter, Overloaded, RemoteFailure
from engine.wire.failures import MAX_PAYLOAD_BYTES, error_from_wire, error_to_wire, known_errors

SAMPLES: dict[str, object] = {
    "str": "café 'x'",
    "int": 7,
    "float": 1.5,
    "object": "something",
    "str | None": "something",
    "list[str] | None": ["a", "b"],
    "list[str]": ["a", "b"],
    "Iterable[str]": ("a", "b"),
    "Path": Path("/data/segment"),
    "Mapping[str, tuple[object, object]]": {"weights": ("abc", "def"), "dim": (384, 768)},
}


def sample(kind: type[Exception]) -> Exception:
    """An error of this kind, its arguments made from their annotations."""
    if "__init__" not in {name for parent in kind.__mro__[:-3] for name in vars(parent)}:
        return kind("a message")
    parameters = list(inspect.signature(kind).parameters.values())
    return kind(*(SAMPLES[str(parameter.annotation)] for parameter in parameters))


@pytest.mark.parametrize("name", sorted(known_errors()))
def test_error_arrives_with_its_type_message_and_fields(name: str):
    error = sample(known_errors()[name])
    arrived = error_from_wire(error_to_wire(error), "UNKNOWN")
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    sent = {field: str(value) if isinstance(value, Path) else value for field, value in vars(error).items()}
    assert vars(arrived) == sent


def test_tuples_among_the_fields_stay_tuples():
    arrived = error_from_wire(error_to_wire(FingerprintMismatch("docs", "builtin", {"weights": ("a", "b")})), "X")
    assert isinstance(arrived, FingerprintMismatch)
    assert arrived.differences == {"weights": ("a", "b")}


def test_numbers_among_the_fields_stay_numbers():
    arrived = error_from_wire(error_to_wire(Overloaded("The queue", 2.5)), "X")
    assert isinstance(arrived, Overloaded)
    assert arrived.retry_after_s == 2.5


@pytest.mark.parametrize("text", ["x" * 100_000, "语" * 100_000, '"\\\n' * 50_000, "\ud800" * 9_000])
def test_long_texts_are_shortened_to_what_a_trailer_takes(text: str):
    data = error_to_wire(InvalidFilter(text, "does not parse"))
    assert len(data) <= MAX_PAYLOAD_BYTES
    arrived = error_from_wire(data, "X")
    assert isinstance(arrived, InvalidFilter)
    assert "shortened" in str(arrived)


def test_many_fields_are_left_out_rather_than_the_message():
    error = FingerprintMismatch("docs", "builtin", {f"part{i}": ("old" * 9, "new" * 9) for i in range(500)})
    data = error_to_wire(error)
    assert len(data) <= MAX_PAYLOAD_BYTES
    assert isinstance(error_from_wire(data, "X"), FingerprintMismatch)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b"null",
        json.dumps({"type": "builtins.SystemExit", "message": "m", "fields": {}}).encode(),
        json.dumps({"type": "engine.CollectionNotFound", "message": "m", "fields": 3}).encode(),
    ],
)
def test_what_is_no_known_error_becomes_a_remote_failure(data: bytes):
    arrived = error_from_wire(data, "ABORTED")
    assert isinstance(arrived, RemoteFailure)
    assert arrived.code == "ABORTED"


def test_fields_cannot_replace_what_is_private():
    data = json.dumps({"type": "engine.EngineClosed", "message": "m", "fields": {"__class__": "x", "_y": 1}}).encode()
    arrived = error_from_wire(data, "X")
    assert type(arrived).__name__ == "EngineClosed"
    assert not hasattr(arrived, "_y")
