"""What is compared, and what came of it? The demo's phases and the answers that they got."""

from dataclasses import dataclass
from typing import Literal

from echo_proxy.demo.traffic import Ask

Bandit = Literal["epsilon_greedy", "ucb1"]


@dataclass(frozen=True, slots=True)
class Phase:
    """One way to serve the stream."""

    name: str
    model_group: str
    """For Echo's phases also the name of the policy."""
    is_echo: bool = False
    """Echo chooses, and feedback is sent."""


LARGE_ONLY = Phase("large only", "large")
SMALL_ONLY = Phase("small only", "small")
_ECHO: dict[Bandit, Phase] = {
    "epsilon_greedy": Phase("Echo epsilon-greedy", "demo-epsilon", is_echo=True),
    "ucb1": Phase("Echo UCB1", "demo-ucb", is_echo=True),
}


def phases_for(bandits: tuple[Bandit, ...]) -> tuple[Phase, ...]:
    """The two baselines, which are plain LiteLLM, then Echo with each bandit."""
    return (LARGE_ONLY, SMALL_ONLY, *(_ECHO[bandit] for bandit in bandits))


@dataclass(frozen=True, slots=True)
class Answer:
    """What one phase said to one request, as its caller saw it."""

    phase: Phase
    index: int
    """Position in the stream, from 0."""
    ask: Ask
    text: str
    quality: float
    """By the world's own truth, [0, 1]; 0 when there is no answer."""
    latency_s: float
    """From sending the request to having the whole answer."""
    deployment: str = ""
    """Deployment id that served; empty when none did."""
    n_examples: int = 0
    """Examples that stood in the prompt."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    decision_id: str = ""
    """Empty when Echo did not decide."""
    error: str = ""
    """Class name of what went wrong; empty when nothing did."""
    is_feedback_lost: bool = False
    """The proxy did not take the feedback."""

    @property
    def is_small(self) -> bool:
        """Whether the small model answered."""
        return self.deployment.startswith("small")

    @property
    def arm(self) -> str:
        """Model and number of examples, e.g. `small+1`."""
        return f"{'small' if self.is_small else 'large'}+{self.n_examples}" if self.deployment else "none"
