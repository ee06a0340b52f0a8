"""What a round works with, over fakes: scripted models, a store in memory, a clock that only waiting moves."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from echo_proxy.errors import AskError
from echo_proxy.online.receive import partition_of
from echo_proxy.online.sample import Ask, Reply
from echo_proxy.policy import Policy
from echo_proxy.types import Example, Load, UpkeepRun
from echo_proxy.upkeep.run import RoundOptions, Tools, run_round
from tests.builders import example, policy, vector
from tests.fakes import FrozenClock, HashingEmbedder, MemoryStore


class ScriptedModels:
    """The teacher answers what `answers` says to a question; the judge prefers what `prefers` says."""

    def __init__(
        self,
        answers: Callable[[str, int], str] = lambda question, n: "Paris.",
        prefers: Callable[[str, str], int] = lambda first, second: 0,
    ) -> None:
        self.answers = answers
        self.prefers = prefers
        self.asked: list[Ask] = []
        self.cost_usd = 0.0
        self.finish_reason = "stop"
        self.error: Exception | None = None
        self.before: Callable[[Ask], None] = lambda ask: None
        """Called with every question, before it is answered."""

    @property
    def taught(self) -> list[str]:
        """What the teacher was asked."""
        return [one.messages[-1].content for one in self.asked if one.deployment]

    async def ask(self, ask: Ask) -> Reply:
        self.asked.append(ask)
        self.before(ask)
        if self.error is not None:
            raise self.error
        if ask.model_group == "nowhere":
            raise AskError("nowhere: no such deployment")
        question = ask.messages[-1].content
        text = self.answers(question, self.taught.count(question)) if ask.deployment else self._verdict(ask)
        return Reply(text, self.finish_reason, "large-1", 10, 5, self.cost_usd, 1.0)

    def _verdict(self, ask: Ask) -> str:
        said = ask.messages[1].content
        token = re.search(r"request begins (\w+)", said)
        answers = re.findall(r"answer K\d+ begins \w+ ---\n(.*?)\n--- answer", said, re.DOTALL)
        assert token
        return json.dumps({"token": token[1], "verdict": self.prefers(*answers)})


class QuietProgress:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.begun: dict[str, int] = {}
        self.steps: dict[str, int] = {}
        self.told: list[str] = []

    def begin(self, work: str, total: int) -> None:
        self.begun[work] = total

    def step(self, work: str, n: int = 1) -> None:
        self.steps[work] = self.steps.get(work, 0) + n

    def tell(self, text: str) -> None:
        self.told.append(text)


@dataclass
class World:
    """Everything a round needs; waiting moves the clock."""

    rules: Policy = field(default_factory=lambda: policy_with())
    models: ScriptedModels | None = field(default_factory=ScriptedModels)
    loads: Mapping[str, Load] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clock = FrozenClock()
        self.store = MemoryStore(self.clock)
        self.progress = QuietProgress()
        self.waits: list[float] = []

    def hold(self, examples: Iterable[Example]) -> None:
        """The store holds these."""
        for one in examples:
            self.store.examples[one.id] = one

    async def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.clock.time += seconds

    async def read_loads(self) -> Mapping[str, Load]:
        return self.loads

    def tools(self) -> Tools:
        return Tools(
            policy=self.rules,
            store=self.store,
            embedder=HashingEmbedder(),
            clock=self.clock,
            models=self.models,
            loads=self.read_loads,
            progress=self.progress,
            wait=self.wait,
        )

    async def round(self, holder: str = "me", **options: Any) -> UpkeepRun:
        """One round, of replay alone unless something else is asked for."""
        given = {"work": frozenset(("replay",)), **options}
        return await run_round(self.tools(), RoundOptions(**given), holder)


def policy_with(judge: bool = False, upkeep: Mapping[str, Any] | None = None, **more: Any) -> Policy:
    """Two arms and a teacher."""
    sampled = {"judge": {"sampled": {"model_group": "judge"}}} if judge else {}
    return policy(upkeep=dict(upkeep or {}), **sampled, **more)


def doubtful(example_id: str = "e1", regret: float = 1.0, **changes: Any) -> Example:
    """An example whose answer has cost something."""
    given = {"request": f"What is the capital of {example_id}?", "response": "Lyon.", "vector": vector(1.0)}
    given["partition"] = partition_of(str(changes.get("system", "")), bool(changes.get("wants_json")))
    return example(example_id, **{**given, "regret": regret, "uses": 3.0, "gain": 1.0, **changes})
