"""The smallest engine that drafts: one sequence, every guess laid into a tree and checked."""

from collections.abc import Callable
from dataclasses import dataclass, field

from echo_proxy.engine.runner import Draft, DraftAsk, Drafter, Run, Runner, Sampler
from echo_proxy.engine.tree import lend_cells, plan_tree, settle_cells
from echo_proxy.engine.verify import verdicts, verify, verify_relaxed


@dataclass(slots=True)
class ArgmaxSampler:
    """Always the likeliest."""

    runner: Runner
    seen: list[int] = field(default_factory=list)
    is_greedy: bool = True

    def draw(self, row: int) -> int:
        """See Sampler."""
        self.seen.append(int(self.runner.logits(row).argmax()))
        return self.seen[-1]

    def accept(self, token: int) -> None:
        """See Sampler."""
        self.seen.append(token)

    def close(self) -> None:
        """See Sampler."""


@dataclass(slots=True)
class Loop:
    """Writes an answer with drafts."""

    runner: Runner
    sampler: Sampler
    drafter: Drafter
    rollback: float | None = None
    is_end: Callable[[int], bool] = lambda token: False
    most_drafts: int = 1
    n_steps: int = 0
    n_accepted: int = 0

    def write(
        self,
        prompt: tuple[int, ...],
        n_tokens: int,
        *,
        key: int = 0,
        hints: tuple[tuple[int, ...], ...] = (),
        most_tokens: int = 8,
    ) -> list[int]:
        """The answer, of exactly so many tokens if no end comes before."""
        tokens = list(prompt)
        self.runner.cut(0, 0)
        if len(prompt) > 1:
            for start in range(0, len(prompt) - 1, self.runner.n_batch):
                stop = min(start + self.runner.n_batch, len(prompt) - 1)
                self.runner.decode([Run(prompt[start:stop], start, (0,), 0)])
        is_ended = False
        while len(tokens) < len(prompt) + n_tokens and not is_ended:
            most = min(most_tokens, len(prompt) + n_tokens - len(tokens))
            (drafts,) = self.drafter.draft([DraftAsk(key, tokens, len(prompt), most, self.most_drafts, hints)])
            tokens += self._step(tokens, list(drafts), key)
            is_ended = self.is_end(tokens[-1])
        self.drafter.forget(key)
        return tokens[len(prompt) : len(prompt) + n_tokens]

    def _step(self, tokens: list[int], drafts: list[Draft], key: int) -> tuple[int, ...]:
        tree = plan_tree(tokens[-1], len(tokens) - 1, 0, range(1, self.most_drafts), [one.tokens for one in drafts])
        lend_cells(self.runner, tree)
        self.runner.decode(tree.runs)
        if self.rollback is None:
            verified = verify(tree, 0, self.sampler, self.is_end)
        else:
            verified = verify_relaxed(tree, 0, self.sampler, self.runner.logits, self.rollback, self.is_end)
        settle_cells(self.runner, tree, verified)
        for verdict in verdicts(key, drafts, verified):
            self.drafter.hear(verdict)
        self.n_steps += 1
        self.n_accepted += verified.n_accepted
        return verified.tokens
