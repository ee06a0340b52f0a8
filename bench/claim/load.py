"""Which requests come when, and what came of them?

Arrivals are those of the Azure conversation trace, made faster or slower as a whole, so that its bursts stay. The trace
carries no text: questions are those of the pair's world, in the order of their stream. In open loop an arrival does not
wait for the answers before it; its latency counts from when it should have been sent.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from echo_proxy.demo.traffic import Ask, Label
from echo_proxy.demo.world import correct
from echo_proxy.offline.simulate_arrivals import Arrivals
from echo_proxy.types import Vector


@dataclass(frozen=True, slots=True)
class Reply:
    """What a caller got."""

    text: str = ""
    group: str = ""
    """Model group that was asked."""
    model: str = ""
    """small or large; empty when nobody answered."""
    n_examples: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    decision_id: str = ""
    """Empty when Echo did not decide."""
    error: str = ""
    """Class name, or HTTP status; empty when there is an answer."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One request of a run."""

    index: int
    """Position in the run's requests."""
    label: Label
    reply: Reply
    quality: float
    """By the world's own truth, [0, 1]; 0 without an answer."""
    latency_s: float
    """Until the whole answer; for one that had none when the run was cut, until the cut."""
    ended_s: float
    """Since the start of the run."""


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a number of requests."""

    samples: Sequence[Sample]
    duration_s: float
    """How long requests came."""


Send = Callable[[str], Awaitable[Reply]]
"""Sends a question; never raises."""
Tell = Callable[[Reply, float], Awaitable[None]]
"""Gives feedback on a reply: its quality."""


def arrival_times(trace: Arrivals, rate: float, duration_s: float, start: float) -> Vector:
    """Seconds, ascending, shape (about rate * duration_s,), from a place in the trace given as a share of it."""
    n = max(2, round(rate * duration_s))
    begin = min(start, 1 - min(n / len(trace), 1.0))
    part = trace.part(begin, 1.0).repeated(n)
    return part.faster(float(part.at[-1]) / duration_s).at


async def open_loop(asks: Sequence[Ask], at: Vector, grace_s: float, send: Send, tell: Tell) -> Run:
    """Every request at its time; what has no answer grace_s after the last one came is cut."""
    loop = asyncio.get_running_loop()
    started, samples, told = loop.time(), list[Sample](), _Background()

    async def one(index: int, due: float) -> None:
        reply = Reply(error="cut")
        try:
            reply = await send(asks[index].item.question)
        finally:
            now = loop.time()
            samples.append(_sample(index, asks[index], reply, now - due, now - started))
        told.add(tell(reply, samples[-1].quality))

    tasks = []
    for index, seconds in enumerate(at):
        await asyncio.sleep(max(0.0, started + float(seconds) - loop.time()))
        tasks.append(asyncio.create_task(one(index, started + float(seconds))))
    _, late = await asyncio.wait(tasks, timeout=grace_s)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    await told.done()
    return Run(samples, float(at[-1]))


async def closed_loop(asks: Sequence[Ask], n_clients: int, limit_s: float, send: Send, tell: Tell) -> Run:
    """n_clients callers, each with its next request as soon as it has its answer, until limit_s or the last request."""
    loop = asyncio.get_running_loop()
    started, samples, told = loop.time(), list[Sample](), _Background()
    waiting = iter(enumerate(asks))

    async def caller() -> None:
        for index, ask in waiting:
            sent = loop.time()
            reply = await send(ask.item.question)
            now = loop.time()
            samples.append(_sample(index, ask, reply, now - sent, now - started))
            told.add(tell(reply, samples[-1].quality))
            if now - started > limit_s:
                return

    await asyncio.gather(*(caller() for _ in range(n_clients)))
    duration_s = loop.time() - started
    await told.done()
    return Run(samples, duration_s)


class _Background:
    """Feedback on its way: no caller waits for it."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def done(self) -> None:
        await asyncio.gather(*self._tasks)


def _sample(index: int, ask: Ask, reply: Reply, latency_s: float, ended_s: float) -> Sample:
    quality = 0.0 if reply.error else correct(ask.item, reply.text)
    return Sample(index, ask.label, reply, quality, latency_s, ended_s)
