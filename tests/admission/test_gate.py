"""The whole gate over a store in memory: who keeps what, in which order, and what strangers cannot do."""

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from echo_proxy.admission.gate import Admission, Arrival, Gate
from echo_proxy.errors import LeaseLost, StoreUnavailable
from echo_proxy.policy import Policy
from echo_proxy.types import Example, Held, Lease
from tests.builders import NOW, example, policy, vector
from tests.fakes import FrozenClock, HashingEmbedder, MemoryStore

TEAM = policy(scope="team")
OPEN = policy(scope="team", admission={"quarantine": None})


class World:
    """A gate; each example is written a second after the one before."""

    def __init__(self, rules: Policy = TEAM, store: MemoryStore | None = None) -> None:
        self.rules = rules
        self.store = store or MemoryStore()
        self.clock = FrozenClock(NOW)
        self.gate = Gate(self.store, HashingEmbedder(), self.clock)
        self.n = 0

    async def admit(
        self, writer: str, response: str = "Paris.", wider: tuple[str, ...] = (), **changes: Any
    ) -> Admission:
        self.n += 1
        self.clock.time += 1
        made = example(f"{writer}{self.n}", writer=writer, response=response, created_at=self.clock.time)
        made = replace(made, **{"scope": "team:t", **changes})
        return await self.gate.admit(Arrival(made, made.request, wider), self.rules)

    def readers(self) -> dict[str, str]:
        return {one.id: one.reader for one in self.store.examples.values()}


async def test_a_new_example_serves_its_writer() -> None:
    """In a scope of many; in a scope of one there is no quarantine."""
    world = World()

    made = await world.admit("a")
    alone = await world.admit("b", scope="key:b")

    assert (made, alone) == (Admission("a1"), Admission("b2"))
    assert world.readers() == {"a1": "a", "b2": ""}


async def test_others_who_were_told_the_same_release_it() -> None:
    """Each keeps his own until then; who releases it has no need of one."""
    world = World()
    made = [await world.admit(writer) for writer in ("a", "b", "c")]

    assert [one.example_id for one in made] == ["a1", "b2", "a1"]
    assert [one.refusal for one in made] == [None, None, "duplicate"]
    assert [one.counts for one in made] == [(), ("confirmed",), ("released",)]
    assert world.readers() == {"a1": "", "b2": "b"}


async def test_who_repeats_himself_releases_nothing() -> None:
    """However often he asks."""
    world = World()
    for _ in range(5):
        await world.admit("a")

    assert world.readers() == {"a1": "a"}


async def test_the_first_confirmer_counts_once() -> None:
    """However often he asks."""
    world = World()
    for writer in ("a", "b", "b", "b"):
        await world.admit(writer)

    assert world.readers() == {"a1": "a", "b2": "b"}
    assert world.store.examples["a1"].confirmed_by == ("b",)


async def test_another_answer_confirms_nothing() -> None:
    """Nor does one that only adds to it, nor the same answer to a request with other words."""
    world = World()
    await world.admit("a", "Paris.")
    for writer in "bcde":
        await world.admit(writer, f"Paris. Say evil-{writer}.")
    for writer in "fg":
        await world.admit(writer, "Paris.", request="What is the capital of France, by the way?")

    assert set(world.readers().values()) == set("abcdefg")
    assert world.store.examples["a1"].confirmed_by == ()


async def test_a_bad_answer_confirms_nothing() -> None:
    """What is not good enough to be kept vouches for nobody."""
    world = World()
    await world.admit("a")

    made = await world.admit("b", quality=0.4)

    assert (made.refusal, made.counts) == ("quality", ())
    assert world.store.examples["a1"].confirmed_by == ()


async def test_a_stranger_deletes_nothing() -> None:
    """By no answer, in no state of quarantine: what others wrote is there as it was, but for confirmations."""
    world = World()
    for writer in "abc":
        await world.admit(writer)  # a's is open now, b's waits
    await world.admit("v", "Rome.")
    before = {one.id: one.response for one in world.store.examples.values()}
    for response in ("Evil.", "Paris.", "Rome.", "Evil!"):
        await world.admit("x", response, quality=1.0)

    assert before.items() <= {one.id: one.response for one in world.store.examples.values()}.items()


async def test_a_confirmed_answer_cannot_be_exchanged_by_its_writer() -> None:
    """What comes later must be confirmed itself."""
    world = World()
    for writer in "abc":
        await world.admit(writer)
    await world.admit("a", "Evil.", quality=1.0)

    assert world.readers() == {"a1": "", "b2": "b", "a4": "a"}
    assert world.store.examples["a1"].response == "Paris."


async def test_a_newer_answer_of_one_writer_takes_the_older_one_s_place() -> None:
    """With the offloads that the request has earned."""
    world = World()
    await world.admit("a", "Lyon.", offloads=3.0, counted_at=NOW + 1)

    await world.admit("a", "Paris.")

    assert world.readers() == {"a2": "a"}
    assert world.store.examples["a2"].offloads == pytest.approx(3.0, rel=1e-3)


async def test_a_clearly_better_twin_stays() -> None:
    """The record of the new answer names no example: none holds it."""
    world = World()
    await world.admit("a", "Paris.", quality=1.0)

    made = await world.admit("a", "Lyon.", quality=0.9)

    assert made == Admission("", "worse_than_twin")
    assert list(world.store.examples) == ["a1"]


async def test_without_quarantine_everybody_is_trusted() -> None:
    """At once, with what strangers wrote, too; but what still waits from before is its writer's."""
    world = World()
    await world.admit("a", "Old.")
    world.rules = OPEN
    await world.admit("b", "Lyon.")
    await world.admit("c", "Paris.")

    assert world.readers() == {"a1": "a", "c3": ""}


async def test_twins_that_come_at_the_same_time_see_each_other() -> None:
    """One batch of the outbox is written side by side."""
    world = World()
    await asyncio.gather(*(world.admit(writer) for writer in ("a", "b", "c", "a")))

    assert world.readers() == {"a1": "", "b2": "b"}


# ------------------------------------------------------------------ privacy, quality, shares


async def test_secrets_are_refused_and_addresses_taken_out() -> None:
    """Before anything is stored, and the vector knows no more than the text."""
    world = World(policy(scope="key"))
    refused = await world.admit(
        "a", "Use AKIAIOSFODNN7EXAMPLQ and -----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----"
    )
    await world.admit("b", request="Who is ann@example.com?", vector=vector(0.0, 1.0))
    kept = world.store.examples["b2"]

    assert (refused.refusal or "").startswith("privacy:")
    assert list(world.store.examples) == ["b2"]
    assert "ann@example.com" not in kept.request
    assert np.array_equal(kept.vector, HashingEmbedder().vector(kept.request))


async def test_quality_less_its_uncertainty_must_reach_the_floor() -> None:
    """A surer guess may be lower."""
    world = World(policy(scope="key"))
    unsure = await world.admit("a", quality=0.7)
    sure = await world.gate.admit(Arrival(example("s", quality=0.7), "x", deviation=0.1), world.rules)
    never_mind = await World(policy(admission={"deviations": 0.0})).admit("a", quality=0.5)

    assert (unsure.refusal, sure.refusal, never_mind.refusal) == ("quality", None, None)


async def test_a_writer_who_has_its_share_is_refused() -> None:
    """An answer in place of its own older one takes no more room."""
    n_bytes = example(request="x" * 300).n_bytes
    rules = policy(scope="team", admission={"writer_share": 0.1}, upkeep={"max_bytes": 15 * n_bytes})
    world = World(rules)
    await world.admit("a", "Lyon.", request="x" * 300, vector=vector(0.0, 1.0))

    made = await world.admit("a", "Paris.")
    other = await world.admit("b", "Paris.")
    in_place = await world.admit("a", "Nice.", request="x" * 300, vector=vector(0.0, 1.0))

    assert (made.refusal, other.refusal, in_place.refusal) == ("writer_share", None, None)


# ------------------------------------------------------------------ copies for wider scopes


async def test_a_wider_scope_gets_a_copy_in_its_own_quarantine() -> None:
    """Without personal data, though the policy keeps that of the original; found again by its id."""
    rules = policy(admission={"privacy": {"personal": "keep"}}, sharing={"scopes": ["team", "public"]})
    world = World(rules)
    made = await world.admit(
        "a", scope="key:a", request="Who is ann@example.com?", wider=("team:t", "public:all"), confirmed_by=("z",)
    )
    stored = world.store.examples

    assert (made.example_id, made.counts) == ("a1", ("shared", "shared"))
    assert "ann@example.com" in stored["a1"].request
    assert {one.id: (one.scope, one.reader, one.origin, one.confirmed_by) for one in stored.values()} == {
        "a1": ("key:a", "", "traffic", ("z",)),
        "a1-team": ("team:t", "a", "shared", ()),
        "a1-public": ("public:all", "a", "shared", ()),
    }
    assert "ann@example.com" not in stored["a1-public"].request
    assert np.array_equal(stored["a1-public"].vector, HashingEmbedder().vector(stored["a1-public"].request))


async def test_copies_are_confirmed_by_copies() -> None:
    """Three keys that keep their examples to themselves share one after all."""
    world = World(policy(sharing={"scopes": ["public"]}))
    made = [await world.admit(writer, scope=f"key:{writer}", wider=("public:all",)) for writer in "abc"]

    assert [one.counts for one in made] == [
        ("shared",),
        ("confirmed", "shared"),
        ("released", "unshared:duplicate"),
    ]
    assert world.readers() == {"a1": "", "a1-public": "", "b2": "", "b2-public": "b", "c3": ""}


async def test_an_answer_that_is_not_kept_is_not_shared() -> None:
    """Nor is one with a secret that its own scope may hold."""
    secret = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----"
    world = World(policy(admission={"privacy": {"secrets": "keep"}}, sharing={"scopes": ["public"]}))
    await world.admit("a", quality=0.1, scope="key:a", wider=("public:all",))
    made = await world.admit("b", secret, scope="key:b", wider=("public:all",))

    assert list(world.store.examples) == ["b2"]
    assert made.counts[0].startswith("unshared:privacy:")


# ------------------------------------------------------------------ again after a failure


class _Failing(MemoryStore):
    """Fails once, at the step that is named."""

    fails_at = ""

    def _fail(self, step: str) -> None:
        if self.fails_at == step:
            self.fails_at = ""
            raise StoreUnavailable(step)

    async def add(self, example: Example) -> None:
        self._fail("add")
        await super().add(example)

    async def remove(self, example_ids: Any, lease: Lease | None = None) -> int:
        self._fail("remove")
        return await super().remove(example_ids, lease)

    async def held_by(self, writer: str) -> Held:
        self._fail("held_by")
        return await super().held_by(writer)


@pytest.mark.parametrize("step", ["add", "remove", "held_by", "nothing"])
async def test_what_is_done_again_comes_to_the_same(step: str) -> None:
    """The store may fail anywhere, and the outbox tries the whole again."""
    store = _Failing()
    world = World(store=store)
    await world.admit("b", "Paris.")
    await world.admit("a", "Lyon.", offloads=2.0, counted_at=NOW + 2)
    store.fails_at = step
    new = example("new", writer="a", created_at=NOW + 2, scope="team:t")
    arrival = Arrival(new, new.request, ("public:all",))
    for _ in range(3):
        try:
            made = await world.gate.admit(arrival, world.rules)
        except StoreUnavailable:
            continue

    assert made.example_id == "new"
    assert world.readers() == {"b1": "b", "new": "a", "new-public": "a"}
    assert store.examples["new"].offloads == pytest.approx(2.0, rel=1e-3)
    assert store.examples["b1"].confirmed_by == ("a",)


async def test_a_store_that_is_away_refuses_nothing() -> None:
    """The outcome waits."""
    world = World()
    world.store.is_away = True

    with pytest.raises(StoreUnavailable):
        await world.admit("a")


async def test_a_user_s_other_keys_vouch_for_nothing_of_his() -> None:
    """Nor is a judge asked about it because one of them was answered otherwise."""
    world = World()
    await world.admit("a", person="mallory")
    for writer in ("b", "c", "d"):
        await world.admit(writer, person="mallory")
    other = await world.admit("e", "Rome.", person="mallory")

    assert world.store.examples["a1"].confirmed_by == ()
    assert set(world.readers().values()) == set("abcde")
    assert other.doubted == ()


async def test_what_upkeep_asked_for_vouches_for_nobody() -> None:
    """No teacher has told anybody so."""
    world = World()
    await world.admit("a")
    await world.admit("b", origin="coverage")

    assert world.store.examples["a1"].confirmed_by == ()


async def test_who_may_no_longer_write_does_not() -> None:
    """A lease may end while texts are cleaned and twins are looked for."""
    world = World()

    async def has_ended() -> None:
        raise LeaseLost("ended")

    made = example("a1", scope="team:t")
    with pytest.raises(LeaseLost):
        await world.gate.admit(Arrival(made, made.request, confirm_right=has_ended), TEAM)
    assert world.store.examples == {}
