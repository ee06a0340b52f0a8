"""Settled outcomes reach the store in order, once, or are counted as lost."""

import asyncio
from dataclasses import replace

import pytest

from echo_proxy.admission.gate import Gate
from echo_proxy.errors import SchemaMismatch, StoreUnavailable
from echo_proxy.online.sample import JudgeCall
from echo_proxy.outbox import Outbox
from echo_proxy.pipeline import Settled
from echo_proxy.policy_keeping import AdmissionPolicy, PresidioPolicy, PrivacyPolicy
from echo_proxy.telemetry.counts import Counts
from echo_proxy.types import ArmKey, ArmSums, Example, Increment, Observation, SeenAnswer, Settlement
from tests.builders import NOW, example, policy, record, vector
from tests.fakes import FrozenClock, HashingEmbedder, MemoryStore

KEY = ArmKey("large+0", "all")


def settled(decision_id: str, made: Example | None = None) -> Settled:
    increments = (Increment(KEY, ArmSums(1.0, 0.5, 0.25)),)
    return Settled(Settlement(record(decision_id), increments, ()), made, None)


class _Choosy(MemoryStore):
    """Refuses some decisions, and can be held up."""

    def __init__(self, refuses: dict[str, Exception] | None = None) -> None:
        super().__init__()
        self.refuses = refuses or {}
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.order: list[str] = []

    async def settle(self, settlement: Settlement) -> bool:
        await self.may_go_on.wait()
        if settlement.record.id in self.refuses:
            raise self.refuses[settlement.record.id]
        self.order.append(settlement.record.id)
        return await super().settle(settlement)


class _Box:
    def __init__(self, store: MemoryStore, max_pending: int = 100) -> None:
        self.counts = Counts()
        gate = Gate(store, HashingEmbedder(), FrozenClock(NOW))
        self.outbox = Outbox(store, gate, self.counts, max_pending)

    def put(self, *decision_ids: str) -> None:
        for one in decision_ids:
            self.outbox.put(settled(one), policy())

    @property
    def lost(self) -> float:
        return self.counts.take().get(("key:a", "dropped_outcomes"), 0.0)


@pytest.fixture
def store() -> _Choosy:
    return _Choosy()


async def test_what_was_put_is_written(store: _Choosy) -> None:
    """More than one batch, in order, and nothing waits afterwards."""
    box = _Box(store)
    names = [f"d{i:03}" for i in range(40)]
    box.put(*names)

    await box.outbox.flush()

    assert store.order == names
    assert (len(box.outbox), list(box.outbox.unwritten()), box.lost) == (0, [], 0)


async def test_the_example_stands_before_its_record(store: _Choosy) -> None:
    """It replaces its twins; a record never names an example that was not kept."""
    await store.add(example("twin", response="Lyon."))
    box = _Box(store)
    box.outbox.put(settled("d1", example("d1")), policy())

    await box.outbox.flush()

    assert list(store.examples) == ["d1"]
    assert list(store.records) == ["d1"]
    assert store.records["d1"].admitted_id == "d1"


async def test_a_twin_that_says_the_same_stays_with_its_outcomes(store: _Choosy) -> None:
    """What the model could not make use of must not come back as new each time the teacher repeats it."""
    await store.add(example("twin", uses=3.0, gain=0.0))
    box = _Box(store)
    box.outbox.put(settled("d1", example("d1")), policy())

    await box.outbox.flush()

    assert list(store.examples) == ["twin"]
    assert store.examples["twin"].uses == 3.0
    assert store.records["d1"].admitted_id == "twin"


async def test_a_store_that_is_away_loses_nothing(store: _Choosy) -> None:
    """Everything waits in order and is written when it is back, once."""
    store.is_away = True
    box = _Box(store)
    names = [f"d{i:03}" for i in range(20)]
    box.put(*names)

    with pytest.raises(StoreUnavailable):
        await box.outbox.flush()
    waiting = len(box.outbox)
    store.is_away = False
    await box.outbox.flush()

    assert waiting == 20
    assert list(store.records) == names
    assert store.evidence == {KEY: ArmSums(20.0, 10.0, 5.0)}


async def test_only_what_failed_is_written_again() -> None:
    """The others of its batch are done; the failed ones keep their place before what came later."""
    store = _Choosy({"d1": StoreUnavailable("away"), "d3": StoreUnavailable("away")})
    box = _Box(store)
    box.put("d0", "d1", "d2", "d3")

    with pytest.raises(StoreUnavailable):
        await box.outbox.flush()
    box.put("d4")
    store.refuses = {}
    await box.outbox.flush()

    assert store.order == ["d0", "d2", "d1", "d3", "d4"]


async def test_writing_twice_learns_once(store: _Choosy) -> None:
    """A reply that was lost makes us write again."""
    box = _Box(store)
    box.put("d1", "d1")

    await box.outbox.flush()

    assert store.evidence == {KEY: ArmSums(1.0, 0.5, 0.25)}


@pytest.mark.parametrize("error", [SchemaMismatch("another model"), ValueError("a number that is none")])
async def test_what_the_store_refuses_is_counted_and_holds_nobody_up(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Writing it again would fail for ever."""
    store = _Choosy({"bad": error})
    box = _Box(store)
    box.put("d0", "bad", "d2")

    await box.outbox.flush()

    assert store.order == ["d0", "d2"]
    assert (len(box.outbox), box.lost) == (0, 1)
    assert "outcome of decision bad cannot be written" in caplog.text


async def test_a_worker_that_stops_in_the_middle_loses_nothing(store: _Choosy) -> None:
    """What was being written waits again, and is written before the store is let go."""
    store.may_go_on.clear()
    box = _Box(store)
    box.put("d0", "d1")
    flushing = asyncio.create_task(box.outbox.flush())
    while len(box.outbox):
        await asyncio.sleep(0)

    flushing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flushing
    waiting = len(box.outbox)
    store.may_go_on.set()
    await box.outbox.flush()

    assert waiting == 2
    assert store.order == ["d0", "d1"]


async def test_a_full_outbox_drops_the_oldest_and_counts_it(store: _Choosy, caplog: pytest.LogCaptureFixture) -> None:
    """Never silently."""
    box = _Box(store, max_pending=3)
    box.put("d0", "d1", "d2", "d3", "d4")

    await box.outbox.flush()

    assert store.order == ["d2", "d3", "d4"]
    assert box.lost == 2
    assert "outcome of decision d0 dropped" in caplog.text


async def test_who_waits_is_told_of_new_outcomes(store: _Choosy) -> None:
    """Once per flush."""
    box = _Box(store)
    before = box.outbox.arrived.is_set()
    box.put("d0")
    during = box.outbox.arrived.is_set()
    await box.outbox.flush()

    assert (before, during, box.outbox.arrived.is_set()) == (False, True, False)


async def test_what_is_not_written_is_known(store: _Choosy) -> None:
    """So that a refresh from the store does not forget it."""
    box = _Box(store)
    box.put("d0", "d1")

    assert list(box.outbox.unwritten()) == [Increment(KEY, ArmSums(1.0, 0.5, 0.25))] * 2


async def test_what_the_gate_does_is_counted_when_it_is_written(store: _Choosy) -> None:
    """Once, under the scope of the request, also when the store was away in between."""
    box = _Box(store)
    store.refuses = {"d1": StoreUnavailable("away")}
    box.outbox.put(settled("d1", example("d1")), policy())
    box.outbox.put(settled("d2", example("d2", quality=0.2, request="Why?", vector=vector(0.0, 1.0))), policy())

    with pytest.raises(StoreUnavailable):
        await box.outbox.flush()
    store.refuses = {}
    await box.outbox.flush()

    assert box.counts.take() == {("key:a", "admitted"): 1.0, ("key:a", "refused:quality"): 1.0}
    assert (store.records["d1"].admitted_id, store.records["d2"].admitted_id) == ("d1", "")


async def test_what_was_seen_of_a_stored_answer_is_noted_once(store: _Choosy) -> None:
    """Though its outcome is written twice."""
    await store.add(example("e1"))
    seen = Observation(0.1, True, NOW)
    box = _Box(store)
    for _ in range(2):
        box.outbox.put(replace(settled("d1"), seen=SeenAnswer("e1", 1, seen)), policy())

    await box.outbox.flush()

    assert store.examples["e1"].observations == (seen,)


async def test_a_judge_is_asked_about_what_another_waits_with(store: _Choosy) -> None:
    """His answer differs from the new one to the same request; the call goes where judge calls go."""
    rules = policy(scope="team", judge={"sampled": {"model_group": "judge", "rate": 1.0}})
    team = {"scope": "team:t"}
    await store.add(example("first", writer="b", reader="b", response="It is Paris.", **team))
    box, asked = _Box(store), list[JudgeCall]()
    box.outbox.judge = asked.append
    box.outbox.put(settled("d1", example("d1", **team)), rules)

    await box.outbox.flush()

    assert [(one.answer, one.approves and one.approves.example_id) for one in asked] == [("It is Paris.", "first")]


async def test_a_record_is_cleaned_before_it_is_written(store: _Choosy, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the policy's rules; where that fails its texts are dropped and counted, not the settlement."""
    box, told = _Box(store), {"request": "I am a@example.com"}
    first, second = (Settled(Settlement(record(name, explanation=told), (), ()), None, None) for name in ("d1", "d2"))
    box.outbox.put(first, policy())
    await box.outbox.flush()
    monkeypatch.setattr("echo_proxy.admission.telling.clean", None)
    box.outbox.put(second, policy())
    await box.outbox.flush()

    assert store.records["d1"].explanation["request"] == "I am [email 1]"
    assert store.records["d2"].explanation["request"] is None
    assert box.counts.take()[("key:a", "texts_dropped")] == 1


async def test_an_outcome_whose_texts_cannot_be_cleaned_is_settled(store: _Choosy) -> None:
    """Presidio's model has gone: nothing is kept, no text is told, and both are counted."""
    rules = PrivacyPolicy(presidio=PresidioPolicy(model="en_core_web_none"))
    box, made = _Box(store), settled("d1", example("d1"))
    told = replace(made.settlement, record=replace(made.settlement.record, explanation={"request": "Why?"}))
    box.outbox.put(replace(made, settlement=told), policy(admission=AdmissionPolicy(privacy=rules)))

    await box.outbox.flush()

    assert store.records["d1"].explanation["request"] is None
    assert (store.records["d1"].admitted_id, store.examples) == ("", {})
    counts = box.counts.take()
    assert (counts["key:a", "refused:privacy:failed"], counts["key:a", "texts_dropped"]) == (1, 1)


async def test_what_was_forgotten_meanwhile_stays_forgotten(store: _Choosy) -> None:
    """The reply to a settlement was lost and it is repeated; its example arrives once."""
    box, real = _Box(store), store.settle

    async def loses_its_reply(settlement: Settlement) -> bool:
        await real(settlement)
        raise StoreUnavailable("the reply is lost")

    store.settle = loses_its_reply  # type: ignore[method-assign]
    box.outbox.put(settled("d1", example("d1")), policy())
    with pytest.raises(StoreUnavailable):
        await box.outbox.flush()
    await store.remove(["d1"])
    store.settle = real  # type: ignore[method-assign]
    await box.outbox.flush()

    assert store.examples == {}
    assert (store.records["d1"].admitted_id, len(box.outbox)) == ("d1", 0)
