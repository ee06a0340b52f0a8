"""When models are fitted anew, over fakes: each fit waits for the test's word."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from echo_proxy.fitting import Fitting
from echo_proxy.learning.linear_model import LinearModel
from echo_proxy.pipeline import Parts
from echo_proxy.telemetry.counts import Counts
from tests.builders import lesson, parts, policy
from tests.fakes import FrozenClock

LINEAR = {"bandit": {"kind": "linear_thompson"}}


class World:
    """A fitting whose fits are noted, may be held up, fail, or take a while by the clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = FrozenClock()
        self.parts: Parts = parts(policy(**LINEAR), clock=self.clock)
        self.counts = Counts()
        self.fitting = Fitting(lambda: self.parts, self.counts)
        self.fitted: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.takes_s = 0.0
        monkeypatch.setattr("echo_proxy.fitting.fit_outcomes", self._fit)

    def _fit(self, rules: Any, lessons: Any) -> LinearModel:
        self.fitted.append(len(lessons))
        self.gate.wait()
        self.clock.time += self.takes_s
        if self.error is not None:
            raise self.error
        return LinearModel(rules)

    def teach(self, n: int) -> None:
        first = len(self.parts.knowledge.memory)
        self.parts.knowledge.study([lesson(f"d{i}") for i in range(first, first + n)])

    def reload(self) -> None:
        self.parts = parts(policy(**LINEAR), clock=self.clock, knowledge=self.parts.knowledge)

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(monkeypatch)
    yield made
    made.gate.set()


async def test_the_first_fit_needs_no_lessons(world: World) -> None:
    """So that a policy's own model decides from the first request on."""
    await world.fitting.fit()

    assert isinstance(world.parts.knowledge.model, LinearModel)


async def test_a_fit_waits_until_enough_is_new(world: World) -> None:
    """A twentieth of what is remembered."""
    world.teach(200)
    await world.fitting.fit()
    for _ in range(12):
        world.teach(1)
        await world.fitting.fit()

    assert world.fitted == [200, 211]


async def test_after_a_fit_there_is_a_rest(world: World) -> None:
    """Ten times as long as it took: however much is new, fits take a tenth of a core at most."""
    world.takes_s = 2.0
    await world.fitting.fit()
    world.teach(10)
    world.clock.time += 19.0
    await world.fitting.fit()
    during = list(world.fitted)
    world.clock.time += 1.0
    await world.fitting.fit()

    assert (during, world.fitted) == ([0], [0, 10])


@pytest.mark.parametrize("error", [np.linalg.LinAlgError("singular"), ValueError("nan"), KeyError("arm")])
async def test_a_fit_that_fails_leaves_the_old_model(
    world: World, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """It is counted every time, told once, and tried again when more is new."""
    await world.fitting.fit()
    old, world.error = world.parts.knowledge.model, error
    for _ in range(2):
        world.teach(5)
        await world.fitting.fit()

    assert world.parts.knowledge.model is old
    assert world.counts.take() == {("all", "fit_failed"): 2.0}
    assert caplog.text.count("a fit failed") == 1


async def test_fits_do_not_overlap_and_nobody_waits_for_them(world: World) -> None:
    """One at a time; meanwhile outcomes are written."""
    world.gate.clear()
    world.fitting.begin()
    await world.until(lambda: world.fitted)
    world.teach(10)
    world.fitting.begin()
    world.gate.set()
    await world.until(lambda: world.parts.knowledge.model)

    assert world.fitted == [0]


async def test_the_models_of_an_older_policy_are_dropped(world: World) -> None:
    """A reload during a fit; the next one is due at once, also without news."""
    world.gate.clear()
    world.fitting.begin()
    await world.until(lambda: world.fitted)
    world.reload()
    world.gate.set()
    await world.until(lambda: world.fitting._task is not None and world.fitting._task.done())
    dropped = world.parts.knowledge.model
    await world.fitting.fit()

    assert dropped is None
    assert world.parts.knowledge.model is not None
    assert world.fitted == [0, 0]


async def test_a_stop_does_not_wait_for_a_fit(world: World) -> None:
    """What comes of it is dropped."""
    await world.fitting.stop()
    world.gate.clear()
    world.fitting.begin()
    await world.until(lambda: world.fitted)
    await world.fitting.stop()
    world.gate.set()

    assert world.parts.knowledge.model is None
