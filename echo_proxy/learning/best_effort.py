"""What is each arm worth now, given what its answer will cost the requests that come after?

The learned, load-aware policy of a file that `echo-proxy simulate --train` has written. Source of the idea: Learned
Best-Effort LLM Serving, arXiv 2401.07886, which learns Q(task, batch sizes, arrival rate; model) by double DQN. Here
what is known is not learned again: the expected quality comes from the bandit's estimates, and only what load does is
learned over the state (load per deployment, arrival rate, time to the deadline), timeliness as a small network and harm
as a sum of terms that can only grow with load and rate:

    Q(state, arm) = quality(arm) * timeliness(state)[arm] - harm(state)[arm]
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echo_proxy.errors import PolicyError
from echo_proxy.policy import BestEffortPolicy, Policy
from echo_proxy.types import Adjustment, Arm, Conditions, Json, Vector

Matrix = NDArray[np.float64]

VERSION = 1
"""Of the file; another one is refused."""
_LOADS = np.array([2.0, 8.0, 32.0, 128.0])
_RATES = np.array([1.0, 4.0, 16.0, 64.0])
"""Loads and rates at which a term has grown to one half."""
N_TERMS = 2 * (_LOADS.size + _LOADS.size * _RATES.size)
"""Terms of `burden`."""
_FIELDS = frozenset({"version", "arms", "deployments", "ranges", "timeliness", "harm", "trained_on"})


@dataclass(frozen=True, slots=True)
class Network:
    """Layers of weights and biases; tanh between them, nothing after the last."""

    layers: tuple[tuple[Matrix, Vector], ...]
    """Weights of shape (n_in, n_out) and biases of shape (n_out,)."""

    def __call__(self, x: Matrix) -> Matrix:
        """Outputs, shape (n, n_out), for inputs of shape (n, n_in)."""
        *hidden, (weights, biases) = self.layers
        for inner, bias in hidden:
            x = np.tanh(x @ inner + bias)
        return np.asarray(x @ weights + biases)


@dataclass(frozen=True, slots=True)
class BestEffort:
    """What such a file holds."""

    arms: tuple[str, ...]
    deployments: tuple[str, ...]
    """Per arm."""
    ranges: Mapping[str, tuple[float, float]]
    """Least and most of each feature that was seen in training: `load:<deployment>`, ..., starts_per_s, deadline_s."""
    timeliness: Network
    """Features to the share of the reward that each arm's answer will probably keep, by arm."""
    harm: Matrix
    """Weights of the terms of `burden` in the reward that later requests will probably lose by each arm's answer,
    shape (n_arms, n_terms), at least 0."""
    trained_on: str
    """In words."""

    def state(self, conditions: Conditions) -> Vector:
        """Load per deployment (in the order of `names`), arrival rate, time to the deadline, in their own units."""
        loads = [conditions.loads.get(name) for name in self.names]
        busy = [one.in_flight + one.waiting if one else 0.0 for one in loads]
        rate = sum(one.starts_per_s for one in conditions.loads.values())
        return np.array([*busy, rate, conditions.deadline_s or 0.0])

    @property
    def names(self) -> tuple[str, ...]:
        """The deployments, each once."""
        return tuple(dict.fromkeys(self.deployments))

    def outside(self, state: Vector) -> str | None:
        """Which feature lies outside what was seen in training, in words; None when all are within."""
        for (name, (least, most)), value in zip(self.ranges.items(), state, strict=True):
            if not least - 1e-9 <= value <= most + 1e-9:
                return f"{name} {value:.3g} is outside {least:.3g} to {most:.3g}"
        return None

    def values(self, state: Vector, qualities: Vector) -> Vector:
        """Q per arm of the file, shape (n_arms,), in reward units.

        Args:
            state: as from `state`.
            qualities: expected reward of an answer in time, per arm of the file, shape (n_arms,).
        """
        seen = features(state[None, :])
        timely = np.clip(self.timeliness(seen)[0], 0.0, 1.0)  # (n_arms,)
        busy = state[[self.names.index(name) for name in self.deployments]]  # (n_arms,)
        harm = (self.harm * burden(busy, state[-2])).sum(axis=1)  # (n_arms,)
        return np.asarray(qualities * timely - harm)


def burden(busy: Vector, rate: float | Vector) -> Matrix:
    """Terms that grow with a deployment's load and with the arrival rate, shape (n, n_terms), each in [0, 1].

    A network that is free to bend fits the noise of overloads and calls an idle deployment harmful; with weights of at
    least 0 these terms cannot.
    """
    loads = busy[:, None] / (busy[:, None] + _LOADS)  # (n, n_loads)
    rates = np.broadcast_to(
        np.asarray(rate)[..., None] / (np.asarray(rate)[..., None] + _RATES), (len(busy), _RATES.size)
    )
    both = (loads[:, :, None] * rates[:, None, :]).reshape(len(busy), -1)
    return np.concatenate([loads, both, loads**4, (both**4)], axis=1)


def features(states: Matrix) -> Matrix:
    """What the networks see of states, shape (n, n_deployments + 2): all on a logarithmic scale."""
    out = np.log1p(states)
    out[:, -1] = np.log(np.maximum(states[:, -1], 1e-3))
    return out


# ------------------------------------------------------------------ in a decision


def worth(arms: Sequence[Arm], means: Vector, conditions: Conditions, values: BestEffort | None) -> Adjustment | str:
    """What load takes from the arms, harm to later requests included; or in words why the file cannot say."""
    if values is None:
        return "no file is loaded"
    if conditions.deadline_s is None:
        return "there is no deadline"
    state = values.state(conditions)
    reason = values.outside(state)
    if reason is not None:
        return reason
    places = [values.arms.index(arm.name) for arm in arms]
    qualities = np.zeros(len(values.arms))
    qualities[places] = means
    taken = means - values.values(state, qualities)[places]  # (n_arms,)
    seen = ", ".join(f"{name} {value:.3g}" for name, value in zip(values.ranges, state, strict=True))
    return Adjustment("best_effort", tuple(map(float, taken)), seen)


# ------------------------------------------------------------------ file


def read_values(policy: Policy) -> BestEffort | None:
    """What the policy's file holds; None for other bandits. Raises PolicyError: missing, damaged, of other arms."""
    if not isinstance(policy.bandit, BestEffortPolicy):
        return None
    path = Path(policy.bandit.file)
    try:
        values = from_json(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise PolicyError(
            f"policy {policy.name}: bandit.file {path}: expected a file that `echo-proxy simulate --train` has "
            f"written, got {error.strerror}"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # whatever stands in it
        raise PolicyError(f"policy {policy.name}: bandit.file {path}: {error}") from error
    trained = dict(zip(values.arms, values.deployments, strict=True))
    wanted = {arm.name: arm.deployment for arm in policy.to_arms()}
    if trained != wanted:
        raise PolicyError(
            f"policy {policy.name}: bandit.file {path}: expected the policy's arms {_words(wanted)}, "
            f"got {_words(trained)}; train it again"
        )
    return values


def to_json(values: BestEffort) -> dict[str, Json]:
    """Mapping that json.dumps writes and `from_json` reads back."""
    return {
        "version": VERSION,
        "arms": list(values.arms),
        "deployments": list(values.deployments),
        "ranges": {name: list(ends) for name, ends in values.ranges.items()},
        "timeliness": _layers(values.timeliness),
        "harm": values.harm.tolist(),
        "trained_on": values.trained_on,
    }


def from_json(found: Any) -> BestEffort:
    """What `to_json` wrote. Raises ValueError: fields are missing, of another version, or shapes disagree."""
    if not isinstance(found, Mapping) or set(found) != _FIELDS:
        raise ValueError(f"expected the fields {sorted(_FIELDS)}, got {sorted(found) if found else found!r}")
    if found["version"] != VERSION:
        raise ValueError(f"version must be {VERSION}, got {found['version']!r}")
    arms, deployments = tuple(map(str, found["arms"])), tuple(map(str, found["deployments"]))
    names = [*(f"load:{name}" for name in dict.fromkeys(deployments)), "starts_per_s", "deadline_s"]
    if not arms or len(arms) != len(deployments) or list(found["ranges"]) != names:
        raise ValueError(f"expected arms with a deployment each and the ranges {names}, got {list(found['ranges'])}")
    ranges = {name: _range(name, ends) for name, ends in found["ranges"].items()}
    return BestEffort(
        arms,
        deployments,
        ranges,
        _network("timeliness", found["timeliness"], len(names), len(arms)),
        _harm(found["harm"], len(arms)),
        str(found["trained_on"]),
    )


def _words(arms: Mapping[str, str]) -> str:
    return ", ".join(f"{name} on {deployment}" for name, deployment in sorted(arms.items()))


def _layers(network: Network) -> list[Json]:
    return [{"weights": weights.tolist(), "biases": biases.tolist()} for weights, biases in network.layers]


def _range(name: str, found: Any) -> tuple[float, float]:
    ends = _numbers(name, found)
    if ends.shape != (2,) or ends[0] > ends[1]:
        raise ValueError(f"the range of {name} must be two ascending numbers, got {found!r}")
    return float(ends[0]), float(ends[1])


def _harm(found: Any, n_arms: int) -> Matrix:
    weights = _numbers("harm", found)
    if weights.shape != (n_arms, N_TERMS) or (weights < 0).any():
        raise ValueError(f"harm must be of shape ({n_arms}, {N_TERMS}) and at least 0, got shape {weights.shape}")
    return weights


def _network(name: str, found: Any, n_in: int, n_out: int) -> Network:
    layers = tuple((_numbers(name, one["weights"]), _numbers(name, one["biases"])) for one in found)
    width = n_in
    for weights, biases in layers:
        if weights.ndim != 2 or weights.shape[0] != width or biases.shape != weights.shape[1:]:
            raise ValueError(f"{name} must have layers that fit each other from {n_in} features, got {weights.shape}")
        width = weights.shape[1]
    if not layers or width != n_out:
        raise ValueError(f"{name} must end in {n_out} outputs, got {width}")
    return Network(layers)


def _numbers(name: str, found: Any) -> Matrix:
    try:
        numbers = np.array(found, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers, got {found!r:.80}") from error
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name} must be finite numbers")
    return numbers
