"""Pools refuse what does not fit; windows hold back what is too much."""

from __future__ import annotations

import asyncio
import threading

import pytest

from engine.errors import Overloaded
from engine.server.limits import Pool, Window


@pytest.fixture
def pool():
    made = Pool("test", workers=1, queue_limit=1)
    yield made
    made.close()


def test_a_full_queue_is_refused_and_recovers(pool: Pool):
    gate = threading.Event()

    async def scenario():
        held = [asyncio.create_task(pool.run(gate.wait, None)) for _ in range(2)]
        await asyncio.sleep(0.01)
        assert (pool.running, pool.waiting) == (1, 1)
        with pytest.raises(Overloaded) as caught:
            await pool.run(lambda: 1, None)
        assert 0 < caught.value.retry_after_s <= 30
        gate.set()
        await asyncio.gather(*held)
        assert await pool.run(lambda: 2, None) == 2

    asyncio.run(scenario())
    assert pool.running == pool.waiting == 0


def test_cancelled_work_that_waits_is_dropped(pool: Pool):
    gate, done = threading.Event(), []

    async def scenario():
        first = asyncio.create_task(pool.run(gate.wait, None))
        second = asyncio.create_task(pool.run(lambda: done.append(1), None))
        await asyncio.sleep(0.01)
        second.cancel()
        await asyncio.sleep(0.01)
        assert pool.waiting == 0
        gate.set()
        await first

    asyncio.run(scenario())
    assert done == []


def test_a_timeout_frees_the_caller_and_keeps_the_place_until_the_work_ends(pool: Pool):
    gate = threading.Event()

    async def scenario():
        with pytest.raises(TimeoutError):
            await pool.run(gate.wait, 0.01)
        assert pool.running == 1
        gate.set()

    asyncio.run(scenario())
    pool.close()
    assert pool.running == 0


def test_errors_of_the_work_come_back(pool: Pool):
    with pytest.raises(ZeroDivisionError):
        asyncio.run(pool.run(lambda: 1 // 0, None))


def test_a_window_holds_back_items_and_bytes():
    async def scenario():
        window = Window(max_items=2, max_bytes=100)
        await window.acquire(60)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(window.acquire(60), 0.01)
        await window.acquire(40)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(window.acquire(0), 0.01)
        waiting = asyncio.create_task(window.acquire(60))
        await asyncio.sleep(0)
        window.release(1)
        await asyncio.wait_for(waiting, 1)

    asyncio.run(scenario())


def test_an_item_larger_than_the_window_passes_alone():
    async def scenario():
        window = Window(max_items=2, max_bytes=10)
        await asyncio.wait_for(window.acquire(1000), 1)
        window.release(1)
        await asyncio.wait_for(window.acquire(1000), 1)

    asyncio.run(scenario())
