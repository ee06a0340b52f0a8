"""How is the best-effort policy learned? Rounds of simulation, each dealt out by what the last one taught.

What every arm would have taken is known in a simulation at every arrival, and so is what each would have cost later
requests: both networks learn from all arms at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from warnings import catch_warnings, simplefilter

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

from echo_proxy.learning.best_effort import BestEffort, Network, burden, features
from echo_proxy.limits.load import RateMeter
from echo_proxy.offline.simulate_arrivals import Arrivals, Traffic, draw_traffic
from echo_proxy.offline.simulate_core import Answered, Queues, Run, simulate
from echo_proxy.offline.simulate_fleet import Fleet, Takes
from echo_proxy.offline.simulate_harm import Dealt, harm
from echo_proxy.offline.simulate_outcomes import Outcomes
from echo_proxy.offline.simulate_report import timely_shares

Matrix = NDArray[np.float64]

_DEADLINES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
"""Multiples of the deadline for which timeliness is learned, so that callers may ask for less or more."""

_LONG = 3.0
"""States in which a deployment keeps requests waiting for more deadlines than this teach nothing: all is lost there,
and they would draw attention from where decisions matter. # guess, not yet measured"""
_MOST_HARM = 2.0
"""Harm is counted up to this: above 1 no answer is worth it. # guess, not yet measured"""
_FACTORS = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5)
"""Shares of the harm that are tried in the end: it is counted as if later requests could not go elsewhere."""


@dataclass(frozen=True, slots=True)
class Training:
    """How to train."""

    deadline_s: float
    slack_s: float = 0.0
    speeds: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.5)
    """Loads to train at, as shares of what all deployments together can answer."""
    rounds: int = 4
    n_requests: int = 3000
    """Per load and round."""
    every: int = 5
    """One request of so many teaches: neighbours meet nearly the same queues."""
    explore: float = 0.1
    """Share of random choices, so that states off the path are seen."""
    hidden: int = 24


class _Learner:
    """Deals out by the values so far, explores, and writes down what it sees."""

    is_listening = False

    def __init__(
        self, traffic: Traffic, fleet: Fleet, values: BestEffort | None, rules: Training, generator: np.random.Generator
    ) -> None:
        self._values = values
        self._usual = traffic.usual[traffic.kind]  # (n, n_arms)
        self._every = rules.every
        self._deadline_s = rules.deadline_s
        n = len(traffic)
        self._is_random = (generator.random(n) < (rules.explore if values else 0.5)).tolist()
        self._random = _streaks(n, len(fleet.arms), generator)
        self._deployment_of = fleet.deployment_of
        self._meter = RateMeter()
        self.states: list[list[float]] = []
        self.free_at: list[list[list[float]]] = []
        """The slots of each deployment."""

    def pick(self, request: int, now: float, queues: Queues) -> int:
        """The most valuable arm, or any; before anything is learned the one that would begin first, or any."""
        state = [*map(float, queues.in_flight), self._meter.rate_at(now), self._deadline_s]
        self._meter.start(now)
        if request % self._every == 0:
            self.states.append(state)
            self.free_at.append([list(free) for free in queues.free_at])
        if self._is_random[request]:
            return self._random[request]
        if self._values is None:
            return min(range(len(self._deployment_of)), key=lambda arm: queues.free_at[self._deployment_of[arm]][0])
        return int(np.argmax(self._values.values(np.array(state), self._usual[request])))

    def hear(self, answer: Answered) -> None:
        """It learns between simulations."""


def train(arrivals: Arrivals, fleet: Fleet, outcomes: Outcomes, rules: Training, seed: int) -> BestEffort:
    """Values learned on these arrivals; the same seed learns the same."""
    generator = np.random.default_rng(seed)
    capacity = fleet.capacity(arrivals)
    values: BestEffort | None = None
    seen: list[_Rows] = []
    for round_ in range(rules.rounds):
        for speed in rules.speeds:
            faster = arrivals.faster(speed * capacity / arrivals.rate).repeated(rules.n_requests)
            seen.append(_rows(draw_traffic(faster, outcomes, generator), fleet, values, rules, generator))
        last = seen[-2 * len(rules.speeds) :]  # harm as requests are dealt out now, timeliness from all that was seen
        values = _fit(seen, last, fleet, rules, seed + round_)
    assert values is not None  # there is at least one round
    traffics = [
        draw_traffic(arrivals.faster(speed * capacity / arrivals.rate).repeated(rules.n_requests), outcomes, generator)
        for speed in rules.speeds
    ]
    values = max(
        (_scaled(values, factor) for factor in _FACTORS), key=lambda one: _goodput(one, traffics, fleet, rules)
    )
    return replace(values, trained_on=_words(arrivals, capacity, rules))


def _scaled(values: BestEffort, factor: float) -> BestEffort:
    """The same with so much of the harm."""
    return replace(values, harm=factor * values.harm)


def _goodput(values: BestEffort, traffics: Sequence[Traffic], fleet: Fleet, rules: Training) -> float:
    """Mean expected quality in time when requests are dealt out by these values and nothing else."""
    return float(np.mean([_goodput_of(values, traffic, fleet, rules) for traffic in traffics]))


def _goodput_of(values: BestEffort, traffic: Traffic, fleet: Fleet, rules: Training) -> float:
    router = _Learner(traffic, fleet, values, replace(rules, explore=0.0), np.random.default_rng(0))
    run = simulate(traffic, fleet, router)
    usual = traffic.usual[traffic.kind, run.arm]
    return float((usual * timely_shares(run.latency_s, rules.deadline_s, rules.slack_s)).mean())


# ------------------------------------------------------------------ one simulation


@dataclass(frozen=True, slots=True)
class _Rows:
    """What the requests of one simulation teach."""

    states: Matrix
    """Just before each decision, shape (n, n_deployments + 2)."""
    latency_s: Matrix
    """Of every arm, chosen or not, shape (n, n_arms)."""
    harm: Matrix
    """What each arm's answer would cost later requests, shape (n, n_arms)."""


def _rows(
    traffic: Traffic, fleet: Fleet, values: BestEffort | None, rules: Training, generator: np.random.Generator
) -> _Rows:
    takes = fleet.takes(traffic.arrivals)
    learner = _Learner(traffic, fleet, values, rules, generator)
    run = simulate(traffic, fleet, learner, takes)
    taught = np.arange(0, len(traffic), rules.every)
    deployment_of = np.array(fleet.deployment_of)
    dealt = [_dealt(traffic, takes, run, deployment_of[run.arm] == d, rules) for d in range(len(fleet.deployments))]
    at = traffic.arrivals.at.tolist()
    waits = np.array(
        [[max(free[0] - at[i], 0.0) for free in slots] for i, slots in zip(taught, learner.free_at, strict=True)]
    )  # (n, n_deployments)
    harms = [
        [harm(slots[d], at[i], float(takes.occupied_s[i, arm]), dealt[d]) for arm, d in enumerate(deployment_of)]
        for i, slots in zip(taught, learner.free_at, strict=True)
    ]
    latency_s = waits[:, deployment_of] + takes.occupied_s[taught] + takes.overhead_s[taught]
    is_telling = waits.max(axis=1) < _LONG * rules.deadline_s  # (n,)
    capped = np.minimum(np.array(harms), _MOST_HARM)
    return _Rows(np.array(learner.states)[is_telling], latency_s[is_telling], capped[is_telling])


def _dealt(traffic: Traffic, takes: Takes, run: Run, is_here: NDArray[np.bool_], rules: Training) -> Dealt:
    """What one deployment was given."""
    rows = np.flatnonzero(is_here)
    arm = run.arm[rows]
    occupied_s = takes.occupied_s[rows, arm]
    at = traffic.arrivals.at[rows]
    latest = at + rules.deadline_s - occupied_s - takes.overhead_s[rows, arm]
    return Dealt(at, occupied_s, latest, traffic.usual[traffic.kind[rows], arm], rules.slack_s)


def _streaks(n: int, n_arms: int, generator: np.random.Generator) -> list[int]:
    """Random arms with a preference that changes every 50 requests, so that queues of all lengths are met."""
    preferred = np.repeat(generator.integers(n_arms, size=n // 50 + 1), 50)[:n]
    drawn: list[int] = np.where(generator.random(n) < 0.6, preferred, generator.integers(n_arms, size=n)).tolist()
    return drawn


# ------------------------------------------------------------------ fit


def _fit(every: Sequence[_Rows], last: Sequence[_Rows], fleet: Fleet, rules: Training, seed: int) -> BestEffort:
    states = np.concatenate([rows.states for rows in every])
    latency_s = np.concatenate([rows.latency_s for rows in every])
    inputs, shares = _timely_rows(states, latency_s, rules, np.random.default_rng(seed))
    newest = np.concatenate([rows.states for rows in last])
    harms = np.concatenate([rows.harm for rows in last])
    names = [f"load:{name}" for name in fleet.deployments]
    ends = {name: (0.0, float(states[:, i].max())) for i, name in enumerate([*names, "starts_per_s"])}
    ends["deadline_s"] = (_DEADLINES[0] * rules.deadline_s, _DEADLINES[-1] * rules.deadline_s)
    return BestEffort(
        arms=tuple(arm.name for arm in fleet.arms),
        deployments=tuple(arm.deployment for arm in fleet.arms),
        ranges=ends,
        timeliness=_network(features(inputs), shares, rules.hidden, seed),
        harm=_harm_weights(newest, harms, fleet),
        trained_on="",
    )


def _harm_weights(states: Matrix, harms: Matrix, fleet: Fleet) -> Matrix:
    """Least squares with weights of at least 0, shape (n_arms, n_terms)."""
    columns = [
        nnls(burden(states[:, deployment], states[:, -2]), harms[:, arm])[0]
        for arm, deployment in enumerate(fleet.deployment_of)
    ]
    return np.stack(columns)


def _timely_rows(
    states: Matrix, latency_s: Matrix, rules: Training, generator: np.random.Generator
) -> tuple[Matrix, Matrix]:
    """States with a deadline drawn for each, and the share that each arm's answer would keep."""
    deadlines = rules.deadline_s * generator.choice(_DEADLINES, size=len(states))
    inputs = states.copy()
    inputs[:, -1] = deadlines
    late_s = latency_s - deadlines[:, None]  # (n, n_arms)
    return inputs, timely_shares(late_s.ravel(), 0.0, rules.slack_s).reshape(late_s.shape)


def _network(inputs: Matrix, targets: Matrix, hidden: int, seed: int) -> Network:
    """Fitted on standardised columns, whose scales are folded into the first and the last layer."""
    means, scales = inputs.mean(axis=0), np.maximum(inputs.std(axis=0), 1e-6)
    centres, widths = targets.mean(axis=0), np.maximum(targets.std(axis=0), 1e-6)
    model = MLPRegressor(
        hidden_layer_sizes=(hidden,),
        activation="tanh",
        batch_size=128,
        learning_rate_init=0.01,
        max_iter=60,
        tol=1e-4,
        n_iter_no_change=8,
        random_state=seed,
    )
    fitted = (targets - centres) / widths
    with catch_warnings():
        simplefilter("ignore", ConvergenceWarning)  # it stops after max_iter on purpose
        model.fit((inputs - means) / scales, fitted if fitted.shape[1] > 1 else fitted[:, 0])
    (first, last), (bias, out) = model.coefs_, model.intercepts_
    first = first / scales[:, None]
    return Network(((first, bias - means @ first), (last * widths, out * widths + centres)))


def _words(arrivals: Arrivals, capacity: float, rules: Training) -> str:
    loads = ", ".join(f"{speed:g}" for speed in rules.speeds)
    return f"{len(arrivals)} arrivals at {loads} of {capacity:.3g} requests/s, deadline {rules.deadline_s:g} s"
