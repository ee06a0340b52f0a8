"""How long may drafts be now? As long as they bring more tokens per second than they cost.

A step of n sequences, each with a draft of k tokens, takes about fixed_s + row_s * n * (1 + k) seconds and writes
n * (1 + first + first * next + ... + first * next^(k-1)) tokens, where `first` is the chance of a draft's first token,
and `next` that of each later one once all before it were accepted: a wrong place to copy from is wrong at once, a
right one is right for long. Both are measured all the time, and the k with the best ratio is taken. k = 0 is rest: then
one short draft is tried now and then, paid from a small share of the time that has passed, so that it costs next to
nothing where nothing matches and notices when that changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from echo_proxy.engine.runner import Draft, Verdict
from echo_proxy.engine.step_cost import MOST_ROWS, ROW_SHARE, StepCost, Usual

_EXPLORED = 0.008
"""Share of the time that may go into drafts that are not expected to pay."""
_N_EXPLORED = 2
"""Tokens of such a draft."""
_N_CREDIT = 4
"""Such drafts that can be saved up for."""
_SOURCE_FADING = 0.98
"""What a draft's record weighs after the next one of the same source. guess, held against the tests' simulation"""
_SEQUENCE_FADING = 0.8
"""The same for one sequence, where matters change from line to line. guess, held against the tests' simulation"""
_IDLE_FADING = 0.995
"""What a rival's record weighs after a step in which it was left out, so that it gets another chance."""
_N_IMAGINED = 2.0
"""Trials that an opinion from elsewhere is worth: of everybody about a source, of a source about a sequence."""


@dataclass(frozen=True, slots=True)
class Chance:
    """How likely the tokens of a draft are right."""

    first: float
    """Its first token, in [0, 1]."""
    next: float
    """Each later one, once all before it were."""

    def reaching(self, n: int) -> float:
        """That the first n are right."""
        return self.first * self.next ** (n - 1) if n else 1.0


_MARGIN = 1.1
"""What a drafted token must bring, over what its row takes: making and checking it takes time too. guess"""
_RIVAL = "/rival"
"""Behind a source's name: drafts beside the first one."""
_OPTIMISM = Chance(0.6, 0.85)
"""Of a first draft, before anything was seen. guess, not yet measured"""
_RIVAL_OPTIMISM = Chance(0.25, 0.85)
"""Of another draft, where it leaves those before it. guess, not yet measured"""


class _Record:
    """What became of some drafts; older ones count less."""

    __slots__ = ("_first", "_n_first", "_n_next", "_next")

    def __init__(self) -> None:
        self._first = self._n_first = self._next = self._n_next = 0.0

    def imagine(self, chance: Chance, n: float = _N_IMAGINED) -> "_Record":
        """Count trials that never were; they fade like others."""
        self._first += n * chance.first
        self._n_first += n
        self._next += n * chance.next
        self._n_next += n
        return self

    def add(self, n_right: int, n_looked_at: int, fading: float) -> None:
        """Count a draft of which so many tokens were looked at, at least 1, and so many were right."""
        self.fade(fading)
        self._n_first += 1
        self._first += n_right > 0
        self._next += max(n_right - 1, 0)
        self._n_next += n_looked_at - 1

    def fade(self, fading: float) -> None:
        """Let all that was count less."""
        self._first *= fading
        self._n_first *= fading
        self._next *= fading
        self._n_next *= fading

    def chance(self, opinion: Chance, n: float) -> Chance:
        """As the record has it, and as the opinion has it, which is worth `n` trials."""
        return Chance(
            (self._first + n * opinion.first) / (self._n_first + n),
            (self._next + n * opinion.next) / (self._n_next + n),
        )


class Pace:
    """Measures what drafts cost and bring, and says how long they may be. Knows no clock."""

    def __init__(self, most_tokens: int) -> None:
        """`most_tokens` is the longest draft, at least 1."""
        self.cost = StepCost()
        self._most_tokens = most_tokens
        self._sources: dict[str, _Record] = {}
        self._sequences: dict[int, dict[str, _Record]] = {}
        self._drafting: dict[str, Usual] = {}
        self._credit_s = 0.0
        self._n_writing = 1

    # ------------------------------------------------------------------ what it sees

    def saw_step(self, n_rows: int, seconds: float) -> None:
        """A step of so many rows took so long."""
        self.cost.saw(n_rows, seconds)
        self._earn(_EXPLORED * seconds)

    def saw_drafting(self, source: str, n_tokens: int, seconds: float) -> None:
        """Guessing so many tokens took so long, beside the steps."""
        if n_tokens > 0:
            self._drafting.setdefault(source, Usual(seconds / n_tokens)).add(seconds / n_tokens)

    def hear(self, verdicts: Sequence[Verdict]) -> None:
        """What became of the drafts of one sequence in one step, in the order they were given."""
        for rank, verdict in enumerate(verdicts):
            parting = _parting(verdict.draft, [one.draft for one in verdicts[:rank]])
            n_looked_at = max(len(verdict.agreed), verdict.n_accepted) - parting
            if n_looked_at > 0:
                n_right = max(verdict.n_accepted - parting, 0)
                source = _name(verdict.draft, rank)
                self._of_source(source).add(n_right, n_looked_at, _SOURCE_FADING)
                own = self._sequences.setdefault(verdict.key, {})
                own.setdefault(source, _Record()).add(n_right, n_looked_at, _SEQUENCE_FADING)
                # What a try brings pays for the next one, so that a change for the better is seen at once.
                self._earn(n_right * self._token_s(self._n_writing))

    def forget(self, key: int) -> None:
        """The sequence has ended."""
        self._sequences.pop(key, None)

    # ------------------------------------------------------------------ what it says

    def chance(self, key: int, source: str) -> Chance:
        """Of the next draft from there."""
        opinion = self._of_source(source).chance(_OPTIMISM, 1e-9)
        own = self._sequences.get(key, {}).get(source)
        return own.chance(opinion, _N_IMAGINED) if own else opinion

    def _of_source(self, source: str) -> _Record:
        record = self._sources.get(source)
        if record is None:
            record = self._sources[source] = _Record().imagine(_prior(source))
        return record

    def length(self, key: int, source: str, n_writing: int) -> int:
        """Tokens that a draft may have now; 0 = none.

        Args:
            key: the sequence.
            source: where the draft comes from.
            n_writing: sequences that write in this step, this one included.
        """
        self._n_writing = n_writing
        n_tokens = self._best(self.chance(key, source), self._row_s(source), n_writing)
        if n_tokens:
            return n_tokens
        n_tried = min(_N_EXPLORED, self._most_tokens) if n_writing < MOST_ROWS // 2 else 0
        price_s = n_tried * self._row_s(source)
        if price_s > self._credit_s:
            return 0
        self._credit_s -= price_s
        return n_tried

    def rests(self, key: int, source: str, n_writing: int) -> bool:
        """Whether `length` would give 0, so that no draft need be made."""
        row_s = self._row_s(source)
        can_try = min(_N_EXPLORED, self._most_tokens) * row_s <= self._credit_s
        return not can_try and self._best(self.chance(key, source), row_s, n_writing) == 0

    def trim(self, key: int, drafts: Sequence[Draft], n_writing: int) -> tuple[Draft, ...]:
        """The drafts of one sequence, the likeliest first, as far as they pay; `length` is asked for the first one."""
        n_tokens = self.length(key, drafts[0].source, n_writing) if drafts else 0
        if not n_tokens:
            return ()
        kept = [_cut(drafts[0], n_tokens)]
        chance = self.chance(key, drafts[0].source)
        rate = self._tokens_per_s(chance, kept[0])
        for rank, draft in enumerate(drafts[1:], start=1):
            parting = _parting(draft, kept)
            n_more = self._n_worth(key, _name(draft, rank), rate, chance.reaching(parting))
            n_more = min(n_more, len(draft.tokens) - parting)
            if n_more > 0:
                kept.append(_cut(draft, parting + n_more))
        return tuple(kept)

    # ------------------------------------------------------------------

    def _best(self, chance: Chance, row_s: float, n_writing: int) -> int:
        """The k with the most tokens per second. Each further one brings less, so the first that lowers it ends it."""
        written, spent_s, right = 1.0, self._token_s(n_writing), chance.first
        n_tokens, most_tokens = 0, min(self._most_tokens, MOST_ROWS // n_writing - 1)
        while n_tokens < most_tokens and right * spent_s > written * row_s * _MARGIN:
            written += right
            spent_s += row_s
            right *= chance.next
            n_tokens += 1
        return n_tokens

    def _n_worth(self, key: int, source: str, rate: float, reached: float) -> int:
        """Tokens of a rival beyond its parting that bring more than the `rate` of the draft before it."""
        chance = self.chance(key, source)
        price = rate * self._row_s(source)
        n_tokens, right = 0, reached * chance.first
        while n_tokens < self._most_tokens and right > price:
            right *= chance.next
            n_tokens += 1
        if not n_tokens:
            record = self._of_source(source)
            record.fade(_IDLE_FADING)
            record.imagine(_prior(source), (1 - _IDLE_FADING) * _N_IMAGINED)
        return n_tokens

    def _tokens_per_s(self, chance: Chance, draft: Draft) -> float:
        n_tokens = len(draft.tokens)
        written = 1 + sum(chance.reaching(n) for n in range(1, n_tokens + 1))
        return written / max(self._token_s(self._n_writing) + n_tokens * self._row_s(draft.source), 1e-9)

    def _token_s(self, n_writing: int) -> float:
        """What a token costs without drafts."""
        return self.cost.fixed_s / n_writing + self.cost.row_s

    def _row_s(self, source: str) -> float:
        """What a token of a draft costs."""
        drafting = self._drafting.get(source)
        return self.cost.row_s + (drafting.seconds if drafting else 0.0)

    def _earn(self, seconds: float) -> None:
        """Put by for tries, but not for ever."""
        most = _N_CREDIT * _N_EXPLORED * max(self.cost.row_s, ROW_SHARE * self._token_s(1))
        self._credit_s = min(self._credit_s + seconds, most)


def _prior(source: str) -> Chance:
    return _RIVAL_OPTIMISM if source.endswith(_RIVAL) else _OPTIMISM


def _name(draft: Draft, rank: int) -> str:
    return draft.source + _RIVAL if rank else draft.source


def _parting(draft: Draft, others: Sequence[Draft]) -> int:
    """Tokens after which it leaves the last of the others that it begins like."""
    return max((_n_common(draft.tokens, one.tokens) for one in others), default=0)


def _n_common(one: Sequence[int], other: Sequence[int]) -> int:
    n_common = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        n_common += 1
    return n_common


def _cut(draft: Draft, n_tokens: int) -> Draft:
    return replace(draft, tokens=draft.tokens[:n_tokens]) if n_tokens < len(draft.tokens) else draft
