"""How are the views of a collection made again when it is opened?

Sealed segments are mapped after their files were checked. Everything else that is live in the store becomes the head: the
versions above the watermark that no sealed segment holds. A damaged segment takes the watermark back to the beginning.
"""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from engine.errors import CorruptData
from engine.head import outside_head, stored_head
from engine.schema import CollectionSchema
from engine.segment import Segment
from engine.snapshot import LiveSegment
from engine.storage.durable import sweep
from engine.storage.kv import Store
from engine.storage.store import State, read_state, write_state

log = logging.getLogger(__name__)


def open_segments(
    store: Store, folder: Path, schema: CollectionSchema
) -> tuple[State, tuple[LiveSegment, ...], list[int]]:
    """The state, the live segments, and the dead versions of a store.

    Args:
        store: the collection's.
        folder: of its sealed segments; what no commit names is removed.
        schema: the collection's.
    """
    with store.read() as transaction:
        state = read_state(transaction)
    sweep(folder, set(state.segments))
    sealed = [segment for name in state.segments if (segment := _mapped(folder / name, schema)) is not None]
    if len(sealed) < len(state.segments):
        # Nothing is known any more to lie in sealed segments below some version, until the head is sealed again.
        names = tuple(segment.name for segment in sealed)
        state = msgspec.structs.replace(state, segments=names, watermark=State().watermark)
        with store.write() as transaction:
            write_state(transaction, state)
    with store.read() as transaction:
        dead, skip = outside_head(transaction, state.watermark, sealed)
        head = [*stored_head(transaction, schema, state.watermark, skip)]
    live = [LiveSegment(segment).without(dead) for segment in sealed]
    return state, (*live, *map(LiveSegment, head)), dead.tolist()


def _mapped(folder: Path, schema: CollectionSchema) -> Segment | None:
    try:
        return Segment.load(folder, schema)
    except CorruptData as error:
        log.warning(
            "segment %s of %r cannot be used, and is rebuilt from the store: %s",
            folder.name,
            schema.name,
            error.problem,
        )
        return None
