"""How does what workers tell each other become a text that a store keeps, and back?"""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields

from echo_proxy.stores.records import check_finite
from echo_proxy.types import Load, UpkeepRun

_NUMBERS = tuple(field.name for field in fields(Load))


def loads_text(loads: Mapping[str, Load], until: float) -> str:
    """Readable JSON. Raises ValueError on a number that is not finite."""
    plain = {deployment: asdict(load) for deployment, load in loads.items()}
    for deployment, numbers in plain.items():
        check_finite(f"load of {deployment}", numbers.values())
    check_finite("the end of a load", (until,))
    return json.dumps({"until": until, "loads": plain})


def loads_from(text: str, now: float) -> dict[str, Load] | None:
    """By deployment; None when it no longer holds, or cannot be read."""
    try:
        found = json.loads(text)
        if found["until"] <= now:
            return None
        return {deployment: _load(numbers) for deployment, numbers in found["loads"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):  # of another version of the program
        return None


def turn_text(deployment: str, until: float) -> str:
    """Readable JSON."""
    return json.dumps({"deployment": deployment, "until": until})


def turn_from(text: str | bytes, now: float) -> str:
    """Deployment; empty when the conversation is forgotten, or cannot be read."""
    try:
        found = json.loads(text)
        return str(found["deployment"]) if found["until"] > now else ""
    except (ValueError, KeyError, TypeError):  # of another version of the program
        return ""


def run_text(run: UpkeepRun) -> str:
    """Readable JSON."""
    return json.dumps({**asdict(run), "report": dict(run.report)})


def run_from(text: str | bytes) -> UpkeepRun | None:
    """None when it cannot be read; what a later version has more is left out."""
    try:
        found = json.loads(text)
        return UpkeepRun(**{field.name: found[field.name] for field in fields(UpkeepRun)})
    except (ValueError, KeyError, TypeError):  # of another version of the program
        return None


def _load(numbers: Mapping[str, float]) -> Load:
    """One number that was added since takes its default."""
    return Load(**{name: numbers[name] for name in _NUMBERS if name in numbers})
