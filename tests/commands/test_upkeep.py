"""`echo-proxy upkeep`, over a store in memory."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from echo_proxy.cli import main
from echo_proxy.commands.upkeep_round import UpkeepCommand, upkeep
from echo_proxy.errors import EchoProxyError, SettingsError, StoreUnavailable
from echo_proxy.upkeep.cutoff import Findings, Outcome
from tests.builders import POLICY_DATA, example, record
from tests.fakes import FrozenClock, MemoryStore
from tests.upkeep.rounds import doubtful
from tests.upkeep.test_coverage import many

EVICT = frozenset(("evict",))


class Shell:
    """The command, what it printed, and the store that it worked on."""

    def __init__(self, folder: Path, **upkeep_rules: Any) -> None:
        self.path = folder / "p.yaml"
        rules = {**POLICY_DATA, "upkeep": upkeep_rules}
        self.path.write_text(yaml.safe_dump(json.loads(json.dumps(rules))))
        self.clock = FrozenClock()
        self.store = MemoryStore(self.clock)
        self.out = ""

    def hold(self, *examples: Any) -> None:
        self.store.examples |= {one.id: one for one in examples}

    async def run(self, **options: Any) -> int:
        console = Console(file=io.StringIO(), width=120)
        try:
            command = UpkeepCommand(self.path, **options)
            return await upkeep(command, console, self.clock, self.store)
        finally:
            self.out = console.file.getvalue()  # type: ignore[attr-defined]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


async def test_a_dry_run_says_what_would_be_done_and_does_nothing(tmp_path: Path) -> None:
    """The eviction, the replays with their expected gain and cost by what is known, and the clusters."""
    shell = Shell(tmp_path, max_bytes=10_000, coverage={"min_requests": 3, "fill": True})
    shell.hold(doubtful("e1", 2.0), example("old", created_at=1.0, response="x" * 20_000))
    known = [Outcome(2.0, i % 2 == 0) for i in range(20)]
    shell.store.notes["replay"] = Findings(tuple(known), 0.0, 0.003).to_text()
    shell.store.learned += many("d", 5, 1.0, 0.0)
    said = {"request": "Who founded Skulia?", "partition": "p", "turns": 1, "may_keep": True}
    shell.store.records["d0"] = record("d0", explanation=said)
    before = (dict(shell.store.examples), dict(shell.store.notes), list(shell.store.journal))
    status = await shell.run(is_dry=True, is_json=True)
    told = json.loads(shell.out)

    assert status == 0
    assert (told["evict"]["n_dropped"], told["evict"]["n_expired"]) == (1, 0)
    assert told["replay"]["candidates"] == [{"id": "e1", "regret": 2.0, "chance": 0.5, "expected_gain": 1.0}]
    assert (told["replay"]["expected_usd"], told["replay"]["expected_gain"]) == (0.003, 1.0)
    assert (told["coverage"]["clusters"][0]["request"], told["coverage"]["would_fill"]) == ("Who founded Skulia?", 1)
    assert (shell.store.examples, shell.store.notes, shell.store.journal) == before
    assert shell.store.fence == 0


async def test_tables_are_for_readers(tmp_path: Path) -> None:
    """The same figures."""
    shell = Shell(tmp_path, coverage={"min_requests": 3})
    shell.hold(doubtful("e1", 2.0))
    shell.store.learned += many("d", 5, 1.0, 0.0)
    shell.store.records["d0"] = record("d0", explanation={"request": "Who founded [red]Skulia?"})
    await shell.run(is_dry=True)

    assert "expected gain" in shell.out
    assert "Who founded [red]Skulia?" in shell.out


async def test_before_the_first_replay_the_price_comes_from_the_log(shell: Shell) -> None:
    """What the teacher's answers to callers cost, times the answers that are asked for."""
    shell.hold(doubtful("e1", 2.0))
    shell.store.records["d0"] = record("d0", arm="large+0", cost_usd=0.002)
    shell.store.records["d1"] = record("d1", arm="small+0", cost_usd=9.0)
    await shell.run(is_dry=True, is_json=True)

    assert json.loads(shell.out)["replay"]["usd_each"] == pytest.approx(0.006)


async def test_eviction_alone_needs_no_config(shell: Shell) -> None:
    """Nobody is asked; the round is noted and told."""
    status = await shell.run(work=EVICT)

    assert status == 0
    assert "test: done after 0.0 s, 0.0000 USD" in shell.out
    assert [one.ending for one in shell.store.journal] == ["done"]


async def test_whoever_asks_models_must_say_where_they_are(shell: Shell) -> None:
    """Refused before anything is opened."""
    with pytest.raises(SettingsError, match="--config must name LiteLLM's config"):
        await shell.run()


@pytest.mark.parametrize("given", [{"usd": -1.0}, {"seconds": float("nan")}, {"usd": float("inf")}])
async def test_a_budget_is_a_number(shell: Shell, given: dict[str, float]) -> None:
    """Of at least 0."""
    with pytest.raises(SettingsError, match=f"--{next(iter(given))} must be a number"):
        await shell.run(work=EVICT, **given)


async def test_another_at_work_is_told(shell: Shell) -> None:
    """With a status of its own, and in words."""
    await shell.store.take_lease("upkeep", "somebody", 30.0)
    status = await shell.run(work=EVICT)

    assert status == 3
    assert "busy" in shell.out


async def test_a_failure_is_one_line(shell: Shell) -> None:
    """With the error's name and words."""

    async def fail(cursor: str, limit: int) -> Any:
        raise StoreUnavailable("gone fishing")

    shell.store.holdings = fail  # type: ignore[method-assign]

    with pytest.raises(EchoProxyError, match="upkeep ended with StoreUnavailable: gone fishing"):
        await shell.run(work=EVICT)


@pytest.mark.parametrize("work", ["nonsense", "", "evict,nonsense"])
def test_unknown_work_is_wrong_usage(work: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With what there is."""
    with pytest.raises(SystemExit) as caught:
        main(["upkeep", "--policy", "p.yaml", "--only", work])

    assert caught.value.code == 2
    assert "expected some of evict,replay,coverage" in capsys.readouterr().err


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """Status 0."""
    with pytest.raises(SystemExit) as caught:
        main(["upkeep", "--help"])

    assert caught.value.code == 0
    assert "echo-proxy upkeep --policy policies/default.yaml --dry-run" in capsys.readouterr().out
