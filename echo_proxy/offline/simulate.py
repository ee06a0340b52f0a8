"""What would a policy do under load? `echo-proxy simulate`."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from echo_proxy.errors import InputError
from echo_proxy.learning.best_effort import read_values
from echo_proxy.learning.best_effort import to_json as values_json
from echo_proxy.learning.knowledge import Knowledge
from echo_proxy.offline.simulate_arrivals import ARTIFICIAL, Arrivals, Traffic, draw_traffic, poisson, read_trace
from echo_proxy.offline.simulate_core import Router, Run, simulate
from echo_proxy.offline.simulate_fleet import Fleet, read_fleet
from echo_proxy.offline.simulate_outcomes import Outcomes
from echo_proxy.offline.simulate_report import Figures, figures, plot, show, to_json
from echo_proxy.offline.simulate_routers import ByChance, ByPolicy, Clairvoyant, Static
from echo_proxy.offline.simulate_train import Training, train
from echo_proxy.policy import Policy
from echo_proxy.policy_files import load_policies

_MOST = 1_000_000
"""Requests of one simulation: above, memory would be the limit."""


@dataclass(frozen=True, slots=True)
class SimulateOptions:
    """What the command line says."""

    arms: Path
    policies: tuple[Path, ...] = ()
    trace: Path | None = None
    rate: float = 1.0
    """Poisson arrivals per second, without a trace."""
    prompt_tokens: float = 1000.0
    completion_tokens: float = 200.0
    """Means of Poisson arrivals."""
    n: int | None = None
    """Requests; all of the trace, or 10,000."""
    start: float = 0.0
    end: float = 1.0
    """Part of the trace, in shares of its requests."""
    speedup: float = 1.0
    deadline_s: float | None = None
    """None = the first policy's, if it has one."""
    slack_s: float = 0.0
    feedback: float = 1.0
    """Share of the answers of which the policy hears how good they were."""
    seed: int = 1
    train: Path | None = None
    json_path: Path | None = None
    plot_path: Path | None = None


def run(options: SimulateOptions, console: Console | None = None) -> int:
    """Simulate, or train, and print what came of it. Raises InputError and PolicyError."""
    console = console or Console()
    _check(options)
    fleet, outcomes = read_fleet(options.arms)
    arrivals = _arrivals(options)
    if options.train is not None:
        return _train(options.train, arrivals, fleet, outcomes, options, console)
    policies = load_policies(options.policies) if options.policies else ()
    options = _with_deadline(options, policies)
    generator = np.random.default_rng(options.seed)
    traffic = draw_traffic(arrivals, outcomes, generator)
    made = routers(traffic, fleet, policies, options.deadline_s, options.seed, options.feedback)
    runs, rows = _run_all(made, traffic, fleet, options)
    show(_title(traffic, fleet, options), rows, console)
    if options.json_path is not None:
        options.json_path.write_text(json.dumps(to_json(rows, traffic, options.deadline_s), indent=2), encoding="utf-8")
    if options.plot_path is not None:
        plot(options.plot_path, runs, options.deadline_s)
    return 0


def routers(
    traffic: Traffic,
    fleet: Fleet,
    policies: Sequence[Policy],
    deadline_s: float | None,
    seed: int,
    feedback: float = 1.0,
) -> Mapping[str, Router]:
    """Every arm by itself, chance, a clairvoyant where there is a deadline, and the policies. Raises PolicyError."""
    takes = fleet.takes(traffic.arrivals)
    out: dict[str, Router] = {f"always {arm.name}": Static(i) for i, arm in enumerate(fleet.arms)}
    out["by chance"] = ByChance(len(fleet.arms), len(traffic), np.random.default_rng(seed))
    if deadline_s is not None:
        out["clairvoyant, greedy"] = Clairvoyant(traffic, fleet, takes, deadline_s)
    for policy in policies:
        check_fits(policy, fleet)
        knowledge = Knowledge(policy)
        knowledge.values = read_values(policy)
        generator = np.random.default_rng(seed)
        out[policy.name] = ByPolicy(policy, knowledge, traffic, fleet, takes, generator, feedback)
    return out


def check_fits(policy: Policy, fleet: Fleet) -> None:
    """Whether the arms of a policy are known. Raises InputError."""
    known = {arm.name: arm.deployment for arm in fleet.arms}
    for arm in policy.to_arms():
        if known.get(arm.name) != arm.deployment:
            raise InputError(
                f"policy {policy.name}: the file of arms must tell of arm {arm.name} on {arm.deployment}, "
                f"got {', '.join(f'{name} on {on}' for name, on in known.items())}"
            )


def _check(options: SimulateOptions) -> None:
    """Raises InputError for a number that makes no sense."""
    positive = {
        "--rate": options.rate,
        "--prompt-tokens": options.prompt_tokens,
        "--completion-tokens": options.completion_tokens,
        "--speedup": options.speedup,
        "--deadline": options.deadline_s,
    }
    for name, value in positive.items():
        if value is not None and not 0 < value < float("inf"):
            raise InputError(f"{name} must be above 0, got {value:g}")
    if options.n is not None and not 2 <= options.n <= _MOST:
        raise InputError(f"--requests must be between 2 and {_MOST:,}, got {options.n}")
    if not 0 <= options.start < options.end <= 1:
        raise InputError(
            f"--from and --to must be shares of the trace in order, got {options.start:g}, {options.end:g}"
        )
    if not 0 <= options.feedback <= 1 or not 0 <= options.slack_s < float("inf"):
        raise InputError(
            f"--feedback must be in [0, 1] and --slack at least 0, got {options.feedback:g}, {options.slack_s:g}"
        )


def _arrivals(options: SimulateOptions) -> Arrivals:
    if options.trace is None:
        generator = np.random.default_rng(options.seed + 1)
        tokens = (options.prompt_tokens, options.completion_tokens)
        return poisson(options.rate * options.speedup, options.n or 10_000, *tokens, generator)
    part = read_trace(options.trace).part(options.start, options.end)
    if len(part) < 2:
        raise InputError(f"{options.trace}: expected at least 2 arrivals from {options.start:g} to {options.end:g}")
    return part.faster(options.speedup).repeated(options.n or len(part))


def _with_deadline(options: SimulateOptions, policies: Sequence[Policy]) -> SimulateOptions:
    rules = next((policy.deadline for policy in policies if policy.deadline is not None), None)
    if options.deadline_s is not None or rules is None:
        return options
    return replace(options, deadline_s=rules.answer_s, slack_s=rules.slack_s)


def _run_all(
    made: Mapping[str, Router], traffic: Traffic, fleet: Fleet, options: SimulateOptions
) -> tuple[Mapping[str, Run], Sequence[Figures]]:
    runs: dict[str, Run] = {}
    rows: list[Figures] = []
    arms = [arm.name for arm in fleet.arms]
    takes = fleet.takes(traffic.arrivals)
    for name, router in made.items():
        started = time.process_time()
        runs[name] = simulate(traffic, fleet, router, takes)
        took_s = time.process_time() - started
        notes = router.notes if isinstance(router, ByPolicy) else None
        rows.append(figures(name, runs[name], arms, options.deadline_s, options.slack_s, took_s, notes))
    return runs, rows


def _train(
    path: Path, arrivals: Arrivals, fleet: Fleet, outcomes: Outcomes, options: SimulateOptions, console: Console
) -> int:
    if options.deadline_s is None:
        raise InputError("--train expects --deadline: best effort is what is in time")
    rules = Training(options.deadline_s, options.slack_s)
    started = time.perf_counter()
    values = train(arrivals, fleet, outcomes, rules, options.seed)
    path.write_text(json.dumps(values_json(values)), encoding="utf-8")
    console.print(f"{path}: learned on {values.trained_on}, in {time.perf_counter() - started:.0f} s", soft_wrap=True)
    console.print(f"[dim]{ARTIFICIAL}[/dim]", soft_wrap=True)
    return 0


def _title(traffic: Traffic, fleet: Fleet, options: SimulateOptions) -> str:
    rate, capacity = traffic.arrivals.rate, fleet.capacity(traffic.arrivals)
    deadline = f", deadline {options.deadline_s:g} s" if options.deadline_s is not None else ""
    return f"{len(traffic):,} requests, {rate:.3g}/s of about {capacity:.3g}/s{deadline}"
