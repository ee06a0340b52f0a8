"""How are regressions of many arms that learn from each other kept up to date, one observation after the other?

`linear.py` solves them anew from sums; here the same solution is held and moved by rank-one steps, so that a worker can
learn from every answer, and take one back, in O(d^2).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from echo_proxy.bandits.linear import Matrix, updated
from echo_proxy.types import Vector

NEVER_SEEN = 0
"""Slot of all arms without evidence: they expect what arms have in common."""


@dataclass(frozen=True, slots=True, eq=False)
class Expected:
    """What is believed of some arms, each in its own context."""

    means: Vector
    """Expected targets, shape (n,)."""
    variances: Vector
    """Of these expectations, in units of the noise's variance, shape (n,)."""


class Pooled:
    """theta_a = beta + delta_a; before any evidence delta_a ~ N(0, I) and beta ~ N(0, diag(1 / shared_precision)).

    Contexts are scaled so that this prior is right and a target's noise has variance 1. With S_a the sum of x x^T and
    s_a that of target * x over the observations of arm a: C_a = (S_a + I)^-1,
    P = diag(shared_precision) + sum(I - C_a), beta = P^-1 sum(C_a s_a),
    theta_a = C_a (s_a + beta), covariance_a = C_a + C_a P^-1 C_a.

    Source: `linear.shared_posterior` with precision 1; `linear.disjoint_posterior` without a shared part.
    """

    def __init__(self, d: int, shared_precision: Vector | None) -> None:
        """Nothing seen.

        Args:
            d: length of a context.
            shared_precision: shape (d,), above 0; None = arms have nothing in common, beta is 0.
        """
        self._d = d
        self._shared_precision = shared_precision
        self.inverses = np.eye(d)[None]  # C, (n_slots, d, d)
        self.moments = np.zeros((1, d))  # s, (n_slots, d)
        self.weights = np.zeros(1)  # (n_slots,)
        self._told = self._beta = np.zeros(d)
        self._common = np.zeros((d, d))
        self._solve_shared()

    def replace(self, grams: Sequence[Matrix], moments: Sequence[Vector], weights: Sequence[float]) -> None:
        """Go on from these sums, slot by slot from slot 1 on."""
        eye = np.eye(self._d)
        told = np.linalg.inv(np.array(grams).reshape(-1, self._d, self._d) + eye)
        self.inverses = np.concatenate([eye[None], 0.5 * (told + told.swapaxes(1, 2))])
        self.moments = np.concatenate([np.zeros((1, self._d)), np.array(moments).reshape(-1, self._d)])
        self.weights = np.concatenate([[0.0], weights])
        self._solve_shared()

    def add_slot(self) -> int:
        """Room for one more arm."""
        self.inverses = np.concatenate([self.inverses, np.eye(self._d)[None]])
        self.moments = np.concatenate([self.moments, np.zeros((1, self._d))])
        self.weights = np.append(self.weights, 0.0)
        return len(self.weights) - 1

    def learn(self, slot: int, x: Vector, weight: float, target: float) -> None:
        """One observation more; a negative weight takes one back.

        Args:
            slot: of the arm, not NEVER_SEEN.
            x: context, scaled, shape (d,).
            weight: evidence weight.
            target: what is to be expected, less what the prior expects.

        Raises:
            ValueError: as in `linear.updated`.
        """
        inverse, moment = self.inverses[slot], self.moments[slot]
        reach = inverse @ x  # (d,)
        before = inverse @ moment  # (d,)
        self.inverses[slot] = updated(inverse, x, weight)
        moment += weight * target * x
        self.weights[slot] = max(self.weights[slot] + weight, 0.0)
        if self._shared_precision is not None:
            self._told += self.inverses[slot] @ moment - before
            self._common = updated(self._common, reach, weight / (1.0 + weight * float(x @ reach)))
            self._beta = self._common @ self._told

    def expected(self, slots: Sequence[int], contexts: Matrix) -> Expected:
        """What is believed of the arms in these slots.

        Args:
            slots: shape (n,).
            contexts: scaled, one per arm, shape (n, d).
        """
        # the usual case, all arms in their order, is a view: copying the inverses would take as long as all the rest
        is_run = list(slots) == list(range(slots[0], slots[0] + len(slots)))
        taken = slice(slots[0], slots[0] + len(slots)) if is_run else list(slots)
        inverses, moments = self.inverses[taken], self.moments[taken]
        reach = (inverses @ contexts[:, :, None])[:, :, 0]  # C x, (n, d)
        means = (reach * (moments + self._beta)).sum(axis=1)  # (n,)
        variances = (reach * contexts).sum(axis=1)  # (n,)
        if self._shared_precision is not None:
            variances = variances + ((reach @ self._common) * reach).sum(axis=1)
        return Expected(means, np.maximum(variances, 0.0))

    def _solve_shared(self) -> None:
        self._beta = np.zeros(self._d)
        self._told = (self.inverses @ self.moments[:, :, None])[:, :, 0].sum(axis=0)  # sum(C s), (d,)
        if self._shared_precision is None:
            return
        eye = np.eye(self._d)
        self._common = np.linalg.inv(np.diag(self._shared_precision) + (eye - self.inverses).sum(axis=0))  # P^-1
        self._beta = self._common @ self._told
