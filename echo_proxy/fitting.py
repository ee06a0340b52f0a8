"""When are a policy's models fitted anew? In the background, one fit at a time, with a rest after each."""

import asyncio
import logging
from collections.abc import Callable

from echo_proxy.errors import FAULTS
from echo_proxy.learning.fit import fit_outcomes
from echo_proxy.learning.fit_utility import fit_utility
from echo_proxy.pipeline import Parts
from echo_proxy.policy import Policy
from echo_proxy.telemetry.counts import EVERYONE, Counts

log = logging.getLogger("echo_proxy")

_REFIT_SHARE = 0.05
"""A fit of 5,000 lessons takes about a second of one core: only once so large a share of them is new."""
_REST = 10.0
"""And only after a rest of so many times what the last fit took. # guess, not yet measured"""


class Fitting:
    """The fits of one policy's models in one worker. Belongs to one event loop."""

    def __init__(self, parts: Callable[[], Parts], counts: Counts) -> None:
        self._parts = parts
        """As they are now; a reload replaces the policy."""
        self._counts = counts
        self._n_fitted = 0
        self._fitted_for: Policy | None = None
        """The policy that the last fit was begun for."""
        self._rests_until = 0.0
        """Monotonic seconds."""
        self._task: asyncio.Task[None] | None = None
        self._has_told = False

    def begin(self) -> None:
        """Fit in the background, when it is due and no fit is under way: meanwhile outcomes are written."""
        if self._is_due() and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self.fit())

    async def stop(self) -> None:
        """Let the fit under way go; what comes of it is dropped."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def fit(self) -> None:
        """Fit the models to the lessons, in a thread, when it is due. A fit that fails leaves them as they are."""
        if not self._is_due():
            return
        parts, started = self._parts(), self._parts().clock.monotonic()
        self._fitted_for, self._n_fitted = parts.policy, parts.knowledge.memory.n_changes
        try:
            await self._fit(parts)
        except FAULTS as error:
            self._note_fault(parts.policy, error)
        ended = parts.clock.monotonic()
        self._rests_until = ended + _REST * (ended - started)

    async def _fit(self, parts: Parts) -> None:
        policy, knowledge = parts.policy, parts.knowledge
        lessons = knowledge.begin_fit()
        model = await asyncio.to_thread(fit_outcomes, policy, lessons)
        learned = await asyncio.to_thread(fit_utility, policy, lessons, knowledge.learned)
        if policy is self._parts().policy:  # else these are the models of a policy that is no longer in force
            knowledge.end_fit(model)
            knowledge.learned = learned

    def _is_due(self) -> bool:
        """At once for another policy; else when enough is new, after a rest."""
        parts = self._parts()
        if self._fitted_for is not parts.policy:
            return True
        memory = parts.knowledge.memory
        is_enough = memory.n_changes - self._n_fitted >= max(1.0, _REFIT_SHARE * len(memory))
        return is_enough and parts.clock.monotonic() >= self._rests_until

    def _note_fault(self, policy: Policy, error: Exception) -> None:
        """Counted every time; told in the log once, as the same lesson would fill it."""
        self._counts.add(EVERYONE, "fit_failed")
        if not self._has_told:
            self._has_told = True
            log.error(
                "policy %s: a fit failed, the old models stay; more are only counted", policy.name, exc_info=error
            )
