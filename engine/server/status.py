"""Which gRPC status does each error have, and how is it sent?

One table, checked to be complete by a test. An error that is not in it is a bug: the client gets INTERNAL with an
incident number, the log gets the same number with the traceback.
"""

from __future__ import annotations

import logging
import uuid
from typing import NoReturn

import grpc

from embedder import errors as embedder_errors
from engine import errors
from engine.server.config import CannotBind
from engine.server.rpc import Context
from engine.wire.failures import ERROR_KEY, error_to_wire, shorten
from index import errors as index_errors

log = logging.getLogger(__name__)

PUSHBACK_KEY = "grpc-retry-pushback-ms"  # gRPC's own retry information: proposal A6, client retries
Code = grpc.StatusCode

# An error has the status of its nearest ancestor here.
STATUS: dict[type[Exception], grpc.StatusCode] = {
    errors.CollectionNotFound: Code.NOT_FOUND,
    errors.CollectionExists: Code.ALREADY_EXISTS,
    errors.DocumentNotFound: Code.NOT_FOUND,
    errors.InvalidArgument: Code.INVALID_ARGUMENT,
    errors.LegMissing: Code.FAILED_PRECONDITION,
    errors.RerankerMissing: Code.FAILED_PRECONDITION,
    errors.FingerprintMismatch: Code.FAILED_PRECONDITION,
    errors.GeneratorMismatch: Code.FAILED_PRECONDITION,
    errors.UnsupportedFormat: Code.FAILED_PRECONDITION,
    errors.DataFolderLocked: Code.FAILED_PRECONDITION,
    errors.DataFolderReadOnly: Code.FAILED_PRECONDITION,
    errors.Overloaded: Code.RESOURCE_EXHAUSTED,
    errors.StoreFull: Code.RESOURCE_EXHAUSTED,
    errors.CorruptData: Code.DATA_LOSS,
    errors.Unauthenticated: Code.UNAUTHENTICATED,
    errors.PermissionDenied: Code.PERMISSION_DENIED,
    errors.RemoteFailure: Code.INTERNAL,
    errors.EngineClosed: Code.UNAVAILABLE,
    CannotBind: Code.FAILED_PRECONDITION,
    embedder_errors.ModelNotFound: Code.FAILED_PRECONDITION,
    embedder_errors.ModelLoadFailed: Code.FAILED_PRECONDITION,
    embedder_errors.InvalidRecipe: Code.FAILED_PRECONDITION,
    embedder_errors.InvalidSystem: Code.FAILED_PRECONDITION,
    embedder_errors.InvalidInput: Code.INVALID_ARGUMENT,
    embedder_errors.DeviceUnavailable: Code.FAILED_PRECONDITION,
    embedder_errors.DeviceOutOfMemory: Code.RESOURCE_EXHAUSTED,
    embedder_errors.TuningFailed: Code.FAILED_PRECONDITION,
    embedder_errors.SchedulerFull: Code.RESOURCE_EXHAUSTED,
    embedder_errors.EmbedderClosed: Code.UNAVAILABLE,
    index_errors.InvalidIndexInput: Code.INVALID_ARGUMENT,
    index_errors.IndexBuildFailed: Code.FAILED_PRECONDITION,
    index_errors.CorruptIndexFile: Code.DATA_LOSS,
}


def status_of(error: BaseException) -> grpc.StatusCode | None:
    """The status of an error; None where the table has none."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), None)


def code_of(error: BaseException) -> grpc.StatusCode:
    """The status that ``abort_with`` sends for an error."""
    if isinstance(error, TimeoutError):
        return Code.DEADLINE_EXCEEDED
    return status_of(error) or Code.INTERNAL


async def abort_with(context: Context, error: Exception, doing: str) -> NoReturn:
    """Ends a call with the status of an error, its message, and the typed error in the trailing metadata.

    Args:
        context: the call's grpc.aio context.
        error: what went wrong.
        doing: the method, for the log.

    Raises:
        grpc.aio.AbortError: always; gRPC ends the call with it.
    """
    code, incident = code_of(error), None
    if isinstance(error, TimeoutError):
        error = errors.RemoteFailure(code.name, f"{doing} took longer than the server allows")
    elif code is Code.INTERNAL and not isinstance(error, errors.RemoteFailure):
        incident = uuid.uuid4().hex[:12]
        log.error("incident %s in %s", incident, doing, exc_info=error)
        error = errors.RemoteFailure(
            code.name, f"incident {incident}; the server's log has the cause under this number"
        )
    trailers: list[tuple[str, str | bytes]] = [(ERROR_KEY, error_to_wire(error, incident))]
    retry_after_s = getattr(error, "retry_after_s", None)
    if isinstance(retry_after_s, int | float):
        trailers.append((PUSHBACK_KEY, str(int(retry_after_s * 1000))))
    await context.abort(code, shorten(str(error)), trailing_metadata=tuple(trailers))
    raise AssertionError("abort always raises")
