import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from echo_proxy.engine.pace import Chance, Pace
from echo_proxy.engine.runner import Draft, Verdict
from echo_proxy.engine.step_cost import StepCost

MOST = 16
WHOLE = Draft(tuple(range(MOST)), "prompt")
Luck = Callable[[float], Chance]
"""How likely drafts are right after so many tokens."""


@dataclass(frozen=True)
class Machine:
    """What a step takes, in units of itself."""

    fixed_s: float
    row_s: float

    def step_s(self, n_rows: int) -> float:
        """Without noise."""
        return self.fixed_s + self.row_s * n_rows


COMPUTE_BOUND = Machine(1.0, 1.0)
CPU = Machine(1.0, 0.4)
MEMORY_BOUND = Machine(1.0, 0.005)


def pace_of(chance: Chance) -> Luck:
    """Luck that does not change."""
    return lambda _: chance


@dataclass
class Writer:
    """Sequences that are written with drafts of a policy's length, on a machine with 5 % noise and some hiccups."""

    machine: Machine
    luck: Luck
    n_sequences: int = 1
    seed: int = 0

    def tokens_per_s(self, policy: str, n_tokens: int = 1500) -> float:
        """With `never`, `always`, or `paced` drafts; answers are 100 tokens long."""
        chaos, pace = random.Random(self.seed), Pace(MOST)
        keys = list(range(self.n_sequences))
        left = [100] * self.n_sequences
        spent_s, written = 0.0, 0
        while written < n_tokens * self.n_sequences:
            drafts = [self._draft(policy, pace, key) for key in keys]
            n_rows = self.n_sequences + sum(len(one.tokens) for one in drafts)
            spent_s += self.machine.step_s(n_rows)
            hiccup = 5 if chaos.random() < 0.01 else 1
            pace.saw_step(n_rows, self.machine.step_s(n_rows) * (1 + abs(chaos.gauss(0, 0.05))) * hiccup)
            chance = self.luck(written / self.n_sequences)
            for i, draft in enumerate(drafts):
                n_right = accepted(chaos, chance, len(draft.tokens))
                if draft.tokens:
                    pace.hear([verdict(keys[i], draft, n_right)])
                written += 1 + n_right
                left[i] -= 1 + n_right
                if left[i] <= 0:
                    pace.forget(keys[i])
                    keys[i], left[i] = max(keys) + 1, 100
        return written / spent_s

    def _draft(self, policy: str, pace: Pace, key: int) -> Draft:
        if policy == "paced":
            return next(iter(pace.trim(key, [WHOLE], self.n_sequences)), Draft((), "prompt"))
        return WHOLE if policy == "always" else Draft((), "prompt")

    def gain(self, over: str) -> float:
        """Tokens per second in proportion to another policy's."""
        return self.tokens_per_s("paced") / self.tokens_per_s(over)


def accepted(chaos: random.Random, chance: Chance, n_tokens: int) -> int:
    """How many tokens of a draft are right."""
    n_right = 0
    while n_right < n_tokens and chaos.random() < (chance.next if n_right else chance.first):
        n_right += 1
    return n_right


def verdict(key: int, draft: Draft, n_right: int) -> Verdict:
    """Of exact acceptance."""
    return Verdict(key, draft, n_right, (True,) * n_right + (False,) * (n_right < len(draft.tokens)))


def settled(machine: Machine, chance: Chance, n_writing: int = 1) -> Pace:
    """After two hundred steps."""
    chaos, pace = random.Random(0), Pace(MOST)
    for _ in range(200):
        for n_rows in (n_writing, n_writing + 4, n_writing + 8):
            pace.saw_step(n_rows, machine.step_s(n_rows))
        pace.hear([verdict(0, WHOLE, accepted(chaos, chance, MOST))])
    return pace


@pytest.mark.parametrize("machine", [COMPUTE_BOUND, CPU, MEMORY_BOUND])
@pytest.mark.parametrize("n_sequences", [1, 8])
@pytest.mark.parametrize("chance", [Chance(0, 0), Chance(0.05, 0.05), Chance(0.3, 0.3), Chance(0.9, 0.9)])
def test_drafts_never_cost_much(machine: Machine, n_sequences: int, chance: Chance) -> None:
    """Whatever the machine and however bad the guesses, at most 3 % of the tokens per second are lost."""
    assert Writer(machine, pace_of(chance), n_sequences).gain("never") > 0.97


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("machine", [COMPUTE_BOUND, CPU, MEMORY_BOUND])
def test_rest_costs_next_to_nothing(machine: Machine, seed: int) -> None:
    """Where nothing matches for long, tries and first hopes together cost less than 1.5 %."""
    assert Writer(machine, pace_of(Chance(0, 0)), seed=seed).gain("never") > 0.985


@pytest.mark.parametrize(("machine", "least"), [(COMPUTE_BOUND, 1.2), (CPU, 1.75), (MEMORY_BOUND, 7.0)])
def test_good_drafts_pay(machine: Machine, least: float) -> None:
    """Nine of ten tokens right: as much faster as the machine allows."""
    assert Writer(machine, pace_of(Chance(0.9, 0.9))).gain("never") > least


@pytest.mark.parametrize("machine", [COMPUTE_BOUND, CPU])
def test_pace_beats_always_drafting(machine: Machine) -> None:
    """Where rows are dear, the right length beats the longest."""
    assert Writer(machine, pace_of(Chance(0.9, 0.9))).gain("always") > 1.15
    assert Writer(machine, pace_of(Chance(0.3, 0.3))).gain("always") > 3.5


def test_changes_are_noticed() -> None:
    """Half of the time everything matches, half of the time nothing: most of the difference is had."""

    def luck(n_written: float) -> Chance:
        return Chance(0.9, 0.9) if n_written % 500 > 250 else Chance(0, 0)

    assert Writer(CPU, luck).gain("never") > 1.12
    assert Writer(MEMORY_BOUND, luck).gain("never") > 1.6


def test_the_first_request_profits() -> None:
    """Nothing was seen but one step: drafts are tried at once, and longer ones as soon as they hold."""
    pace = Pace(MOST)
    pace.saw_step(1, 1.0)
    first = pace.length(0, "prompt", 1)
    for _ in range(5):
        pace.saw_step(1 + MOST, 1.1)
        pace.hear([verdict(0, WHOLE, MOST)])

    assert first >= 2
    assert pace.length(0, "prompt", 1) == MOST


def test_a_line_through_the_steps() -> None:
    """Fixed and per-row seconds are found, though one step in ten takes ten times as long."""
    cost, chaos = StepCost(), random.Random(1)
    for _ in range(300):
        n_rows = chaos.choice((1, 5, 9, 17))
        cost.saw(n_rows, (2.0 + 0.5 * n_rows) * (10 if chaos.random() < 0.1 else 1))

    assert cost.fixed_s == pytest.approx(2.0, rel=0.25)
    assert cost.row_s == pytest.approx(0.5, rel=0.25)


def test_prompts_say_nothing_about_drafts() -> None:
    """Steps that read prompts have other costs per row."""
    cost = StepCost()
    cost.saw(1, 1.0)
    before = (cost.fixed_s, cost.row_s)
    cost.saw(512, 100.0)
    cost.saw(4, 0.0)

    assert (cost.fixed_s, cost.row_s) == before


def test_costs_of_long_ago_are_forgotten() -> None:
    """A size that was seen once, when the machine was busy, does not bend the line for ever."""
    cost = StepCost()
    cost.saw(100, 5000.0)
    for _ in range(3000):
        for n_rows in (1, 3):
            cost.saw(n_rows, 2.0 + 0.5 * n_rows)

    assert cost.row_s == pytest.approx(0.5, rel=0.05)


def test_more_sequences_shorter_drafts() -> None:
    """The fixed part of a step is shared, so with many sequences a row is worth less."""
    pace = settled(CPU, Chance(0.97, 0.97))
    lengths = [pace.length(0, "prompt", n) for n in (1, 4, 16)]

    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > lengths[-1]


def test_no_step_is_longer_than_what_is_known() -> None:
    """However cheap rows seem, drafts of all sequences stay within the sizes that are measured."""
    pace = settled(MEMORY_BOUND, Chance(1, 1), 16)

    assert 16 * (1 + pace.length(0, "prompt", 16)) <= 128


def test_slow_guessing_counts() -> None:
    """A drafter that takes as long as the model itself is not asked for long drafts."""
    pace = settled(MEMORY_BOUND, Chance(0.7, 0.7))
    free = pace.length(0, "prompt", 1)
    pace.saw_drafting("prompt", 4, 4 * 0.4)

    assert pace.length(0, "prompt", 1) < free


def test_sources_and_sequences_are_told_apart() -> None:
    """One source's luck is not another's, and a sequence has its own."""
    pace = Pace(MOST)
    for _ in range(30):
        pace.hear([verdict(1, WHOLE, MOST)])
        pace.hear([verdict(2, WHOLE, 0)])
        pace.hear([verdict(1, Draft((1, 2), "hint"), 0)])

    assert pace.chance(1, "prompt").first > 0.8 > 0.3 > pace.chance(2, "prompt").first
    assert pace.chance(1, "hint").first < 0.2
    assert 0.3 < pace.chance(3, "prompt").first < 0.7


def test_who_has_left_is_forgotten() -> None:
    """A key that is used again starts with what is known of the source."""
    pace = Pace(MOST)
    for _ in range(9):
        pace.hear([verdict(1, WHOLE, 0)])
        pace.hear([verdict(2, WHOLE, MOST)])
    pace.forget(1)

    assert pace.chance(1, "prompt") == pace.chance(7, "prompt")


def test_rivals_must_pay_for_themselves() -> None:
    """A second draft is checked as long as it is right now and then where the first is wrong, and tried again later."""
    pace = settled(CPU, Chance(0.5, 0.5))
    other = Draft((0, 99, 98), "prompt")
    for _ in range(40):
        pace.hear([verdict(0, Draft((0, 1), "prompt"), 1), verdict(0, other, 1)])
    refused = pace.trim(0, [WHOLE, other], 1)
    for _ in range(40):
        pace.hear([verdict(0, Draft((0, 1), "prompt"), 1), verdict(0, other, 3)])
    taken = pace.trim(0, [WHOLE, other], 1)

    assert len(refused) == 1
    assert taken[1] == other


def test_a_rival_that_was_not_reached_is_not_judged() -> None:
    """Where the first draft was wrong before the other one left it, nothing is learned of the other."""
    pace = Pace(MOST)
    before = pace.chance(5, "prompt/rival")
    pace.hear([verdict(0, Draft((1, 2, 3), "prompt"), 1), verdict(0, Draft((1, 2, 4), "prompt"), 1)])

    assert pace.chance(5, "prompt/rival") == before


def test_nothing_to_trim() -> None:
    """Without drafts there is nothing to choose."""
    assert Pace(4).trim(0, [], 1) == ()


def test_it_rests_where_no_draft_would_be_made() -> None:
    """Asking costs nothing, and agrees with the length that would be given."""
    pace = settled(CPU, Chance(0.0, 0.0))
    while not pace.rests(0, "prompt", 1):
        pace.length(0, "prompt", 1)

    assert [pace.length(0, "prompt", 1) for _ in range(3)] == [0, 0, 0]
    assert not settled(CPU, Chance(0.97, 0.97)).rests(0, "prompt", 1)
