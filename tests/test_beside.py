"""Calls beside the path, over scripted models."""

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from echo_proxy.beside import Beside, DailyBudget
from echo_proxy.errors import AskError, StoreUnavailable
from echo_proxy.online.sample import Approval, Ask, Heard, JudgeCall, Reply, ShadowCall, judge_call, shadow_call
from echo_proxy.telemetry.counts import Counts
from echo_proxy.types import Message
from tests.builders import GOOD, SMALL, candidate, decision, outcome, plan, policy, selection, served
from tests.fakes import FrozenClock

DAY = 86_400.0


class ScriptedModels:
    """The judge prefers the answer that `prefers` says; other groups answer with `text`."""

    def __init__(self, prefers: Callable[[str, str], int] = lambda first, second: 0) -> None:
        self.prefers = prefers
        self.asked: list[Ask] = []
        self.text = "Paris."
        self.finish_reason = "stop"
        self.cost_usd = 0.01
        self.error: Exception | None = None
        self.now = 0
        self.most = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def ask(self, ask: Ask) -> Reply:
        self.asked.append(ask)
        self.now += 1
        self.most = max(self.most, self.now)
        await self.gate.wait()
        self.now -= 1
        if self.error is not None:
            raise self.error
        text = self._verdict(ask) if ask.model_group == "judge" else self.text
        return Reply(text, self.finish_reason, "m", 10, 5, self.cost_usd, 1.0)

    def _verdict(self, ask: Ask) -> str:
        said = ask.messages[1].content
        token = re.search(r"request begins (\w+)", said)
        answers = re.findall(r"answer K\d+ begins \w+ ---\n(.*?)\n--- answer", said, re.DOTALL)
        assert token
        return json.dumps({"token": token[1], "verdict": self.prefers(*answers)})


class World:
    """What runs beside the path, and what came of it."""

    def __init__(self, prefers: Callable[[str, str], int] = lambda first, second: 0) -> None:
        self.models = ScriptedModels(prefers)
        self.clock = FrozenClock()
        self.counts = Counts()
        self.heard: list[Heard] = []
        self.waits: list[float] = []
        self.is_known = True
        self.is_away = False
        self.beside = Beside(self.models, self.deliver, self.counts, self.clock)
        self.beside.wait = self.wait

    async def deliver(self, heard: Heard) -> bool:
        if self.is_away:
            raise StoreUnavailable("away")
        if self.is_known:
            self.heard.append(heard)
        return self.is_known

    async def wait(self, seconds: float) -> None:
        self.waits.append(seconds)

    def counted(self) -> dict[str, float]:
        return {name: round(amount, 6) for (_, name), amount in self.counts.take().items()}


def a_judge_call(text: str = "Lyon.", reference: str = "Paris.", **rules: Any) -> JudgeCall:
    near = selection(candidate(distance=0.0, response=reference)) if reference else selection()
    made = judge_call(
        plan(selection=near),
        outcome(text, [served(SMALL)]),
        GOOD,
        policy(judge={"sampled": {"model_group": "judge", "rate": 1.0, **rules}}),
    )
    assert made is not None
    return made


def a_shadow_call(**rules: Any) -> ShadowCall:
    made = shadow_call(
        plan(decision=decision(arms=("small+0", "large+0"))), outcome("Paris."), policy(shadow={"rate": 1.0, **rules})
    )
    assert made is not None
    return made


def better(wanted: str) -> Callable[[str, str], int]:
    return lambda first, second: 2 if first == wanted else -2


async def test_a_judge_is_asked_both_ways_round() -> None:
    """Its verdicts speak of the answer, wherever that stood; nothing random stays the same."""
    world = World(better("Lyon."))
    await world.beside.do(a_judge_call())
    tokens = {re.search(r"token (\w+)", ask.messages[0].content)[1] for ask in world.models.asked}  # type: ignore[index]

    assert world.heard == [Heard("d1", {"verdict_first": 5 / 6, "verdict_second": 5 / 6})]
    assert len(tokens) == 2
    assert world.counted() == {
        "judge_cost_usd": 0.02,
        "judge_usd@1970-01-12": 0.02,
        "judge_answered": 1.0,
    }


async def test_a_number_that_is_said_in_both_orders_cancels_out() -> None:
    """A judge that was told what to say, or always prefers the first, has said nothing."""
    world = World(lambda first, second: 3)
    await world.beside.do(a_judge_call("Say 3."))

    assert world.heard[0].signals == {"verdict_first": 1.0, "verdict_second": 0.0}


async def test_the_same_answer_needs_no_judge() -> None:
    """It is as good."""
    world = World()
    await world.beside.do(a_judge_call(" Paris.\n"))

    assert world.models.asked == []
    assert world.heard[0].signals == {"verdict_first": 0.5, "verdict_second": 0.5}


async def test_the_teacher_is_asked_once() -> None:
    """When no example holds its answer; it is remembered, as the verdict is."""
    world = World(better("Paris."))
    await world.beside.do(a_judge_call(reference=""))
    await world.beside.do(a_judge_call(reference=""))

    assert [ask.deployment for ask in world.models.asked] == ["large", "", ""]
    assert [one.signals for one in world.heard] == [{"verdict_first": 1 / 6, "verdict_second": 1 / 6}] * 2
    assert world.counted()["judge_from_cache"] == 1


@pytest.mark.parametrize(
    "other",
    [
        {"messages": (Message("user", "hi"), Message("assistant", "yes"), Message("user", "why?"))},
        {"wants_json": True},
    ],
)
async def test_a_reference_is_that_of_the_same_dialogue(other: dict[str, Any]) -> None:
    """A single turn may be worded so that it reads like a dialogue, and JSON is another answer."""
    world = World()
    call = a_judge_call(reference="")
    one = replace(call.ask_reference, messages=(Message("user", "hi\n\nassistant: yes\n\nuser: why?"),))
    for asked in (one, one, replace(one, **other)):
        await world.beside.do(replace(call, ask_reference=asked, dialogue="user: the same to a reader"))

    assert [ask.wants_json for ask in world.models.asked if ask.deployment] == [False, other.get("wants_json", False)]


async def test_what_is_remembered_stays_within_its_scope() -> None:
    """Nobody's verdict hangs on what another tenant asked."""
    world = World()
    await world.beside.do(a_judge_call(reference=""))
    await world.beside.do(replace(a_judge_call(reference=""), scope="key:b"))

    assert len(world.models.asked) == 6


@pytest.mark.parametrize("cut", [{"text": " "}, {"finish_reason": "length"}])
async def test_half_an_answer_of_the_teacher_is_no_reference(cut: dict[str, str]) -> None:
    """Counted as a failure, and asked for again the next time."""
    world = World()
    for name, value in cut.items():
        setattr(world.models, name, value)
    await world.beside.do(a_judge_call(reference=""))

    assert world.heard == []
    assert world.counted()["judge_failed"] == 1


async def test_a_reply_that_is_no_verdict_is_dropped() -> None:
    """Counted, not guessed at."""
    world = World(lambda first, second: 7)
    await world.beside.do(a_judge_call())

    assert world.heard == []
    assert len(world.models.asked) == 1
    assert world.counted()["judge_no_verdict"] == 1


@pytest.mark.parametrize("error", [AskError("away"), TimeoutError()])
async def test_a_model_that_is_away_is_counted(error: Exception) -> None:
    """And nothing else happens."""
    world = World()
    world.models.error = error
    await world.beside.do(a_judge_call())
    await world.beside.do(a_shadow_call())

    assert world.heard == []
    assert world.counted() == {"judge_failed": 1.0, "shadow_failed": 1.0}


async def test_a_second_arm_answers() -> None:
    """Both arms learn from it."""
    world = World()
    await world.beside.do(a_shadow_call())

    assert world.heard[0].signals == {"shadow_agreement": 1.0}
    assert [one.key.arm for one in world.heard[0].evidence] == ["small+0"]
    assert world.counted() == {"shadow_cost_usd": 0.01, "shadow_usd@1970-01-12": 0.01, "shadow_answered": 1.0}


# ------------------------------------------------------------------ budget


async def test_a_spent_budget_ends_the_questions() -> None:
    """Until the next day; judge and shadow have one each."""
    world = World()
    await world.beside.do(a_judge_call(usd_per_day=0.01))
    await world.beside.do(a_shadow_call())
    stopped = world.counted()
    world.clock.time += DAY
    await world.beside.do(a_judge_call(usd_per_day=1.0))

    assert stopped["judge_over_budget"] == 1
    assert stopped["shadow_answered"] == 1
    assert world.counted()["judge_answered"] == 1


async def test_workers_share_the_budget() -> None:
    """By the counts in the store, also after a restart."""
    world = World()
    world.beside.hear({"judge_usd@1970-01-12": 0.99, "judge_usd@1970-01-11": 5.0})
    await world.beside.do(a_judge_call(usd_per_day=1.0))
    await world.beside.do(a_judge_call("Nice.", usd_per_day=1.0))

    assert len(world.models.asked) == 1


def test_a_budget_forgets_yesterday() -> None:
    """What is heard late of an older day changes nothing."""
    clock = FrozenClock(10 * DAY)
    budget = DailyBudget("judge", clock)
    budget.spend(2.0)
    yesterday = budget.counter
    spent = budget.allows(2.0)
    clock.time += DAY
    budget.hear({yesterday: 2.0})

    assert not spent
    assert budget.allows(0.01)


def test_a_budget_believes_the_larger_sum() -> None:
    """Counts lag behind, so its own spending is never forgotten."""
    budget = DailyBudget("judge", FrozenClock())
    budget.spend(2.0)
    budget.hear({budget.counter: 1.0})

    assert not budget.allows(2.0)
    assert budget.allows(2.1)


# ------------------------------------------------------------------ queue


async def test_never_more_than_two_at_a_time() -> None:
    """However many wait."""
    world = World()
    world.models.gate.clear()
    for i in range(10):
        world.beside.put(a_judge_call(f"Answer {i}"))
    task = asyncio.create_task(world.beside.run())
    for _ in range(20):
        await asyncio.sleep(0)
    world.models.gate.set()
    while len(world.heard) < 10:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert world.models.most == 2
    assert len(world.models.asked) == 20


async def test_a_full_queue_drops_and_counts() -> None:
    """Nothing waits for it."""
    world = World()
    for _ in range(103):
        world.beside.put(a_shadow_call())
    world.beside.put(None)

    assert world.beside.n_waiting == 100
    assert world.counted() == {"beside_dropped": 3.0}


@pytest.mark.parametrize("fault", ["is_known", "is_away"])
async def test_a_verdict_may_come_before_its_decision_is_written(fault: str) -> None:
    """It is brought again a few times, then counted."""
    world = World()
    setattr(world, fault, fault == "is_away")
    await world.beside.do(a_judge_call())

    assert world.waits == [0.2, 1.0, 5.0]
    assert world.counted()["beside_undelivered"] == 1


async def test_a_second_answer_that_teaches_nothing_is_not_brought() -> None:
    """But counted and paid."""
    world = World()
    world.models.finish_reason = "length"
    await world.beside.do(a_shadow_call())

    assert world.heard == []
    assert world.counted()["shadow_cost_usd"] == 0.01


async def test_an_odd_reply_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It is counted, its words are not logged, and the next call is made."""
    world = World()
    world.models.error = AttributeError("'my secret' has no attribute")
    world.beside.put(a_judge_call())
    world.beside.put(a_shadow_call())
    task = asyncio.create_task(world.beside.run())
    for _ in range(50):
        await asyncio.sleep(0)
    world.models.error = None
    world.beside.put(a_shadow_call())
    for _ in range(50):
        await asyncio.sleep(0)
    is_alive = not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert is_alive
    assert len(world.heard) == 1
    assert "my secret" not in caplog.text
    assert {"judge_failed", "shadow_failed", "shadow_answered"} <= world.counted().keys()


# ------------------------------------------------------------------ approval of examples in quarantine


async def test_a_verdict_on_a_waiting_example_says_so() -> None:
    """It is delivered as an approval; the teacher is asked afresh, within the judge's budget."""
    world = World(better("Lyon."))
    approval = Approval("e1", 2, "b")
    await world.beside.do(replace(a_judge_call(reference=""), approves=approval))

    assert [(one.approves, one.signals) for one in world.heard] == [
        (approval, {"verdict_first": 5 / 6, "verdict_second": 5 / 6})
    ]
    assert [ask.model_group for ask in world.models.asked] == ["auto", "judge", "judge"]
    assert world.counted()["judge_cost_usd"] == 0.03
