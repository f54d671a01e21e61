"""Which methods does the service have, who may call them, and which threads do their work?"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from engine.v1 import engine_pb2 as pb

PoolName = Literal["search", "write", "model"]
SERVICE = pb.DESCRIPTOR.services_by_name["Engine"]
HEALTH_PREFIX = "/grpc.health.v1.Health/"


class Role(IntEnum):
    """What a key may do; each role includes the ones below it."""

    READ = 1
    WRITE = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True)
class Method:
    """One method of the service: the role that it needs and the pool of threads that serves it.

    ``follows``: it needs nothing but the data folder, so a process that does not write answers it, too.
    """

    role: Role
    pool: PoolName
    follows: bool = False


METHODS: dict[str, Method] = {
    "Info": Method(Role.READ, "search"),
    "CreateCollection": Method(Role.ADMIN, "write"),
    "GetCollection": Method(Role.READ, "search"),
    "ListCollections": Method(Role.READ, "search"),
    "DropCollection": Method(Role.ADMIN, "write"),
    "GetCollectionStats": Method(Role.READ, "search"),
    "OptimizeCollection": Method(Role.WRITE, "write"),
    "Upsert": Method(Role.WRITE, "write"),
    "Ingest": Method(Role.WRITE, "write"),
    "Delete": Method(Role.WRITE, "write"),
    "UpdateMetadata": Method(Role.WRITE, "write"),
    "Get": Method(Role.READ, "search", follows=True),
    "Scroll": Method(Role.READ, "search", follows=True),
    "Count": Method(Role.READ, "search", follows=True),
    "Query": Method(Role.READ, "search", follows=True),
    "QueryBatch": Method(Role.READ, "search", follows=True),
    "Embed": Method(Role.READ, "model"),
}


def role_needed(path: str) -> Role | None:
    """The role that a call of ``/package.Service/Method`` needs; None: open to everybody (health only).

    An unknown method needs the lowest role: without a key nobody learns what exists.
    """
    if path.startswith(HEALTH_PREFIX):
        return None
    service, _, name = path.lstrip("/").partition("/")
    method = METHODS.get(name) if service == SERVICE.full_name else None
    return Role.READ if method is None else method.role
