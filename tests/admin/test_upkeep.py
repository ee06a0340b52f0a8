"""What is told of the rounds of upkeep, and to whom."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from echo_proxy.admin.routes import make_router
from echo_proxy.app import App
from echo_proxy.settings import Settings
from echo_proxy.types import Caller, UpkeepRun
from tests.builders import NOW, lane, policy
from tests.fakes import HashingEmbedder, MemoryStore

CALLERS = {"tenant": Caller("a"), "admin": Caller("root", is_admin=True)}


class World:
    """Two policies, each with a round."""

    def __init__(self) -> None:
        self.stores = {"test": MemoryStore(), "other": MemoryStore()}
        self.stores["test"].journal.append(UpkeepRun("r1", NOW, NOW + 5, "w1", "done", 0.5, {"replay": {"n": 1}}))
        self.stores["other"].journal.append(UpkeepRun("r2", NOW + 9, NOW + 10, "w2", "budget", 0.0, {}))
        rules = [policy(), policy(name="other", match={"model_groups": ["other"]})]
        app = App(Settings(policy="nowhere"), [lane(one, self.stores[one.name]) for one in rules], HashingEmbedder())
        self.who = "admin"
        self.site = FastAPI()
        self.site.include_router(make_router(app, lambda: self.who, CALLERS.__getitem__))

    async def get(self, **params: Any) -> Any:
        transport = httpx.ASGITransport(app=self.site)
        async with httpx.AsyncClient(transport=transport, base_url="http://echo") as client:
            return await client.get("/echo/upkeep", params=params)


@pytest.fixture
def world() -> World:
    return World()


async def test_admins_see_every_round_newest_first(world: World) -> None:
    """Of all policies, or of one."""
    everything, one = await world.get(), await world.get(policy="test")

    assert [(run["id"], run["policy"]) for run in everything.json()] == [("r2", "other"), ("r1", "test")]
    assert one.json() == [
        {
            "id": "r1",
            "policy": "test",
            "started_at": NOW,
            "ended_at": NOW + 5,
            "holder": "w1",
            "ending": "done",
            "cost_usd": 0.5,
            "report": {"replay": {"n": 1}},
        }
    ]


async def test_tenants_see_none(world: World) -> None:
    """Rounds tell of all tenants' requests."""
    world.who = "tenant"

    assert (await world.get()).status_code == 403


async def test_an_unknown_policy_is_refused(world: World) -> None:
    """With the names of those that are known."""
    response = await world.get(policy="nowhere")

    assert response.status_code == 404
    assert "test, other" in response.json()["detail"]


async def test_a_store_that_is_away_is_said(world: World) -> None:
    """It may be asked again."""
    world.stores["test"].is_away = True

    assert (await world.get()).status_code == 503
