"""The queue that all clients share: who comes next."""

import asyncio
import time

import numpy as np
import pytest

pytest.importorskip("fastapi")
from carnelian.data.transcript import Transcript
from carnelian.serving import scheduler as module
from carnelian.serving.scheduler import Flow, Scheduler

RATE = 100


def run(order: list[float], test):
    """Runs a coroutine `test(scheduler)`; `order` gets the first sample of each piece, one piece in a batch, 10 ms each."""

    def recognize(audio, hot_words):
        time.sleep(0.01)
        order.extend(float(each[0]) for each in audio)
        return [Transcript("") for _ in audio]

    async def whole():
        scheduler = Scheduler(recognize, RATE, work_seconds=0.0)
        scheduler.start()
        try:
            async with asyncio.timeout(30):
                await test(scheduler)
        finally:
            await scheduler.close()

    asyncio.run(whole())


def audio(number: float, seconds: float = 1.0) -> np.ndarray:
    return np.full(round(seconds * RATE), number, np.float32)


def test_a_new_request_comes_before_the_rest_of_a_long_one():
    order: list[float] = []

    async def test(scheduler):
        long, old = Flow(), Flow(served=30.0)
        waiting = [asyncio.create_task(scheduler.submit(long, audio(0, 12.0)))]
        await asyncio.sleep(0.005)
        waiting += [asyncio.create_task(scheduler.submit(old, audio(number))) for number in (1, 2)]
        await asyncio.sleep(0)
        waiting.append(asyncio.create_task(scheduler.submit(Flow(), audio(3))))
        await asyncio.gather(*waiting)
        assert long.served == 12.0 and old.served == 32.0

    run(order, test)
    assert order == [0, 3, 1, 2]


def test_many_short_requests_do_not_stop_a_long_one(monkeypatch):
    """There is always a new request in the queue, and yet the long one's piece comes after its longest wait."""
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    order: list[float] = []

    async def test(scheduler):
        done = asyncio.Event()

        async def client():
            while not done.is_set():
                await scheduler.submit(Flow(), audio(0))

        clients = [asyncio.create_task(client()) for _ in range(5)]
        await asyncio.sleep(0.02)
        await scheduler.submit(Flow(served=1000.0), audio(1))
        done.set()
        await asyncio.gather(*clients)

    run(order, test)
    assert order.count(1) == 1 and order.count(0) > 10
