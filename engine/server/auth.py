"""Who is calling, and may they?

API keys with roles. A key is held as its SHA-256 digest only; a presented key is compared with every digest in constant
time. The interceptor is the outermost: it stands before every method, unknown ones, reflection and streams included,
and refuses before a handler is looked up. Health is open, so that a load balancer needs no key.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import grpc

from engine.errors import EngineError, InvalidArgument, PermissionDenied, Unauthenticated
from engine.server.methods import Role, role_needed
from engine.server.rpc import CallDetails, Context, Requests, RpcHandler
from engine.server.status import abort_with, status_of

log = logging.getLogger(__name__)

MIN_KEY_LENGTH = 16
DIGEST_PREFIX = "sha256:"
BEARER = "bearer "


class ApiKeys:
    """A set of key digests with their roles. Empty: everybody is let in as admin."""

    def __init__(self, entries: Iterable[tuple[bytes, Role]]) -> None:
        self._entries = tuple(entries)

    def __len__(self) -> int:
        return len(self._entries)

    @classmethod
    def parse(cls, lines: Iterable[str], where: str) -> ApiKeys:
        """Reads ``role:key`` and ``role:sha256:HEX`` entries; blank lines and ``#`` comments are skipped.

        Raises:
            InvalidArgument: an entry has another form. Its key is never repeated in the message.
        """
        entries = []
        for number, line in enumerate(lines, start=1):
            entry = line.strip()
            if entry and not entry.startswith("#"):
                entries.append(_parse_entry(entry, f"{where}, entry {number}"))
        return cls(entries)

    @classmethod
    def load(cls, path: Path | None, direct: Iterable[str] = ()) -> ApiKeys:
        """Reads a file of entries, plus entries given directly.

        Raises:
            InvalidArgument: the file cannot be read, holds no key, or an entry has another form.
        """
        keys = cls.parse(direct, "api_keys")
        if path is None:
            return keys
        try:
            text = path.read_text(encoding="utf-8")
            if path.stat().st_mode & 0o077:
                log.warning("%s can be read by other users; chmod 600 it", path)
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidArgument("api_keys_file", f"{path} cannot be read: {error}") from error
        from_file = cls.parse(text.splitlines(), str(path))
        if not from_file:
            # An empty file must not open the server.
            raise InvalidArgument("api_keys_file", f"{path} holds no key; write one role:key a line")
        return cls((*keys._entries, *from_file._entries))

    def role_of(self, key: str | None) -> Role | None:
        """The role of a presented key, None for a wrong or missing one. Takes the same time for any key."""
        if not self._entries:
            return Role.ADMIN
        presented = hashlib.sha256((key or "").encode("utf-8", "replace")).digest()
        found = None
        for digest, role in self._entries:
            if hmac.compare_digest(digest, presented):
                found = role if found is None else max(found, role)
        return found if key else None

    def check(self, path: str, authorization: str | None) -> None:
        """Lets a call of ``path`` pass, or not.

        Raises:
            Unauthenticated: no key, or a wrong one.
            PermissionDenied: the key's role is too low.
        """
        needed = role_needed(path)
        if needed is None:
            return
        role = self.role_of(_bearer(authorization))
        if role is None:
            raise Unauthenticated
        if role < needed:
            raise PermissionDenied(role.name.lower(), needed.name.lower())


class AuthInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc is untyped
    """Refuses a call before its handler is looked up."""

    def __init__(self, keys: ApiKeys, on_refusal: Callable[[str, str], None]) -> None:
        """Keeps the keys; ``on_refusal`` is told the path and the status name of every refused call."""
        self._keys = keys
        self._on_refusal = on_refusal

    async def intercept_service(
        self,
        continuation: Callable[[CallDetails], Awaitable[RpcHandler]],
        handler_call_details: CallDetails,
    ) -> RpcHandler:
        """Returns the method's handler, or one that only refuses."""
        path = handler_call_details.method
        presented = (value for key, value in handler_call_details.invocation_metadata if key == "authorization")
        try:
            self._keys.check(path, next(presented, None))
        except EngineError as error:
            code = status_of(error)
            self._on_refusal(path, code.name if code else "UNKNOWN")
            return _refusal(error, path)
        return await continuation(handler_call_details)


def _refusal(error: EngineError, path: str) -> RpcHandler:
    async def refuse(requests: Requests, context: Context) -> None:
        await abort_with(context, error, path)

    # As a stream, whatever the method is: a unary handler would first wait for a message, which need never come.
    return grpc.stream_stream_rpc_method_handler(refuse)


def _bearer(authorization: str | bytes | None) -> str | None:
    if not isinstance(authorization, str) or not authorization.lower().startswith(BEARER):
        return None
    return authorization[len(BEARER) :].strip()


def _parse_entry(entry: str, where: str) -> tuple[bytes, Role]:
    role_name, _, key = entry.partition(":")
    try:
        role = Role[role_name.strip().upper()]
    except KeyError:
        raise InvalidArgument("api_keys", f"{where}: expected role:key with role read, write or admin") from None
    key = key.strip()
    if key.startswith(DIGEST_PREFIX):
        try:
            digest = bytes.fromhex(key.removeprefix(DIGEST_PREFIX))
        except ValueError:
            digest = b""
        if len(digest) != hashlib.sha256().digest_size:
            raise InvalidArgument("api_keys", f"{where}: expected 64 hexadecimal digits after sha256:")
        return digest, role
    if len(key) < MIN_KEY_LENGTH or not key.isascii() or not key.isprintable():
        raise InvalidArgument("api_keys", f"{where}: a key has at least {MIN_KEY_LENGTH} printable ASCII characters")
    return hashlib.sha256(key.encode()).digest(), role
