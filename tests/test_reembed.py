import re
import sqlite3
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from echo_proxy.app import store_config
from echo_proxy.cli import main
from echo_proxy.errors import EmbedderError, SchemaMismatch
from echo_proxy.policy_files import load_policy
from echo_proxy.protocols import Embedder, Store
from echo_proxy.reembed import reembed_all
from echo_proxy.stores.connect import make_store
from echo_proxy.types import Example
from tests.contracts import NOW, example, ids, query
from tests.fakes import FrozenClock, HashingEmbedder

POLICY = "name: {name}\nmatch: {{model_groups: [{name}]}}\narms: [{{deployment: x}}]\nbandit: {{kind: uniform}}\n"


class OtherEmbedder(HashingEmbedder):
    """Another model with another size; fails when it has been asked `n_answers` times."""

    model = "other"
    dimensions = 48

    def __init__(self, n_answers: int = 10**6) -> None:
        super().__init__()
        self.n_answers = n_answers
        self.batches: list[int] = []

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if len(self.batches) >= self.n_answers:
            raise EmbedderError("the provider is away")
        self.batches.append(len(texts))
        return await super().embed(texts)


class World:
    """A folder with one policy and its store."""

    def __init__(self, folder: Path, url: str) -> None:
        self.clock = FrozenClock(NOW)
        self.policy = folder / "p.yaml"
        self.policy.write_text(POLICY.format(name="mine"))
        self.file = folder / "echo.db"
        self.url = url or f"sqlite://{self.file}"

    def store(self, embedder: Embedder) -> Store:
        return make_store(self.url, store_config(load_policy(self.policy), embedder), self.clock, 20.0)

    async def fill(self, n: int) -> None:
        """n examples with vectors of the old model."""
        old = HashingEmbedder()
        store = self.store(old)
        await store.open()
        for i in range(n):
            text = f"question {i}"
            await store.add(example(f"e{i}", request=text, vector=old.vector(text), uses=2.0, gain=0.5))
        await store.close()

    async def run(self, embedder: Embedder, *, is_last: bool = False) -> str:
        out = StringIO()
        console = Console(file=out, width=200)
        await reembed_all([self.policy], console, embedder, self.clock, is_last=is_last)
        return out.getvalue()

    async def examples(self, embedder: Embedder) -> tuple[Example, ...]:
        store = self.store(embedder)
        await store.open()
        kept = await store.page(None, 0, 999)
        await store.close()
        return kept

    async def found(self, embedder: HashingEmbedder, text: str) -> list[str]:
        store = self.store(embedder)
        await store.open()
        near = await store.nearest(query(vector=embedder.vector(text), k=1))
        await store.close()
        return ids(near)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """With SQLite."""
    made = World(tmp_path, "")
    monkeypatch.setenv("ECHO_STORE_URL", made.url)
    return made


@pytest.fixture
def redis_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """With Redis."""
    made = World(tmp_path, f"embedded://{tmp_path}/state")
    monkeypatch.setenv("ECHO_STORE_URL", made.url)
    return made


async def test_all_examples_are_embedded_anew(world: World) -> None:
    """In batches of 32 texts, with the stored requests; afterwards the new model finds them."""
    await world.fill(70)
    new = OtherEmbedder()
    with pytest.raises(SchemaMismatch, match="echo-proxy reembed"):
        await world.found(new, "question 7")
    text = await world.run(new)

    assert new.batches == [1, 32, 32, 6]
    assert "must be stopped first" in text
    assert "70/70" in text
    assert "mine: 70 examples embedded in 0." in text
    assert await world.found(new, "question 7") == ["e7"]


async def test_a_second_run_has_nothing_to_do(world: World) -> None:
    """Nor has one on a store that never knew another model."""
    await world.fill(1)
    await world.run(OtherEmbedder())

    assert "mine: nothing to do, the examples fit other" in await world.run(OtherEmbedder())
    assert "embedded in" not in await world.run(OtherEmbedder())


async def test_an_interrupted_run_is_taken_up(world: World) -> None:
    """What was embedded before the provider went away is not embedded again."""
    await world.fill(70)
    with pytest.raises(EmbedderError, match=r"examples e32 to e63: the provider is away; the same command again"):
        await world.run(OtherEmbedder(n_answers=2))
    with pytest.raises(SchemaMismatch, match="in part exchanged for other"):
        await world.found(OtherEmbedder(), "question 7")
    new = OtherEmbedder()
    text = await world.run(new)
    kept = await world.examples(new)

    assert "mine: 38 examples embedded" in text
    assert len(kept) == 70
    assert all(np.array_equal(one.vector, new.vector(one.request)) for one in kept)


async def test_a_model_that_does_not_answer_touches_nothing(world: World) -> None:
    """The old one still serves."""
    await world.fill(1)
    with pytest.raises(EmbedderError, match="away"):
        await world.run(OtherEmbedder(n_answers=0))

    assert await world.found(HashingEmbedder(), "question 0") == ["e0"]


async def test_expired_examples_are_left_out(world: World) -> None:
    """Their number is told."""
    await world.fill(3)
    with sqlite3.connect(world.file) as db:
        db.execute("UPDATE examples SET expires_at = ? WHERE id = 'e1'", (NOW,))
    db.close()

    assert re.search("mine: 2 examples embedded in [0-9.]+ s; 1 expired left out", await world.run(OtherEmbedder()))


async def test_a_proxy_with_the_old_model_goes_on(redis_world: World) -> None:
    """In Redis it serves while all is embedded and afterwards; what it adds is embedded by the same command again."""
    world, new, old_model = redis_world, OtherEmbedder(), HashingEmbedder()
    await world.fill(70)
    old = world.store(old_model)
    await old.open()
    first = await world.run(new)
    served = ids(await old.nearest(query(vector=old_model.vector("question 7"), k=1)))
    await old.add(example("late", request="late", vector=old_model.vector("late")))
    second = await world.run(new)
    await old.close()
    kept = await world.examples(new)

    assert "serve on meanwhile" in first
    assert "mine: 70 examples embedded in" in first
    assert "restart the proxies with this model" in first
    assert served == ["e7"]
    assert "mine: 1 examples embedded in" in second
    assert len(kept) == 71
    assert all(np.array_equal(one.vector, new.vector(one.request)) for one in kept)
    assert await world.found(new, "late") == ["late"]


async def test_finishing_drops_the_old_model(redis_world: World) -> None:
    """Not before all has been embedded; afterwards proxies with the old one are refused, and it is harmless again."""
    world, new = redis_world, OtherEmbedder()
    await world.fill(3)
    with pytest.raises(SchemaMismatch, match="echo-proxy reembed"):
        await world.run(new, is_last=True)
    await world.run(new)
    texts = [await world.run(new, is_last=True) for _ in range(2)]

    assert [text.strip() for text in texts] == [
        f"mine: only other is left; {n} examples had others' vectors" for n in (3, 0)
    ]
    assert await world.found(new, "question 2") == ["e2"]
    with pytest.raises(SchemaMismatch, match="got other"):
        await world.found(HashingEmbedder(), "question 2")


async def test_an_interrupted_run_is_taken_up_in_redis(redis_world: World) -> None:
    """What was embedded before the provider went away is not embedded again; the old model serves all the time."""
    world = redis_world
    await world.fill(70)
    with pytest.raises(EmbedderError, match="the provider is away; the same command again"):
        await world.run(OtherEmbedder(n_answers=2))
    found = await world.found(HashingEmbedder(), "question 7")
    with pytest.raises(SchemaMismatch, match="in part other"):
        await world.found(OtherEmbedder(), "question 7")

    assert found == ["e7"]
    assert "mine: 38 examples embedded" in await world.run(OtherEmbedder())


async def test_there_is_nothing_to_finish_with_sqlite(world: World) -> None:
    """A reembedding has overwritten the old vectors."""
    await world.fill(3)
    await world.run(OtherEmbedder())

    assert "mine: only other is left; 0 examples" in await world.run(OtherEmbedder(), is_last=True)


def test_the_command_uses_the_embedder_of_the_settings(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """The bundled one by default; a new store fits it."""
    status = main(["reembed", "--policy", str(world.policy)])

    assert status == 0
    assert "mine: nothing to do, the examples fit all-minilm-l6-v2-int8" in capsys.readouterr().out
