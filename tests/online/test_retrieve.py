from dataclasses import replace

import pytest

from echo_proxy.errors import StoreUnavailable
from echo_proxy.online.retrieve import retrieve
from echo_proxy.policy import Retrieval
from echo_proxy.types import Example, Names
from tests.builders import NOW, example, request, vector
from tests.fakes import MemoryStore


async def found_among(*examples: Example, rules: Retrieval | None = None) -> list[str]:
    store = MemoryStore()
    for one in examples:
        await store.add(one)
    found = await retrieve(request(), vector(1.0), rules or Retrieval(), store)
    return [one.example.id for one in found]


async def test_only_the_request_s_own_scope_and_partition_are_searched() -> None:
    """Another tenant's example, another system prompt's, and an expired one stay out, however near."""
    found = await found_among(
        example("mine"),
        example("other-scope", scope="key:b"),
        example("other-partition", partition="q"),
        example("expired", expires_at=NOW),
    )

    assert found == ["mine"]


async def test_the_policy_bounds_number_and_distance() -> None:
    """Nearest first, k at most, none beyond max_distance."""
    examples = [example(f"e{i}", vector=vector(1.0, i / 4)) for i in range(4)] + [
        example("far", vector=vector(0.0, 1.0))
    ]

    assert await found_among(*examples, rules=Retrieval(k=16, max_distance=0.5)) == ["e0", "e1", "e2", "e3"]
    assert await found_among(*examples, rules=Retrieval(k=2, max_distance=0.5)) == ["e0", "e1"]
    assert await found_among(*examples, rules=Retrieval(k=16, max_distance=0.1)) == ["e0", "e1"]


async def test_candidates_know_whether_the_request_s_names_stand_in_them() -> None:
    """Embeddings blur names, so they are compared word by word."""
    store = MemoryStore()
    await store.add(example("held"))
    await store.add(replace(example("missing"), request="What is the capital of Italy?", response="Rome."))

    found = await retrieve(request(), vector(1.0), Retrieval(), store)

    assert {one.example.id: one.names for one in found} == {"held": Names.HELD, "missing": Names.MISSING}


async def test_a_store_that_is_away_is_the_caller_s_to_handle() -> None:
    """Retrieval does not hide it."""
    store = MemoryStore()
    store.is_away = True

    with pytest.raises(StoreUnavailable):
        await retrieve(request(), vector(1.0), Retrieval(), store)
