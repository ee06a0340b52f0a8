"""Down to which regret does replay pay? Found from what earlier replays brought, and looked for anew in every round.

Examples are replayed from the most regret downwards. Whether the next one pays is told by its 20 nearest neighbours in
regret among all that was replayed, in this round and before: by the share of them that was improved, and by that share
times the regret against the price of the calls. Unknown neighbours count as improved, so that a new store is looked at.
A few examples below the cut-off are tried in every round all the same: what was not worth it yesterday may be today.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import numpy as np

from echo_proxy.policy import Policy

N_NEIGHBOURS = 20
"""Examples that say whether the next one pays; `min_gain` speaks of as many."""
_N_REMEMBERED = 200
"""Outcomes that are kept; what is older tells little of the store as it is. # guess, not yet measured"""
_N_PROBES = 3
"""Examples below the cut-off that a round tries. # guess, not yet measured"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one replay."""

    regret: float
    """Of the example before it."""
    is_improved: bool


@dataclass(frozen=True, slots=True)
class Findings:
    """What is known of replay from round to round."""

    outcomes: tuple[Outcome, ...] = ()
    """Oldest first."""
    cutoff: float = 0.0
    """Regret below which it did not pay in the last round; 0 = none was found."""
    usd_each: float | None = None
    """Mean cost of replaying one example; None before the first."""

    def to_text(self) -> str:
        """JSON, for the store's notes."""
        outcomes = [[round(one.regret, 9), int(one.is_improved)] for one in self.outcomes[-_N_REMEMBERED:]]
        return json.dumps({"cutoff": self.cutoff, "usd_each": self.usd_each, "outcomes": outcomes})

    @staticmethod
    def from_text(text: str) -> "Findings":
        """What was noted; nothing is known when the note is empty or of another form."""
        try:
            found = json.loads(text) if text else {}
            outcomes = tuple(Outcome(float(regret), bool(better)) for regret, better in found.get("outcomes", ()))
            usd_each = found.get("usd_each")
            cutoff = float(found.get("cutoff", 0.0))
            return Findings(outcomes, cutoff, None if usd_each is None else float(usd_each))
        except (ValueError, TypeError, AttributeError):
            return Findings()


def price_of(usd: float, policy: Policy) -> float:
    """Regret that calls of this cost must save to be worth it, by the exchange rate that the policy's reward states.

    Regret is quality lost times normalised cost; the reward gives up `quality_weight` of a lost answer as readily as
    `cost_weight` of a full normalised cost.
    """
    rules = policy.reward
    return usd / rules.cost_scale_usd * rules.cost_weight / max(rules.quality_weight, 1e-9)


class CutOff:
    """Decides, example by example down the ranking, whether replay still pays."""

    def __init__(self, known: Sequence[Outcome], min_gain: float, price: float = 0.0) -> None:
        """
        Args:
            known: outcomes of earlier rounds, oldest first.
            min_gain: least share of the neighbours that must have been improved.
            price: of replaying one example, in regret.
        """
        self._outcomes = list(known)
        self._min_gain = min_gain
        self.price = price
        self._n_probes = _N_PROBES
        self._found = 0.0

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """Everything that is known by now, oldest first."""
        return tuple(self._outcomes[-_N_REMEMBERED:])

    @property
    def found(self) -> float:
        """Regret of the first example that no longer paid; 0 when all paid."""
        return self._found

    def share_improved(self, regret: float) -> float:
        """Of the neighbours in regret, [0, 1]; the unknown ones count as improved."""
        if not self._outcomes:
            return 1.0
        distances = np.array([abs(_log(one.regret) - _log(regret)) for one in reversed(self._outcomes)])
        nearest = np.argsort(distances, kind="stable")[:N_NEIGHBOURS]  # (up to 20,), the newer first among equals
        improved = sum(self._outcomes[-1 - int(i)].is_improved for i in nearest)
        return (improved + N_NEIGHBOURS - len(nearest)) / N_NEIGHBOURS

    def pays(self, regret: float) -> bool:
        """Whether an example of this regret is worth a replay by what is known."""
        share = self.share_improved(regret)
        return share >= self._min_gain and share * regret >= self.price

    def goes_on(self, regret: float) -> bool:
        """Whether the next example down the ranking shall be replayed; below the cut-off a few are."""
        if self.pays(regret):
            self._found = 0.0
            return True
        self._found = self._found or regret
        self._n_probes -= 1
        return self._n_probes >= 0

    def learn(self, regret: float, is_improved: bool) -> None:
        """What came of it."""
        self._outcomes.append(Outcome(regret, is_improved))


def _log(regret: float) -> float:
    return log(max(regret, 1e-9))
