import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from echo_proxy.cli import main
from echo_proxy.errors import InputError
from echo_proxy.learning.best_effort import to_json
from echo_proxy.offline.simulate import SimulateOptions, routers, run
from echo_proxy.offline.simulate_arrivals import ARTIFICIAL, read_trace
from echo_proxy.offline.simulate_core import simulate
from echo_proxy.offline.simulate_outcomes import make_outcomes, read_outcomes
from echo_proxy.offline.simulate_report import figures
from echo_proxy.offline.simulate_train import Training, train
from echo_proxy.policy import Policy
from tests.offline.fleets import fleet, markov, traffic

ARMS = """
deployments:
  small: {slots: 4, prefill_tokens_per_s: 8000, decode_tokens_per_s: 100, usd_per_1m_completion_tokens: 1}
  large: {slots: 2, prefill_tokens_per_s: 4000, decode_tokens_per_s: 50, usd_per_1m_completion_tokens: 10}
arms:
  small+0: {deployment: small, quality: {easy: 0.9, hard: 0.2}}
  large+0: {deployment: large, quality: {easy: 0.9, hard: 0.8}}
classes: {easy: 1, hard: 1}
"""
POLICY = """
name: busy
match: {model_groups: [auto]}
arms: [{deployment: small}, {deployment: large}]
bandit: {kind: epsilon_greedy}
load: {thresholds: {small: 4, large: 2}}
deadline: {answer_s: 6}
"""
TRACE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2023-11-16 18:15:{i // 10:02d}.{i % 10}805900,100,{50 + i}\n" for i in range(100)
)


@pytest.fixture
def options(tmp_path: Path) -> SimulateOptions:
    (tmp_path / "arms.yaml").write_text(ARMS)
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "trace.csv").write_text(TRACE)
    return SimulateOptions(tmp_path / "arms.yaml", (tmp_path / "policy.yaml",), n=400, json_path=tmp_path / "out.json")


def told(options: SimulateOptions) -> tuple[str, dict[str, Any]]:
    """What is printed, and what is written."""
    console = Console(file=io.StringIO(), width=200)
    assert run(options, console) == 0
    assert isinstance(console.file, io.StringIO)
    assert options.json_path is not None
    return console.file.getvalue(), json.loads(options.json_path.read_text())


def test_report(options: SimulateOptions) -> None:
    """Every router has its row, every request is somebody's, and it is said what is artificial."""
    printed, found = told(options)

    assert [one["router"] for one in found["routers"]] == [
        "always small+0", "always large+0", "by chance", "clairvoyant, greedy", "busy",
    ]  # fmt: skip
    assert all(sum(one["shares"].values()) == pytest.approx(1) for one in found["routers"])
    assert all(0 <= one["goodput"] <= one["quality"] <= 1 for one in found["routers"])
    assert found["deadline_s"] == 6.0
    assert ARTIFICIAL in printed
    assert found["note"] == ARTIFICIAL


def test_same_seed_same_figures(options: SimulateOptions) -> None:
    """All but the speed is determined by the seed."""
    first, second, other = (_timeless(told(replace(options, seed=s))[1]) for s in (3, 3, 4))

    assert first == second
    assert first != other


def test_trace_speed_and_part(options: SimulateOptions, tmp_path: Path) -> None:
    """A part of the trace, played faster, has its share of requests at the higher rate."""
    _, found = told(replace(options, trace=tmp_path / "trace.csv", n=None, end=0.5, speedup=2.0))

    assert found["n_requests"] == 50
    assert found["arrivals_per_s"] == pytest.approx(20, rel=0.05)


def test_trace_is_read(tmp_path: Path) -> None:
    """Times count from the first arrival."""
    (tmp_path / "trace.csv").write_text(TRACE)
    found = read_trace(tmp_path / "trace.csv")

    assert len(found) == 100
    assert found.at[[0, 1, 99]].tolist() == pytest.approx([0.0, 0.1, 9.9])
    assert found.completion_tokens[3] == 53
    assert found.repeated(250).at[100:102].tolist() == pytest.approx([10.0, 10.1])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"arms": Path("none.yaml")}, "none.yaml"),
        ({"trace": Path("none.csv")}, "none.csv"),
        ({"speedup": 0.0}, "--speedup must be above 0, got 0"),
        ({"rate": float("nan")}, "--rate"),
        ({"n": 2_000_000}, "between 2 and 1,000,000"),
        ({"start": 0.5, "end": 0.5}, "--from and --to"),
        ({"feedback": 2.0}, "--feedback"),
        ({"policies": (), "train": Path("v.json")}, "--train expects --deadline"),
    ],
)
def test_wrong_input_is_refused(options: SimulateOptions, change: dict[str, Any], complaint: str) -> None:
    """With what was expected and what came."""
    with pytest.raises(InputError, match=complaint):
        run(replace(options, **change))


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("slots: 4", "slots: 0", "deployments.small.slots"),
        ("slots: 4", "slot: 4", "deployments.small.slot"),
        ("deployment: small,", "deployment: tiny,", "deployment must be one of"),
        ("easy: 0.9, hard: 0.2", "easy: 0.9", "quality must be given for"),
        ("small+0:", "tiny+0:", "must tell of arm small"),
        ("arms:", "arms: [", "expected YAML"),
    ],
)
def test_a_wrong_file_of_arms_is_refused(options: SimulateOptions, old: str, new: str, complaint: str) -> None:
    """With the field."""
    options.arms.write_text(ARMS.replace(old, new))

    with pytest.raises(InputError, match=complaint):
        run(options)


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_logged_outcomes(suffix: str, tmp_path: Path) -> None:
    """A row per request, as CSV or JSON lines; a quality that is missing or out of range is refused."""
    path = tmp_path / f"outcomes.{suffix}"
    csv = "class,a,b\nx,1,0\ny,0.5,1\n"
    path.write_text(csv if suffix == "csv" else '{"class":"x","a":1,"b":0}\n{"class":"y","a":0.5,"b":1}\n')
    found = read_outcomes(path, ("b", "a"))

    assert found.kinds == ("x", "y")
    assert found.quality.tolist() == [[0, 1], [1, 0.5]]
    with pytest.raises(InputError, match="row 1: expected the quality of 'c'"):
        read_outcomes(path, ("a", "c"))


def test_load_bias_sheds_only_above_the_threshold() -> None:
    """A policy that prefers the large arm keeps it while there is room and leaves it when it is busy."""
    without = [_share_of_good_arm(rate, None) for rate in (0.2, 3.0)]
    calm, busy = (_share_of_good_arm(rate, {"threshold": 2.0, "weight": 2.0}) for rate in (0.2, 3.0))

    assert without == pytest.approx([0.96, 0.96], abs=0.04)
    assert calm == pytest.approx(0.96, abs=0.04)
    assert busy < 0.8


def test_training_learns_to_spare_the_slow_arm(tmp_path: Path) -> None:
    """Trained values beat both arms by themselves on later arrivals, and the same seed learns the same."""
    two = fleet((4, 2), (2.0, 1.0))
    pool = make_outcomes(["all"] * 10, np.array([[0.6, 0.9]] * 10))
    rules = Training(4.0, rounds=2, n_requests=800, speeds=(0.4, 0.8, 1.1))
    values, again = (train(markov(4.0, 2_000), two, pool, rules, 1) for _ in range(2))
    (tmp_path / "v.json").write_text(json.dumps(to_json(values)))
    found = traffic(markov(7.0, 1_500, seed=9), (0.6, 0.9))
    policy = _policy(bandit={"kind": "best_effort", "file": str(tmp_path / "v.json")}, deadline={"answer_s": 4.0})
    made = routers(found, two, [policy], 4.0, 1)
    goodput = {name: figures(name, simulate(found, two, one), ("a", "b"), 4.0).goodput for name, one in made.items()}

    assert to_json(values) == to_json(again)
    assert goodput["p"] > max(goodput["always d0+0"], goodput["always d1+0"], goodput["by chance"])


def test_command(options: SimulateOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command line reaches it; a refusal has status 1 and a reason."""
    arms = str(options.arms)
    good = main(["simulate", "--arms", arms, "--requests", "50", "--plot", str(tmp_path / "p.svg")])
    bad = main(["simulate", "--arms", arms, "--requests", "1"])

    assert (good, bad) == (0, 1)
    assert "--requests must be between" in capsys.readouterr().err
    assert (tmp_path / "p.svg").stat().st_size > 1000


def _timeless(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**one, "requests_per_s": 0} for one in found["routers"]]


def _policy(**more: Any) -> Policy:
    return Policy.model_validate(
        {
            "name": "p",
            "match": {"model_groups": ["auto"]},
            "arms": [{"deployment": "d0"}, {"deployment": "d1"}],
            "bandit": {"kind": "epsilon_greedy", "epsilon": 0.02},
            "reward": {"quality_weight": 1.0, "cost_weight": 0.0, "latency_weight": 0.0},
            **more,
        }
    )


def _share_of_good_arm(rate: float, load: Any) -> float:
    found = traffic(markov(rate, 800), (0.3, 0.9))
    two = fleet((2, 2), (1, 1))
    router = routers(found, two, [_policy(load=load)], None, 1)["p"]
    return float((simulate(found, two, router).arm == 1).mean())
