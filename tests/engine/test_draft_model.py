from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echo_proxy.engine.draft_model import ModelDrafter, glance
from echo_proxy.engine.runner import Draft, DraftAsk, Logits
from tests.engine.draft_loop import ArgmaxSampler, Loop
from tests.engine.runner_fake import FakeRunner, following, hashed

TEXT = (3, 1, 4, 1, 5, 0, 2, 6)


def never(token: int) -> bool:
    """No token ends an answer."""
    return False


def ask(tokens: Sequence[int], key: int = 0, most_tokens: int = 4) -> DraftAsk:
    """For one sequence."""
    return DraftAsk(key, tokens, len(tokens), most_tokens, 1, ())


def unsure(runner: FakeRunner, least_chance: float = 0.0) -> ModelDrafter:
    """A drafter that stops early only if it is told to."""
    return ModelDrafter(runner, never, least_chance)


def test_drafts_what_the_model_would_write() -> None:
    """The draft is the little model's greedy text."""
    runner = FakeRunner(n_vocab=16)
    drafts = unsure(runner).draft([ask(TEXT)])

    assert drafts == [[Draft(tuple(runner.continued(TEXT, 4)), "model")]]


def test_all_sequences_are_written_in_one_batch() -> None:
    """Three sequences take as many decodes as one."""
    runner = FakeRunner()
    drafts = unsure(runner).draft([ask(TEXT, 0), ask(TEXT[:5], 1), ask(TEXT[2:], 2)])

    assert len(runner.decodes) == 4
    assert [one[0].tokens for one in drafts] == [
        tuple(runner.continued(text, 4)) for text in (TEXT, TEXT[:5], TEXT[2:])
    ]


def test_only_what_is_new_is_read() -> None:
    """Accepted tokens are there already; the refused one and what stood behind it are forgotten."""
    runner = FakeRunner()
    drafter = unsure(runner)
    ((draft,),) = drafter.draft([ask(TEXT)])
    right = [*TEXT, *draft.tokens[:2]]
    other = (draft.tokens[2] + 1) % runner.n_vocab
    n_before = len(runner.decodes)
    drafts = drafter.draft([ask([*right, other])])

    assert [sum(len(run.tokens) for run in runs) for runs in runner.decodes[n_before:]] == [1, 1, 1, 1]
    assert drafts[0][0].tokens == tuple(runner.continued([*right, other], 4))


def test_long_texts_are_read_in_pieces() -> None:
    """A prompt longer than a batch takes several decodes, together with what others have to read."""
    runner = FakeRunner(n_batch=16)
    long = tuple(range(20)) * 2
    drafts = unsure(runner).draft([ask(long, 0), ask(TEXT, 1)])

    assert [one[0].tokens for one in drafts] == [tuple(runner.continued(text, 4)) for text in (long, TEXT)]


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 3)), max_size=25), st.integers(1, 3))
def test_whatever_was_asked_before(steps: list[tuple[int, int, int]], n_seats: int) -> None:
    """Sequences grow by what was guessed or by something else, come and go, and share too few seats: each draft is the
    model's own text."""
    runner = FakeRunner(n_seats=n_seats, n_batch=8, n_vocab=8)
    drafter = unsure(runner)
    texts: dict[int, list[int]] = {}
    for key, n_right, deed in steps:
        if deed == 3:
            drafter.forget(key)
            texts.pop(key, None)
            continue
        text = texts.setdefault(key, [key, 1])
        (drafts,) = drafter.draft([ask(text, key)])
        assert [one.tokens for one in drafts] == [tuple(runner.continued(text, 4))]
        text += [*drafts[0].tokens[:n_right], deed]


def test_the_longest_unasked_gives_up_its_seat() -> None:
    """With two seats and three sequences, the one that was asked for last keeps its own."""
    runner = FakeRunner(n_seats=2)
    drafter = unsure(runner)
    for key in (0, 1, 0, 2):
        drafter.draft([ask(TEXT, key)])
    n_before = len(runner.decodes)
    drafter.draft([ask(TEXT, 0)])
    n_again = sum(len(run.tokens) for runs in runner.decodes[n_before:] for run in runs)

    assert n_again == 4


def test_without_a_seat_no_draft() -> None:
    """More sequences at once than seats: the last go without."""
    runner = FakeRunner(n_seats=2)
    drafts = unsure(runner).draft([ask(TEXT, key) for key in range(3)])

    assert [len(one) for one in drafts] == [1, 1, 0]


def test_others_make_room() -> None:
    """When cells run out, idle sequences are forgotten first, then the last of those that are asked for."""
    runner = FakeRunner(n_cells=30)
    drafter = unsure(runner)
    drafter.draft([ask(TEXT, 0), ask(TEXT, 1)])
    drafts = drafter.draft([ask(TEXT, 2), ask(tuple(range(12)), 3)])
    crowded = drafter.draft([ask(tuple(range(20)), 4), ask(tuple(range(5, 25)), 5)])

    assert [len(one) for one in drafts] == [1, 1]
    assert [len(one) for one in crowded] == [1, 0]


def test_a_failure_costs_only_the_draft() -> None:
    """After llama.cpp failed, there is no guess, and the next one starts anew."""
    runner = FakeRunner()
    drafter = unsure(runner)
    drafter.draft([ask(TEXT)])
    runner.failures.append(RuntimeError("broken"))
    failed = drafter.draft([ask([*TEXT, 7])])
    again = drafter.draft([ask([*TEXT, 7])])

    assert failed == [[]]
    assert again[0][0].tokens == tuple(runner.continued([*TEXT, 7], 4))


def test_stops_when_unsure() -> None:
    """The draft ends before a token that the little model itself finds unlikely."""

    def rule(tokens: object) -> Logits:
        logits = np.zeros(32, np.float32)
        logits[len(list(tokens))] = 20.0 if len(list(tokens)) < 10 else 1.0  # type: ignore[call-overload]
        return logits

    assert unsure(FakeRunner(rule=rule), 0.5).draft([ask(TEXT)]) == [[Draft((8, 9), "model")]]
    assert unsure(FakeRunner(rule=rule), 0.5).draft([ask(tuple(range(12)))]) == [[]]


def test_stops_at_an_end() -> None:
    """Behind an end there is nothing to guess."""
    runner = FakeRunner(rule=following(32, lambda tokens: tokens[-1] + 1))
    drafter = ModelDrafter(runner, lambda token: token == 8)

    assert drafter.draft([ask(TEXT)])[0][0].tokens == (7, 8)


def test_a_recurrent_model_is_refused() -> None:
    """It could not take back what turned out wrong."""
    with pytest.raises(ValueError, match="recurrent"):
        unsure(FakeRunner(is_sliceable=False))


def test_memory_is_freed() -> None:
    """Who has left holds no cells; closing closes the runner."""
    runner = FakeRunner()
    drafter = unsure(runner)
    drafter.draft([ask(TEXT)])
    drafter.forget(0)
    n_used = runner.n_used
    drafter.close()

    assert n_used == 0
    assert runner.is_closed


@settings(max_examples=15)
@given(st.integers(0, 99))
def test_the_large_models_text_stays(last: int) -> None:
    """Drafted by a model that is right now and then, the text is the large one's."""
    little = hashed(6)
    large = FakeRunner(n_vocab=6, rule=lambda tokens: little(tokens if len(tokens) % 3 else [*tokens, 1]))
    prompt = (*TEXT[:3], last % 6)
    loop = Loop(large, ArgmaxSampler(large), unsure(FakeRunner(n_vocab=6, rule=little)))

    assert loop.write(prompt, 60) == large.continued(prompt, 60)
    assert loop.n_steps < 45


def test_glance() -> None:
    """The likeliest token and its probability."""
    view = glance(np.log(np.array([0.2, 0.7, 0.1], np.float32)))

    assert view.token == 1
    assert view.chance == pytest.approx(0.7)
