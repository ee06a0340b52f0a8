"""When does which request come, how long is it, and how good would each arm's answer be?

The traces carry no text: which prompt comes at which moment is drawn, so what depends on both is artificial.
"""

import csv
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from echo_proxy.errors import InputError
from echo_proxy.offline.simulate_outcomes import Outcomes
from echo_proxy.types import Vector

Matrix = NDArray[np.float64]
Indices = NDArray[np.int64]

ARTIFICIAL = "no trace carries text: which request comes when is drawn, so pairing them with arrivals is artificial"
"""Stands in every output."""
_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


@dataclass(frozen=True, slots=True)
class Arrivals:
    """When requests come and how long they are, in order of time."""

    at: Vector
    """Seconds since the first, ascending, shape (n,)."""
    prompt_tokens: Vector
    completion_tokens: Vector

    def __len__(self) -> int:
        return self.at.size

    def part(self, start: float, end: float) -> "Arrivals":
        """From one share of the requests to another, e.g. part(0, 0.5) for the first half."""
        rows = slice(round(start * len(self)), round(end * len(self)))
        at = self.at[rows]
        return Arrivals(at - (at[0] if at.size else 0.0), self.prompt_tokens[rows], self.completion_tokens[rows])

    def faster(self, factor: float) -> "Arrivals":
        """The same in a shorter time; their bursts keep their shape."""
        return replace(self, at=self.at / factor)

    def repeated(self, n: int) -> "Arrivals":
        """The first n, the whole again and again where there are fewer."""
        times = -(-n // len(self))
        gap = self.at[-1] / max(len(self) - 1, 1)
        shifts = np.repeat(np.arange(times) * (self.at[-1] + gap), len(self))
        at = (np.tile(self.at, times) + shifts)[:n]
        return Arrivals(at, np.tile(self.prompt_tokens, times)[:n], np.tile(self.completion_tokens, times)[:n])

    @property
    def rate(self) -> float:
        """Requests per second."""
        return len(self) / max(float(self.at[-1]), 1e-9)


@dataclass(frozen=True, slots=True)
class Traffic:
    """Arrivals with what each arm's answer would be worth."""

    arrivals: Arrivals
    kinds: tuple[str, ...]
    """Names of the classes of requests."""
    kind: Indices
    """Of each request, shape (n,)."""
    quality: Matrix
    """Of each arm's answer, shape (n, n_arms), [0, 1]."""
    usual: Matrix
    """Mean quality of each arm by class, shape (n_kinds, n_arms)."""

    def __len__(self) -> int:
        return len(self.arrivals)


def read_trace(path: Path) -> Arrivals:
    """Arrivals in a CSV of TIMESTAMP, ContextTokens, GeneratedTokens (Azure's LLM traces). Raises InputError."""
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            rows = [(row[_COLUMNS[0]], row[_COLUMNS[1]], row[_COLUMNS[2]]) for row in csv.DictReader(lines)]
        at = np.array([_microseconds(row[0]) for row in rows])
        tokens = np.array([(float(row[1]), float(row[2])) for row in rows])
    except OSError as error:
        raise InputError(f"{path}: expected a readable trace, got {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: expected a CSV with {', '.join(_COLUMNS)} in every row, got: {error}") from error
    if not rows:
        raise InputError(f"{path}: expected at least one arrival, got none")
    order = np.argsort(at, kind="stable")
    return Arrivals((at[order] - at.min()) / 1e6, tokens[order, 0], tokens[order, 1])


def poisson(
    rate: float, n: int, prompt_tokens: float, completion_tokens: float, generator: np.random.Generator
) -> Arrivals:
    """Arrivals by chance at a rate per second; answers' lengths are exponential around their mean, prompts constant."""
    gaps = generator.exponential(1 / rate, n)
    lengths = np.maximum(generator.exponential(completion_tokens, n), 1.0)
    return Arrivals(np.cumsum(gaps), np.full(n, prompt_tokens), lengths)


def draw_traffic(arrivals: Arrivals, outcomes: Outcomes, generator: np.random.Generator) -> Traffic:
    """Each arrival with a request drawn from the outcomes."""
    rows = generator.integers(len(outcomes.kind), size=len(arrivals))
    quality = outcomes.quality[rows]
    if outcomes.is_expected:
        quality = (generator.random(quality.shape) < quality).astype(np.float64)
    return Traffic(arrivals, outcomes.kinds, outcomes.kind[rows], quality, outcomes.usual)


def _microseconds(timestamp: str) -> float:
    """Since the epoch; the trace has seven digits after the point, numpy's microseconds six."""
    return float(np.datetime64(timestamp.strip().replace(" ", "T")[:26], "us").astype(np.int64))
