"""Which gate follows from the agreement that was noted, and what is it worth?

Logistic regression on the oldest 60 % of the tokens; on the next 20 % the threshold is chosen; the newest 20 %, which
neither has seen, say what it is worth. In order of time, because neighbours in one text resemble each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.preprocessing import StandardScaler

from echo_proxy.engine.gate import FEATURES, Agreements, Gate

_TRAINED = 0.6
_CHOSEN = 0.8
LEAST_ROWS = 200
"""With fewer tokens nothing can be said. guess, not yet measured"""

Numbers = NDArray[np.float64]


class TooLittleAgreement(ValueError):
    """Too few tokens, or the models always or never agree."""


@dataclass(frozen=True, slots=True)
class GateFit:
    """A gate and what it is worth, on tokens that it was not fitted to."""

    gate: Gate
    n_rows: int
    """Tokens in all."""
    auc: float
    """P(a token on which the models disagree gets more doubt than one on which they agree)."""
    chance_auc: float
    """The same for the plain chance of the likeliest token, which `fallback` looks at."""
    perplexity: float
    """exp(mean -ln P(what happened)); 1 = knew everything."""
    base_perplexity: float
    """The same for always saying how often the models disagree; the gap is what the gate knows."""
    share_kept: float
    """Of the tokens, that the smaller model writes."""
    disagreement: float
    """Of those, on which the larger model would have chosen another."""
    chance_share_kept: float
    """What a threshold on the plain chance keeps when it is chosen for the same disagreement."""


def fit_gate(agreements: Agreements, most_disagreement: float = 0.05) -> GateFit:
    """A gate that lets pass as many tokens as it can while at most that share of them is wrong.

    Args:
        agreements: oldest first.
        most_disagreement: share of the passing tokens on which the larger model would choose another, (0, 1).

    Raises TooLittleAgreement.
    """
    x = np.array([row.features for row in agreements.rows]).reshape(-1, len(FEATURES))  # (n, len(FEATURES))
    y = np.array([not row.agreed for row in agreements.rows], np.int64)  # (n,)
    train, choose, held = _parts(y)
    scaler = StandardScaler().fit(x[train])
    model = LogisticRegression(max_iter=1000).fit(scaler.transform(x[train]), y[train])
    weights = model.coef_[0] / scaler.scale_
    bias = float(model.intercept_[0] - weights @ scaler.mean_)
    doubts = 1 / (1 + np.exp(-np.clip(x @ weights + bias, -50, 50)))  # (n,)
    threshold = _threshold(doubts[choose], y[choose], most_disagreement)
    plain = -x[:, FEATURES.index("log_odds")]  # (n,)
    kept = doubts[held] <= threshold
    plainly_kept = plain[held] <= _threshold(plain[choose], y[choose], most_disagreement)
    base = np.full(held.stop - held.start, y[train].mean())
    gate = Gate(
        agreements.little, agreements.big, FEATURES, tuple(map(float, weights)), bias, min(max(threshold, 0.0), 1.0)
    )
    return GateFit(
        gate=gate,
        n_rows=len(y),
        auc=float(roc_auc_score(y[held], doubts[held])),
        chance_auc=float(roc_auc_score(y[held], plain[held])),
        perplexity=float(np.exp(log_loss(y[held], doubts[held]))),
        base_perplexity=float(np.exp(log_loss(y[held], base))),
        share_kept=float(kept.mean()),
        disagreement=float(y[held][kept].mean()) if kept.any() else 0.0,
        chance_share_kept=float(plainly_kept.mean()),
    )


def _parts(y: NDArray[np.int64]) -> Sequence[slice]:
    if len(y) < LEAST_ROWS:
        raise TooLittleAgreement(f"expected at least {LEAST_ROWS} tokens, got {len(y)}")
    first, second = int(_TRAINED * len(y)), int(_CHOSEN * len(y))
    parts = (slice(0, first), slice(first, second), slice(second, len(y)))
    if any(len(set(y[one])) < 2 for one in parts):
        raise TooLittleAgreement(
            "expected tokens of both kinds throughout, got a stretch where the models always or never agree"
        )
    return parts


def _threshold(doubts: Numbers, y: NDArray[np.int64], most_disagreement: float) -> float:
    """The largest doubt up to which at most that share disagrees; below all doubts when there is none."""
    order = np.argsort(doubts, kind="stable")
    shares = np.cumsum(y[order]) / np.arange(1, len(y) + 1)
    good = np.flatnonzero(shares <= most_disagreement)
    return float(doubts[order][good[-1]]) if good.size else float(doubts.min()) - 1e-9
