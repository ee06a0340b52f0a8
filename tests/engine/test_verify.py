from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echo_proxy.engine.chat import Sampling
from echo_proxy.engine.runner import Draft, DraftAsk, Logits, Run, Verdict
from echo_proxy.engine.tree import plan_tree
from echo_proxy.engine.verify import Verified, surprise, verdicts, verify, verify_relaxed
from tests.engine.draft_loop import ArgmaxSampler, Loop
from tests.engine.engines import ask
from tests.engine.language_fake import FakeSampler
from tests.engine.runner_fake import FakeRunner, following

PROMPT = (3, 1, 4, 1, 5)


class GuessingDrafter:
    """Guesses at random; of each token it knows the right one as often as told."""

    def __init__(self, runner: FakeRunner, knowledge: float, seed: int) -> None:
        self._runner = runner
        self._knowledge = knowledge
        self._random = np.random.default_rng(seed)
        self.heard: list[Verdict] = []

    def draft(self, asks: Sequence[DraftAsk]) -> list[list[Draft]]:
        """Up to three drafts for each."""
        return [[self._one(ask) for _ in range(ask.most_drafts)] for ask in asks]

    def _one(self, ask: DraftAsk) -> Draft:
        text = list(ask.tokens)
        for _ in range(ask.most_tokens):
            knows = self._random.random() < self._knowledge
            text.append(self._runner.expected(text) if knows else int(self._random.integers(self._runner.n_vocab)))
        return Draft(tuple(text[len(ask.tokens) :]), "guess")

    def hear(self, verdict: Verdict) -> None:
        """Kept for the test."""
        self.heard.append(verdict)

    def forget(self, key: int) -> None:
        """Nothing is known."""

    def close(self) -> None:
        """Nothing is held."""


class NoDrafter(GuessingDrafter):
    """Never guesses."""

    def draft(self, asks: Sequence[DraftAsk]) -> list[list[Draft]]:
        """None for each."""
        return [[] for _ in asks]


def sampler(runner: FakeRunner, temperature: float, seed: int) -> FakeSampler:
    """Seeded."""
    return FakeSampler(runner, ask("x", sampling=Sampling(temperature=temperature, seed=seed)))


@settings(max_examples=40)
@given(
    knowledge=st.floats(0, 1),
    seed=st.integers(0, 9),
    temperature=st.sampled_from((0.0, 1.0)),
    n_drafts=st.integers(1, 3),
)
def test_drafts_change_no_text(knowledge: float, seed: int, temperature: float, n_drafts: int) -> None:
    """Greedy or sampled, whatever is guessed: the same tokens, the same random state, one draw each."""
    plain, drafted = FakeRunner(), FakeRunner()
    one, other = sampler(plain, temperature, seed), sampler(drafted, temperature, seed)
    guesses = GuessingDrafter(drafted, knowledge, seed)
    expected = Loop(plain, one, NoDrafter(plain, 0, 0)).write(PROMPT, 30)
    actual = Loop(drafted, other, guesses, most_drafts=n_drafts).write(PROMPT, 30, most_tokens=5)

    assert actual == expected
    assert other.seen[:30] == one.seen


def test_what_is_known_saves_steps() -> None:
    """A drafter that knows everything writes k + 1 tokens a step."""
    runner = FakeRunner()
    loop = Loop(runner, ArgmaxSampler(runner), GuessingDrafter(runner, 1.0, 0))
    loop.write(PROMPT, 30, most_tokens=4)

    assert loop.n_steps == 6


def test_an_end_in_a_draft_ends() -> None:
    """Behind an accepted end nothing is drawn."""
    runner = FakeRunner(rule=following(32, lambda tokens: tokens[-1] + 1))
    tree = plan_tree(3, 0, 0, (), [(4, 5, 6)])
    runner.decode(tree.runs)
    verified = verify(tree, 0, ArgmaxSampler(runner), lambda token: token == 5)

    assert (verified.tokens, verified.rows, verified.n_accepted, verified.row) == ((4, 5), (0, 1), 2, 2)


def test_rows_begin_where_the_tree_begins() -> None:
    """Other sequences' rows may come first."""
    runner = FakeRunner(rule=following(32, lambda tokens: tokens[-1] + 1))
    tree = plan_tree(3, 0, 0, (), [(4, 9)])
    runner.decode([Run((7, 7), 0, (1,), 2), *tree.runs])
    verified = verify(tree, 2, ArgmaxSampler(runner), lambda token: False)

    assert (verified.tokens, verified.rows, verified.agreed) == ((4, 5), (2, 3), (True, False))


def half_sure(tokens: object) -> Logits:
    """Token 1 has p = 0.6, token 2 has p = 0.4, whatever came before."""
    logits = np.full(32, -100.0, np.float32)
    logits[1], logits[2] = np.log(0.6), np.log(0.4)
    return logits


def relaxed(drafts: list[tuple[int, ...]], rollback: float) -> tuple[Verified, ArgmaxSampler]:
    """What becomes of them where `half_sure` is the model."""
    runner = FakeRunner(rule=half_sure)
    tree = plan_tree(3, 0, 0, (1, 2), drafts)
    runner.decode(tree.runs)
    drawing = ArgmaxSampler(runner)
    return verify_relaxed(tree, 0, drawing, runner.logits, rollback, lambda token: False), drawing


def test_likely_enough_stays() -> None:
    """-ln 0.4 = 0.92 is within a rollback of 1: the drafted token stays though another one is likelier."""
    verified, drawing = relaxed([(2, 1, 5)], 1.0)

    assert verified.tokens == (2, 1, 1)
    assert (verified.n_accepted, verified.agreed) == (2, (False, True, False))
    assert drawing.seen == [2, 1, 1]


def test_too_unlikely_is_undone() -> None:
    """The first one beyond the rollback gives way to the model's own, and what stood behind it goes."""
    verified, _ = relaxed([(1, 2, 1)], 0.8)

    assert (verified.tokens, verified.n_accepted) == ((1, 1), 1)


def test_of_several_the_likeliest_stays() -> None:
    """Where drafts part, the model chooses among them."""
    verified, _ = relaxed([(2, 5), (1, 5)], 1.0)

    assert verified.tokens == (1, 1)
    assert verified.looked_at == (1, 5)


@settings(max_examples=25)
@given(knowledge=st.floats(0, 1), seed=st.integers(0, 9), n_drafts=st.integers(1, 2))
def test_rollback_zero_is_exact(knowledge: float, seed: int, n_drafts: int) -> None:
    """When only certainty is accepted, the greedy text is the model's own."""
    runner = FakeRunner()
    loop = Loop(runner, ArgmaxSampler(runner), GuessingDrafter(runner, knowledge, seed), rollback=0.0)
    loop.most_drafts = n_drafts

    assert loop.write(PROMPT, 30) == runner.continued(PROMPT, 30)


def test_what_the_model_draws_after_all_keeps_its_rows() -> None:
    """A refused token that is then drawn is no reason to compute the rows behind it again."""
    verified, _ = relaxed([(1, 1, 1)], 0.0)

    assert (verified.tokens, verified.n_accepted) == ((1, 1, 1, 1), 3)


@given(st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=8))
def test_surprise_is_a_negative_log_probability(numbers: list[float]) -> None:
    """exp(-surprise) sums to one."""
    logits = np.array(numbers, np.float32)

    assert sum(np.exp(-surprise(logits, token)) for token in range(len(numbers))) == pytest.approx(1, abs=1e-5)
    assert all(surprise(logits, token) >= 0 for token in range(len(numbers)))


def test_each_draft_gets_its_verdict() -> None:
    """How far each was right, and that its next token was refused."""
    drafts = [Draft((1, 2, 3), "a"), Draft((1, 9), "b"), Draft((1, 2), "c"), Draft((7,), "d")]
    verified = Verified((1, 2, 5), (0, 1, 2), 2, 2, (1, 2, 5), (True, True, False))
    found = verdicts(4, drafts, verified)

    assert [one.n_accepted for one in found] == [2, 1, 2, 0]
    assert [one.agreed for one in found] == [(True, True, False), (True, False), (True, True), (False,)]
    assert {one.key for one in found} == {4}


def test_a_refused_token_can_be_the_models_favourite() -> None:
    """With rollback 0 and another draw, agreement still says what the model finds likeliest."""
    draft = Draft((1, 2), "a")
    (verdict,) = verdicts(0, [draft], Verified((3,), (0,), 0, 0, (1,), (True,)))

    assert (verdict.n_accepted, verdict.agreed) == (0, (True,))
