"""A dead store is left alone for a moment."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from echo_proxy.errors import StoreUnavailable
from echo_proxy.protocols import Clock
from echo_proxy.stores.breaker import BreakerStore
from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.sqlite import SqliteStore
from tests.contracts import LedgerContract, calls_of_workers, query
from tests.contracts_examples import ExamplesContract
from tests.contracts_upkeep import UpkeepContract, calls_of_upkeep
from tests.fakes import FrozenClock, MemoryStore


class CountingStore(MemoryStore):
    """Counts the searches; `is_stuck` makes them never answer."""

    n_calls = 0
    is_stuck = False

    async def nearest(self, query):  # type: ignore[no-untyped-def]
        self.n_calls += 1
        if self.is_stuck:
            await asyncio.Event().wait()
        return await super().nearest(query)


class TestBreakerStore(LedgerContract, UpkeepContract):
    @pytest.fixture
    def new_store(self) -> Callable[[StoreConfig, Clock], BreakerStore]:
        """Workers of one policy share what is behind the breaker."""
        behind: dict[str, MemoryStore] = {}
        return lambda config, clock: BreakerStore(behind.setdefault(config.policy, MemoryStore(clock)), clock)


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def inner() -> CountingStore:
    return CountingStore()


@pytest.fixture
def breaker(inner: CountingStore, clock: FrozenClock) -> BreakerStore:
    return BreakerStore(inner, clock, max_failures=3, open_s=1.0)


async def fail(breaker: BreakerStore, n_times: int) -> None:
    for _ in range(n_times):
        with pytest.raises(StoreUnavailable):
            await breaker.nearest(query())


async def test_after_three_failures_it_is_not_asked(breaker: BreakerStore, inner: CountingStore) -> None:
    """The fourth call fails at once, without the store."""
    inner.is_away = True
    await fail(breaker, 5)

    assert inner.n_calls == 3


async def test_one_trial_decides(breaker: BreakerStore, inner: CountingStore, clock: FrozenClock) -> None:
    """After a second one call is let through: failing, the wait begins anew; succeeding, all go through."""
    inner.is_away = True
    await fail(breaker, 4)
    clock.time += 1.0
    await fail(breaker, 3)
    after_trial = inner.n_calls
    inner.is_away = False
    clock.time += 1.0
    found = [await breaker.nearest(query()) for _ in range(3)]

    assert after_trial == 4
    assert found == [(), (), ()]
    assert inner.n_calls == 7


async def test_a_success_forgives(breaker: BreakerStore, inner: CountingStore) -> None:
    """Only failures in a row count."""
    for _ in range(3):
        inner.is_away = True
        await fail(breaker, 2)
        inner.is_away = False
        await breaker.nearest(query())

    assert inner.n_calls == 9


async def test_a_call_cut_off_by_its_deadline_counts(
    breaker: BreakerStore, inner: CountingStore, clock: FrozenClock
) -> None:
    """A black-holed server answers nothing, and the plan's deadline ends the call before any timeout does."""
    inner.is_stuck = True
    for _ in range(3):
        call = asyncio.create_task(breaker.nearest(query()))
        await asyncio.sleep(0)
        clock.time += 0.05
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    await fail(breaker, 1)

    assert inner.n_calls == 3


async def test_reopening_closes_it(breaker: BreakerStore, inner: CountingStore) -> None:
    """A store that has just been opened is asked."""
    inner.is_away = True
    await fail(breaker, 3)
    inner.is_away = False
    await breaker.open()

    assert await breaker.nearest(query()) == ()


async def test_calls_of_workers_are_guarded_too(breaker: BreakerStore, inner: CountingStore) -> None:
    """Lessons, loads and turns fail like everything else, and their failures open it."""
    inner.is_away = True
    for i, call in enumerate(calls_of_workers(breaker)):
        with pytest.raises(StoreUnavailable, match="taken the store away" if i < 3 else "3 times in a row"):
            await call
    inner.is_away = False
    await breaker.open()

    assert await breaker.last_turn("c") == ""


async def test_calls_of_upkeep_are_guarded_too(breaker: BreakerStore, inner: CountingStore) -> None:
    """What admission and upkeep ask fails like everything else, and its failures open it."""
    inner.is_away = True
    for i, call in enumerate(calls_of_upkeep(breaker)):
        with pytest.raises(StoreUnavailable, match="taken the store away" if i < 3 else "3 times in a row"):
            await call


class TestBreakerOverSqlite(ExamplesContract):
    """What goes through it arrives whole, and comes back whole."""

    @pytest.fixture
    def new_store(self, tmp_path: Path) -> Callable[[StoreConfig, Clock], BreakerStore]:
        return lambda config, clock: BreakerStore(SqliteStore(config, tmp_path / "echo.db", clock), clock)
