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
from echo_proxy.protocols import Embedder
from echo_proxy.reembed import reembed_all
from echo_proxy.stores.sqlite import SqliteStore
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
    """A folder with one policy and its SQLite file."""

    def __init__(self, folder: Path) -> None:
        self.clock = FrozenClock(NOW)
        self.policy = folder / "p.yaml"
        self.policy.write_text(POLICY.format(name="mine"))
        self.file = folder / "echo.db"

    def store(self, embedder: Embedder) -> SqliteStore:
        return SqliteStore(store_config(load_policy(self.policy), embedder), self.file, self.clock)

    async def fill(self, n: int) -> None:
        """n examples with vectors of the old model."""
        old = HashingEmbedder()
        store = self.store(old)
        await store.open()
        for i in range(n):
            text = f"question {i}"
            await store.add(example(f"e{i}", request=text, vector=old.vector(text), uses=2.0, gain=0.5))
        await store.close()

    async def run(self, embedder: Embedder) -> str:
        out = StringIO()
        await reembed_all([self.policy], Console(file=out, width=200), embedder, self.clock)
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
    made = World(tmp_path)
    monkeypatch.setenv("ECHO_STORE_URL", f"sqlite://{made.file}")
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


def test_the_command_uses_the_embedder_of_the_settings(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """The bundled one by default; a new store fits it."""
    status = main(["reembed", "--policy", str(world.policy)])

    assert status == 0
    assert "mine: nothing to do, the examples fit all-minilm-l6-v2-int8" in capsys.readouterr().out
