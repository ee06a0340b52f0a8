"""What does an admin see of the local models?"""

from echo_proxy.admin.views import View
from echo_proxy.types import LocalReport


class LocalView(View):
    """A local model, as the worker that answers sees it."""

    name: str
    process: str
    """Where it lives; a crash ends all models of a process."""
    deployments: list[str]
    """Names by which arms know it."""
    phase: str
    """unloaded (the next call loads it), starting, loading, ready or failed (tried again after a pause)."""
    queue: int
    """Requests that wait, from all workers."""
    running: int
    """Requests that it answers."""
    wait_s: float
    """How long a request that comes now will probably wait."""
    service_s: float
    """Moving average of the time from leaving the queue to the end of the answer."""
    prefix_hit_rate: float | None
    """Share of the prompts' tokens that had been read before; null before the first prompt."""
    draft_acceptance: float | None
    """Share of the tokens guessed ahead that became part of an answer; null before the first draft."""
    restarts: int
    """Starts of its process after that had ended by itself."""
    loads: int
    """How often its process has loaded it."""
    counts: dict[str, float]
    """Sums since its process started."""
    error: str | None
    """Why it failed, or how its process ended last time."""


def local_view(report: LocalReport) -> LocalView:
    """What an admin sees of a local model."""
    counts = report.counts
    return LocalView(
        name=report.name,
        process=report.process,
        deployments=list(report.deployments),
        phase=report.phase,
        queue=report.n_waiting,
        running=report.n_running,
        wait_s=report.wait_s,
        service_s=report.service_s,
        prefix_hit_rate=_share(counts.get("cached_tokens", 0.0), counts.get("prompt_tokens", 0.0)),
        draft_acceptance=_share(counts.get("accepted_tokens", 0.0), counts.get("drafted_tokens", 0.0)),
        restarts=report.n_restarts,
        loads=report.n_loads,
        counts=dict(sorted(counts.items())),
        error=report.error,
    )


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None
