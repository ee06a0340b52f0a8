"""The HTTP API: each tenant sees its own, admins everything, failures say what is wrong."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI, Header, HTTPException

from echo_proxy.admin.routes import make_router
from echo_proxy.app import App
from echo_proxy.lane import Lane
from echo_proxy.settings import Settings
from echo_proxy.types import ArmKey, ArmSums, Caller, Evidence, Increment, Load, LocalReport, Replayed, Settlement
from tests.builders import NOW, example, lane, policy, record
from tests.fakes import HashingEmbedder, MemoryStore

CALLERS = {
    "a": Caller("a", team="t"),
    "b": Caller("b", team="t"),
    "admin": Caller("root", is_admin=True),
}


async def authenticate(authorization: Annotated[str, Header()] = "") -> str:
    """The key check of a proxy that knows three keys."""
    if authorization not in CALLERS:
        raise HTTPException(401, "who are you?")
    return authorization


class World:
    """Two policies over fakes: `test` shares nothing, `team` shares by team."""

    def __init__(self) -> None:
        self.store, self.team_store = MemoryStore(), MemoryStore()
        self.lane: Lane = lane(policy(), self.store)
        team = lane(policy(name="team", scope="team", match={"model_groups": ["team"]}), self.team_store)
        self.app = App(Settings(policy="nowhere"), [self.lane, team], HashingEmbedder())
        site = FastAPI()
        site.include_router(make_router(self.app, authenticate, CALLERS.__getitem__))
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app=site), base_url="http://echo")

    async def ask(self, who: str, method: str, path: str, **more: Any) -> httpx.Response:
        return await self.client.request(method, f"/echo{path}", headers={"authorization": who}, **more)

    async def get(self, who: str, path: str, **params: Any) -> Any:
        return (await self.ask(who, "GET", path, params=params)).json()

    async def settle(self, decision_id: str, scope: str = "key:a", **changes: Any) -> None:
        await self.store.settle(Settlement(record(decision_id, scope=scope, **changes), (), ()))

    async def say(self, who: str, decision_id: str, **body: Any) -> httpx.Response:
        return await self.ask(who, "POST", "/feedback", json={"decision_id": decision_id, **body})


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr("echo_proxy.admin.routes._FEEDBACK_WAIT_S", 0.05)
    made = World()
    async with made.client:
        yield made


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/ready"),
        ("GET", "/stats"),
        ("GET", "/local"),
        ("GET", "/decisions"),
        ("GET", "/decisions/d1"),
        ("GET", "/examples"),
        ("GET", "/examples/e1"),
        ("DELETE", "/examples/e1"),
        ("DELETE", "/examples"),
    ],
)
async def test_no_route_is_open(world: World, method: str, path: str) -> None:
    """All stand behind the proxy's key check."""
    await world.settle("d1")
    await world.store.add(example())

    assert (await world.ask("nobody", method, path)).status_code == 401
    assert (await world.say("nobody", "d1", score=1)).status_code == 401
    assert list(world.store.examples) == ["e1"]


# ------------------------------------------------------------------ decisions


async def test_each_sees_its_own_decisions(world: World) -> None:
    """Newest first; an admin sees all."""
    await world.settle("d1", "key:a", created_at=NOW)
    await world.settle("d2", "key:b", created_at=NOW + 1)
    await world.settle("d3", "key:a", created_at=NOW + 2)

    assert [one["id"] for one in await world.get("a", "/decisions")] == ["d3", "d1"]
    assert [one["id"] for one in await world.get("b", "/decisions")] == ["d2"]
    assert [one["id"] for one in await world.get("admin", "/decisions")] == ["d3", "d2", "d1"]
    assert [one["id"] for one in await world.get("admin", "/decisions", limit=1)] == ["d3"]


async def test_another_s_decision_is_as_unknown_as_none(world: World) -> None:
    """The answers do not differ but for the id."""
    await world.settle("d1", "key:a")

    mine, theirs = await world.ask("a", "GET", "/decisions/d1"), await world.ask("b", "GET", "/decisions/d1")
    none = await world.ask("b", "GET", "/decisions/d0")

    assert (mine.status_code, mine.json()["id"]) == (200, "d1")
    assert (theirs.status_code, none.status_code) == (404, 404)
    assert theirs.text == none.text.replace("d0", "d1")
    assert (await world.ask("admin", "GET", "/decisions/d1")).status_code == 200


async def test_a_policy_can_be_named(world: World) -> None:
    """An unknown one is told with those that are there."""
    await world.settle("d1")
    await world.team_store.settle(Settlement(record("d2", scope="team:t", policy="team"), (), ()))
    unknown = await world.ask("a", "GET", "/decisions", params={"policy": "nope"})

    assert [one["id"] for one in await world.get("a", "/decisions", policy="team")] == ["d2"]
    assert sorted(one["id"] for one in await world.get("a", "/decisions")) == ["d1", "d2"]
    assert unknown.status_code == 404
    assert unknown.json()["detail"] == "policy: expected one of test, team, got 'nope'"


EXPLAINED = {
    "request": "What?",
    "decision": {
        "arm": "small+0",
        "arms": {"small+0": {"probability": 0.9, "mean_reward": 0.8, "weight": 12.0}},
        "adjustments": ["floor 0.01", "linucb instead of best_effort: load of small 12 is outside 0 to 8"],
        "taken": {"load": {"why": "small has 12 requests", "from": {"small+0": 0.5}}},
    },
}


async def test_what_mixes_all_tenants_is_for_admins(world: World) -> None:
    """What others earned, how busy they are and what they spend; the probabilities are everybody's own."""
    await world.settle("d1", explanation=EXPLAINED)
    mine = (await world.get("a", "/decisions/d1"))["explanation"]
    listed, said = await world.get("a", "/decisions"), await world.say("a", "d1", score=1)

    assert mine == {
        "request": "What?",
        "decision": {
            "arm": "small+0",
            "arms": {"small+0": {"probability": 0.9}},
            "adjustments": ["floor 0.01", "linucb instead of best_effort"],
            "taken": {"load": {}},
        },
    }
    assert listed[0]["explanation"]["decision"] == mine["decision"] == said.json()["explanation"]["decision"]
    assert (await world.get("admin", "/decisions/d1"))["explanation"]["decision"] == EXPLAINED["decision"]


# ------------------------------------------------------------------ feedback


@pytest.mark.parametrize(
    ("body", "score"),
    [({"score": 0.25}, 0.25), ({"thumbs": "up"}, 1.0), ({"thumbs": "down"}, 0.0), ({"score": 0}, 0.0)],
)
async def test_feedback_is_a_score_or_thumbs(world: World, body: dict[str, Any], score: float) -> None:
    """Kept with its comment."""
    await world.settle("d1")

    made = await world.say("a", "d1", comment="so", **body)

    assert made.status_code == 200
    assert (made.json()["feedback"], made.json()["quality"]) == (score, score)
    assert world.store.records["d1"].explanation["comment"] == "so"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"score": 1.5}, "score"),
        ({"score": "good"}, "score"),
        ({"score": None}, "expected either score or thumbs, got neither"),
        ({"score": 1, "thumbs": "up"}, "expected either score or thumbs, got both"),
        ({"thumbs": "sideways"}, "thumbs"),
        ({"score": 1, "rating": 5}, "rating"),
        ({"score": 1, "comment": "x" * 3000}, "comment"),
        ({"score": 1, "decision_id": ""}, "decision_id"),
    ],
)
async def test_a_bad_body_is_told_with_its_field(world: World, body: dict[str, Any], field: str) -> None:
    """422, and nothing changes."""
    await world.settle("d1")

    made = await world.say("a", **({"decision_id": "d1"} | body))

    assert made.status_code == 422
    assert field in str(made.json()["detail"][0]["loc"]) + made.json()["detail"][0]["msg"]
    assert world.store.records["d1"].feedback is None


async def test_a_decision_takes_so_much_feedback(world: World) -> None:
    """Each change is learned by all workers; what changes nothing is no change."""
    await world.settle("d1")
    same = [(await world.say("a", "d1", score=0.5)).status_code for _ in range(30)]
    others = [(await world.say("a", "d1", score=i / 100)).status_code for i in range(25)]
    refused = await world.say("a", "d1", score=1)

    assert same == [200] * 30
    assert others == [200] * 19 + [409] * 6
    assert "at most 20 changes" in refused.json()["detail"]
    assert world.store.records["d1"].revision == 21
    assert (await world.say("a", "d1", score=0.18)).status_code == 200


async def test_another_s_decision_takes_no_feedback(world: World) -> None:
    """An admin's it takes."""
    await world.settle("d1", "key:a")

    assert (await world.say("b", "d1", score=0)).status_code == 404
    assert world.store.records["d1"].feedback is None
    assert (await world.say("admin", "d1", score=0)).status_code == 200


async def test_feedback_waits_for_a_settlement_that_is_on_its_way(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer may reach its reader, and feedback come back, before it is written."""
    monkeypatch.setattr("echo_proxy.admin.routes._FEEDBACK_WAIT_S", 5.0)
    asked = asyncio.Event()
    find = world.store.decision

    async def noticing(decision_id: str) -> Any:
        asked.set()
        return await find(decision_id)

    monkeypatch.setattr(world.store, "decision", noticing)
    giving = asyncio.create_task(world.say("a", "d1", score=1))
    await asked.wait()
    await world.settle("d1")

    assert (await giving).status_code == 200
    assert world.store.records["d1"].feedback == 1.0


async def test_feedback_on_nothing_is_told(world: World) -> None:
    """After the wait."""
    made = await world.say("a", "never", score=1)

    assert made.status_code == 404
    assert made.json()["detail"] == "decision: expected the id of one that you may see, got 'never'"


# ------------------------------------------------------------------ examples


async def test_each_sees_its_own_examples(world: World) -> None:
    """Without the vector."""
    await world.store.add(example("e1"))
    await world.store.add(example("e2", scope="key:b"))

    assert [one["id"] for one in await world.get("a", "/examples")] == ["e1"]
    assert len(await world.get("admin", "/examples")) == 2
    assert (await world.get("a", "/examples/e1"))["response"] == "Paris."
    assert "vector" not in await world.get("a", "/examples/e1")
    assert (await world.ask("b", "GET", "/examples/e1")).status_code == 404


async def test_pages_of_several_policies_leave_nothing_out(world: World) -> None:
    """Paging to the end shows everything once, newest first."""
    for index in range(7):
        store, scope = (world.store, "key:a") if index % 3 else (world.team_store, "team:t")
        await store.add(example(f"e{index}", scope=scope, created_at=NOW + index))

    pages = [await world.get("a", "/examples", offset=offset, limit=2) for offset in range(0, 8, 2)]

    assert [one["id"] for page in pages for one in page] == [f"e{index}" for index in range(6, -1, -1)]


async def test_an_example_can_be_forgotten(world: World) -> None:
    """By who may see it."""
    await world.store.add(example("e1"))

    theirs = await world.ask("b", "DELETE", "/examples/e1")
    mine = await world.ask("a", "DELETE", "/examples/e1")

    assert (theirs.status_code, mine.json()) == (404, {"forgotten": 1})
    assert world.store.examples == {}


async def test_forgetting_all_leaves_what_others_wrote(world: World) -> None:
    """Also in a shared scope; an admin forgets everything."""
    for index in range(4):
        await world.team_store.add(example(f"e{index}", scope="team:t", writer="ab"[index % 2], created_at=NOW + index))
    await world.store.add(example("own"))

    first = await world.ask("a", "DELETE", "/examples", params={"policy": "team"})
    left = sorted(world.team_store.examples)
    second = await world.ask("admin", "DELETE", "/examples")

    assert (first.json(), left) == ({"forgotten": 2}, ["e1", "e3"])
    assert second.json() == {"forgotten": 3}


async def test_forgetting_all_goes_through_every_page(world: World) -> None:
    """However many examples others wrote between."""
    for index in range(1200):
        await world.team_store.add(example(f"e{index}", scope="team:t", writer="ab"[index % 2], created_at=NOW + index))

    made = await world.ask("a", "DELETE", "/examples")

    assert made.json() == {"forgotten": 600}
    assert {one.writer for one in world.team_store.examples.values()} == {"b"}


async def test_what_is_forgotten_can_be_narrowed_down(world: World) -> None:
    """By time, text and scope; all conditions together."""
    for index in range(6):
        await world.store.add(example(f"e{index}", request=f"Who is number {index}?", created_at=NOW + index))

    gone = [
        (await world.ask("a", "DELETE", "/examples", params=params)).json()["forgotten"]
        for params in (
            {"before": NOW + 1},
            {"after": NOW + 4},
            {"text": "NUMBER 2"},
            {"text": "number 4", "after": NOW + 3.5},
            {"scope": "key:b"},
            {"scope": "key:a", "before": NOW + 2},
        )
    ]

    assert gone == [1, 1, 1, 1, 0, 1]
    assert list(world.store.examples) == ["e3"]


async def test_a_tenant_forgets_only_what_it_wrote(world: World) -> None:
    """In all scopes, copies too; naming another writer is refused, which an admin may do."""
    await world.store.add_many(
        [
            example("e1"),
            example("e1-public", scope="public:all", origin="shared"),
            example("e2", writer="b", scope="public:all"),
            example("e3", writer="c", scope="public:all"),
        ]
    )

    refused = await world.ask("a", "DELETE", "/examples", params={"writer": "b"})
    own = await world.ask("a", "DELETE", "/examples", params={"writer": "a"})
    others = await world.ask("admin", "DELETE", "/examples", params={"writer": "b"})

    assert (refused.status_code, own.json(), others.json()) == (403, {"forgotten": 2}, {"forgotten": 1})
    assert refused.json()["detail"].startswith("writer: expected your own")
    assert list(world.store.examples) == ["e3"]


async def test_a_wrong_pattern_is_422(world: World) -> None:
    """With what was expected."""
    made = await world.ask("admin", "DELETE", "/examples", params={"text": "(", "regex": True})

    assert made.status_code == 422
    assert made.json()["detail"].startswith("text: expected a regular expression, got '('")


async def test_patterns_are_for_admins(world: World) -> None:
    """One that is slow on many texts keeps a worker of all tenants busy; a tenant has plain text."""
    await world.store.add(example("e1", request="Who is number 1?"))
    refused = await world.ask("a", "DELETE", "/examples", params={"text": "number [1]", "regex": True})
    done = await world.ask("admin", "DELETE", "/examples", params={"text": "number [1]", "regex": True})

    assert (refused.status_code, done.json()) == (403, {"forgotten": 1})
    assert refused.json()["detail"].startswith("regex: expected an admin key")


async def test_an_example_s_copies_go_with_it(world: World) -> None:
    """The copy alone can be forgotten too, by who wrote it."""
    for name in ("e1", "e2"):
        await world.store.add_many([example(name), example(f"{name}-public", scope="public:all", origin="shared")])

    with_its_copy = await world.ask("a", "DELETE", "/examples/e1")
    theirs = await world.ask("b", "DELETE", "/examples/e2-public")
    copy_alone = await world.ask("a", "DELETE", "/examples/e2-public")

    assert (with_its_copy.json(), theirs.status_code, copy_alone.json()) == ({"forgotten": 2}, 404, {"forgotten": 1})
    assert list(world.store.examples) == ["e2"]


async def test_what_waits_in_another_s_quarantine_is_not_shown(world: World) -> None:
    """It might be poisoned, or private; its writer and admins see it, and pages are full all the same."""
    for index in range(6):
        writer = "ab"[index % 2]
        made = example(f"e{index}", scope="team:t", writer=writer, reader="b" * (writer == "b"), created_at=NOW + index)
        await world.team_store.add(made)

    assert [one["id"] for one in await world.get("a", "/examples", limit=2)] == ["e4", "e2"]
    assert [one["id"] for one in await world.get("b", "/examples", limit=2)] == ["e5", "e4"]
    assert len(await world.get("admin", "/examples")) == 6
    assert (await world.ask("a", "GET", "/examples/e5")).status_code == 404
    assert (await world.ask("a", "DELETE", "/examples/e5")).status_code == 404


async def test_an_example_tells_where_it_comes_from(world: World) -> None:
    """Writer, teacher, decision, origin, quarantine, confirmations, replays; who confirmed it is told to admins."""
    replayed = Replayed(NOW, "large", 3, True, 0.8, "0123456789abcdef")
    await world.store.add(
        example(reader="a", confirmed_by=("b",), history=(replayed,), origin="coverage", version=3, system="Be brief.")
    )
    mine, admin = await world.get("a", "/examples/e1"), await world.get("admin", "/examples/e1")

    assert {**mine, "confirmed_by": ["b"]} == admin
    assert (mine["in_quarantine"], mine["n_confirmations"], mine["confirmed_by"]) == (True, 1, [])
    assert (mine["origin"], mine["version"], mine["writer"], mine["system"]) == ("coverage", 3, "a", "Be brief.")
    assert mine["history"] == [{"at": NOW, "teacher": "large", "n_answers": 3, "is_replaced": True, "verdict": 0.8}]


async def test_a_system_prompt_is_its_writer_s(world: World) -> None:
    """Who shares a scope shares examples, not what another's application was told."""
    await world.team_store.add(example("e1", scope="team:t", writer="a", system="Be brief."))

    shown = {who: (await world.get(who, "/examples/e1"))["system"] for who in ("a", "b", "admin")}
    listed = (await world.get("b", "/examples", policy="team"))[0]["system"]

    assert (shown, listed) == ({"a": "Be brief.", "b": "", "admin": "Be brief."}, "")


# ------------------------------------------------------------------ ready, stats, a store that is away


async def test_ready_says_what_is_missing(world: World) -> None:
    """503 until every policy's store is open and answers."""
    before = await world.ask("a", "GET", "/ready")
    world.store.is_away = True
    during = await world.ask("a", "GET", "/ready")
    world.store.is_away, world.lane.is_open = False, False
    closed = await world.ask("a", "GET", "/ready")

    assert (before.status_code, before.json()["ready"]) == (200, True)
    assert (during.status_code, closed.status_code) == (503, 503)
    assert {name: one["ready"] for name, one in during.json()["policies"].items()} == {"test": False, "team": True}


async def test_counts_are_the_caller_s_own(world: World) -> None:
    """An admin sees the sum, and what the arms have learned, which mixes all tenants."""
    await world.store.count({("key:a", "decisions"): 2.0, ("key:b", "decisions"): 3.0, ("all", "pass:tools"): 1.0})
    key = ArmKey("large+0", "all")
    world.lane.parts.knowledge.absorb([Increment(key, ArmSums(4.0, 3.0, 2.5)), Increment(key, ArmSums())])

    mine, all_of_it = await world.get("a", "/stats"), await world.get("admin", "/stats")

    assert (mine["test"]["counts"], mine["test"]["arms"]) == ({"decisions": 2.0}, [])
    assert all_of_it["test"]["counts"] == {"decisions": 5.0, "pass:tools": 1.0}
    assert all_of_it["test"]["arms"] == [{"arm": "large+0", "segment": "all", "weight": 4.0, "mean_reward": 0.75}]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/stats"),
        ("GET", "/decisions"),
        ("GET", "/decisions/d1"),
        ("GET", "/examples"),
        ("GET", "/examples/e1"),
        ("DELETE", "/examples/e1"),
        ("DELETE", "/examples"),
    ],
)
async def test_a_store_that_is_away_is_503(world: World, method: str, path: str) -> None:
    """With the advice to try again."""
    world.store.is_away = True

    made = await world.ask("a", method, path)

    assert (made.status_code, made.headers["retry-after"]) == (503, "1")
    assert made.json()["detail"].startswith("the store is away: ")


async def test_feedback_while_the_store_is_away_is_503(world: World) -> None:
    """The caller keeps it and tries again; then it counts."""
    await world.settle("d1")
    world.store.is_away = True
    away = await world.say("a", "d1", score=1)
    world.store.is_away = False

    assert away.status_code == 503
    assert (await world.say("a", "d1", score=1)).status_code == 200


async def test_a_refused_policy_is_shown(world: World) -> None:
    """The old one is in force, so the worker is ready."""
    world.app.policy_error = "p.yaml:5: modee: no such key is known here"

    made = await world.ask("a", "GET", "/ready")

    assert (made.status_code, made.json()["policy_error"]) == (200, world.app.policy_error)


async def test_a_worker_whose_upkeep_has_ended_is_not_ready(world: World) -> None:
    """It learns nothing any more, so whoever restarts workers must see it."""
    before = await world.ask("a", "GET", "/ready")
    world.app.upkeep_error = "upkeep has ended in this worker: KeyError: 'a bug'"

    made = await world.ask("a", "GET", "/ready")

    assert (before.status_code, before.json()["upkeep_error"]) == (200, None)
    assert (made.status_code, made.json()["ready"]) == (503, False)
    assert made.json()["upkeep_error"] == world.app.upkeep_error


async def test_a_decision_s_evidence_can_be_read(world: World) -> None:
    """What the arms have learned from it."""
    await world.settle("d1", evidence=(Evidence(ArmKey("large+0", "all"), 0.05, 0.9),))
    shown = await world.get("a", "/decisions/d1")

    assert shown["learned"] == [{"arm": "large+0", "segment": "all", "weight": 0.05, "reward": 0.9}]
    assert replace(world.store.records["d1"], evidence=()) == record("d1")


async def test_in_a_shared_scope_decisions_stay_their_caller_s(world: World) -> None:
    """A team shares examples, not what each of it asked; and nobody forgets or judges what another wrote."""
    await world.team_store.add(example("e1", scope="team:t", writer="b"))

    read = await world.ask("a", "GET", "/examples/e1")
    forgotten = await world.ask("a", "DELETE", "/examples/e1")

    assert read.status_code == 200
    assert forgotten.status_code == 403
    assert "e1" in world.team_store.examples


# ------------------------------------------------------------------ local models


class _Local:
    """One model that has worked, one that cannot start."""

    async def loads(self) -> dict[str, Load]:
        return {}

    async def reports(self) -> tuple[LocalReport, ...]:
        counts = {"prompt_tokens": 200.0, "cached_tokens": 150.0, "drafted_tokens": 80.0, "accepted_tokens": 20.0}
        busy = LocalReport(
            "small", "pair", ("id-small", "llama_cpp/small"), "ready", 3, 8, 1.5, 0.5, 1, 2, counts, None
        )
        return (busy, LocalReport("large", "large", (), "failed", 0, 0, 0.0, 0.0, 0, 0, {}, "no such file"))

    async def aclose(self) -> None:
        pass


async def test_an_admin_sees_how_the_local_models_are(world: World) -> None:
    """Queue, prefixes, drafts, restarts; what nothing is known of is null, not nought."""
    world.app.watch(_Local())
    small, large = await world.get("admin", "/local")

    assert (small["name"], small["process"], small["deployments"]) == ("small", "pair", ["id-small", "llama_cpp/small"])
    assert (small["phase"], small["queue"], small["running"], small["restarts"]) == ("ready", 3, 8, 1)
    assert (small["prefix_hit_rate"], small["draft_acceptance"]) == (0.75, 0.25)
    assert (large["phase"], large["error"]) == ("failed", "no such file")
    assert (large["prefix_hit_rate"], large["draft_acceptance"]) == (None, None)


async def test_local_models_are_for_admins(world: World) -> None:
    """All tenants share them: how busy they are tells what others do."""
    world.app.watch(_Local())
    refused = await world.ask("a", "GET", "/local")

    assert (refused.status_code, refused.json()["detail"]) == (
        403,
        "local: expected the key of an admin, got a tenant's",
    )


async def test_without_local_models_the_list_is_empty(world: World) -> None:
    """And the same key is needed."""
    assert await world.get("admin", "/local") == []
    assert (await world.ask("a", "GET", "/local")).status_code == 403
