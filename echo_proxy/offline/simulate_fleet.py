"""How long does each deployment take, and what does it cost? The `--arms` file of `echo-proxy simulate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from echo_proxy.errors import InputError
from echo_proxy.offline.simulate_arrivals import Arrivals
from echo_proxy.offline.simulate_outcomes import Outcomes, expected_outcomes, read_outcomes
from echo_proxy.policy_base import Share, Strict
from echo_proxy.types import Arm

Matrix = NDArray[np.float64]


class ServiceModel(Strict):
    """What was measured of a deployment: first come, first served, by so many slots."""

    slots: int = Field(ge=1, le=100_000)
    """Answers that it writes at once; more requests wait."""
    prefill_tokens_per_s: float = Field(gt=0)
    """Speed at which a slot reads the prompt."""
    decode_tokens_per_s: float = Field(gt=0)
    """Speed at which a slot writes, all slots busy."""
    overhead_s: float = Field(default=0.0, ge=0)
    """Network and everything else, per request; it does not occupy a slot."""
    usd_per_1m_prompt_tokens: float = Field(default=0.0, ge=0)
    """Price of what it reads."""
    usd_per_1m_completion_tokens: float = Field(default=0.0, ge=0)
    """Price of what it writes."""


class SimulatedArm(Strict):
    """A deployment with what the arm adds to prompts, and how good its answers are."""

    deployment: str
    """One of `deployments`."""
    extra_prompt_tokens: float = Field(default=0.0, ge=0)
    """Tokens of the examples that it prepends."""
    quality: dict[str, Share] = Field(default_factory=dict)
    """P(a good answer) by class of request; not needed with `outcomes`."""


class FleetFile(Strict):
    """The whole file."""

    deployments: dict[str, ServiceModel] = Field(min_length=1)
    """By the names that arms use."""
    arms: dict[str, SimulatedArm] = Field(min_length=1)
    """By the names of the policy's arms."""
    classes: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=lambda: {"all": 1.0})
    """Shares of the classes of requests; not needed with `outcomes`."""
    outcomes: str | None = None
    """CSV or JSONL, relative to this file: a row per request with `class` and the quality of every arm's answer."""

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        for name, arm in self.arms.items():
            if arm.deployment not in self.deployments:
                raise ValueError(f"arm {name}: deployment must be one of {sorted(self.deployments)}")
            if self.outcomes is None and set(arm.quality) != set(self.classes):
                raise ValueError(f"arm {name}: quality must be given for {sorted(self.classes)}")
        return self


@dataclass(frozen=True, slots=True)
class Fleet:
    """Arms on deployments, ready to be simulated."""

    arms: tuple[Arm, ...]
    extra_prompt_tokens: tuple[float, ...]
    """Per arm."""
    deployments: tuple[str, ...]
    """Each once."""
    models: tuple[ServiceModel, ...]
    """Per deployment."""

    @property
    def deployment_of(self) -> tuple[int, ...]:
        """Index of each arm's deployment."""
        return tuple(self.deployments.index(arm.deployment) for arm in self.arms)

    def capacity(self, arrivals: Arrivals) -> float:
        """Requests per second of this kind that all deployments together can answer."""
        busy_s = self.takes(arrivals).occupied_s.mean(axis=0)  # (n_arms,)
        quickest = [
            min(s for s, of in zip(busy_s, self.deployment_of, strict=True) if of == d)
            for d in range(len(self.deployments))
        ]
        return float(sum(model.slots / s for model, s in zip(self.models, quickest, strict=True)))

    def takes(self, arrivals: Arrivals) -> "Takes":
        """What every arm would take for every request."""
        columns = [self._takes(arrivals, i) for i in range(len(self.arms))]
        return Takes(*(np.stack(parts, axis=1) for parts in zip(*columns, strict=True)))

    def _takes(self, arrivals: Arrivals, i: int) -> tuple[Matrix, ...]:
        model = self.models[self.deployment_of[i]]
        prompt = arrivals.prompt_tokens + self.extra_prompt_tokens[i]
        prefill_s = prompt / model.prefill_tokens_per_s
        occupied_s = prefill_s + arrivals.completion_tokens / model.decode_tokens_per_s
        usd = prompt * model.usd_per_1m_prompt_tokens + arrivals.completion_tokens * model.usd_per_1m_completion_tokens
        return prefill_s, occupied_s, np.full(len(arrivals), model.overhead_s), usd / 1e6


@dataclass(frozen=True, slots=True)
class Takes:
    """What every arm would take for every request, each of shape (n, n_arms)."""

    prefill_s: Matrix
    """From a slot's beginning to the first token."""
    occupied_s: Matrix
    """Time for which a slot is occupied."""
    overhead_s: Matrix
    cost_usd: Matrix


def read_fleet(path: Path) -> tuple[Fleet, Outcomes]:
    """The arms in a YAML file and the pool of outcomes that it names. Raises InputError."""
    try:
        found = FleetFile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"{path}: expected a readable file of arms, got {error.strerror}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: expected YAML, got: {error}") from error
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, one['loc'])) or 'file'}: {one['msg']}" for one in error.errors()]
        raise InputError("\n".join(f"{path}: {line}" for line in lines)) from error
    return make_fleet(found), _outcomes(found, path)


def make_fleet(found: FleetFile) -> Fleet:
    """The records of a file."""
    arms = tuple(Arm(name, arm.deployment, int(arm.extra_prompt_tokens > 0)) for name, arm in found.arms.items())
    used = tuple(dict.fromkeys(arm.deployment for arm in arms))
    extras = tuple(arm.extra_prompt_tokens for arm in found.arms.values())
    return Fleet(arms, extras, used, tuple(found.deployments[name] for name in used))


def _outcomes(found: FleetFile, path: Path) -> Outcomes:
    if found.outcomes is not None:
        return read_outcomes(path.parent / found.outcomes, tuple(found.arms))
    quality = np.array([[arm.quality[kind] for arm in found.arms.values()] for kind in found.classes])
    return expected_outcomes(found.classes, quality)
