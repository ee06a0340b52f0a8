"""When does a running proxy do its upkeep? Every `every_s` seconds, on the one worker of all that gets the lease."""

import asyncio
import logging
from collections.abc import Callable

from echo_proxy.errors import FAULTS, EchoProxyError
from echo_proxy.telemetry.counts import EVERYONE, Counts
from echo_proxy.upkeep.idle import Wait
from echo_proxy.upkeep.run import BUSY, NOT_DUE, RoundOptions, Tools, run_round

log = logging.getLogger("echo_proxy")

_LOOKS = 20
"""Looks within a period: a round is late by so much of it at most. # guess, not yet measured"""
_OFTEN_S, _SELDOM_S = 0.5, 60.0
"""Bounds of the time between two looks."""


class Periodic:
    """The rounds of one policy in one worker. Belongs to one event loop."""

    def __init__(
        self, tools: Callable[[], Tools | None], holder: str, counts: Counts, wait: Wait = asyncio.sleep
    ) -> None:
        """
        Args:
            tools: what to work with, by the policy as it is now; None while there is nothing to work on.
            holder: who this is, different in every worker.
            counts: where failures are counted.
            wait: how to wait between two looks.
        """
        self._tools = tools
        self._holder = holder
        self._counts = counts
        self._wait = wait

    async def run(self) -> None:
        """Look whether a round is due, and do it if nobody else does, until cancelled. No failure ends it."""
        while True:
            await self._wait(self._pause_s())
            try:
                await self._look()
            except (EchoProxyError, OSError, *FAULTS) as error:
                self._counts.add(EVERYONE, "upkeep:failed")
                # the kind alone where it is not ours: a fault's words may repeat a text
                said = error if isinstance(error, EchoProxyError) else type(error).__name__
                log.warning("upkeep failed, it is tried again: %s", said)

    def _pause_s(self) -> float:
        tools = self._tools()
        every_s = tools.policy.upkeep.every_s if tools else None
        return _SELDOM_S if every_s is None else min(max(every_s / _LOOKS, _OFTEN_S), _SELDOM_S)

    async def _look(self) -> None:
        tools = self._tools()
        if tools is None or tools.policy.upkeep.every_s is None:
            return
        run = await run_round(tools, RoundOptions(every_s=tools.policy.upkeep.every_s), self._holder)
        if run.ending not in (BUSY, NOT_DUE):
            log.info("upkeep of %s: %s, %.4f USD", tools.policy.name, run.ending, run.cost_usd)
