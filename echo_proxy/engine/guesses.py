"""How does a step use guesses? Ask the drafter, lay its drafts into rows, check them, and tell what became of them."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from echo_proxy.engine.co_decode import may_relax
from echo_proxy.engine.lookup import HINT, PROMPT
from echo_proxy.engine.pace import Pace
from echo_proxy.engine.prefixes import Prefixes
from echo_proxy.engine.runner import Draft, DraftAsk, Drafter, Language, Runner
from echo_proxy.engine.sequence import Sequence as Served
from echo_proxy.engine.tree import DraftTree, lend_cells, plan_tree, settle_cells, take_back
from echo_proxy.engine.verify import Verified, verdicts, verify, verify_relaxed


@dataclass(frozen=True, slots=True)
class Drafting:
    """How tokens are guessed ahead."""

    drafter: Drafter
    most_tokens: int
    """Longest draft."""
    most_drafts: int = 1
    """Different drafts of a sequence that are checked at once."""
    source: str | None = None
    """What the drafter calls its drafts, where making one is dear: then it is asked only for as many as pay.
    None = drafts cost next to nothing, and what does not pay is cut off."""
    rollback: float | None = None
    """A drafted token stays unless its -log p is larger; None = only if it is what would have been drawn."""


class Guesses:
    """All that a batch has to do with drafts; without a drafter each tree is just the newest token."""

    def __init__(
        self,
        runner: Runner,
        language: Language,
        prefixes: Prefixes,
        drafting: Drafting | None,
        clock: Callable[[], float],
    ) -> None:
        self._runner = runner
        self._language = language
        self._prefixes = prefixes
        self._drafting = drafting
        self._clock = clock
        # Co-decoding has its own rule of how long a draft is.
        is_paced = drafting is not None and drafting.rollback is None
        self._pace = Pace(drafting.most_tokens) if drafting is not None and is_paced else None
        self._drafts: dict[int, tuple[Draft, ...]] = {}
        self._n_tree_rows = 0
        self._drafting_s = 0.0
        self.counts: Counter[str] = Counter(drafted_tokens=0, accepted_tokens=0)

    def trees(self, ready: Sequence[Served], n_rows: int, *, with_drafts: bool) -> Mapping[int, DraftTree]:
        """By key, the rows of each sequence whose next token is wanted now.

        Args:
            ready: all their tokens are read in this step.
            n_rows: of the step, without drafts.
        """
        began = self._clock()
        self._drafts = self._trimmed(ready, self._runner.n_batch - n_rows) if with_drafts else {}
        self._drafting_s = self._clock() - began
        trees = {one.key: self._tree(one) for one in ready}
        self._n_tree_rows = sum(tree.n_rows for tree in trees.values())
        return trees

    def _trimmed(self, ready: Sequence[Served], n_free: int) -> dict[int, tuple[Draft, ...]]:
        """The drafts that are worth their rows, and fit."""
        if self._drafting is None:
            return {}
        asks = [ask for one in ready if (ask := self._ask(one, len(ready))) is not None]
        found: dict[int, tuple[Draft, ...]] = {}
        for ask, drafts in zip(asks, self._drafting.drafter.draft(asks) if asks else (), strict=True):
            kept = tuple(drafts) if self._is_dear else self._worthwhile(ask, drafts, len(ready))
            n_rows = sum(len(draft.tokens) for draft in kept)
            if kept and n_rows <= n_free:
                found[ask.key] = kept
                n_free -= n_rows
        return found

    @property
    def _is_dear(self) -> bool:
        return self._drafting is not None and (self._drafting.source is not None or self._pace is None)

    def _worthwhile(self, ask: DraftAsk, drafts: Sequence[Draft], n_writing: int) -> tuple[Draft, ...]:
        return self._pace.trim(ask.key, drafts, n_writing) if self._pace is not None and drafts else ()

    def _ask(self, served: Served, n_writing: int) -> DraftAsk | None:
        drafting = self._drafting
        assert drafting is not None
        most = min(drafting.most_tokens, served.n_left - 1)
        if self._pace is not None and drafting.source is not None and most > 0:
            most = min(most, self._pace.length(served.key, drafting.source, n_writing))
        if most < 1 or self._all_rest(served, n_writing):
            return None
        # Other drafts need seats that share what is read already: not while the prompt's end is read in this step.
        most_drafts = drafting.most_drafts if served.n_unread == 1 else 1
        return DraftAsk(served.key, served.tokens, len(served.ask.prompt), most, most_drafts, served.ask.hints)

    def _all_rest(self, served: Served, n_writing: int) -> bool:
        """Whether no draft would pay now, from wherever it comes: then not even a cheap one is made."""
        if self._pace is None or self._is_dear:
            return False
        sources = (PROMPT, HINT) if served.ask.hints else (PROMPT,)
        return all(self._pace.rests(served.key, source, n_writing) for source in sources)

    def _tree(self, served: Served) -> DraftTree:
        assert served.seat is not None
        drafts = [draft.tokens for draft in self._drafts.get(served.key, ())]
        spares = self._prefixes.lend(len(drafts) - 1) if len(drafts) > 1 else ()
        tree = plan_tree(served.tokens[-1], len(served.tokens) - 1, served.seat, spares, drafts)
        self._prefixes.give_back([seat for seat in spares if seat not in tree.spares])
        lend_cells(self._runner, tree)
        return tree

    def drop(self, tree: DraftTree) -> None:
        """The decode did not happen."""
        take_back(self._runner, tree)
        self._prefixes.give_back(tree.spares)

    def verify(self, served: Served, tree: DraftTree, row: int) -> Verified:
        """The tokens that the model writes, from the tree's first row on."""
        assert served.sampler is not None
        rollback = self._drafting.rollback if self._drafting is not None else None
        if rollback is None or not may_relax(served.job.request):
            return verify(tree, row, served.sampler, self._language.is_end)
        return verify_relaxed(tree, row, served.sampler, self._runner.logits, rollback, self._language.is_end)

    def settle(self, served: Served, tree: DraftTree, verified: Verified) -> None:
        """Leave in the model's cells what was accepted, and learn from it."""
        settle_cells(self._runner, tree, verified)
        self._prefixes.give_back(tree.spares)
        drafts = self._drafts.get(served.key, ())
        if self._drafting is None or not drafts:
            return
        found = verdicts(served.key, drafts, verified)
        for verdict in found:
            self._drafting.drafter.hear(verdict)
        if self._pace is not None:
            self._pace.hear(found)
        served.tally.drafted += tree.n_drafted
        served.tally.accepted += verified.n_accepted
        self.counts["drafted_tokens"] += tree.n_drafted
        self.counts["accepted_tokens"] += verified.n_accepted

    def note_step(self, n_rows: int, seconds: float) -> None:
        """A step of so many rows took so long, guessing included."""
        if self._pace is None or self._drafting is None:
            return
        if n_rows == self._n_tree_rows:  # rows of prompts cost less, as nobody wants their logits
            self._pace.saw_step(n_rows, seconds - self._drafting_s)
        n_drafted = sum(len(draft.tokens) for drafts in self._drafts.values() for draft in drafts)
        if self._drafting.source is not None:
            self._pace.saw_drafting(self._drafting.source, n_drafted, self._drafting_s)

    def forget(self, key: int) -> None:
        """The sequence has ended, or is paused."""
        if self._drafting is not None:
            self._drafting.drafter.forget(key)
        if self._pace is not None:
            self._pace.forget(key)

    def close(self) -> None:
        """Free the drafter's memory."""
        if self._drafting is not None:
            self._drafting.drafter.close()
