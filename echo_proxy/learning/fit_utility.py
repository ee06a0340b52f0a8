"""What did past answers teach about the worth of examples?"""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from echo_proxy.learning.learned_utility import Learned, Line, together
from echo_proxy.learning.pair_features import ALONE_SCHEMA, PAIR_FEATURES, PAIR_SCHEMA, logit
from echo_proxy.learning.thresholds import tune_threshold
from echo_proxy.policy import LearnedUtility, Policy
from echo_proxy.types import Arm, Lesson, Trial, Vector

_MAX_INVERSE_PROPENSITY = 5.0
"""A pair that was shown by rare chance counts at most so often: a single answer must not outweigh all others.
# guess, not yet measured"""
_INVERSE_PENALTY = 1.0
"""scikit-learn's C, on features of variance one. # guess, not yet measured"""
_TURNS = 4
"""In which credit and regression follow each other. # guess, not yet measured"""
_PRIOR = PAIR_FEATURES.index("prior")
_MIXES = np.linspace(0.0, 1.0, 21)


@dataclass(frozen=True, slots=True)
class _Answer:
    """A judged answer of a student, with what it was shown."""

    shown: tuple[Trial, ...]
    alone: Trial | None
    quality: float
    weight: float


@dataclass(slots=True)
class _Rows:
    """What a regression is fitted to, a row per observation."""

    features: list[tuple[float, ...]] = field(default_factory=list)
    good: list[float] = field(default_factory=list)
    """How much it counts as a good answer."""
    bad: list[float] = field(default_factory=list)

    def add(self, features: tuple[float, ...], good: float, bad: float) -> None:
        """One more observation."""
        self.features.append(features)
        self.good.append(good)
        self.bad.append(bad)


def warm_up() -> None:
    """Load what a fit needs, about a second: before there are callers whom it would hold up."""
    importlib.import_module("sklearn.linear_model")


def fit_utility(policy: Policy, lessons: Sequence[Lesson], before: Learned) -> Learned:
    """What the lessons teach; the starting point while they are too few. Pure; may take a second, so run it in a
    thread."""
    threshold = tune_threshold(lessons, before.threshold, policy.selection)
    rules = policy.selection.learned
    if rules is None:
        return Learned(threshold=threshold)
    answers = list(_answers(lessons, {arm.name: arm for arm in policy.to_arms()}))
    n_lessons = sum(one.weight for one in answers)
    n_shown = sum(one.weight for one in answers if one.shown)
    n_alone = n_lessons - n_shown
    alone = _fit_alone(answers) if n_alone >= rules.min_lessons else None
    pairs, mix = _fit_pairs(answers, rules) if n_shown >= rules.min_lessons else (None, 1.0)
    return Learned(pairs, alone, n_alone / (n_alone + rules.weight), mix, threshold, n_lessons)


def _answers(lessons: Sequence[Lesson], arms: Mapping[str, Arm]) -> Iterator[_Answer]:
    """Answers of deployments that are ever shown examples: what a teacher does without them says nothing."""
    students = {arm.deployment for arm in arms.values() if arm.n_examples}
    for lesson in lessons:
        arm = arms.get(lesson.arm)
        if not lesson.is_acted or arm is None or arm.deployment not in students or not lesson.trials:
            continue
        chosen = [trial for trial in lesson.trials if trial.is_chosen and trial.example_id]
        shown = tuple(chosen[: arm.n_examples])
        if all(trial.schema == PAIR_SCHEMA for trial in shown):
            alone = next((trial for trial in lesson.trials if trial.schema == ALONE_SCHEMA), None)
            yield _Answer(shown, alone, lesson.quality, lesson.quality_weight)


def _fit_pairs(answers: Sequence[_Answer], rules: LearnedUtility) -> tuple[Line, float]:
    """Regression on pairs that were shown, and how several work together.

    Where several were shown, each one's part in the answer follows from what is believed of them, and the other way
    round, in turns. At first all have the same part.
    Source of the turns: Dempster, Laird and Rubin 1977, https://doi.org/10.1111/j.2517-6161.1977.tb01600.x
    """
    shown = [answer for answer in answers if answer.shown]
    credits = [_equal_credit(answer) for answer in shown]
    pairs, mix = _regress(_pair_rows(shown, credits, rules.weight)), 1.0
    for _ in range(_TURNS if any(len(answer.shown) > 1 for answer in shown) else 0):
        utilities = _utilities_of(shown, pairs)
        mix = _fit_mix(shown, utilities, rules.weight)
        credits = [_credit(answer, group, mix) for answer, group in zip(shown, utilities, strict=True)]
        pairs = _regress(_pair_rows(shown, credits, rules.weight))
    return pairs, mix


def _utilities_of(shown: Sequence[_Answer], pairs: Line) -> list[Vector]:
    """Utilities of each answer's examples, each of shape (n_shown,)."""
    utilities = pairs.probabilities(np.array([trial.features for answer in shown for trial in answer.shown]))
    return np.split(utilities, np.cumsum([len(answer.shown) for answer in shown])[:-1])


def _equal_credit(answer: _Answer) -> Vector:
    """As `_credit`, when nothing is known of the examples."""
    n = len(answer.shown)
    return np.full((n, 2), (answer.quality / n, (1 - answer.quality) / n))


def _credit(answer: _Answer, utilities: Vector, mix: float) -> Vector:
    """How far each example was good and bad, shape (n_shown, 2): the expected number of times under `together`.

    Either one example suffices, and a good answer says that some were good, a bad one that none was; or the answer
    follows one of them, and says something about that one alone.
    """
    kept = np.clip(utilities, 1e-3, 1 - 1e-3)
    some, mean = 1 - float(np.prod(1 - kept)), float(kept.mean())
    if_good = mix * some / (mix * some + (1 - mix) * mean)  # P(one suffices | the answer is good)
    if_bad = mix * (1 - some) / (mix * (1 - some) + (1 - mix) * (1 - mean))
    suffices, follows = kept / some, kept / kept.sum()
    good = answer.quality * (if_good * suffices + (1 - if_good) * follows)
    bad = answer.quality * if_good * (1 - suffices)
    bad += (1 - answer.quality) * (if_bad + (1 - if_bad) * (1 - kept) / (1 - kept).sum())
    return np.stack([good, bad], axis=1)


def _pair_rows(shown: Sequence[_Answer], credits: Sequence[Vector], prior_weight: float) -> _Rows:
    """A row per pair; then the starting point joins as observations of its own.

    Source of the prior: Huang et al. 2020, catalytic priors, https://doi.org/10.1073/pnas.1920913117
    """
    rows = _Rows()
    for answer, credit in zip(shown, credits, strict=True):
        for trial, (good, bad) in zip(answer.shown, credit, strict=True):
            weight = answer.weight * min(1.0 / trial.propensity, _MAX_INVERSE_PROPENSITY)
            rows.add(trial.features, weight * float(good), weight * float(bad))
    prior = 1.0 / (1.0 + np.exp(-np.array([features[_PRIOR] for features in rows.features])))
    share = prior_weight / len(rows.features)
    for features, expected in zip(tuple(rows.features), prior.tolist(), strict=True):
        rows.add(features, share * expected, share * (1 - expected))
    return rows


def _fit_alone(answers: Sequence[_Answer]) -> Line | None:
    """Regression on answers that were shown nothing; None when there were none."""
    rows = _Rows()
    for answer in answers:
        if answer.alone is not None and not answer.shown:
            # When examples were chosen and the arm takes none, the propensity is not that of seeing nothing.
            chance = min(1.0 / answer.alone.propensity, _MAX_INVERSE_PROPENSITY) if answer.alone.is_chosen else 1.0
            weight = answer.weight * chance
            rows.add(answer.alone.features, weight * answer.quality, weight * (1 - answer.quality))
    if not rows.features:
        return None
    rows.add(tuple(np.mean(rows.features, axis=0)), 0.5, 0.5)  # an imagined answer: both classes must be there
    return _regress(rows)


def _regress(rows: _Rows) -> Line:
    """Logistic regression on features of variance one, in terms of the features as they are."""
    from sklearn.linear_model import LogisticRegression  # see warm_up

    features = np.array(rows.features)  # (n_rows, n_features)
    good, bad = np.array(rows.good), np.array(rows.bad)  # (n_rows,)
    centre = np.average(features, axis=0, weights=good + bad)
    spread = np.sqrt(np.average((features - centre) ** 2, axis=0, weights=good + bad))
    spread = np.where(spread > 1e-6, spread, 1.0)  # (n_features,)
    scaled = (features - centre) / spread
    model = LogisticRegression(C=_INVERSE_PENALTY, max_iter=500)
    classes = np.repeat([1, 0], len(scaled))
    model.fit(np.concatenate([scaled, scaled]), classes, sample_weight=np.concatenate([good, bad]))
    slopes: Vector = model.coef_[0] / spread
    return Line(slopes, float(model.intercept_[0] - slopes @ centre), features.min(axis=0), features.max(axis=0))


def _fit_mix(shown: Sequence[_Answer], utilities: Sequence[Vector], prior_weight: float) -> float:
    """How several examples work together: the likeliest mix, drawn towards 1 by the prior's weight."""
    several = [(answer, group) for answer, group in zip(shown, utilities, strict=True) if len(group) > 1]
    quality = np.array([answer.quality for answer, _ in several])
    weight = np.array([answer.weight for answer, _ in several])
    ends = np.array([[together(group.tolist(), 0.0), together(group.tolist(), 1.0)] for _, group in several])
    expected = ends[:, :1] * (1 - _MIXES) + ends[:, 1:] * _MIXES  # (n_answers, n_mixes)
    odds = logit(expected)
    likelihood = weight @ (quality[:, None] * odds - np.log1p(np.exp(odds)))  # (n_mixes,)
    best, n = float(_MIXES[int(np.argmax(likelihood))]), float(weight.sum())
    return (n * best + prior_weight) / (n + prior_weight)
