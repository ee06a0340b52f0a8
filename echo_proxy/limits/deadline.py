"""Which arms will not answer in time?"""

from collections.abc import Sequence
from dataclasses import replace
from math import erf, log, sqrt

import numpy as np

from echo_proxy.policy import DeadlinePolicy, Policy
from echo_proxy.types import Adjustment, Arm, Conditions, Forecast, Request, Vector

_HOPE = 0.1
"""Where no arm is likelier than this to be in time, the quickest is to win. guess, not yet measured"""
_STEPS = 8
"""Points at which a falling reward is looked at."""


def time_left(requested_s: float | None, rules: DeadlinePolicy | None) -> float | None:
    """Seconds to the deadline: the caller's, else the policy's, else None."""
    return requested_s if requested_s is not None else (rules.answer_s if rules else None)


def deadline_of(request: Request, policy: Policy) -> float | None:
    """Seconds from the request's arrival to its deadline; a caller is heard where the policy has deadlines at all."""
    is_heard = policy.deadline is not None or policy.allow_client_deadline
    return time_left(request.deadline_s if is_heard else None, policy.deadline)


def on_time(latency_s: float, deadline_s: float, slack_s: float) -> float:
    """1 in time, 0 too late; with slack it falls from one to the other over so many seconds."""
    if slack_s <= 0:
        return float(latency_s <= deadline_s)
    return min(max(1 - (latency_s - deadline_s) / slack_s, 0.0), 1.0)


def timeliness(latency_s: float, deadline_s: float | None, rules: DeadlinePolicy | None) -> float:
    """Share of the reward that an answer keeps for when it came, [0, 1]."""
    return 1.0 if deadline_s is None else on_time(latency_s, deadline_s, rules.slack_s if rules else 0.0)


def expected_timeliness(forecast: Forecast, deadline_s: float, slack_s: float) -> float:
    """Mean of `on_time` over what the latency may turn out to be, [0, 1].

    Latencies are taken for lognormal around the forecast, as widely as past ones were spread; a forecast without
    spread is taken at its word.
    """
    if slack_s <= 0:
        return _in_time(forecast, deadline_s)
    steps = [deadline_s + (i + 0.5) / _STEPS * slack_s for i in range(_STEPS)]
    return sum(_in_time(forecast, at) for at in steps) / _STEPS


def _in_time(forecast: Forecast, deadline_s: float) -> float:
    """P(latency <= deadline)."""
    if forecast.spread <= 0 or forecast.latency_s <= 0 or deadline_s <= 0:
        return float(forecast.latency_s <= deadline_s)
    median = log(forecast.latency_s) - forecast.spread**2 / 2  # latency_s is the mean
    return 0.5 * (1 + erf((log(deadline_s) - median) / (forecast.spread * sqrt(2))))


def deadline_penalty(
    arms: Sequence[Arm], means: Vector, conditions: Conditions, rules: DeadlinePolicy | None
) -> Adjustment | None:
    """What arms earn less for being late; None when there is no deadline or nothing is known of any arm.

    An arm keeps the share of its expected reward that it will probably be in time for. Where no arm has a chance that
    leaves nothing to choose by, so there the slower ones lose up to one more: the quickest wins.
    """
    if conditions.deadline_s is None:
        return None
    forecasts = [_foreseen(arm, conditions) for arm in arms]
    if not any(forecasts):
        return None
    shares = np.array(
        [
            expected_timeliness(one, conditions.deadline_s, rules.slack_s if rules else 0.0) if one else 1.0
            for one in forecasts
        ]
    )  # (n_arms,)
    taken = np.maximum(means, 0.0) * (1 - shares) + _despair(shares) * _slowness(forecasts)  # (n_arms,)
    chances = ", ".join(f"{arm.name} {share:.0%}" for arm, share in zip(arms, shares, strict=True))
    return Adjustment("deadline", tuple(map(float, taken)), f"{conditions.deadline_s:g} s left, in time: {chances}")


def _foreseen(arm: Arm, conditions: Conditions) -> Forecast | None:
    """What past answers let expect, or what the deployment's own queue says when that is more; None = nothing known.

    Averages follow a queue only as answers come out of it, and know nothing of what others have put into it.
    """
    known, load = conditions.forecasts.get(arm.name), conditions.loads.get(arm.deployment)
    if load is None or load.wait_s + load.service_s <= 0:
        return known
    if known is None:
        return Forecast(0.0, load.wait_s + load.service_s, 0.0, load.service_s)
    return replace(known, latency_s=max(known.latency_s, load.wait_s + known.service_s))


def _despair(shares: Vector) -> float:
    """0 while an arm may be in time, 1 when none can be."""
    return max(1 - float(shares.max()) / _HOPE, 0.0)


def _slowness(forecasts: Sequence[Forecast | None]) -> Vector:
    """0 for the quickest arm, towards 1 for slower ones, shape (n_arms,); arms that never answered count as it."""
    known = [one.latency_s for one in forecasts if one and one.latency_s > 0]
    quickest = min(known, default=0.0)
    return np.array([1 - quickest / one.latency_s if one and one.latency_s > 0 else 0.0 for one in forecasts])
