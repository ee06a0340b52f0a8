"""How long are the queues of the local models? Asked of their processes, at most once a second."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx

from echo_proxy.local.fleet import Fleet
from echo_proxy.local.health import ModelHealth
from echo_proxy.local.state import ModelState
from echo_proxy.local.supervisor import Supervisor

_PERIOD_S = 1.0
_TIMEOUT_S = 0.5
"""For a process to say how it is. Of one that is too busy for it nothing is told: who was told of it before knows how
old that is, and for how long it holds. To say it again would make it look new."""


@dataclass(frozen=True, slots=True)
class ModelLoad:
    """How busy a local model is."""

    n_waiting: int
    """Requests in its queue, from all workers."""
    n_running: int
    """Requests that it answers."""
    wait_s: float
    """How long a request that comes now will probably wait."""
    service_s: float
    """Moving average of the time from leaving the queue to the end of the answer."""


class LoadWatch:
    """Asks the processes of a fleet. Used from one event loop."""

    def __init__(
        self,
        fleet: Fleet,
        now: Callable[[], float] = time.monotonic,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Nothing is asked yet.

        Args:
            fleet: whose processes are asked.
            now: monotonic clock, in seconds.
            transport: how; None = over loopback.
        """
        self._transport = transport
        self._fleet = fleet
        self._now = now
        self._asked_at = float("-inf")
        self._healths: Mapping[str, ModelHealth] = {}
        self._http: httpx.AsyncClient | None = None

    async def queue_lengths(self) -> Mapping[str, ModelLoad]:
        """By the name of the model; only those whose process has just answered."""
        return {
            name: ModelLoad(one.status.n_waiting, one.status.n_running, one.status.wait_s, one.status.service_s)
            for name, one in (await self.healths()).items()
        }

    async def healths(self) -> Mapping[str, ModelHealth]:
        """How the models are, by name; the fleet hears of it too. Never raises because of a process."""
        if self._now() - self._asked_at >= _PERIOD_S:
            self._asked_at = self._now()  # before asking: who calls meanwhile gets what was said last time
            told = await asyncio.gather(*map(self._ask, self._fleet.supervisors()))
            self._healths = {one.model: one for healths in told for one in healths}
            self._fleet.hear(self._healths.values())
        return self._healths

    async def aclose(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def _ask(self, supervisor: Supervisor) -> tuple[ModelHealth, ...]:
        state = supervisor.state()
        if state is None or state.phase != "ready" or state.fingerprint != supervisor.fingerprint:
            return ()
        try:
            return await self._health(state)
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return ()  # it is ending, and its supervisor cares for it, or it is too busy

    async def _health(self, state: ModelState) -> tuple[ModelHealth, ...]:
        if self._http is None:
            self._http = httpx.AsyncClient(trust_env=False, timeout=_TIMEOUT_S, transport=self._transport)
        response = await self._http.get(f"{state.url}/health", headers={"Authorization": f"Bearer {state.token}"})
        response.raise_for_status()
        return tuple(ModelHealth.from_json(one) for one in json.loads(response.content)["models"])
