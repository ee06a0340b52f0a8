"""How good is each arm's answer to each request of a pool?"""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echo_proxy.errors import InputError

Matrix = NDArray[np.float64]
Indices = NDArray[np.int64]

_KIND = "class"


@dataclass(frozen=True, slots=True)
class Outcomes:
    """A pool of requests from which the simulation draws."""

    kinds: tuple[str, ...]
    """Names of the classes of requests."""
    kind: Indices
    """Of each request, shape (n,)."""
    quality: Matrix
    """Of each arm's answer, shape (n, n_arms), [0, 1]."""
    is_expected: bool = False
    """The qualities are P(the answer is good), not outcomes."""

    @property
    def usual(self) -> Matrix:
        """Mean quality by class, shape (n_kinds, n_arms)."""
        return np.stack([self.quality[self.kind == i].mean(axis=0) for i in range(len(self.kinds))])


def read_outcomes(path: Path, arms: Sequence[str]) -> Outcomes:
    """A CSV or JSONL with a row per request: the quality of every arm's answer under the arm's name, and perhaps its
    `class`. Raises InputError."""
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            rows = list(_rows(path, lines))
    except OSError as error:
        raise InputError(f"{path}: expected readable outcomes, got {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path}: expected a JSON object in every line, got: {error}") from error
    if not rows:
        raise InputError(f"{path}: expected at least one request, got none")
    kinds = [str(row.get(_KIND, "all")) for row in rows]
    quality = np.array([[_quality(path, i, row, arm) for arm in arms] for i, row in enumerate(rows)])
    return make_outcomes(kinds, quality)


def make_outcomes(kinds: Sequence[str], quality: Matrix) -> Outcomes:
    """Outcomes from a class per request and qualities of shape (n, n_arms)."""
    names, kind = np.unique(np.array(kinds), return_inverse=True)
    return Outcomes(tuple(map(str, names)), kind.astype(np.int64), quality)


def expected_outcomes(shares: Mapping[str, float], quality: Matrix) -> Outcomes:
    """A pool in which each class has its share, of mean qualities per class, shape (n_kinds, n_arms)."""
    total = sum(shares.values())
    counts = [max(round(1000 * share / total), 1) for share in shares.values()]
    kind = np.repeat(np.arange(len(counts)), counts)
    return Outcomes(tuple(shares), kind, quality[kind], is_expected=True)


def _rows(path: Path, lines: Iterable[str]) -> Iterable[Mapping[str, Any]]:
    if path.suffix == ".csv":
        return csv.DictReader(lines)
    return (json.loads(line) for line in lines if line.strip())


def _quality(path: Path, i: int, row: Mapping[str, Any], arm: str) -> float:
    try:
        quality = float(row[arm])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: row {i + 1}: expected the quality of {arm!r}, got {row.get(arm)!r}") from error
    if not 0 <= quality <= 1:
        raise InputError(f"{path}: row {i + 1}: the quality of {arm!r} must be in [0, 1], got {quality:g}")
    return quality
