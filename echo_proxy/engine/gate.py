"""When does the smaller model hand over? When the larger one would probably choose another token.

A logistic model over what the smaller model's distribution looks like, in place of one threshold on its likeliest
token; fitted by `gate_fit` from what an `AgreementLog` has noted. Source of the idea: R2R, Fu et al. 2025,
https://arxiv.org/abs/2505.21600, which routes tokens by a network over hidden states; those are out of reach here.
"""

import json
import logging
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from echo_proxy.engine.draft_model import Glance
from echo_proxy.engine.runner import Verdict

log = logging.getLogger("echo_proxy.local")

VERSION = 1
"""Of both files; another one is refused."""
FEATURES = ("log_odds", "margin", "entropy", "log_rest", "log_position", "is_end", "is_number")
"""In the order of `features`."""
_TINY = 1e-6
_BUFFERED = 256
"""Rows that are written to the log's file at once."""


class GateRejected(Exception):
    """A file that is no gate, or one for other models."""


def features(view: Glance, position: int, is_end: bool, is_number: bool) -> tuple[float, ...]:
    """What is known of a token before the larger model sees it.

    Args:
        view: the smaller model's.
        position: tokens before it in the draft.
        is_end: whether the answer ends with it.
        is_number: whether it has a digit.

    Returns:
        `FEATURES`: ln(p1 / (1 - p1)) of the likeliest token, ln(p1 / p2), the entropy in nats, the log of what the
        two likeliest leave, ln(1 + position), and two marks.
    """
    shifted = view.logits - view.logits[view.token]
    weights = np.exp(shifted)
    total = 1.0 / view.chance
    entropy = math.log(total) - float(weights @ np.maximum(shifted, -100.0)) / total
    weights[view.token] = 0.0
    second = float(weights.max()) / total
    rest = max(1.0 - view.chance - second, _TINY)
    odds = math.log(view.chance / max(1.0 - view.chance, _TINY))
    margin = math.log(view.chance / max(second, _TINY))
    return (odds, margin, entropy, math.log(rest), math.log1p(position), float(is_end), float(is_number))


@dataclass(frozen=True, slots=True)
class Gate:
    """P(the larger model would choose another token), and how much of it is too much."""

    little: str
    """Names the smaller model's file, such as a hash of it."""
    big: str
    """The same for the larger one."""
    features: tuple[str, ...]
    """What the weights belong to."""
    weights: tuple[float, ...]
    """Of each feature, in logits per unit of the feature."""
    bias: float
    """In logits."""
    threshold: float
    """Hand over when the probability is larger, [0, 1]."""

    def doubt(self, features: Sequence[float]) -> float:
        """The probability of disagreement, in [0, 1]."""
        logit = self.bias + sum(weight * value for weight, value in zip(self.weights, features, strict=True))
        return 1.0 / (1.0 + math.exp(-max(min(logit, 50.0), -50.0)))

    def hands_over(self, features: Sequence[float]) -> bool:
        """Whether the larger model should write this token."""
        return self.doubt(features) > self.threshold

    def save(self, path: Path) -> None:
        """Write it as JSON that people can read."""
        path.write_text(json.dumps({"version": VERSION, **asdict(self)}, indent=2) + "\n")

    @classmethod
    def load(cls, path: Path, little: str | None = None, big: str | None = None) -> "Gate":
        """A gate that was saved, if it is for these models; None = any.

        Raises GateRejected, with what was expected and what came.
        """
        try:
            raw = json.loads(path.read_text())
            gate = _parse(raw)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise GateRejected(f"{path}: expected a gate of version {VERSION}, got {error}") from error
        for name, expected, came in (("little", little, gate.little), ("big", big, gate.big)):
            if expected is not None and expected != came:
                raise GateRejected(f"{path}: {name}: expected a gate for model {expected}, got one for {came}")
        return gate


def _parse(raw: dict[str, Any]) -> Gate:
    if raw.pop("version") != VERSION:
        raise ValueError("another version")
    raw["features"] = tuple(raw["features"])
    raw["weights"] = tuple(float(one) for one in raw["weights"])
    gate = Gate(**raw)
    if gate.features != FEATURES or len(gate.weights) != len(FEATURES):
        raise ValueError(f"features {gate.features}, {len(gate.weights)} weights; expected those of {FEATURES}")
    if not all(map(math.isfinite, (*gate.weights, gate.bias))) or not 0 <= gate.threshold <= 1:
        raise ValueError("weights that are not finite, or a threshold outside [0, 1]")
    return gate


@dataclass(frozen=True, slots=True)
class Agreement:
    """What was known of a token, and whether the larger model's choice was the same."""

    features: tuple[float, ...]
    agreed: bool


@dataclass(frozen=True, slots=True)
class Agreements:
    """A log that was read back."""

    little: str
    big: str
    rows: tuple[Agreement, ...]
    """Oldest first."""


class AgreementLog:
    """Notes what gates are fitted from: numbers, no texts. Used by the engine's thread."""

    def __init__(self, little: str, big: str, most_rows: int = 100_000, path: Path | None = None) -> None:
        """
        Args:
            little: names the smaller model's file.
            big: the same for the larger one.
            most_rows: kept in memory, the newest; and the file ends with so many.
            path: a file of JSON lines to append to; None = none.

        Raises GateRejected when the file is there and holds something else.
        """
        self.rows: deque[Agreement] = deque(maxlen=most_rows)
        self._path = path
        self._buffer: list[str] = []
        self._n_left = most_rows
        if path is not None and path.exists():
            known = read_agreements(path)
            if (known.little, known.big) != (little, big):
                raise GateRejected(
                    f"{path}: expected a log for models {little}, {big}; got {known.little}, {known.big}"
                )
            self._n_left -= len(known.rows)
        else:
            header = {"version": VERSION, "little": little, "big": big, "features": FEATURES}
            self._buffer.append(json.dumps(header))

    def add(self, features: Sequence[float], agreed: bool) -> None:
        """Note a token."""
        self.rows.append(Agreement(tuple(features), agreed))
        if self._path is not None and self._n_left > 0:
            self._n_left -= 1
            self._buffer.append(json.dumps([*(round(one, 4) for one in features), int(agreed)]))
            if len(self._buffer) >= _BUFFERED or not self._n_left:
                self.flush()

    def hear(self, verdict: Verdict) -> None:
        """Note all tokens of a draft that the larger model looked at."""
        for known, agreed in zip(verdict.draft.features, verdict.agreed, strict=False):
            self.add(known, agreed)

    def flush(self) -> None:
        """Write to the file what is not there yet; a full disk ends the file, not the answers."""
        if self._path is None or not self._buffer:
            return
        try:
            with self._path.open("a") as file:
                file.write("\n".join(self._buffer) + "\n")
        except OSError:
            log.warning("no more agreement is noted in %s", self._path, exc_info=True)
            self._path = None
        self._buffer.clear()


def read_agreements(path: Path) -> Agreements:
    """What an AgreementLog has written. Raises GateRejected."""
    try:
        first, *rest = path.read_text().splitlines()
        header = json.loads(first)
        if header["version"] != VERSION or tuple(header["features"]) != FEATURES:
            raise ValueError("another version or other features")
        rows = tuple(_row(json.loads(line)) for line in rest)
        return Agreements(header["little"], header["big"], rows)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GateRejected(f"{path}: expected a log of agreement of version {VERSION}, got {error}") from error


def _row(numbers: list[float]) -> Agreement:
    *known, agreed = map(float, numbers)
    if len(known) != len(FEATURES) or not all(map(math.isfinite, known)):
        raise ValueError(f"a line of {len(numbers)} numbers, expected {len(FEATURES) + 1}")
    return Agreement(tuple(known), bool(agreed))
