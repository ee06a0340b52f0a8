"""Which model of outcomes does the policy ask for, fitted to what lessons?"""

from collections.abc import Sequence

from echo_proxy.learning.linear_model import LinearModel
from echo_proxy.learning.regression import fit_regression
from echo_proxy.policy import LinearEstimate, Policy, RegressionEstimate
from echo_proxy.protocols import OutcomeModel
from echo_proxy.types import Lesson


def fit_outcomes(policy: Policy, lessons: Sequence[Lesson]) -> OutcomeModel | None:
    """The model, or None when averages per segment are asked for. Pure; may take a second, so run it in a thread."""
    if isinstance(policy.bandit.estimate, LinearEstimate):
        return LinearModel(policy, lessons)
    if isinstance(policy.bandit.estimate, RegressionEstimate):
        return fit_regression(policy, lessons)
    return None
