"""What does a process tell Prometheus about its models?"""

import re
from collections.abc import Callable, Sequence

from echo_proxy.local.health import ModelHealth

_OTHER = re.compile(r"[^a-zA-Z0-9_]")

_FACTS: tuple[tuple[str, str, str, Callable[[ModelHealth], float]], ...] = (
    ("requests_total", "counter", "Requests that ended.", lambda one: one.status.n_served),
    ("queue_depth", "gauge", "Requests that wait.", lambda one: one.status.n_waiting),
    ("running", "gauge", "Requests that are answered now.", lambda one: one.status.n_running),
    ("wait_seconds", "gauge", "Probable wait of a new request.", lambda one: one.status.wait_s),
    ("service_seconds", "gauge", "Moving average from queue to end.", lambda one: one.status.service_s),
    ("busy_seconds", "gauge", "How long the engine's present step has taken.", lambda one: one.status.busy_s),
    ("is_loaded", "gauge", "1 when the model is in memory.", lambda one: one.phase == "ready"),
    ("loads_total", "counter", "How often the model was loaded.", lambda one: one.n_loads),
    ("load_seconds", "gauge", "How long it took last time.", lambda one: one.load_s),
)
"""Name, kind, help and value of what every model tells, whatever its engine counts."""


def exposition(healths: Sequence[ModelHealth]) -> bytes:
    """Prometheus's text format. The only label is the model, of which there are as many as are configured."""
    lines: list[str] = []
    for name, kind, meaning, value in _FACTS:
        lines += _family(name, kind, meaning, [(one.model, float(value(one))) for one in healths])
    for counted in sorted({name for one in healths for name in one.status.counts}):
        told = [(one.model, one.status.counts[counted]) for one in healths if counted in one.status.counts]
        words = _OTHER.sub("_", counted)
        lines += _family(f"{words}_total", "counter", f"Sum of {words.replace('_', ' ')}.", told)
    return "".join(f"{line}\n" for line in lines).encode()


def _family(name: str, kind: str, meaning: str, told: Sequence[tuple[str, float]]) -> list[str]:
    name = f"echo_local_{name}"
    # Names of models have only letters, digits, '.', '_' and '-', so nothing needs to be escaped.
    values = [f'{name}{{model="{model}"}} {value:.10g}' for model, value in told]
    return [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}", *values]
