"""Do the teacher's deployments have time for upkeep?"""

from collections.abc import Awaitable, Callable, Mapping

from echo_proxy.limits.load import LoadBoard
from echo_proxy.policy import UpkeepPolicy
from echo_proxy.protocols import Ledger
from echo_proxy.types import Load
from echo_proxy.upkeep.budget import Budget, BudgetSpent

_POLL_S = 1.0
"""Between two looks; workers tell their loads about as often. # guess, not yet measured"""

ReadLoads = Callable[[], Awaitable[Mapping[str, Load]]]
"""How busy each deployment is, over all workers."""
Wait = Callable[[float], Awaitable[None]]
"""Waits so many seconds."""


def loads_in(store: Ledger) -> ReadLoads:
    """What the live workers say through the store, added up: for a process that serves nobody itself."""

    async def read() -> Mapping[str, Load]:
        board = LoadBoard()
        board.hear(list((await store.loads()).values()))
        return board.total(0.0)

    return read


def always_idle() -> ReadLoads:
    """Nobody is looked at."""

    async def read() -> Mapping[str, Load]:
        return {}

    return read


class Idle:
    """Waits until a deployment has little to do."""

    def __init__(self, deployment: str, rules: UpkeepPolicy, loads: ReadLoads, wait: Wait) -> None:
        self._deployment = deployment
        self._most = rules.idle_share * rules.max_in_flight
        self._loads = loads
        self._wait = wait
        self.waited_s = 0.0

    async def until_low(self, budget: Budget) -> None:
        """Returns as soon as the load is low. Raises BudgetSpent when it is not within the round's time."""
        while not await self._is_low():
            if budget.left_s <= 0:
                raise BudgetSpent(f"{self._deployment} was never idle")
            pause_s = min(_POLL_S, budget.left_s)
            await self._wait(pause_s)
            self.waited_s += pause_s

    async def _is_low(self) -> bool:
        load = (await self._loads()).get(self._deployment, Load())
        return load.in_flight + load.waiting <= self._most
