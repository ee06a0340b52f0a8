"""Down to which regret replay pays."""

from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.upkeep.cutoff import CutOff, Findings, Outcome, price_of
from tests.builders import policy

REGRETS = st.floats(1e-6, 100.0)
OUTCOMES = st.lists(st.builds(Outcome, REGRETS, st.booleans()), max_size=60)


def test_an_unknown_store_is_looked_at() -> None:
    """Nothing speaks against it."""
    assert CutOff([], 0.05).share_improved(1.0) == 1.0


def test_the_neighbours_in_regret_decide() -> None:
    """What is far more regretted may pay where what is less does not."""
    known = [Outcome(10.0, True)] * 20 + [Outcome(0.1, False)] * 20
    made = CutOff(known, 0.05)

    assert made.pays(8.0)
    assert not made.pays(0.12)


def test_the_newer_of_equals_counts() -> None:
    """A store that was spoiled since is found out."""
    made = CutOff([Outcome(1.0, False)] * 20 + [Outcome(1.0, True)] * 20, 0.05)

    assert made.share_improved(1.0) == 1.0


def test_dear_calls_must_bring_more() -> None:
    """Expected gain, the share that is improved times the regret, against the price."""
    known = [Outcome(1.0, i % 2 == 0) for i in range(20)]

    assert CutOff(known, 0.05, price=0.4).pays(1.0)
    assert not CutOff(known, 0.05, price=0.6).pays(1.0)


def test_a_few_are_tried_below_the_cut_off() -> None:
    """When they turn out well it moves down."""
    made = CutOff([Outcome(1.0, False)] * 20, 0.05)
    tried = []
    while made.goes_on(0.9) and len(tried) < 10:
        made.learn(0.9, is_improved=True)
        tried.append(made.found)
    stubborn = CutOff([Outcome(1.0, False)] * 20, 0.05)
    goes_on = [stubborn.goes_on(0.9) for _ in range(5)]

    assert len(tried) == 10
    assert tried[-1] == 0.0
    assert goes_on == [True, True, True, False, False]
    assert stubborn.found == 0.9


def test_the_price_is_what_the_reward_says() -> None:
    """A full normalised cost weighs as much as its share of quality."""
    rules = policy(reward={"quality_weight": 0.8, "cost_weight": 0.2, "cost_scale_usd": 0.01})

    assert round(price_of(0.02, rules), 9) == 0.5


@given(OUTCOMES, st.floats(0, 10), st.none() | st.floats(0, 10))
def test_findings_survive_being_noted(outcomes: list[Outcome], cutoff: float, usd: float | None) -> None:
    """As far as they are remembered."""
    made = Findings(tuple(outcomes), cutoff, usd)
    again = Findings.from_text(made.to_text())

    assert [one.is_improved for one in again.outcomes] == [one.is_improved for one in outcomes]
    assert (again.cutoff, again.usd_each) == (cutoff, usd)


@given(st.text(max_size=30))
def test_a_strange_note_is_no_note(text: str) -> None:
    """Whatever wrote it."""
    assert isinstance(Findings.from_text(text), Findings)


@given(OUTCOMES, REGRETS)
def test_a_share_is_a_share(outcomes: list[Outcome], regret: float) -> None:
    """However little is known."""
    assert 0.0 <= CutOff(outcomes, 0.05).share_improved(regret) <= 1.0
