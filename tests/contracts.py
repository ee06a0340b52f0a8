"""One suite per protocol, run against every implementation."""

import asyncio
import math
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from echo_proxy.errors import SchemaMismatch, StoreUnavailable
from echo_proxy.protocols import Ledger, Reembeddable, Store
from echo_proxy.stores.config import StoreConfig
from echo_proxy.types import (
    Amendment,
    ArmKey,
    ArmSums,
    Conditions,
    Context,
    DecisionRecord,
    Embedding,
    Evidence,
    Example,
    ExampleIncrement,
    Forecast,
    Increment,
    Lesson,
    LessonPage,
    Load,
    Query,
    Settlement,
    Situation,
    Trial,
)
from tests.fakes import FrozenClock

NOW = 4_000_000_000.0
"""Later than any server's own clock, so that only the frozen clock decides what has expired."""
DAY_S = 86_400.0
DIMENSIONS = 8
HOSTILE = (
    *("key:3f2a", "key:3F2A", "a", "a,b", "a|b", "a b", "a ", " a", "*", "a*", "", "%", "{a}", "}{", "a\\", '"', "'"),
    *(
        "@scope:{x}",
        "-a",
        "é",
        "e\u0301",
        "日本",
        "\ud800",
        "a\x00b",
        "a\nb",
        "$v",
        "(a)",
        "[1 2]",
        "a=>[KNN 1 @v $v]",
        "~a",
    ),
)
_ROUNDED = pytest.approx


def config_of(policy: str, **changes: object) -> StoreConfig:
    """A small policy."""
    config = StoreConfig(policy, "hashing", DIMENSIONS, "flat", DAY_S, 30 * DAY_S, 1000)
    return replace(config, **changes)  # type: ignore[arg-type]


def vector(angle: float) -> Embedding:
    """Unit vector whose cosine distance to vector(0) is 1 - cos(angle)."""
    out = np.zeros(DIMENSIONS, dtype=np.float32)
    out[0], out[1] = math.cos(angle), math.sin(angle)
    return out


def example(example_id: str, angle: float = 0.0, **changes: object) -> Example:
    """An example that lives for a day."""
    made = Example(
        id=example_id,
        scope="key:a",
        partition="p",
        request="What is the capital of France?",
        response="Paris – “la ville lumière”.",
        vector=vector(angle),
        teacher="large",
        decision_id="d0",
        writer="a",
        quality=0.9,
        n_tokens=12,
        created_at=NOW,
        expires_at=NOW + DAY_S,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def query(**changes: object) -> Query:
    """All around vector(0) in the scope of `example`."""
    return replace(Query(vector(0.0), "key:a", "p", 10, 2.0, NOW, None), **changes)  # type: ignore[arg-type]


def record(decision_id: str, revision: int = 1, **changes: object) -> DecisionRecord:
    """A decision just settled."""
    made = DecisionRecord(
        id=decision_id,
        policy="p",
        caller="a",
        is_acted=True,
        scope="key:a",
        created_at=NOW,
        expires_at=NOW + 7 * DAY_S,
        revision=revision,
        arm="small+4",
        segment="utility[0.6,0.8) names=held",
        propensity=0.75,
        served_by="small-1",
        n_examples=2,
        prompt_tokens=100,
        completion_tokens=20,
        cost_usd=0.00012,
        latency_s=0.8,
        is_whole=True,
        quality=0.7,
        quality_weight=0.25,
        reward=0.65,
        evidence=(Evidence(ArmKey("small+4", "all"), 0.25, 0.65), Evidence(ArmKey("b", "all"), 1.0, 0.0, False)),
        example_ids=("e1", "e2"),
        admitted_id="",
        feedback=None,
        explanation={"adjustments": ["floor"], "pmf": {"small+4": 0.75}, "note": "é"},
        signals={"answered": 1.0, "feedback": 0.1 + 0.2},
        deadline_s=2.5,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def settlement(
    decision_id: str, revision: int = 1, sums: ArmSums | None = None, arm: str = "small+4", **changes: object
) -> Settlement:
    """A settlement that brings one arm these sums."""
    increments = () if sums is None else (Increment(ArmKey(arm, "all"), sums),)
    return Settlement(record(decision_id, revision, **changes), increments, ())


def lesson(decision_id: str, **changes: object) -> Lesson:
    """What a decision just settled teaches; every field differs from its default."""
    conditions = Conditions(
        loads={"small": Load(1.5, 2.0, 0.8, 0.25)},
        forecasts={"small+4": Forecast(1e-17, 0.8, 3.5, 0.2, 0.1), "b": Forecast(0.1 + 0.2, math.inf, 0.0)},
        budget_price=0.1,
        last_deployment="small",
        deadline_s=2.5,
        preference=0.0,
    )
    context = Context("c1", (1.0, -0.25, 1 / 3), (0.5, -1 / 7))
    made = Lesson(
        decision_id=decision_id,
        at=NOW,
        arms=("small+4", "b"),
        pmf=(0.75, 0.25),
        arm="small+4",
        is_acted=True,
        means=(0.6, 2 / 3),
        situation=Situation("names=held", context, vector(0.3), 0.7, 2, conditions),
        evidence=(Evidence(ArmKey("small+4", "é {x}"), 0.25, 0.65), Evidence(ArmKey("b", "all"), 1.0, 0.0, False)),
        trials=(Trial("e1", "u1", (0.1, 1.0), 0.9, True), Trial("e2", "u1", (), 1.0, False)),
        quality=0.7,
        quality_weight=0.25,
        reward=0.65,
        cost_usd=0.00012,
        latency_s=0.8,
        time_to_first_token_s=None,
        prompt_tokens=100,
        completion_tokens=20,
        threshold=0.55,
        caller="a",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def amendment(decision_id: str, revision: int = 2) -> Amendment:
    """Feedback has come in."""
    return Amendment(decision_id, revision, (Evidence(ArmKey("small+4", "all"), 1.0, 0.1),), 0.0, 1.0, 0.1)


def taught(decision_id: str, revision: int = 1, given_one: Lesson | Amendment | None = None) -> Settlement:
    """A settlement that teaches something."""
    first = lesson(decision_id) if revision == 1 else amendment(decision_id, revision)
    return replace(settlement(decision_id, revision), lesson=given_one or first)


def taught_by(lessons: Sequence[Lesson | Amendment]) -> list[str]:
    """Ids of the decisions."""
    return [one.decision_id for one in lessons]


def without_vector(one: Lesson) -> Lesson:
    """Arrays cannot be compared as a part of a record."""
    return replace(one, situation=replace(one.situation, vector=None))


def ids(found: tuple) -> list[str]:  # type: ignore[type-arg]
    """Ids of candidates, examples or decisions."""
    return [one.example.id if hasattr(one, "example") else one.id for one in found]


def calls_of_workers(store: Ledger) -> tuple[Coroutine[Any, Any, object], ...]:
    """One of each by which workers learn from each other."""
    return (
        store.lessons("", 10),
        store.report_loads("w", {"small": Load(1)}, 10),
        store.loads(),
        store.remember_turn("c", "small", 10),
        store.last_turn("c"),
    )


StoreMaker = Callable[..., Awaitable[Store]]
SMALL = {"model": "minilm", "dimensions": 4}
"""Another embedding model."""


def with_small_vectors(examples: Sequence[Example]) -> list[Example]:
    """As the other model embeds them: of the right size, and in the opposite direction."""
    return [replace(one, vector=-one.vector[:4]) for one in examples]


async def reembed(store: Reembeddable, n_batches: int | None = None) -> list[str]:
    """Exchange the vectors for the other model's, three at a time; stops early after n_batches. Ids in order."""
    seen: list[str] = []
    async with store.reembedding() as work:
        assert work is not None
        while n_batches is None or n_batches > 0:
            backlog = await work.stale(3)
            if not backlog.examples:
                await work.finish()
                break
            await work.rewrite(with_small_vectors(backlog.examples))
            seen += ids(backlog.examples)
            n_batches = n_batches and n_batches - 1
    return seen


class StoreFixtures:
    """Stores on a policy of the test's own. A subclass brings `new_store(config, clock) -> Store`, not open."""

    @pytest.fixture
    def clock(self) -> FrozenClock:
        return FrozenClock(NOW)

    @pytest.fixture
    def unopened(self, new_store: Callable[..., Store], clock: FrozenClock) -> Callable[..., Any]:
        """Makes stores on the test's own policy; another call is another worker."""
        policy = f"t{uuid.uuid4().hex[:12]}"
        return lambda **changes: new_store(config_of(**({"policy": policy} | changes)), clock)

    @pytest.fixture
    async def make(self, unopened: Callable[..., Store]) -> AsyncIterator[StoreMaker]:
        """Opens stores on the test's own policy."""
        made: list[Store] = []

        async def make(**changes: object) -> Store:
            store = unopened(**changes)
            made.append(store)
            await store.open()
            return store

        yield make
        for store in made:
            await store.close()

    @pytest.fixture
    async def store(self, make: StoreMaker) -> Store:
        return await make()


class LedgerContract(StoreFixtures):
    """What even a store of tests promises of lessons, loads and turns."""

    # ------------------------------------------------------------------ lessons

    async def test_a_lesson_comes_back_as_it_was(self, store: Store) -> None:
        """Every field survives; only the vector is rounded, and has length 1 all the same."""
        await store.settle(taught("d"))
        page = await store.lessons("", 10)

        (got,) = page.lessons
        assert isinstance(got, Lesson)
        assert without_vector(got) == without_vector(lesson("d"))
        seen = got.situation.vector
        assert seen is not None
        assert (seen.dtype, seen.shape) == (np.float32, (DIMENSIONS,))
        assert np.linalg.norm(seen) == _ROUNDED(1.0, abs=1e-6)
        assert seen == _ROUNDED(vector(0.3), abs=1e-3)

    async def test_a_lesson_without_a_vector_comes_back(self, store: Store) -> None:
        """The embedder may have been away."""
        given_one = without_vector(lesson("d", evidence=(), trials=()))
        await store.settle(taught("d", given_one=given_one))

        assert (await store.lessons("", 10)).lessons == (given_one,)

    async def test_lessons_come_in_the_order_of_settling(self, make: StoreMaker) -> None:
        """An amendment follows what it amends; all workers see one order."""
        workers = [await make(), await make()]
        for i, one in enumerate((taught("d1"), taught("d2"), taught("d1", 2), settlement("quiet"), taught("d3"))):
            await workers[i % 2].settle(one)
        pages = [await worker.lessons("", 10) for worker in workers]

        assert taught_by(pages[0].lessons) == ["d1", "d2", "d1", "d3"]
        assert pages[0].lessons[2] == amendment("d1")
        assert taught_by(pages[1].lessons) == taught_by(pages[0].lessons)
        assert pages[1].cursor == pages[0].cursor

    async def test_pages_of_lessons_follow_each_other(self, store: Store) -> None:
        """Each begins where the one before ended; at the end the cursor stays, and goes on with what comes then."""
        empty = await store.lessons("", 10)
        for i in range(5):
            await store.settle(taught(f"d{i}"))
        pages = [await store.lessons("", 3)]
        for _ in range(2):
            pages.append(await store.lessons(pages[-1].cursor, 3))
        await store.settle(taught("late"))
        late = await store.lessons(pages[-1].cursor, 3)

        assert (empty.lessons, empty.cursor) == ((), "")
        assert [taught_by(page.lessons) for page in pages] == [["d0", "d1", "d2"], ["d3", "d4"], []]
        assert pages[2].cursor == pages[1].cursor
        assert taught_by(late.lessons) == ["late"]
        assert (await store.lessons(late.cursor, 0)).cursor == late.cursor

    async def test_a_refused_settlement_teaches_nothing(self, store: Store) -> None:
        """Neither twice nor out of turn."""
        await store.settle(taught("d"))
        results = [
            await store.settle(taught("d")),
            await store.settle(taught("d", 3)),
            await store.settle(taught("e", 2)),
        ]

        assert results == [False] * 3
        assert taught_by((await store.lessons("", 10)).lessons) == ["d"]

    # ------------------------------------------------------------------ loads

    async def test_workers_tell_each_other_their_loads(self, make: StoreMaker) -> None:
        """Each one's newest word counts as a whole, also when it has nothing to say."""
        one, other = await make(), await make()
        nothing = await one.loads()
        await one.report_loads("w1", {"small": Load(1, 2, 0.5), "large": Load(3, starts_per_s=0.2)}, 10)
        await other.report_loads("w 2 é", {"small": Load(0.1 + 0.2)}, 10)
        await other.report_loads("w3", {}, 10)
        await one.report_loads("w1", {"a:b {c}": Load(4)}, 10)

        assert nothing == {}
        assert await other.loads() == {"w1": {"a:b {c}": Load(4)}, "w 2 é": {"small": Load(0.1 + 0.2)}, "w3": {}}

    async def test_a_silent_workers_loads_are_forgotten(self, store: Store, clock: FrozenClock) -> None:
        """Unless it says so again within its time."""
        for worker in ("silent", "alive"):
            await store.report_loads(worker, {"small": Load(1)}, 10)
        clock.time = NOW + 9
        before = set(await store.loads())
        await store.report_loads("alive", {"small": Load(2)}, 10)
        clock.time = NOW + 10
        after = await store.loads()
        await store.report_loads("new", {}, 10)

        assert before == {"silent", "alive"}
        assert after == {"alive": {"small": Load(2)}}
        assert set(await store.loads()) == {"alive", "new"}

    # ------------------------------------------------------------------ turns

    async def test_a_conversation_remembers_its_last_turn(self, make: StoreMaker) -> None:
        """Whichever worker noted it; conversations do not mix."""
        one, other = await make(), await make()
        await one.remember_turn("c1", "small", 60)
        await one.remember_turn("c1", "large é", 60)
        await other.remember_turn("c2", "small", 60)

        assert await other.last_turn("c1") == "large é"
        assert await one.last_turn("c2") == "small"
        assert await one.last_turn("c") == ""

    async def test_a_conversation_is_forgotten_after_its_last_turn(self, store: Store, clock: FrozenClock) -> None:
        """Each turn prolongs it."""
        for conversation in ("ended", "goes on"):
            await store.remember_turn(conversation, "small", 10)
        clock.time = NOW + 9
        before = await store.last_turn("ended")
        await store.remember_turn("goes on", "small", 10)
        clock.time = NOW + 10

        assert before == "small"
        assert await store.last_turn("ended") == ""
        assert await store.last_turn("goes on") == "small"


class StoreContract(LedgerContract):
    """What every Store promises."""

    # ------------------------------------------------------------------ examples

    async def test_an_example_comes_back_as_it_was(self, store: Store) -> None:
        """What is added is what is got, to the last bit."""
        given_one = example("e", 0.3, uses=1.5, gain=0.1 + 0.2)
        await store.add(given_one)
        got = await store.get("e")

        assert got is not None
        assert np.array_equal(got.vector, given_one.vector)
        assert replace(got, vector=given_one.vector) == given_one
        assert await store.get("unknown") is None

    async def test_half_a_surrogate_pair_does_no_harm(self, store: Store) -> None:
        """A caller's JSON may hold text that no UTF-8 can: it is kept, with a question mark in its place."""
        await store.add(example("e", request="a\ud800b"))
        got = await store.get("e")

        assert got is not None
        assert got.request == "a?b"

    async def test_the_same_id_is_replaced(self, store: Store) -> None:
        """Adding an existing id leaves one example, the new one."""
        await store.add(example("e", 1.0, response="old", scope="key:other"))
        await store.add(example("e", 0.0, response="new"))
        found = await store.nearest(query())

        assert [candidate.example.response for candidate in found] == ["new"]
        assert await store.nearest(query(scope="key:other")) == ()
        assert len(await store.page(None, 0, 10)) == 1

    async def test_page_is_newest_first_by_scope(self, store: Store) -> None:
        """Pages cut one list, newest first, of a scope or of all."""
        for i in range(5):
            await store.add(example(f"e{i}", created_at=NOW + i, scope="key:a" if i % 2 else "key:b"))

        assert ids(await store.page(None, 0, 3)) == ["e4", "e3", "e2"]
        assert ids(await store.page(None, 3, 3)) == ["e1", "e0"]
        assert ids(await store.page("key:a", 0, 10)) == ["e3", "e1"]
        assert await store.page(None, 9, 3) == ()
        assert await store.page("nobody", 0, 3) == ()

    async def test_remove_says_how_many_are_gone(self, store: Store) -> None:
        """Only what existed counts, and what is removed is found no more."""
        for name in ("e1", "e2", "e3"):
            await store.add(example(name))

        assert await store.remove(["e1", "e2", "unknown"]) == 2
        assert await store.remove(["e1"]) == 0
        assert await store.remove([]) == 0
        assert ids(await store.nearest(query())) == ["e3"]
        assert await store.get("e1") is None

    async def test_the_nearest_come_first_with_their_distance(self, store: Store) -> None:
        """Order and distance are those of the cosine, the k nearest at most."""
        angles = {"far": 3.0, "near": 0.1, "same": 0.0, "middle": 1.0}
        for name, angle in angles.items():
            await store.add(example(name, angle))
        found = await store.nearest(query(k=3))

        assert ids(found) == ["same", "near", "middle"]
        assert [c.distance for c in found] == _ROUNDED([1 - math.cos(angles[c.example.id]) for c in found], abs=1e-5)
        assert all(0.0 <= candidate.distance <= 2.0 for candidate in found)
        assert await store.nearest(query(k=0)) == ()

    async def test_nothing_beyond_the_distance(self, store: Store) -> None:
        """max_distance is a limit, and an equal vector is within any."""
        for name, angle in (("same", 0.0), ("near", 0.2), ("far", 1.0)):
            await store.add(example(name, angle))

        assert ids(await store.nearest(query(max_distance=0.1))) == ["same", "near"]
        assert ids(await store.nearest(query(max_distance=0.0))) == ["same"]

    async def test_nearest_agrees_with_a_plain_scan(self, store: Store) -> None:
        """On a hundred vectors the ten nearest are the ten nearest."""
        rng = np.random.default_rng(7)
        vectors = rng.normal(size=(100, DIMENSIONS)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        await asyncio.gather(*(store.add(example(f"e{i}", vector=row)) for i, row in enumerate(vectors)))
        expected = np.argsort(1 - vectors @ vectors[3])[:10]

        assert ids(await store.nearest(query(vector=vectors[3]))) == [f"e{i}" for i in expected]

    async def test_a_vector_of_another_size_is_refused(self, store: Store) -> None:
        """It would silently not be found otherwise; the message names both sizes."""
        with pytest.raises(SchemaMismatch, match=r"\(8,\), got \(3,\)"):
            await store.add(example("e", vector=np.array([1, 0, 0], dtype=np.float32)))
        with pytest.raises(SchemaMismatch, match=r"\(8,\), got \(3,\)"):
            await store.nearest(query(vector=np.array([1, 0, 0], dtype=np.float32)))

    @pytest.mark.parametrize("bad", [0.0, 2.0, math.nan, math.inf])
    async def test_a_vector_without_unit_length_is_refused(self, store: Store, bad: float) -> None:
        """Distances to it would mean nothing."""
        with pytest.raises(ValueError, match="length 1, got"):
            await store.add(example("e", vector=np.full(DIMENSIONS, bad, dtype=np.float32)))

    # ------------------------------------------------------------------ isolation

    async def test_no_hostile_scope_finds_anothers_examples(self, store: Store) -> None:
        """Whatever characters a scope or partition holds, it finds its own example and nothing else."""
        for i, name in enumerate(HOSTILE):
            await store.add(example(f"s{i}", scope=name))
            await store.add(example(f"p{i}", scope="partitions", partition=name))

        for i, name in enumerate(HOSTILE):
            assert ids(await store.nearest(query(scope=name))) == [f"s{i}"]
            assert ids(await store.nearest(query(scope="partitions", partition=name))) == [f"p{i}"]
            assert ids(await store.page(name, 0, 99)) == [f"s{i}"]
            assert (await store.page(name, 0, 1))[0].scope == name

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(mine=st.text(max_size=12), other=st.text(max_size=12))
    async def test_scopes_never_mix(self, store: Store, mine: str, other: str) -> None:
        """An example of one scope is found from another only when they are the same text."""
        await store.remove(["e"])
        await store.add(example("e", scope=mine))
        found = await store.nearest(query(scope=other))

        assert ids(found) == (["e"] if mine == other else [])
        assert ids(await store.nearest(query(scope=mine))) == ["e"]

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(mine=st.text(max_size=12), other=st.text(max_size=12))
    async def test_readers_never_mix(self, store: Store, mine: str, other: str) -> None:
        """An example in quarantine is found by another text's reader never."""
        await store.add(example("e", reader=mine))
        found = await store.nearest(query(reader=other))

        assert ids(found) == (["e"] if mine in ("", other) else [])
        assert ids(await store.nearest(query(reader=mine))) == ["e"]

    async def test_policies_never_mix(self, make: StoreMaker) -> None:
        """Two policies on one server or file see nothing of each other."""
        one, other = await make(), await make(policy=f"t{uuid.uuid4().hex[:12]}")
        await one.add(example("e"))
        await one.settle(settlement("d", sums=ArmSums(1, 1, 1)))
        await one.count({("key:a", "n"): 1.0})
        await one.settle(taught("d2"))
        await one.report_loads("w", {}, 10)
        await one.remember_turn("c", "small", 10)

        assert await other.lessons("", 10) == LessonPage((), "")
        assert await other.loads() == {}
        assert await other.last_turn("c") == ""
        assert await other.decisions("key:a", 10) == ()
        assert await other.nearest(query()) == ()
        assert await other.get("e") is None
        assert await other.decision("d") is None
        assert await other.decisions(None, 10) == ()
        assert await other.sums() == {}
        assert await other.counters(None) == {}
        assert await other.remove(["e"]) == 0

    # ------------------------------------------------------------------ expiry

    async def test_an_expired_example_is_not_found(self, store: Store, clock: FrozenClock) -> None:
        """Neither by distance nor by id nor in a page, from the moment on at which it expires."""
        await store.add(example("short", expires_at=NOW + 10))
        await store.add(example("long", expires_at=NOW + 20))
        clock.time = NOW + 10

        assert ids(await store.nearest(query(now=clock.now()))) == ["long"]
        assert ids(await store.page(None, 0, 10)) == ["long"]
        assert await store.get("short") is None

    async def test_use_does_not_prolong_life(self, store: Store, clock: FrozenClock) -> None:
        """An example that is found and credited expires when it would have."""
        await store.add(example("e", expires_at=NOW + 10))
        await store.nearest(query())
        await store.settle(Settlement(record("d"), (), (ExampleIncrement("e", 1.0, 0.5),)))
        clock.time = NOW + 10

        assert await store.nearest(query(now=clock.now())) == ()

    async def test_an_expired_decision_is_forgotten(self, store: Store, clock: FrozenClock) -> None:
        """At the record's own time, or after the policy's longest one."""
        await store.settle(settlement("short", expires_at=NOW + 10))
        await store.settle(settlement("long", expires_at=NOW + 99 * DAY_S))
        clock.time = NOW + 10
        after_short = ids(await store.decisions(None, 10)), await store.decision("short")
        clock.time = NOW + 30 * DAY_S

        assert after_short == (["long"], None)
        assert await store.decision("long") is None

    # ------------------------------------------------------------------ settle

    async def test_a_decision_comes_back_as_it_was(self, store: Store) -> None:
        """Every field survives, nested ones too."""
        given_one = record("d", scope="key:\ud800 {x}", feedback=0.5, cost_usd=1e-17)

        assert await store.settle(Settlement(given_one, (), ()))
        assert await store.decision("d") == given_one
        assert await store.decision("unknown") is None

    async def test_settling_twice_changes_nothing(self, store: Store) -> None:
        """The second time is refused as a whole."""
        await store.add(example("e1"))
        once = Settlement(
            record("d"), (Increment(ArmKey("a", "all"), ArmSums(1, 0.5, 0.25)),), (ExampleIncrement("e1", 1.0, 0.5),)
        )

        assert await store.settle(once) is True
        assert await store.settle(once) is False
        assert await store.sums() == {ArmKey("a", "all"): ArmSums(1, 0.5, 0.25)}
        kept = await store.get("e1")
        assert kept is not None
        assert (kept.uses, kept.gain) == (1.0, 0.5)
        assert len(await store.decisions(None, 10)) == 1

    async def test_only_the_next_revision_is_accepted(self, store: Store) -> None:
        """A write with an old, or a skipped, revision is refused."""
        assert await store.settle(settlement("d", 2)) is False
        assert await store.settle(settlement("d", 1)) is True
        assert await store.settle(settlement("d", 3)) is False
        assert await store.settle(settlement("d", 2, feedback=1.0)) is True
        assert await store.settle(settlement("d", 2, feedback=0.0)) is False

        kept = await store.decision("d")
        assert kept is not None
        assert (kept.revision, kept.feedback) == (2, 1.0)

    async def test_of_concurrent_changes_one_wins(self, make: StoreMaker) -> None:
        """Two workers that revise the same revision: one is applied, the other refused, nothing is counted twice."""
        workers = [await make(), await make()]
        await workers[0].settle(settlement("d"))
        results = await asyncio.gather(
            *(workers[i % 2].settle(settlement("d", 2, ArmSums(1, 1, 1))) for i in range(10))
        )

        assert sorted(results) == [False] * 9 + [True]
        assert await workers[1].sums() == {ArmKey("small+4", "all"): ArmSums(1, 1, 1)}

    async def test_increments_of_workers_add_up(self, make: StoreMaker) -> None:
        """What several workers learn at once merges by adding, whatever the order."""
        workers = [await make(), await make()]
        await asyncio.gather(
            *(workers[i % 2].settle(settlement(f"d{i}", 1, ArmSums(0.5, 0.25, 0.125))) for i in range(20))
        )

        assert await workers[0].sums() == {ArmKey("small+4", "all"): ArmSums(10, 5, 2.5)}
        assert await workers[0].sums() == await workers[1].sums()

    async def test_arms_and_segments_are_kept_apart(self, store: Store) -> None:
        """Names with colons, braces and spaces never share a sum."""
        keys = [
            ArmKey("a:b", "c"),
            ArmKey("a", "b:c"),
            ArmKey("a%3Ab", "c"),
            ArmKey("ü {x}", "utility[0,1) names=held"),
        ]
        increments = tuple(Increment(key, ArmSums(i + 1, 0, 0)) for i, key in enumerate(keys))
        await store.settle(Settlement(record("d"), increments, ()))

        assert await store.sums() == {key: ArmSums(i + 1, 0, 0) for i, key in enumerate(keys)}

    async def test_evidence_fades(self, store: Store, clock: FrozenClock) -> None:
        """After a half-life, half of it counts; new evidence counts whole."""
        await store.settle(settlement("d1", sums=ArmSums(1.0, 0.8, 0.64)))
        clock.time = NOW + DAY_S
        half = await store.sums()
        await store.settle(settlement("d2", sums=ArmSums(1.0, 0.2, 0.04), created_at=clock.now()))

        assert half == {ArmKey("small+4", "all"): ArmSums(0.5, 0.4, 0.32)}
        (both,) = (await store.sums()).values()
        assert (both.weight, both.reward_sum, both.reward_sq_sum) == _ROUNDED((1.5, 0.6, 0.36))

    async def test_without_half_life_nothing_fades(self, make: StoreMaker, clock: FrozenClock) -> None:
        """A half-life of 0 means never."""
        store = await make(half_life_s=0.0)
        await store.settle(settlement("d1", sums=ArmSums(1.0, 0.8, 0.64)))
        clock.time = NOW + 99 * DAY_S

        assert await store.sums() == {ArmKey("small+4", "all"): ArmSums(1.0, 0.8, 0.64)}

    async def test_a_clock_that_goes_back_fades_nothing(self, store: Store, clock: FrozenClock) -> None:
        """Workers' clocks differ; evidence from the future counts whole, and never more."""
        await store.settle(settlement("d1", sums=ArmSums(1.0, 1.0, 1.0)))
        clock.time = NOW - DAY_S
        await store.settle(settlement("d2", sums=ArmSums(1.0, 1.0, 1.0)))
        clock.time = NOW

        assert await store.sums() == {ArmKey("small+4", "all"): ArmSums(2.0, 2.0, 2.0)}

    async def test_late_feedback_replaces_what_is_left_of_the_guess(self, store: Store, clock: FrozenClock) -> None:
        """A correction fades like what it corrects, so the sums are as if the truth had been known at once."""
        await store.settle(settlement("d", 1, ArmSums(0.25, 0.25, 0.25)))
        clock.time = NOW + DAY_S
        await store.settle(settlement("d", 2, ArmSums(0.75, -0.25, -0.25)))

        (sums,) = (await store.sums()).values()
        assert (sums.weight, sums.reward_sum, sums.reward_sq_sum) == _ROUNDED((0.5, 0.0, 0.0))

    async def test_a_correction_never_leaves_a_negative_sum(self, store: Store) -> None:
        """0.3 - 0.1 - 0.2 is a little less than zero in binary: the sum is zero."""
        for revision, amount in enumerate((0.3, -0.1, -0.2), start=1):
            await store.settle(settlement("d", revision, ArmSums(amount, amount, amount)))

        assert await store.sums() == {ArmKey("small+4", "all"): ArmSums(0.0, 0.0, 0.0)}

    async def test_an_example_that_is_gone_is_not_credited(self, store: Store) -> None:
        """Crediting must not bring back an example that was removed."""
        await store.settle(Settlement(record("d"), (), (ExampleIncrement("gone", 1.0, 1.0),)))

        assert await store.get("gone") is None
        assert await store.page(None, 0, 10) == ()

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    async def test_an_increment_that_is_no_number_is_refused(self, store: Store, bad: float) -> None:
        """It could never be taken out of the sums again. Nothing of the settlement is applied."""
        with pytest.raises(ValueError, match="must be finite, got"):
            await store.settle(settlement("d", sums=ArmSums(1.0, bad, 0.0)))
        with pytest.raises(ValueError, match="must be finite, got"):
            await store.count({("key:a", "n"): bad})

        assert await store.decision("d") is None
        assert await store.sums() == {}

    async def test_decisions_are_listed_newest_first(self, store: Store) -> None:
        """Of one scope or of all; a revision keeps its place and shows its newest state."""
        for i in range(5):
            await store.settle(settlement(f"d{i}", scope="key:a" if i % 2 else "key:b"))
        await store.settle(settlement("d1", 2, scope="key:a", feedback=1.0))

        assert ids(await store.decisions(None, 3)) == ["d4", "d3", "d2"]
        assert ids(await store.decisions("key:a", 10)) == ["d3", "d1"]
        assert (await store.decisions("key:a", 10))[1].feedback == 1.0
        assert await store.decisions("nobody", 10) == ()
        assert await store.decisions(None, 0) == ()

    async def test_decisions_of_a_scope_are_its_own(self, store: Store) -> None:
        """Whatever characters a scope holds."""
        for i, scope in enumerate(HOSTILE):
            await store.settle(settlement(f"d{i}", scope=scope))

        for i, scope in enumerate(HOSTILE):
            assert ids(await store.decisions(scope, 10)) == [f"d{i}"]

    @pytest.mark.parametrize("scope", ["key:a", None])
    async def test_expired_decisions_hide_no_older_ones(
        self, store: Store, clock: FrozenClock, scope: str | None
    ) -> None:
        """Those that live longer are listed, as many as are asked for, however many short ones came after them."""
        for i in range(4):
            await store.settle(settlement(f"long{i}"))
        for i in range(7):
            await store.settle(settlement(f"short{i}", expires_at=NOW + 10))
        await store.settle(settlement("new"))
        clock.time = NOW + 10

        assert ids(await store.decisions(scope, 3)) == ["new", "long3", "long2"]
        assert ids(await store.decisions(scope, 99)) == ["new", "long3", "long2", "long1", "long0"]

    # ------------------------------------------------------------------ memory

    async def test_the_memory_is_capped(self, make: StoreMaker) -> None:
        """It keeps about the newest memory_length lessons; who reads from a forgotten one on goes on with the rest."""
        store = await make(memory_length=100)
        for i in range(20):
            await store.settle(taught(f"d{i}"))
        early = (await store.lessons("", 10)).cursor
        for i in range(20, 350):
            await store.settle(taught(f"d{i}"))
        kept = taught_by((await store.lessons("", 1000)).lessons)

        assert 100 <= len(kept) < 300
        assert kept == [f"d{i}" for i in range(350 - len(kept), 350)]
        assert taught_by((await store.lessons(early, 1000)).lessons) == kept

    async def test_an_amendment_replaces_the_one_before(self, make: StoreMaker) -> None:
        """Feedback on one decision, however often, does not crowd the lessons of others out."""
        store = await make(memory_length=100)
        for i in range(80):
            await store.settle(taught(f"d{i}"))
        for revision in range(2, 400):
            await store.settle(taught("d0", revision))
        kept = (await store.lessons("", 1000)).lessons

        assert taught_by(kept) == [*(f"d{i}" for i in range(80)), "d0"]
        assert kept[-1] == amendment("d0", 399)

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    async def test_a_load_that_is_no_number_is_refused(self, store: Store, bad: float) -> None:
        """Nobody could add it to the others'."""
        with pytest.raises(ValueError, match="load of small must be finite, got"):
            await store.report_loads("w", {"small": Load(latency_s=bad)}, 10)

        assert await store.loads() == {}

    # ------------------------------------------------------------------ counters

    async def test_counts_add_up_by_scope(self, make: StoreMaker) -> None:
        """Each scope sees its own, all of them together sum up."""
        workers = [await make(), await make()]
        await workers[0].count({("key:a", "n"): 1.0, ("key:b", "n"): 2.0, ("key:a", "cost_usd"): 0.25})
        await workers[1].count({("key:a", "n"): 1.0})
        await workers[1].count({})

        assert await workers[0].counters("key:a") == {"n": 2.0, "cost_usd": 0.25}
        assert await workers[0].counters("key:b") == {"n": 2.0}
        assert await workers[0].counters(None) == {"n": 4.0, "cost_usd": 0.25}
        assert await workers[0].counters("nobody") == {}

    # ------------------------------------------------------------------ life

    async def test_another_worker_sees_it_at_once(self, make: StoreMaker) -> None:
        """What one worker added, removed or credited, the next call of another one sees."""
        one, other = await make(), await make()
        await one.add(example("e1"))
        await one.add(example("e2", 0.5))
        before = ids(await other.nearest(query()))
        await other.settle(Settlement(record("d"), (), (ExampleIncrement("e2", 1.0, 0.5),)))
        await one.remove(["e1"])

        assert before == ["e1", "e2"]
        assert ids(await other.nearest(query(k=1))) == ["e2"]
        assert [candidate.example.uses for candidate in await one.nearest(query())] == [1.0]

    async def test_another_embedding_model_is_refused(self, make: StoreMaker) -> None:
        """Vectors of two models mean different things; the message names both and the way out."""
        await make()
        with pytest.raises(
            SchemaMismatch, match=r"minilm \(8 dim.*hashing \(8 dim.*echo-proxy reembed --policy <file>"
        ):
            await make(model="minilm")
        with pytest.raises(SchemaMismatch, match=r"hashing \(4 dim.*hashing \(8 dim"):
            await make(dimensions=4)

    async def test_what_was_kept_is_there_after_reopening(self, make: StoreMaker) -> None:
        """Closing loses nothing, and a store can be opened again."""
        store = await make()
        await store.add(example("e"))
        await store.settle(settlement("d", sums=ArmSums(1, 1, 1)))
        await store.close()
        await store.open()

        assert ids(await store.nearest(query())) == ["e"]
        assert await store.decision("d") is not None

    async def test_closing_twice_is_harmless(self, store: Store) -> None:
        """After it every call says that the store is away, and status says so without raising."""
        await store.close()
        await store.close()

        with pytest.raises(StoreUnavailable, match="must be open"):
            await store.nearest(query())
        with pytest.raises(StoreUnavailable, match="must be open"):
            await store.settle(settlement("d"))
        for call in calls_of_workers(store):
            with pytest.raises(StoreUnavailable, match="must be open"):
                await call
        status = await store.status()
        assert (status.is_ready, "must be open" in status.detail) == (False, True)

    async def test_status_names_engine_and_size(self, store: Store) -> None:
        """An operator sees what serves and how much it holds."""
        await store.add(example("e"))
        status = await store.status()

        assert (status.is_ready, status.n_examples, status.detail) == (True, 1, "")
        assert "." in status.engine
