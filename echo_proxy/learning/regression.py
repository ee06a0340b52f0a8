"""What does each arm earn on requests like this one, by regression on all that lessons hold of a request?

Hierarchical logistic regression (`bandits/logit.py`) on the situation's point (`lesson_space.py`), on top of what is
believed of an arm before any evidence. Arms share what they have in common, so an arm that was seldom drawn follows
the others' ups and downs around its own level. With few lessons points have no coordinates, and what is left is each
arm's average with its prior.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from echo_proxy.bandits.logit import LogitFit, Observations, Precisions, fit_logit
from echo_proxy.learning.ageing import remaining
from echo_proxy.learning.lesson_space import Floats, Space, features_of, fit_space, kind_of, vectors_of
from echo_proxy.learning.prior import Belief, prior_of
from echo_proxy.policy import Policy
from echo_proxy.types import Arm, Estimates, Evidence, Lesson, News, Situation, Vector

Matrix = NDArray[np.float64]

SHARED_PRECISION = 10.0
"""Of coefficients that arms have in common; points have a length of about 1. Measured, see bench/README.md."""
OWN_PRECISION = 4.0
"""Of an arm's difference from them. Measured as above."""
VARIANCE_SCALE = 0.3
"""Factor on the variance that comes from the coefficients. Fits to disjoint samples of ZeroEval, LLMRouter and
RouteLLM's GSM8K (175 to 1,200 lessons) differ by 0.02 to 0.5 of what Laplace's approximation says; in the upper half of
that, because fits that differ little can still be wrong alike."""
_SURE = 1e-3
"""Probabilities are kept so far away from 0 and 1 before their logarithms are taken."""
_MOST_SHIFT = 3.0
"""Log odds by which the news since the fit may move an arm."""


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """What is read off a situation in one product."""

    logits: Vector
    """Sum of coefficients times coordinates per arm, shape (n_arms,)."""
    shared: float
    """The same for an arm that was never seen."""
    along: Vector
    """Coordinates in the best known directions, shape (n_directions,)."""
    beyond: float
    """Squared length in all others."""


@dataclass(slots=True)
class _Shift:
    """What was learned of an arm's level since the fit."""

    excess: float = 0.0
    """Sum of weight * (reward - expected)."""
    information: float = 0.0
    """Sum of weight * expected * (1 - expected)."""


class RegressionModel:
    """Expects what each arm earns from the lessons that it was fitted to; until the next fit only levels are moved."""

    def __init__(self, policy: Policy, space: Space, arms: Sequence[Arm], fit: LogitFit) -> None:
        self._prior = policy.bandit.prior
        self._space = space
        self._fit = fit
        self._rows = {arm.name: row for row, arm in enumerate(arms)}
        self._arms = {arm.name: arm for arm in arms}
        self._shifts: dict[str, _Shift] = {}
        n_directions = fit.basis.shape[1]
        every = np.concatenate(
            [fit.thetas.T, fit.beta[:, None], fit.basis, space.middle[: fit.beta.size, None]], axis=1
        )
        columns = every.astype(np.float32)  # (n_coordinates, n_arms + 1 + n_directions + 1)
        self._columns = space.collapsed(columns)
        self._middle = space.middle[: fit.beta.size] @ columns  # (n_arms + 1 + n_directions + 1,)
        self._directions = slice(len(arms) + 1, len(arms) + 1 + n_directions)

    def estimates(self, arms: Sequence[Arm], situation: Situation) -> Estimates:
        """What is believed of each arm: its prior where nothing was learned."""
        seen = self._look(situation)
        beliefs = [prior_of(arm, situation, self._prior) for arm in arms]
        believed = [self._of_arm(arm.name, belief, seen) for arm, belief in zip(arms, beliefs, strict=True)]
        means = expit(np.array([mean for mean, _ in believed]))  # (n_arms,)
        variances = np.array([variance for _, variance in believed])  # (n_arms,), of the log odds
        kept = np.clip(means, _SURE, 1 - _SURE)
        spread = kept * (1 - kept)
        weights = 1 / (spread * variances)  # observations that would tell as much
        return Estimates(weights, means, np.sqrt(spread / (weights + 1)))

    def learn(self, news: News) -> None:
        """Move the level of the arms that it speaks of by one Newton step; their slopes wait for the next fit."""
        seen = self._look(news.lesson.situation)
        self._hear(news.lesson, seen, 1.0)
        if news.before is not None:
            self._hear(news.before, seen, -1.0)

    def _hear(self, lesson: Lesson, seen: _Seen, sign: float) -> None:
        for evidence in lesson.evidence:
            arm = self._arms.get(evidence.key.arm)
            if arm is None:
                continue
            belief = prior_of(arm, lesson.situation, self._prior)
            p = float(expit(_log_odds(belief.reward) + self._learned(arm.name, seen)))
            shift = self._shifts.setdefault(arm.name, _Shift())
            shift.excess += sign * evidence.weight * (evidence.reward - p)
            shift.information += sign * evidence.weight * p * (1 - p)

    def _look(self, situation: Situation) -> _Seen:
        """Where the situation lies; at the middle when it is of another kind than the lessons."""
        n_arms = len(self._rows)
        if self._space.kind is None or kind_of(situation) != self._space.kind:
            return _Seen(np.zeros(n_arms), 0.0, np.zeros(self._fit.basis.shape[1]), 0.0)
        inputs = self._space.inputs(vectors_of([situation]), features_of([situation]))
        raw = self._space.raw(inputs)[0]  # (n_landmarks + n_inputs,)
        told = (raw @ self._columns - self._middle).astype(np.float64)
        along = told[self._directions]
        # a kernel's point has length 1, also where the landmarks do not reach
        linear = float(inputs[0] @ inputs[0]) * self._space.linear_scale**2 + (self._space.landmarks is not None)
        middle = float(self._space.middle @ self._space.middle)
        length = linear - 2 * (float(told[-1]) + middle) + middle
        return _Seen(told[:n_arms], float(told[n_arms]), along, max(length - float(along @ along), 0.0))

    def _learned(self, name: str, seen: _Seen) -> float:
        """Log odds of an arm on top of its prior's, as of the fit."""
        row = self._rows.get(name)
        return seen.shared if row is None else float(seen.logits[row] + self._fit.intercepts[row])

    def _of_arm(self, name: str, belief: Belief, seen: _Seen) -> tuple[float, float]:
        """Mean and variance of an arm's log odds."""
        row = self._rows.get(name)
        sure = belief.weight * _spread(belief.reward)  # precision of its level before any evidence
        known = self._fit.shared_variances if row is None else self._fit.variances[row]
        slopes = float(known @ seen.along**2) + self._fit.prior_variance * seen.beyond
        precision = sure + (0.0 if row is None else float(self._fit.intercept_information[row]))
        moved, heard = 0.0, self._shifts.get(name)
        if heard is not None:
            precision = max(precision + heard.information, 1e-6)  # amendments can take out what the fit did not hold
            moved = float(np.clip(heard.excess / precision, -_MOST_SHIFT, _MOST_SHIFT))
        mean = _log_odds(belief.reward) + self._learned(name, seen) + moved
        return mean, 1 / precision + VARIANCE_SCALE * slopes


def fit_regression(policy: Policy, lessons: Sequence[Lesson]) -> RegressionModel:
    """The model of these lessons, whatever their order. Takes about a second for 5,000, so run it in a thread."""
    arms = policy.to_arms()
    told = _comparable([lesson for lesson in lessons if lesson.evidence])
    situations = [lesson.situation for lesson in told]
    space = fit_space(situations)
    x = _points(space, situations)
    beliefs = [[prior_of(arm, situation, policy.bandit.prior) for arm in arms] for situation in situations]
    weights, rewards = _outcomes(told, {arm.name: column for column, arm in enumerate(arms)})
    faded = remaining(told, policy.bandit)[:, None]  # (n, 1)
    offsets = np.array([[_log_odds(one.reward) for one in row] for row in beliefs]).reshape(weights.shape)
    seen = Observations(x, weights * faded, rewards, offsets)
    precisions = Precisions(SHARED_PRECISION, OWN_PRECISION, _level_precisions(arms, beliefs, policy))
    return RegressionModel(policy, space, arms, fit_logit(seen, precisions))


def _comparable(lessons: Sequence[Lesson]) -> list[Lesson]:
    """Those of the newest lesson's kind, oldest first: a new version of the features begins anew."""
    ordered = sorted(lessons, key=lambda lesson: (lesson.at, lesson.decision_id))
    kind = kind_of(ordered[-1].situation) if ordered else None
    return [lesson for lesson in ordered if kind_of(lesson.situation) == kind]


def _points(space: Space, situations: Sequence[Situation]) -> Floats:
    if space.kind is None:
        return np.zeros((len(situations), 0), np.float32)
    return space.points(space.inputs(vectors_of(situations), features_of(situations)))


def _outcomes(lessons: Sequence[Lesson], columns: Mapping[str, int]) -> tuple[Matrix, Matrix]:
    """Weights and mean rewards, shape (n_lessons, n_arms); several attempts of one arm count together."""
    weights, sums = np.zeros((len(lessons), len(columns))), np.zeros((len(lessons), len(columns)))
    for row, lesson in enumerate(lessons):
        for evidence in lesson.evidence:
            _add(weights, sums, row, columns.get(evidence.key.arm), evidence)
    return weights, np.clip(sums / np.where(weights > 0, weights, 1.0), 0.0, 1.0)


def _add(weights: Matrix, sums: Matrix, row: int, column: int | None, evidence: Evidence) -> None:
    if column is not None:
        weights[row, column] += evidence.weight
        sums[row, column] += evidence.weight * evidence.reward


def _level_precisions(arms: Sequence[Arm], beliefs: Sequence[Sequence[Belief]], policy: Policy) -> Vector:
    """How sure the priors are of each arm's log odds, on average over the lessons, shape (n_arms,)."""
    if not beliefs:
        return np.full(len(arms), max(policy.bandit.prior.weight * 0.25, _SURE))
    sure = [[one.weight * _spread(one.reward) for one in row] for row in beliefs]
    precisions: Vector = np.maximum(np.mean(sure, axis=0), _SURE)
    return precisions


def _spread(probability: float) -> float:
    """Variance of an outcome, above 0."""
    kept = min(max(probability, _SURE), 1 - _SURE)
    return kept * (1 - kept)


def _log_odds(probability: float) -> float:
    return float(logit(min(max(probability, _SURE), 1 - _SURE)))
