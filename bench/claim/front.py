"""How is a question sent? One small seam, so that the same load goes through the bare pipeline or the real proxy."""

import os
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any, Protocol

import httpx
import yaml

from bench.claim.load import Reply
from echo_proxy.local.state import ModelState, read_state


class Front(Protocol):
    """Where requests are sent to."""

    async def ask(self, group: str, question: str) -> Reply:
        """The answer of a model group; a failure is a reply too."""
        ...

    async def tell(self, reply: Reply, quality: float) -> None:
        """Feedback on an answer that Echo decided."""
        ...


def body(question: str) -> dict[str, Any]:
    """What every way is asked, whatever stands before the question."""
    return {"messages": [{"role": "user", "content": question}], "temperature": 0.0, "max_tokens": 64}


def write_policy(folder: Path, policy: Mapping[str, Any]) -> None:
    """A policy file, replaced at once: whoever serves it may be looking."""
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f"{policy['name']}.new"
    fresh.write_text(yaml.safe_dump(dict(policy)), encoding="utf-8")
    fresh.replace(folder / f"{policy['name']}.yaml")


def model_states(state_dir: Path) -> list[ModelState]:
    """The processes of all local models, each once."""
    found = [read_state(path) for path in sorted((state_dir / "local").glob("*.json"))]
    return list({state.pid: state for state in found if state is not None and state.pid is not None}.values())


async def n_at_work(state_dir: Path) -> int:
    """Requests that the local models have yet to answer."""
    total = 0
    async with httpx.AsyncClient(trust_env=False, timeout=5.0) as http:
        for state in model_states(state_dir):
            reply = await http.get(f"{state.url}/health", headers={"Authorization": f"Bearer {state.token}"})
            status = reply.json()
            total += int(status["n_waiting"]) + int(status["n_running"])
    return total


def pin(pid: int, cores: Set[int]) -> None:
    """Let all threads of a process run on these cores only."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), cores)
