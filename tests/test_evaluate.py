import builtins
import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from echo_proxy.app import store_config
from echo_proxy.cli import main
from echo_proxy.embedders.local import LocalEmbedder
from echo_proxy.errors import EchoProxyError, PolicyError, SettingsError, StoreUnavailable
from echo_proxy.evaluate import EvaluateCommand, evaluate
from echo_proxy.offline.evaluation import EvaluateOptions
from echo_proxy.policy_files import load_policy
from echo_proxy.stores.sqlite import SqliteStore
from tests.builders import NOW
from tests.fakes import FrozenClock, MemoryStore
from tests.offline.traffic import GOOD, fill

POLICY = """\
name: {name}
match: {{model_groups: [auto]}}
arms: [{{deployment: small}}, {{deployment: large, teacher: true}}]
bandit: {{kind: fixed, probabilities: {{small+0: {small}, large+0: {large}}}}}
"""


class World:
    """A folder with the running policy `mine`, which draws both arms alike, and its log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FrozenClock(NOW + 1000)
        self.store = MemoryStore()
        self.running = self.policy(0.5)

    def policy(self, small: float, name: str = "mine", more: str = "") -> Path:
        path = self.folder / f"{name}-{small}.yaml"
        path.write_text(POLICY.format(name=name, small=small, large=round(1 - small, 6)) + more)
        return path

    async def log(self, n: int = 300, **changes: Any) -> None:
        await fill(load_policy(self.running), n, store=self.store, **changes)

    async def run(self, policy: Path, **changes: Any) -> tuple[int, str]:
        out = StringIO()
        command = EvaluateCommand(policy, **changes)
        status = await evaluate(command, Console(file=out, width=160), self.clock, self.store)
        return status, out.getvalue()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_a_better_policy_is_told(world: World) -> None:
    """Measures with intervals, arms, how far the log carries, the verdict; status 0."""
    await world.log()
    status, text = await world.run(world.policy(0.1))

    assert status == 0
    assert "300 of 300 decisions; 100% of their answers were judged; quality from the judged answers" in text
    assert "running: the log" in text
    for row in ("reward", "quality", "cost usd", "latency s", "small+0", "large+0", "effective size"):
        assert row in text
    assert "switch: the new policy's reward differs by +0." in text


async def test_a_worse_policy_is_told_against_the_running_one(world: World) -> None:
    """By name; lines that a log cannot judge are pointed out."""
    await world.log()
    new = world.policy(0.9, "other", "retrieval: {k: 3}\n")
    status, text = await world.run(new, against=world.running)

    assert status == 0
    assert f"running: mine ({world.running})" in text
    assert "keep the running policy: the new policy's reward differs by -0." in text
    assert "the policies differ in retrieval too: a log cannot show what that changes" in text


async def test_not_proven_has_a_status_of_its_own(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """3, with how many decisions are missing."""
    monkeypatch.setitem(GOOD, "small", 0.85)
    await world.log()
    status, text = await world.run(world.policy(0.48))

    assert status == 3
    assert "more decisions would probably decide it" in text


async def test_no_answer_has_a_status_of_its_own(world: World) -> None:
    """4, with the reason and without a table of values."""
    world.running = world.policy(0.5, more="mode: shadow\n")
    await world.log(60)
    status, text = await world.run(world.policy(0.1))

    assert status == 4
    assert "the log cannot answer:" in text
    assert "value per decision" not in text


async def test_json_holds_everything(world: World) -> None:
    """And nothing else stands on stdout."""
    await world.log()
    _, text = await world.run(world.policy(0.1), is_json=True, options=EvaluateOptions(seed=7))
    made = json.loads(text)

    assert made["verdict"] == "switch"
    assert made["options"] == {"estimator": "dr", "quality": "judged", "clip": None, "seed": 7}
    assert made["comparisons"][0]["difference"]["lower"] > 0
    assert {"support_new", "arms", "notes", "n_used", "share_judged"} <= set(made)


async def test_the_span_can_be_chosen(world: World) -> None:
    """By time or by number; earlier decisions still teach."""
    await world.log()
    for changes, n in (
        ({"since": "850s"}, 150),
        ({"since": "1h"}, 300),
        ({"since": "1970-01-12T13:49:00+00:00"}, 160),
        ({"limit": 100}, 100),
        ({"since": "850s", "limit": 500}, 150),
    ):
        _, text = await world.run(world.policy(0.1), **changes)

        assert f"{n} of {n} decisions" in text


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"since": "yesterday"}, "--since must be like 30m, 24h, 7d or 2026-01-31T12:00, got 'yesterday'"),
        ({"limit": 0}, "--limit must be at least 1, got 0"),
        ({"options": EvaluateOptions(clip=0.0)}, "--clip must be above 0, got 0"),
    ],
)
async def test_a_wrong_option_is_told(world: World, changes: dict[str, Any], complaint: str) -> None:
    """What was expected and what came."""
    await world.log(60)

    with pytest.raises(SettingsError) as caught:
        await world.run(world.policy(0.1), **changes)

    assert str(caught.value) == complaint


async def test_an_empty_log_is_told(world: World) -> None:
    """With the option that is probably missing."""
    with pytest.raises(EchoProxyError, match=r"decisions of policy other in the store, got none; name .* --against"):
        await world.run(world.policy(0.1, "other"))
    with pytest.raises(EchoProxyError, match=r"decisions of policy mine in the store, got none$"):
        await world.run(world.policy(0.1, "other"), against=world.running)
    await world.log(60)
    with pytest.raises(EchoProxyError, match="expected decisions since 1m, got none"):
        await world.run(world.policy(0.1), since="1m")


async def test_what_is_missing_is_told(world: World) -> None:
    """Policy or store."""
    with pytest.raises(PolicyError, match=r"nowhere\.yaml: expected a readable policy file"):
        await world.run(world.folder / "nowhere.yaml")
    world.store.is_away = True
    with pytest.raises(StoreUnavailable):
        await world.run(world.policy(0.1))


# ------------------------------------------------------------------ plot


async def test_a_picture_is_drawn(world: World) -> None:
    """A PNG; also when there is no answer to draw."""
    pytest.importorskip("matplotlib")
    await world.log(100)
    for small, name in ((0.1, "a.png"), (0.5, "b.png")):
        await world.run(world.policy(small), plot=world.folder / name)

        assert (world.folder / name).read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SettingsError, match="--plot: expected a picture file that can be written"):
        await world.run(world.policy(0.1), plot=world.folder / "no" / "where.png")


async def test_without_matplotlib_the_extra_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """How to install it."""
    await world.log(60)
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)

    with pytest.raises(SettingsError, match=r"pip install 'echo-proxy\[plots\]'"):
        await world.run(world.policy(0.1), plot=world.folder / "a.png")


# ------------------------------------------------------------------ the command line


async def test_a_real_store_is_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lessons and feedback come back from SQLite as they went in."""
    policy = load_policy(world.running)
    file = world.folder / "echo.db"
    store = SqliteStore(store_config(policy, LocalEmbedder()), file, world.clock)
    await store.open()
    await fill(policy, 200, store=store, embedder=LocalEmbedder())
    await store.close()
    await fill(policy, 200, store=world.store, embedder=LocalEmbedder())
    monkeypatch.setenv("ECHO_STORE_URL", f"sqlite://{file}")
    out = StringIO()
    command = EvaluateCommand(world.policy(0.1), is_json=True)

    status = await evaluate(command, Console(file=out, width=160), world.clock)

    assert (status, out.getvalue()) == await world.run(world.policy(0.1), is_json=True)


def test_the_command_line_refuses_in_one_line(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 1 for an empty log, 2 for wrong usage."""
    monkeypatch.setenv("ECHO_STORE_URL", f"sqlite://{world.folder / 'echo.db'}")

    assert main(["evaluate", "--policy", str(world.running)]) == 1
    assert "expected logged decisions of policy mine" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["evaluate"])
    assert caught.value.code == 2


def test_help_tells_the_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    """With examples."""
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    text = capsys.readouterr().out

    assert "3 not proven yet, 4 the log cannot answer" in text
    assert "echo-proxy evaluate --policy new.yaml --against policies/default.yaml --since 24h" in text
