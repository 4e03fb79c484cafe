"""Loads on a running service: a closed loop that finds its saturation, an open one that lasts."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass

from benchmarks.soak.client import Outcome, hang_up, send
from benchmarks.soak.files import Upload

__all__ = ["Mix", "closed_loop", "open_loop"]

_LONGEST_PATIENCE_SECONDS = 0.4


@dataclass(frozen=True, slots=True)
class Mix:
    """What requests are made of; the shares are between 0 and 1.

    drawings: of the good uploads, those that ask for the drawing of the maps.
    path: where captions are asked for, with its options.
    """

    good: Sequence[Upload]
    bad: Sequence[Upload]
    bad_share: float = 0.10
    hang_up_share: float = 0.05
    drawings: float = 0.05
    path: str = "/caption"

    def request(self, port: int, rng: random.Random) -> Coroutine[None, None, Outcome]:
        """Draw one request."""
        kind = rng.random()
        if kind < self.hang_up_share:
            share = rng.choice([1.0, rng.random()])
            patience = rng.random() * _LONGEST_PATIENCE_SECONDS
            return hang_up(port, rng.choice(self.good), share, patience)
        if kind < self.hang_up_share + self.bad_share:
            return send(port, rng.choice(self.bad))
        path = "/attention?format=png" if rng.random() < self.drawings else self.path
        return send(port, rng.choice(self.good), path)


async def closed_loop(
    port: int,
    mix: Mix,
    *,
    clients: int,
    seconds: float,
    tell: Callable[[Outcome], None] | None = None,
) -> float:
    """Let each client send its next request when the last is over; give requests a second."""
    began = time.monotonic()
    end = began + seconds

    async def client(number: int) -> int:
        requests = 0
        rng = random.Random(number)
        while time.monotonic() < end:
            outcome = await mix.request(port, rng)
            requests += 1
            if tell is not None:
                tell(outcome)
        return requests

    counts = await asyncio.gather(*(client(number) for number in range(clients)))
    return sum(counts) / (time.monotonic() - began)


async def open_loop(
    port: int,
    mix: Mix,
    *,
    per_second: float,
    seconds: float,
    tell: Callable[[Outcome], None],
) -> None:
    """Let requests arrive at random (Poisson), whether or not earlier ones are answered."""
    rng = random.Random(0)
    running: set[asyncio.Task[None]] = set()
    arrival = time.monotonic()
    end = arrival + seconds

    async def one(request: Coroutine[None, None, Outcome]) -> None:
        tell(await request)

    while arrival < end:
        await asyncio.sleep(max(0.0, arrival - time.monotonic()))
        task = asyncio.create_task(one(mix.request(port, rng)))
        running.add(task)
        task.add_done_callback(running.discard)
        arrival += rng.expovariate(per_second)
    await asyncio.gather(*running)
