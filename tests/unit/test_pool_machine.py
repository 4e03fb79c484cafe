"""The life of the captioner pool, walked at random: whatever is loaded, used, released, damaged or
mended, the default model stays, memory holds, and a model in use is never unloaded."""

import asyncio
from collections.abc import Awaitable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.core.errors import (
    CanaryError,
    ModelsMemoryFullError,
    ModelUnavailableError,
    ServiceError,
    StoppingError,
)
from app.core.metrics import Metrics
from app.engine.pool import CaptionerPool
from models.caption import Captioner
from models.memory import MemoryUse, total_bytes
from tests.unit.toy_engine import ANSWERED_SECONDS, DEFAULT, ENCODER, Shelf, Sized

LIMIT_BYTES = 200
OWN_BYTES = {DEFAULT: 50, "small": 20, "middle": 50, "large": 90, "huge": 500}  # and an encoder
OTHERS = sorted(OWN_BYTES.keys() - {DEFAULT})

Value = TypeVar("Value")


async def gathered(works: Sequence[Awaitable[Value]]) -> list[Value | BaseException]:
    return await asyncio.gather(*works, return_exceptions=True)


class PoolMachine(RuleBasedStateMachine):
    """Uses a pool as requests do, one step at a time, and keeps its own books."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.shelf = Shelf(*OTHERS)
        for name, own_bytes in OWN_BYTES.items():
            self.shelf.captioners[name] = Sized(name, MemoryUse(own_bytes, ENCODER))
        self.unproved: set[str] = set()
        self.stopped = False
        self.uses: list[tuple[str, AbstractAsyncContextManager[Captioner]]] = []
        self.pool = self.wait(self.started())

    def wait(self, work: Coroutine[Any, Any, Value]) -> Value:
        return self.runner.run(asyncio.wait_for(work, ANSWERED_SECONDS))

    async def started(self) -> CaptionerPool:
        pool = CaptionerPool(
            self.shelf,
            self.prove,
            default=DEFAULT,
            limit_bytes=LIMIT_BYTES,
            max_waiting=10,
            prepare_thread=lambda: None,
            metrics=Metrics(),
        )
        await pool.start()
        return pool

    async def prove(self, captioner: Captioner) -> None:
        if captioner.info.name in self.unproved:
            raise CanaryError("says nothing")

    @property
    def used(self) -> set[str]:
        return {name for name, _ in self.uses}

    def bytes_of(self, names: set[str]) -> int:
        return total_bytes(self.shelf.captioners[name].info.memory for name in names)

    @rule(name=st.sampled_from(sorted(OWN_BYTES)))
    def use(self, name: str) -> None:
        before = set(self.pool.loaded)
        use = self.pool.use(name)
        try:
            captioner = self.wait(use.__aenter__())
        except ModelsMemoryFullError:
            assert name not in before
            assert self.bytes_of({DEFAULT, name}) <= LIMIT_BYTES
            assert self.bytes_of({DEFAULT, name} | self.used) > LIMIT_BYTES
            assert set(self.pool.loaded) == before
        except ModelUnavailableError:
            assert name not in self.pool.loaded
            too_large = self.bytes_of({DEFAULT, name}) > LIMIT_BYTES
            rejected = name in self.shelf.rejected
            assert too_large or rejected or name in self.shelf.damaged | self.unproved
        except StoppingError:
            assert self.stopped
            assert name not in before
        else:
            assert captioner is self.shelf.captioners[name]
            self.uses.append((name, use))

    @rule(names=st.lists(st.sampled_from(sorted(OWN_BYTES)), min_size=2, max_size=5))
    def use_together(self, names: list[str]) -> None:
        uses = [(name, self.pool.use(name)) for name in names]
        entered = self.wait(gathered([use.__aenter__() for _, use in uses]))
        for (name, use), captioner in zip(uses, entered, strict=True):
            if isinstance(captioner, BaseException):
                assert isinstance(captioner, ServiceError)
            else:
                assert captioner is self.shelf.captioners[name]
                self.uses.append((name, use))

    @precondition(lambda self: self.uses)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        position = data.draw(st.integers(0, len(self.uses) - 1))
        name, use = self.uses.pop(position)
        self.wait(use.__aexit__(None, None, None))
        assert list(self.pool.loaded)[-1] == name  # the most recently used

    @rule(name=st.sampled_from(OTHERS), by_canary=st.booleans())
    def damage(self, name: str, by_canary: bool) -> None:
        broken = self.unproved if by_canary else self.shelf.damaged
        broken.add(name)

    @rule(name=st.sampled_from(OTHERS))
    def mend(self, name: str) -> None:
        self.unproved.discard(name)
        self.shelf.damaged.discard(name)
        self.shelf.rejected.pop(name, None)

    @precondition(lambda self: not self.stopped)
    @rule(chance=st.integers(0, 9))
    def stop(self, chance: int) -> None:
        if chance == 0:
            self.pool.stop()
            self.stopped = True

    @invariant()
    def default_model_is_never_unloaded(self) -> None:
        assert DEFAULT in self.pool.loaded

    @invariant()
    def memory_stays_within_the_limit(self) -> None:
        assert self.bytes_of(set(self.pool.loaded)) <= LIMIT_BYTES

    @invariant()
    def nobody_in_use_is_unloaded(self) -> None:
        assert self.used <= self.pool.loaded.keys()

    @invariant()
    def rejected_model_is_not_read_again(self) -> None:
        for name in self.shelf.rejected:
            assert name not in self.pool.loaded

    def teardown(self) -> None:
        self.pool.stop()
        self.runner.close()


PoolMachine.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestPoolMachine = PoolMachine.TestCase
