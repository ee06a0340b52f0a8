"""Who is asked in a round, and when may it be asked? The teacher and the judge, while idle and within the budget."""

import asyncio
from dataclasses import replace

from echo_proxy.beside import Models
from echo_proxy.errors import AskError
from echo_proxy.online.sample import Ask, Reply
from echo_proxy.policy import Policy
from echo_proxy.types import Message, Prompt
from echo_proxy.upkeep.budget import Budget, BudgetSpent
from echo_proxy.upkeep.idle import Idle

_ASK_S = 60.0
"""Seconds for one call, as beside the path. # guess, not yet measured"""
_MAX_TOKENS = 2_048
"""As the teacher is given beside the path; an answer that is cut at it is not kept."""


def teacher_of(policy: Policy) -> str:
    """Deployment that upkeep asks: that of the first teacher arm; empty when there is none."""
    return next((arm.deployment for arm in policy.to_arms() if arm.is_teacher), "")


class Asker:
    """Asks models while they are idle, as long as the budget lasts."""

    def __init__(self, models: Models, policy: Policy, budget: Budget, idle: Idle) -> None:
        self._models = models
        self._budget = budget
        self._idle = idle
        self._teacher = teacher_of(policy)
        self._groups = list(policy.match.model_groups)
        """The teacher is in one of them, tried in this order."""

    async def ask(self, ask: Ask) -> Reply:
        """The reply. Raises AskError, TimeoutError or BudgetSpent."""
        await self._idle.until_low(self._budget)
        if not self._budget.has_room(0.0):
            raise BudgetSpent("the round's time is over")
        async with asyncio.timeout(_ASK_S):
            reply = await self._models.ask(ask)
        self._budget.spend(reply.cost_usd)
        return reply

    def must_afford(self, usd: float) -> None:
        """Raises BudgetSpent unless there is room for something that probably costs so much."""
        if not self._budget.has_room(usd):
            raise BudgetSpent(f"the next answer would cost about {usd:.4f} USD, {self._budget.left_usd:.4f} are left")

    async def teach(self, system: str, request: str, wants_json: bool) -> Reply:
        """The teacher's answer to a single question. Raises as `ask`."""
        head = (Message("system", system),) if system else ()
        messages = (*head, Message("user", request))
        asked = Ask("", self._teacher, messages, Prompt(), _MAX_TOKENS, wants_json)
        for group in self._groups[:-1]:
            try:
                return await self._from(group, asked)
            except AskError:  # perhaps it only is in another group
                continue
        return await self._from(self._groups[-1], asked)

    async def _from(self, group: str, asked: Ask) -> Reply:
        reply = await self.ask(replace(asked, model_group=group))
        self._groups = [group]
        return reply
