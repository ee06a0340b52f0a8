"""What does a decision cost: selecting among 16 candidates and routing among 10 arms?

    python -m bench.router.deciding [--seeds N] [--json]

The real `select`, `situation_of` and `route`, with 5,000 lessons known, one request after the other. On a
machine that others use as well, the raw p99 measures the others.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.router.options import parser_for
from bench.router.replay import request_of
from bench.router.streams import Array
from echo_proxy.learning.fit import fit_outcomes
from echo_proxy.learning.knowledge import Knowledge
from echo_proxy.learning.utility import BetaUtility
from echo_proxy.online.learn import increments_between
from echo_proxy.online.route import route
from echo_proxy.online.select import select
from echo_proxy.online.situation import conditions_of, situation_of
from echo_proxy.policy import Policy
from echo_proxy.types import (
    ArmKey,
    Candidate,
    Decision,
    Embedding,
    Evidence,
    Example,
    Lesson,
    Names,
    Request,
)

_N_ARMS, _N_CANDIDATES, _N_LESSONS, _N_REQUESTS, _DIMENSIONS = 10, 16, 5000, 2000, 384
_QUESTION = "how many apples does the farmer sell when each of 12 boxes holds 24 and half of Monday's are gone"
_REPEATS = 3
_WORDS = _QUESTION.split()

POLICIES: Mapping[str, Mapping[str, Any]] = {
    "epsilon-greedy, segments (default)": {"kind": "epsilon_greedy"},
    "linear Thompson, pooled (ours)": {"kind": "linear_thompson"},
}


@dataclass(frozen=True)
class Timing:
    """Microseconds of one step over all requests."""

    policy: str
    step: str
    p50_us: float
    p99_us: float
    """Both of the fastest of three repeats of each decision: what other processes take is not the decision's."""
    p99_raw_us: float
    """Of all repeats, by the clock."""


class _Desk:
    """A policy with everything that a decision needs."""

    def __init__(self, bandit: Mapping[str, Any]) -> None:
        arms = [{"deployment": f"model-{i // 2}", "n_examples": 4 * (i % 2)} for i in range(_N_ARMS)]
        self.policy = Policy.model_validate(
            {"name": "bench", "match": {"model_groups": ["auto"]}, "arms": arms, "bandit": bandit}
        )
        self.available = {str(arm["deployment"]) for arm in arms}
        self.knowledge = Knowledge(self.policy)
        self.utility = BetaUtility(self.policy.selection.utility)
        self._rng = np.random.default_rng(0)
        self._centre = self._unit()

    def _unit(self, around: Embedding | None = None) -> Embedding:
        found = self._rng.standard_normal(_DIMENSIONS) + (0.0 if around is None else 25 * around)
        return np.asarray(found / np.linalg.norm(found), dtype=np.float32)

    def request(self, index: int) -> Request:
        """About 300 characters."""
        return request_of(" ".join(self._rng.choice(_WORDS, 60)) + "?", index, float(index))

    def candidates(self) -> list[Candidate]:
        """As retrieval gives them."""
        return [self._candidate(i) for i in range(_N_CANDIDATES)]

    def _candidate(self, index: int) -> Candidate:
        text = " ".join(self._rng.choice(_WORDS, 60))
        example = Example(
            id=f"e{index}",
            scope="key:bench",
            partition="p",
            request=text,
            response=text,
            vector=self._unit(self._centre),
            teacher="model-0",
            decision_id="",
            writer="bench",
            quality=0.9,
            n_tokens=120,
            created_at=0.0,
            expires_at=1e9,
            uses=3.0,
            gain=2.5,
        )
        return Candidate(example, 0.1 + 0.02 * index, Names.HELD)

    def decide(self, request: Request, vector: Embedding, candidates: list[Candidate]) -> tuple[Decision, list[float]]:
        """The decision, and when each step ended."""
        clock = [time.perf_counter()]
        selection = select(request, candidates, 4, self.policy.selection, self.utility, seed=1)
        clock.append(time.perf_counter())
        conditions = conditions_of(request, "", self.policy, self.knowledge)
        situation = situation_of(request, vector, selection, conditions, self.policy)
        clock.append(time.perf_counter())
        made = route(request, selection, situation, self.available, self.policy, self.knowledge, 1)
        clock.append(time.perf_counter())
        assert made is not None  # every deployment is available
        return made, clock

    def learn(self, decision: Decision, at: int) -> None:
        """That the answer was good in three of four."""
        assert decision.situation is not None  # our router always gives one
        earned = float(self._rng.random() < 0.75)
        evidence = (Evidence(ArmKey(decision.arm.name, decision.segment), 1.0, earned),)
        self.knowledge.absorb(increments_between((), evidence))
        lesson = Lesson(
            decision_id=f"{at:08d}",
            at=float(at),
            arms=decision.arms,
            pmf=decision.pmf,
            arm=decision.arm.name,
            is_acted=True,
            means=decision.means,
            situation=decision.situation,
            evidence=evidence,
            trials=(),
            quality=earned,
            quality_weight=1.0,
            reward=earned,
            cost_usd=0.001,
            latency_s=0.5,
            time_to_first_token_s=0.1,
            prompt_tokens=100,
            completion_tokens=100,
        )
        self.knowledge.study([lesson])


def measure(name: str) -> list[Timing]:
    """p50 and p99 of every step."""
    desk = _Desk(POLICIES[name])
    pool = desk.candidates()
    for t in range(_N_LESSONS):
        if t % 1000 == 0:
            desk.knowledge.end_fit(fit_outcomes(desk.policy, desk.knowledge.begin_fit()))
        desk.learn(desk.decide(desk.request(t), desk._unit(), pool)[0], t)
    desk.knowledge.end_fit(fit_outcomes(desk.policy, desk.knowledge.begin_fit()))
    inputs = [(desk.request(_N_LESSONS + t), desk._unit()) for t in range(_N_REQUESTS)]
    clocks = np.array([[desk.decide(*one, pool)[1] for _ in range(_REPEATS)] for one in inputs])  # (n, repeats, 4)
    taken = 1e6 * np.diff(clocks, axis=2)  # (n, repeats, 3)
    steps = {step: taken[:, :, i] for i, step in enumerate(("select", "situation", "route"))}
    steps["all"] = taken.sum(axis=2)
    return [
        Timing(
            name, step, _quantile(values.min(axis=1), 0.5), _quantile(values.min(axis=1), 0.99), _quantile(values, 0.99)
        )
        for step, values in steps.items()
    ]


def _quantile(values: Array, share: float) -> float:
    return float(np.quantile(values, share))


def main() -> None:
    options = parser_for(__doc__).parse_args()
    timings = [timing for name in POLICIES for timing in measure(name)]
    if options.json:
        print(json.dumps([timing.__dict__ for timing in timings]))
        return
    table = Table(title=f"{_N_CANDIDATES} candidates, {_N_ARMS} arms, {_N_LESSONS:,} lessons: microseconds")
    for heading in ("policy", "step", "p50", "p99", "p99 raw"):
        table.add_column(heading, justify="left" if heading in {"policy", "step"} else "right")
    for one in timings:
        table.add_row(one.policy, one.step, f"{one.p50_us:.0f}", f"{one.p99_us:.0f}", f"{one.p99_raw_us:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
