"""In which order are the phases' requests sent? In blocks that take turns, so that a busy machine is unfair to nobody.

Every phase gets the same stream in the same order. The first block goes to each phase in turn, then the second, and so
on; with every block another phase begins. Within a block up to `concurrency` requests are under way at once.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence

from echo_proxy.demo.client import DemoClient
from echo_proxy.demo.phases import Answer, Phase
from echo_proxy.demo.proxy import DemoFailed
from echo_proxy.demo.traffic import Ask, Label
from echo_proxy.demo.world import count_item

BLOCK = 20
"""Requests of one phase before the next one has its turn."""


async def warm_up(client: DemoClient, phases: Sequence[Phase]) -> None:
    """One request per baseline that is not counted, so that loading a model is nobody's latency. Raises DemoFailed."""
    for phase in phases:
        if not phase.is_echo:  # Echo must start knowing nothing
            answer = await client.ask(phase, -1, Ask(count_item(1, 0), Label.EASY))
            if answer.error:
                raise DemoFailed(f"{phase.name}: expected an answer to the first request, got {answer.error}")


async def play(
    client: DemoClient, phases: Sequence[Phase], asks: Sequence[Ask], concurrency: int, note: Callable[[Answer], None]
) -> list[Answer]:
    """Send every request to every phase; `note` sees each answer as it comes.

    Returns:
        Answers, n_phases * n_requests of them, in the order in which they came.
    """
    answers: list[Answer] = []

    async def work(phase: Phase, waiting: Iterator[int]) -> None:
        for index in waiting:
            answer = await client.ask(phase, index, asks[index])
            answers.append(answer)
            note(answer)

    for turn, start in enumerate(range(0, len(asks), BLOCK)):
        for phase in _rotated(phases, turn):
            waiting = iter(range(start, min(start + BLOCK, len(asks))))
            async with asyncio.TaskGroup() as group:
                for _ in range(concurrency):
                    group.create_task(work(phase, waiting))
    return answers


def _rotated(phases: Sequence[Phase], turn: int) -> list[Phase]:
    first = turn % len(phases)
    return [*phases[first:], *phases[:first]]
