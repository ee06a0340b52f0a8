"""What every Examples promises beyond search by distance: who may see what, changes, walks through all of them."""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from echo_proxy.errors import SchemaMismatch, StoreUnavailable
from echo_proxy.protocols import Store
from echo_proxy.types import Example, ExampleIncrement, Held, Holdings, Observation, Replayed, Settlement, Which
from tests.contracts import (
    DAY_S,
    DIMENSIONS,
    HOSTILE,
    NOW,
    StoreFixtures,
    StoreMaker,
    example,
    ids,
    query,
    record,
    vector,
)
from tests.contracts_upkeep import calls_of_upkeep
from tests.fakes import FrozenClock

HOUR_S = 3600.0
_ROUNDED = pytest.approx


def full_example(example_id: str = "e", **changes: object) -> Example:
    """An example none of whose fields has its default."""
    made = example(
        example_id,
        uses=1.5,
        gain=0.1 + 0.2,
        system="Be short. é",
        wants_json=True,
        n_turns=3,
        answer_key="k 1",
        reader="a",
        person="mallory é",
        confirmed_by=("b", "é,|"),
        origin="shared",
        version=7,
        offloads=0.1 + 0.2,
        regret=1e-17,
        counted_at=NOW - 0.1,
        history=(Replayed(NOW - 1.1, "large", 3, True, 2 / 3, "0123456789abcdef"), Replayed(NOW, "é", 1, False, 0.5)),
        observations=(Observation(1 / 3, True, NOW + 0.1), Observation(0.0, False, NOW)),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def same(one: Example | None, other: Example | None) -> bool:
    """Arrays cannot be compared as a part of a record."""
    if one is None or other is None:
        return one is other
    return np.array_equal(one.vector, other.vector) and replace(one, vector=other.vector) == other


def credit(decision_id: str, **counts: float) -> Settlement:
    """A settlement that credits example e, of a decision just taken."""
    return Settlement(record(decision_id), (), (ExampleIncrement("e", **({"uses": 0.0, "gain": 0.0} | counts)),))


async def stored(store: Store, example_id: str = "e") -> Example:
    """The example, which must be there."""
    found = await store.get(example_id)
    assert found is not None
    return found


async def walked(store: Store, which: Which, limit: int) -> list[str]:
    """Ids of all examples that are meant, page by page, in order of their names."""
    return sorted([one.id async for one in _found(store, which, limit)])


async def _found(store: Store, which: Which, limit: int) -> AsyncIterator[Example]:
    cursor = ""
    while True:
        page = await store.find(which, cursor, limit)
        for one in page.examples:
            yield one
        cursor = page.cursor
        if not cursor:
            return


async def all_holdings(store: Store, limit: int = 1000) -> dict[str, dict[str, float]]:
    """Numbers of all examples by id, page by page."""
    cursor, out = "", {}
    while True:
        page = await store.holdings(cursor, limit)
        out |= _rows(page.holdings)
        cursor = page.cursor
        if not cursor:
            return out


def _rows(found: Holdings) -> dict[str, dict[str, float]]:
    names = [name for name in Holdings.__slots__ if name not in ("ids", "writers")]
    assert all(getattr(found, name).shape == (len(found.ids),) for name in names)
    return {one: {name: getattr(found, name)[i].item() for name in names} for i, one in enumerate(found.ids)}


class ExamplesContract(StoreFixtures):
    """Run on every store that keeps examples for long."""

    # ------------------------------------------------------------------ keeping

    async def test_every_field_comes_back(self, store: Store) -> None:
        """To the last bit, from wherever the example is read."""
        given_one = full_example()
        await store.add(given_one)

        assert same(await store.get("e"), given_one)
        assert same((await store.nearest(query()))[0].example, given_one)
        assert same((await store.page(None, 0, 1))[0], given_one)
        assert same((await store.find(Which(), "", 10)).examples[0], given_one)

    async def test_nothing_remains_of_the_one_before(self, store: Store) -> None:
        """An example that is added again under its id is the new one as a whole."""
        await store.add(full_example())
        await store.add(example("e"))

        assert same(await store.get("e"), example("e"))

    async def test_many_are_kept_in_one_go(self, store: Store) -> None:
        """More than are written at once; an existing id is replaced, none is nothing."""
        await store.add(example("e7", response="old"))
        await store.add_many([])
        await store.add_many([example(f"e{i}", i / 250) for i in range(250)])
        found = await store.nearest(query(k=300))

        assert ids(found) == [f"e{i}" for i in range(250)]
        assert found[7].example.response == "Paris – “la ville lumière”."

    async def test_one_that_cannot_be_kept_keeps_the_others_out(self, store: Store) -> None:
        """A vector of the wrong size is noticed before anything is written."""
        with pytest.raises(SchemaMismatch, match=r"\(8,\), got \(3,\)"):
            await store.add_many([example("e1"), example("e2", vector=np.array([1, 0, 0], dtype=np.float32))])

        assert await store.get("e1") is None

    # ------------------------------------------------------------------ who may see it

    async def test_quarantine_is_for_one_reader(self, store: Store) -> None:
        """Everybody finds what has no reader; one in quarantine is found by its reader, and by who asks for all."""
        await store.add(example("free", 0.3))
        await store.add(example("mine", 0.1, reader="a"))
        await store.add(example("theirs", 0.2, reader="b"))

        assert ids(await store.nearest(query(reader="a"))) == ["mine", "free"]
        assert ids(await store.nearest(query(reader="b"))) == ["theirs", "free"]
        assert ids(await store.nearest(query(reader="c"))) == ["free"]
        assert ids(await store.nearest(query(reader=""))) == ["free"]
        assert ids(await store.nearest(query(reader=None))) == ["mine", "theirs", "free"]

    async def test_foreign_quarantine_crowds_nothing_out(self, store: Store) -> None:
        """However many of others lie nearer, the k nearest are of those that may be seen."""
        await store.add_many([example(f"theirs{i}", i / 100, reader="b") for i in range(50)])
        await store.add_many([example("free", 1.0), example("mine", 1.1, reader="a"), example("far", 1.2)])

        assert ids(await store.nearest(query(reader="a", k=2))) == ["free", "mine"]

    async def test_no_hostile_reader_finds_anothers(self, store: Store) -> None:
        """Whatever characters the name of a key holds, it finds its own example and nothing else."""
        names = [name for name in HOSTILE if name]
        await store.add_many([example(f"e{i}", reader=name) for i, name in enumerate(names)])

        for i, name in enumerate(names):
            assert ids(await store.nearest(query(reader=name, k=99))) == [f"e{i}"]
        assert await store.nearest(query(reader="", k=99)) == ()
        assert await store.nearest(query(reader="somebody else", k=99)) == ()

    async def test_wider_scopes_are_found_too(self, store: Store) -> None:
        """All scopes together give the k nearest, each example once; the partition and the reader hold in all."""
        await store.add(example("own", 0.2))
        await store.add(example("team", 0.1, scope="team:red"))
        await store.add(example("public", 0.3, scope="public"))
        await store.add(example("other", 0.0, scope="team:blue"))
        await store.add(example("elsewhere", 0.0, scope="public", partition="q"))
        await store.add(example("hidden", 0.0, scope="public", reader="b"))
        wider = ("team:red", "public", "key:a", "public", "nobody")

        assert ids(await store.nearest(query(reader="a", wider=wider))) == ["team", "own", "public"]
        assert ids(await store.nearest(query(reader="a", wider=wider, k=2))) == ["team", "own"]
        assert ids(await store.nearest(query(reader="b", wider=("public",)))) == ["hidden", "own", "public"]
        assert ids(await store.nearest(query(scope="nobody", reader="a", wider=("public",)))) == ["public"]
        assert ids(await store.nearest(query())) == ["own"]

    async def test_no_hostile_wider_scope_finds_anothers(self, store: Store) -> None:
        """Whatever characters it holds, and however many are asked for at once."""
        await store.add_many([example(f"e{i}", scope=name) for i, name in enumerate(HOSTILE)])

        for i, name in enumerate(HOSTILE):
            assert ids(await store.nearest(query(scope="nobody", wider=(name,), k=99))) == [f"e{i}"]
        everything = await store.nearest(query(scope=HOSTILE[0], wider=HOSTILE[1:], k=99))
        assert sorted(ids(everything)) == sorted(f"e{i}" for i in range(len(HOSTILE)))

    # ------------------------------------------------------------------ change

    async def test_a_change_writes_what_differs(self, store: Store) -> None:
        """With the next version; the rest stays to the last bit, and a second change goes on from there."""
        before = full_example()
        await store.add(before)
        after = replace(before, response="Paris.", reader="", quality=1.0, answer_key="", history=())
        is_done = await store.change(before, after)
        first = await stored(store)
        is_done_again = await store.change(first, replace(first, teacher="other"))

        assert (is_done, is_done_again) == (True, True)
        assert same(first, replace(after, version=8))
        assert same(await stored(store), replace(after, version=9, teacher="other"))

    async def test_a_change_of_another_version_is_refused(self, store: Store) -> None:
        """Nor does it bring back what is gone, and it never makes one example another."""
        before = example("e")
        await store.add(before)
        await store.change(before, replace(before, quality=0.5))
        is_late = await store.change(before, replace(before, quality=0.1, response="late"))
        is_gone = await store.change(example("gone"), example("gone", quality=0.1))
        with pytest.raises(ValueError, match="must keep the id e, got other"):
            await store.change(before, example("other"))

        assert (is_late, is_gone) == (False, False)
        assert same(await stored(store), replace(before, quality=0.5, version=2))
        assert await store.get("gone") is None

    async def test_of_concurrent_changes_of_an_example_one_wins(self, make: StoreMaker) -> None:
        """Of two workers that change the same version, one must read it again."""
        workers = [await make(), await make()]
        before = example("e")
        await workers[0].add(before)
        results = await asyncio.gather(
            *(workers[i % 2].change(before, replace(before, response=str(i))) for i in range(10))
        )
        winner = results.index(True)

        assert sorted(results) == [False] * 9 + [True]
        assert same(await stored(workers[1]), replace(before, response=str(winner), version=2))

    async def test_what_is_counted_meanwhile_survives_a_change(self, store: Store) -> None:
        """A change that was made from older counts leaves them as they are, and its own hold."""
        before = example("e", uses=1.0, gain=1.0, offloads=2.0, regret=0.5, counted_at=NOW)
        await store.add(before)
        await store.settle(credit("d", uses=1.0, gain=0.5, offloads=1.0, regret=0.25))
        await store.change(before, replace(before, response="better", regret=0.0))
        got = await stored(store)

        assert (got.uses, got.gain, got.offloads, got.regret) == (2.0, 1.5, 3.0, 0.0)
        assert (got.response, got.version) == ("better", 2)

    async def test_nothing_is_lost_between_workers(self, make: StoreMaker) -> None:
        """Credits and changes of one example at once: each of them counts once."""
        workers = [await make(), await make()]
        await workers[0].add(example("e"))

        async def improve(worker: Store, writer: str) -> None:
            while True:
                before = await stored(worker)
                if await worker.change(before, replace(before, confirmed_by=(*before.confirmed_by, writer))):
                    return

        await asyncio.gather(
            *(workers[i % 2].settle(credit(f"d{i}", uses=1.0, gain=0.5, offloads=1.0)) for i in range(20)),
            *(improve(workers[i % 2], f"w{i}") for i in range(6)),
        )
        got = await stored(workers[1])

        assert (got.uses, got.gain, got.offloads, got.version) == (20.0, 10.0, 20.0, 7)
        assert sorted(got.confirmed_by) == [f"w{i}" for i in range(6)]

    async def test_counts_of_a_change_are_as_of_their_time(self, store: Store, clock: FrozenClock) -> None:
        """What it gives, and what goes on as stored, fades from its own time on."""
        before = example("e", offloads=8.0, regret=8.0, counted_at=NOW)
        await store.add(before)
        clock.time = NOW + 2 * HOUR_S
        await store.settle(replace(credit("d"), record=record("d", created_at=clock.now())))
        await store.change(before, replace(before, regret=1.0, counted_at=NOW + HOUR_S))
        got = await stored(store)

        assert (got.offloads, got.regret) == _ROUNDED((8.0 * 0.81, 1.0 * 0.9))
        assert got.counted_at == NOW + 2 * HOUR_S

    async def test_a_change_is_searched_for_at_once(self, make: StoreMaker) -> None:
        """By every worker: a new vector, scope, partition or reader counts, the old one no longer."""
        one, other = await make(), await make()
        for name in ("vector", "scope", "partition", "reader"):
            await one.add(example(name, 0.1))
        before = {candidate.example.id: candidate.example for candidate in await other.nearest(query())}
        changes: dict[str, object] = {"vector": vector(1.5), "scope": "key:b", "partition": "q", "reader": "b"}
        for name, value in changes.items():
            await one.change(before[name], replace(before[name], **{name: value}))  # type: ignore[arg-type]
        found = await other.nearest(query(reader="a"))

        assert ids(found) == ["vector"]
        assert found[0].distance == _ROUNDED(1 - math.cos(1.5), abs=1e-5)
        assert ids(await other.nearest(query(reader="b"))) == ["reader", "vector"]
        assert ids(await other.nearest(query(scope="key:b"))) == ["scope"]
        assert ids(await other.nearest(query(partition="q"))) == ["partition"]
        assert len(await other.page(None, 0, 99)) == 4

    async def test_a_change_of_expiry_counts(self, store: Store, clock: FrozenClock) -> None:
        """Earlier or later than before; what has expired cannot be changed any more."""
        shorter, longer = example("shorter"), example("longer", expires_at=NOW + 5)
        await store.add_many([shorter, longer])
        await store.change(shorter, replace(shorter, expires_at=NOW + 10))
        await store.change(longer, replace(longer, expires_at=NOW + 20))
        clock.time = NOW + 10
        late = await store.change(replace(shorter, version=2), replace(shorter, version=2, expires_at=NOW + DAY_S))

        assert late is False
        assert await store.get("shorter") is None
        assert ids(await store.nearest(query(now=clock.now()))) == ["longer"]

    async def test_a_change_to_a_wrong_vector_is_refused(self, store: Store) -> None:
        """As it is when it is added."""
        await store.add(example("e"))
        with pytest.raises(SchemaMismatch, match=r"\(8,\), got \(3,\)"):
            await store.change(example("e"), example("e", vector=np.array([1, 0, 0], dtype=np.float32)))

        assert (await stored(store)).version == 1

    # ------------------------------------------------------------------ observations

    async def test_observations_are_appended(self, make: StoreMaker) -> None:
        """None of two workers' is lost, and none to the last bit; the version stays."""
        workers = [await make(), await make()]
        await workers[0].add(example("e", observations=(Observation(0.5, True, NOW),)))
        seen = [Observation(i / 30, i % 3 == 0, NOW + 0.1 + i) for i in range(20)]
        results = await asyncio.gather(*(workers[i % 2].observe("e", 1, one) for i, one in enumerate(seen)))
        got = await stored(workers[0])

        assert results == [True] * 20
        assert got.version == 1
        assert got.observations[0] == Observation(0.5, True, NOW)
        assert sorted(got.observations[1:], key=lambda one: one.at) == seen

    async def test_the_newest_observations_are_kept(self, store: Store) -> None:
        """64 of them; older ones make room."""
        await store.add(example("e"))
        for i in range(70):
            await store.observe("e", 1, Observation(0.25, i % 2 == 0, float(i)))
        got = await stored(store)

        assert got.observations == tuple(Observation(0.25, i % 2 == 0, float(i)) for i in range(6, 70))

    async def test_an_observation_of_another_answer_is_refused(self, store: Store) -> None:
        """What was compared was the answer of another version; and nothing is brought back."""
        await store.add(example("e", version=3))
        seen = Observation(0.1, True, NOW)
        results = [
            await store.observe("e", 2, seen),
            await store.observe("e", 4, seen),
            await store.observe("x", 1, seen),
        ]
        with pytest.raises(ValueError, match="an observation must be finite, got"):
            await store.observe("e", 3, Observation(math.nan, True, NOW))

        assert results == [False] * 3
        assert (await stored(store)).observations == ()
        assert await store.get("x") is None

    # ------------------------------------------------------------------ what is there

    async def test_a_writers_share_is_summed_up(self, store: Store, clock: FrozenClock) -> None:
        """Its own examples that have not expired, with their bytes as they are now."""
        short, grown = example("short", expires_at=NOW + 10), example("grown")
        await store.add_many([short, grown, example("long", request="x" * 1000), example("other", writer="b")])
        both = await store.held_by("a")
        longer = replace(grown, response="é" * 500, version=2)
        await store.change(grown, longer)
        clock.time = NOW + 10

        assert both == Held(3, 2 * short.n_bytes + example("", request="x" * 1000).n_bytes)
        assert await store.held_by("a") == Held(2, longer.n_bytes + example("", request="x" * 1000).n_bytes)
        assert await store.held_by("b") == Held(1, grown.n_bytes)
        assert await store.held_by("nobody") == Held(0, 0)

    async def test_no_hostile_writer_is_charged_for_anothers(self, store: Store) -> None:
        """Whatever characters its name holds."""
        await store.add_many([example(f"e{i}", writer=name) for i, name in enumerate(HOSTILE)])

        for name in HOSTILE:
            assert await store.held_by(name) == Held(1, example("").n_bytes)

    @pytest.mark.parametrize("limit", [1, 3, 1000])
    async def test_a_walk_finds_every_example_that_is_meant(self, store: Store, clock: FrozenClock, limit: int) -> None:
        """Whatever is asked for, page by page, whatever else the store holds."""
        known = list(_varied())
        await store.add_many(known)
        await store.add(example("expired", expires_at=NOW + 1))
        for i in range(20):
            await store.settle(Settlement(record(f"d{i}"), (), ()))
        clock.time = NOW + 1

        for which in _WANTED:
            assert await walked(store, which, limit) == sorted(one.id for one in known if which.holds(one))

    async def test_a_hostile_name_is_found_by_itself_alone(self, store: Store) -> None:
        """As scope and as writer."""
        await store.add_many([example(f"s{i}", scope=name, writer="w") for i, name in enumerate(HOSTILE)])
        await store.add_many([example(f"w{i}", writer=name) for i, name in enumerate(HOSTILE)])

        for i, name in enumerate(HOSTILE):
            assert await walked(store, Which(scope=name), 1000) == [f"s{i}"]
            assert await walked(store, Which(writer=name), 1000) == [f"w{i}"]

    async def test_what_is_removed_during_a_walk_hides_nothing(self, store: Store) -> None:
        """A purge removes what each page brings, and misses none."""
        await store.add_many([example(f"e{i}") for i in range(120)])
        cursor, n_gone = "", 0
        while True:
            page = await store.find(Which(writer="a"), cursor, 7)
            n_gone += await store.remove([one.id for one in page.examples])
            cursor = page.cursor
            if not cursor:
                break

        assert n_gone == 120
        assert await store.page(None, 0, 10) == ()

    @pytest.mark.parametrize("limit", [1, 7, 1000])
    async def test_holdings_are_the_numbers_of_all_examples(self, store: Store, limit: int) -> None:
        """Page by page; those that were never counted or replayed too."""
        known = [full_example("full", counted_at=NOW, expires_at=math.inf), *(example(f"e{i}", 0.1) for i in range(30))]
        await store.add_many(known)
        found = await all_holdings(store, limit)

        assert sorted(found) == sorted(one.id for one in known)
        assert found["full"] == {
            **{"versions": 7, "n_bytes": known[0].n_bytes, "offloads": 0.1 + 0.2, "regret": 1e-17, "quality": 0.9},
            **{"uses": 1.5, "gain": 0.1 + 0.2, "created_at": NOW, "expires_at": math.inf},
            **{"n_replays": 2, "replayed_at": NOW},
        }
        assert (found["e3"]["n_replays"], found["e3"]["replayed_at"], found["e3"]["versions"]) == (0, 0.0, 1)

    @pytest.mark.parametrize("limit", [1, 1000])
    async def test_holdings_name_the_writers(self, store: Store, limit: int) -> None:
        """As they were written, whatever their letters; equal ones are one object."""
        given = {"e0": "a", "e1": "", "e2": "%", "e3": "key:ä, {b}", "e4": "a"}
        await store.add_many([example(name, writer=writer) for name, writer in given.items()])
        cursor, found = "", {}
        while True:
            page = await store.holdings(cursor, limit)
            found |= dict(zip(page.holdings.ids, page.holdings.writers, strict=True))
            cursor = page.cursor
            if not cursor:
                break

        assert found == given
        assert found["e0"] is found["e4"]

    async def test_holdings_fade_to_now(self, store: Store, clock: FrozenClock) -> None:
        """Offloads and regret, by the hour."""
        await store.add(example("e", offloads=2.0, regret=1.0, counted_at=NOW))
        clock.time = NOW + 2 * HOUR_S
        later = (await all_holdings(store))["e"]
        clock.time = NOW - HOUR_S

        assert (later["offloads"], later["regret"]) == _ROUNDED((2.0 * 0.81, 0.81))
        assert (await all_holdings(store))["e"]["offloads"] == 2.0

    async def test_holdings_of_nothing(self, store: Store) -> None:
        """Empty columns, and no next page."""
        page = await store.holdings("", 10)

        assert (page.holdings.ids, page.holdings.n_bytes.shape, page.cursor) == ((), (0,), "")

    async def test_a_closed_store_says_so_to_upkeep(self, store: Store) -> None:
        """As it does to everybody else."""
        await store.close()
        for call in calls_of_upkeep(store):
            with pytest.raises(StoreUnavailable, match=r"must be open|in a row"):  # behind a breaker, after a while
                await call

    # ------------------------------------------------------------------ counts that fade

    async def test_offloads_and_regret_fade_across_settlements(self, store: Store, clock: FrozenClock) -> None:
        """What is there fades to now, what comes fades from its decision on."""
        await store.add(example("e"))
        await store.settle(credit("d1", offloads=1.0, regret=0.5))
        clock.time = NOW + HOUR_S
        await store.settle(credit("d2", offloads=1.0, regret=0.5))
        new = Settlement(record("d3", created_at=clock.now()), (), (ExampleIncrement("e", 0.0, 0.0, 1.0, 0.0),))
        await store.settle(new)
        got = await stored(store)

        assert (got.offloads, got.regret) == _ROUNDED((0.9 + 0.9 + 1.0, 0.45 + 0.45))
        assert got.counted_at == NOW + HOUR_S

    async def test_late_feedback_takes_back_what_is_left(self, store: Store, clock: FrozenClock) -> None:
        """A correction of the same decision leaves nothing, and never less than nothing."""
        await store.add(example("e"))
        await store.settle(credit("d", offloads=1.0, regret=0.25))
        clock.time = NOW + 5 * HOUR_S
        taken_back = ExampleIncrement("e", 0.0, 0.0, -1.0, -0.5)
        await store.settle(Settlement(record("d", 2), (), (taken_back,)))
        got = await stored(store)

        assert (got.offloads, got.regret) == (_ROUNDED(0.0, abs=1e-12), 0.0)
        assert min(got.offloads, got.regret) >= 0.0

    async def test_a_clock_that_goes_back_fades_no_count(self, store: Store, clock: FrozenClock) -> None:
        """Workers' clocks differ; `counted_at` never goes back."""
        await store.add(example("e", offloads=1.0, counted_at=NOW + HOUR_S))
        await store.settle(credit("d", offloads=1.0))
        got = await stored(store)

        assert (got.offloads, got.counted_at) == (2.0, NOW + HOUR_S)

    @pytest.mark.parametrize("name", ["offloads", "regret"])
    async def test_a_count_that_is_no_number_is_refused(self, store: Store, name: str) -> None:
        """It could never be taken out again."""
        await store.add(example("e"))
        with pytest.raises(ValueError, match="increment of example e must be finite, got nan"):
            await store.settle(credit("d", **{name: math.nan}))

        assert same(await stored(store), example("e"))


_WANTED: Sequence[Which] = (
    Which(),
    Which(scope="key:a"),
    Which(scope="nobody"),
    Which(writer="b"),
    Which(teacher="huge é"),
    Which(origin="import"),
    Which(created_after=NOW + 3),
    Which(created_before=NOW + 3),
    Which(created_after=NOW + 1, created_before=NOW + 20, writer="a"),
    Which(in_quarantine=True),
    Which(in_quarantine=False, scope="key:b", origin="traffic"),
)


def _varied() -> Sequence[Example]:
    """Forty examples of two scopes, writers, teachers and origins, one a second, some of them in quarantine."""
    return [
        example(
            f"e{i}",
            i / 40,
            scope="key:a" if i % 2 else "key:b",
            writer="a" if i % 3 else "b",
            teacher="huge é" if i % 5 == 0 else "large",
            origin="import" if i % 7 == 0 else "traffic",
            reader="a" if i % 4 == 1 else "",
            created_at=NOW + i,
            vector=np.eye(1, DIMENSIONS, dtype=np.float32)[0],
        )
        for i in range(40)
    ]
