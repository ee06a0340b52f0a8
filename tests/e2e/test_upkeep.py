"""Upkeep inside the real proxy: several workers, one round per period."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import httpx
import pytest

from tests.e2e.proxy import ALWAYS_LARGE, Proxy, Upstream, config_for, policy_for, wait_for
from tests.e2e.test_path import chat, question

EVERY_S = 10.0


@pytest.fixture(scope="module")
def kept(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Two workers over one store, a round every ten seconds."""
    rules = policy_for(bandit=ALWAYS_LARGE, upkeep={"every_s": EVERY_S, "seconds_per_round": 60.0})
    process = Proxy(tmp_path_factory.mktemp("kept"), config_for(upstream), {"test": rules}, workers=2)
    process.start()
    yield process
    process.stop()


def runs(client: httpx.Client) -> list[dict[str, Any]]:
    """All rounds, oldest first."""
    found = client.get("/echo/upkeep", params={"limit": 500}).json()
    return list(reversed(found))


def test_of_all_workers_one_does_each_round(kept: Proxy) -> None:
    """A period lies between the end of one and the beginning of the next, whoever did it; tenants see none of it."""
    with kept.client() as client, kept.client("sk-tenant-red") as tenant:
        chat(client, question())
        found = wait_for(lambda: len(runs(client)) >= 3 and runs(client), 120, "three rounds")
        refused = tenant.get("/echo/upkeep")

    assert all(later["started_at"] - earlier["ended_at"] >= EVERY_S for earlier, later in pairwise(found))
    assert {one["ending"] for one in found} == {"done"}
    assert all(set(one["report"]) == {"evict", "replay", "coverage"} for one in found)
    assert refused.status_code == 403


def test_a_restart_begins_no_round_too_soon(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The last one is known from the store."""
    folder = tmp_path_factory.mktemp("again")
    rules = policy_for(upkeep={"every_s": EVERY_S, "seconds_per_round": 60.0})
    first = Proxy(folder, config_for(upstream), {"test": rules})
    try:
        first.start()
        with first.client() as client:
            wait_for(lambda: runs(client), 120, "first round")
        first.stop()
        first.start()
        with first.client() as client:
            found = wait_for(lambda: len(runs(client)) >= 2 and runs(client), 120, "second round")
    finally:
        first.stop()

    assert all(later["started_at"] - earlier["ended_at"] >= EVERY_S for earlier, later in pairwise(found))
