"""Machines that exist on paper: a speed for all options, noise, failures and a clock of their own."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from echo_proxy.local.gguf import GgufHeader
from echo_proxy.local.options import LocalModelOptions
from echo_proxy.tune.files import ModelFile
from echo_proxy.tune.memory import Bounds, MemoryEstimate
from echo_proxy.tune.race import Deadline, Races, Rules
from echo_proxy.tune.records import CandidateFailed, Goal, Load, Round
from echo_proxy.tune.search import SearchParts

GIB = 2**30
LOAD = Load(n_requests=2, n_clients=1, n_prompt_tokens=100, n_answer_tokens=50)
FILE = ModelFile(
    Path("/m/model-q8_0.gguf"),
    GgufHeader("llama", 1024, n_layers=4, embedding_length=128, n_heads=4, n_kv_heads=4, n_bytes=GIB),
    n_bytes=GIB,
    name="model",
)
START = LocalModelOptions(path=str(FILE.path), n_threads=1, n_threads_batch=1)
Speed = Callable[[LocalModelOptions], float]


class PaperMachine:
    """A Measurer. Loading takes a second of its clock, a round as long as the speed says."""

    def __init__(self, speed: Speed, noise: float = 0.0, shared_noise: float = 0.0, seed: int = 0) -> None:
        """
        Args:
            speed: answers per second; may raise CandidateFailed.
            noise: standard deviation of the logarithm, of each round by itself.
            shared_noise: the same for both candidates of a round.
            seed: of both.
        """
        self._speed = speed
        self._noise = noise
        self._shared_noise = shared_noise
        self._random = np.random.default_rng(seed)
        self._seed = seed
        self._loaded: set[LocalModelOptions] = set()
        self.now_s = 0.0
        self.n_rounds = 0
        self.numbers: dict[LocalModelOptions, list[int]] = {}
        self.interrupted_after: int | None = None
        self.alter: Callable[[LocalModelOptions, Round], Round] = lambda options, figures: figures

    def now(self) -> float:
        """Its clock."""
        return self.now_s

    def measure(self, options: LocalModelOptions, load: Load, number: int, limit_s: float) -> Round:
        """See Measurer."""
        if self.n_rounds == self.interrupted_after:
            raise KeyboardInterrupt
        self.n_rounds += 1
        self.numbers.setdefault(options, []).append(number)
        if options not in self._loaded:
            self._loaded.add(options)
            self.now_s += 1.0
        shared = np.random.default_rng((self._seed, number)).normal(0, self._shared_noise)
        speed = self._speed(options) * float(np.exp(shared + self._random.normal(0, self._noise)))
        if load.n_requests / speed > limit_s:
            self.now_s += limit_s
            raise CandidateFailed("too slow")
        self.now_s += load.n_requests / speed
        figures = Round(
            tokens_per_s=speed * load.n_answer_tokens,
            latency_s=1 / speed,
            first_s=0.1 / speed,
            prefill_s=0.1 / speed,
            seconds=load.n_requests / speed,
            n_bytes=GIB + 2**26,
        )
        return self.alter(options, figures)

    def answers(self, options: LocalModelOptions, limit_s: float) -> Sequence[str]:
        """See Measurer: a q4_0 cache changes the second half."""
        return ["abcd", "abxx" if options.type_k == "q4_0" else "abcd"]

    def release(self, options: LocalModelOptions) -> None:
        """See Measurer."""
        self._loaded.discard(options)


def parts_for(
    machine: PaperMachine,
    budget_s: float = 1000.0,
    *,
    goal: Goal = "latency",
    n_bytes: int = 8 * GIB,
    allows_lossy: bool = False,
    files: Sequence[ModelFile] = (FILE,),
) -> SearchParts:
    """A search on that machine."""
    deadline = Deadline(budget_s, machine.now)
    return SearchParts(
        measurer=machine,
        races=Races(machine, goal, LOAD, deadline, Rules()),
        estimate=MemoryEstimate(files, 1024),
        bounds=Bounds(n_bytes, n_bytes),
        deadline=deadline,
        goal=goal,
        allows_lossy=allows_lossy,
        tell=lambda name: None,
    )
