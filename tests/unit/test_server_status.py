"""Every typed error has a status; everything else is INTERNAL with an incident number and no details."""

from __future__ import annotations

import asyncio
import logging

import grpc
import pytest

from engine.errors import EngineError, Overloaded, RemoteFailure
from engine.server.status import PUSHBACK_KEY, STATUS, abort_with, code_of, status_of
from engine.wire.failures import ERROR_KEY, error_from_wire, known_errors
from tests.unit.test_wire_failures import sample

BASES = ("engine.EngineError", "embedder.EmbedderError", "index.SearchIndexError")


class Aborted(Exception):
    pass


class Context:
    """Records what a call was ended with."""

    async def abort(self, code, details, trailing_metadata):
        self.code, self.details, self.trailers = code, details, dict(trailing_metadata)
        raise Aborted


def ended_with(error: Exception) -> Context:
    context = Context()
    with pytest.raises(Aborted):
        asyncio.run(abort_with(context, error, "Query"))
    return context


@pytest.mark.parametrize("name", sorted(set(known_errors()) - set(BASES)))
def test_every_typed_error_is_in_the_table(name: str):
    assert status_of(sample(known_errors()[name])) is not None


def test_no_base_class_is_in_the_table():
    assert EngineError not in STATUS
    assert {kind.__module__ for kind in STATUS} >= {"engine.errors", "embedder.errors", "index.errors"}


def test_overload_says_when_to_retry():
    context = ended_with(Overloaded("The search queue", 1.25))
    assert context.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert context.trailers[PUSHBACK_KEY] == "1250"


def test_a_timeout_is_deadline_exceeded():
    assert code_of(TimeoutError()) is grpc.StatusCode.DEADLINE_EXCEEDED
    context = ended_with(TimeoutError())
    assert context.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "Query" in context.details


def test_an_unknown_error_gets_an_incident_number_and_keeps_its_secrets(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.ERROR):
        context = ended_with(ZeroDivisionError("the secret is 42"))
    assert context.code is grpc.StatusCode.INTERNAL
    assert "secret" not in context.details
    assert "Traceback" not in context.details
    assert b"secret" not in context.trailers[ERROR_KEY]
    arrived = error_from_wire(context.trailers[ERROR_KEY], "INTERNAL")
    assert isinstance(arrived, RemoteFailure)
    incident = context.details.split("incident ")[1][:12]
    assert incident in caplog.text
    assert "the secret is 42" in caplog.text
