from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from echo_proxy.engine.lookup import LookupDrafter
from echo_proxy.engine.runner import Draft, DraftAsk
from tests.engine.draft_loop import ArgmaxSampler, Loop
from tests.engine.runner_fake import FakeRunner, following

END = 2
HEADER = (90, 91, 92)
"""What stands before every answer."""
WORDS = st.lists(st.integers(3, 8), max_size=40)


def is_end(token: int) -> bool:
    """Token 2 ends an answer."""
    return token == END


def guess(
    tokens: Sequence[int],
    n_prompt: int | None = None,
    hints: tuple[tuple[int, ...], ...] = (),
    most_tokens: int = 4,
    most_drafts: int = 2,
) -> list[Draft]:
    """The drafts for one sequence that was never seen before."""
    n_prompt = len(tokens) if n_prompt is None else n_prompt
    ask = DraftAsk(0, tokens, n_prompt, most_tokens, most_drafts, hints)
    return list(LookupDrafter(is_end).draft([ask])[0])


def test_copies_what_followed() -> None:
    """The words after the last three, where they stood before."""
    assert guess([10, 11, 12, 20, 21, 22, 23, 24, 10, 11, 12]) == [Draft((20, 21, 22, 23), "prompt")]


def test_nothing_matches() -> None:
    """Without a match there is no guess."""
    assert guess([10, 11, 12, 13]) == []


def test_the_longest_match_comes_first() -> None:
    """More matching words say more than a more recent place."""
    text = [9, 10, 11, 12, 20, 30, 10, 11, 12, 21, 31, 9, 10, 11, 12]

    assert [one.tokens[0] for one in guess(text)] == [20, 21]


def test_among_equals_the_most_recent_comes_first() -> None:
    """What was written last is likelier to be copied again."""
    text = [1, 10, 11, 12, 20, 30, 3, 10, 11, 12, 21, 31, 4, 10, 11, 12]

    assert [one.tokens[0] for one in guess(text)] == [21, 20]
    assert len(guess(text, most_drafts=1)) == 1


def test_places_that_agree_are_one_draft() -> None:
    """The same continuation is not checked twice."""
    text = [10, 11, 12, 20, 21, 22, 23, 10, 11, 12, 20, 21, 22, 23, 10, 11, 12]

    assert guess(text) == [Draft((20, 21, 22, 23), "prompt")]


def test_an_answer_begins_like_its_hints() -> None:
    """Before a word is written, the hints' beginnings are guessed, the likeliest first."""
    drafts = guess([50, 51, *HEADER], hints=((20, 21, 22, 23, 24), (30, 31)))

    assert drafts == [Draft((20, 21, 22, 23), "hint"), Draft((30, 31), "hint")]


def test_an_answer_begins_like_earlier_ones() -> None:
    """Without hints, what stood behind the same turn header in the prompt is guessed, up to its end."""
    example = [50, *HEADER, 20, 21, END, 60]

    assert guess([*example, 51, *HEADER]) == [Draft((20, 21, END), "prompt")]


def test_a_hint_ends_as_turns_end() -> None:
    """How answers end is seen in the prompt, so the end of a hint can be guessed too."""
    example = [50, *HEADER, 70, END]
    drafts = guess([*example, 51, *HEADER, 20, 21], 9, hints=((20, 21, 22),), most_drafts=1)

    assert drafts == [Draft((22, END), "hint")]


def test_a_hint_is_found_again_after_a_detour() -> None:
    """Three words of a hint suffice, wherever the answer is."""
    drafts = guess([50, *HEADER, 80, 81, 22, 23, 24], 4, hints=((20, 21, 22, 23, 24, 25, 26),))

    assert drafts == [Draft((25, 26), "hint")]


def test_two_hints_do_not_run_into_each_other() -> None:
    """Behind a hint comes nothing."""
    assert guess([50, 20, 21, 22], 1, hints=((20, 21, 22), (30, 31))) == []


def test_a_short_match_is_a_short_draft() -> None:
    """Two words are trusted with four tokens, not with ten."""
    text = [10, 11, *range(20, 40), 10, 11]

    assert [len(one.tokens) for one in guess(text, most_tokens=10)] == [4]


def test_a_single_word_counts_only_if_it_is_rare() -> None:
    """A word that stood once before says something, one that is everywhere says nothing."""
    assert guess([10, 20, 21, 30, 10]) == [Draft((20, 21, 30, 10), "prompt")]
    assert guess([10, 20, 10, 21, 10, 22, 30, 10]) == []


def test_repetition_goes_on_in_circles() -> None:
    """A loop that has just begun is guessed beyond what there is of it."""
    assert guess([7, 10, 11, 12, 10, 11, 12], most_tokens=7)[0].tokens == (10, 11, 12, 10, 11, 12, 10)


@given(WORDS, WORDS, st.lists(WORDS.map(tuple), max_size=2).map(tuple))
def test_growing_is_like_starting_over(
    prompt: list[int], answer: list[int], hints: tuple[tuple[int, ...], ...]
) -> None:
    """An index that grew token by token says what one says that is built at once."""
    drafter = LookupDrafter(is_end)
    tokens = [3, *prompt]
    n_prompt = len(tokens)
    for token in [*answer, 3]:
        drafter.draft([DraftAsk(0, tokens, n_prompt, 6, 3, hints)])
        tokens.append(token)

    assert drafter.draft([DraftAsk(0, tokens, n_prompt, 6, 3, hints)])[0] == guess(tokens, n_prompt, hints, 6, 3)


@given(WORDS, st.integers(1, 9), st.integers(1, 3), st.lists(WORDS.map(tuple), max_size=2).map(tuple))
def test_limits_hold(prompt: list[int], most: int, n: int, hints: tuple[tuple[int, ...], ...]) -> None:
    """Never too many, too long or the same twice; every guess is made of tokens that were there."""
    drafts = guess([3, *prompt], None, hints, most, n)
    tokens = [one.tokens for one in drafts]

    assert len(tokens) <= n
    assert all(0 < len(one) <= most for one in tokens)
    assert all(set(one) <= {3, *prompt, *(word for hint in hints for word in hint)} for one in tokens)
    assert not any(one == other[: len(one)] for i, one in enumerate(tokens) for other in tokens[:i])


def test_sequences_do_not_mix() -> None:
    """Nobody is guessed what only another one's prompt says, and who has left is forgotten."""
    drafter = LookupDrafter(is_end)
    first, second = [10, 11, 12, 20, 10, 11, 12], [10, 11, 12]
    drafts = drafter.draft([DraftAsk(1, first, 7, 4, 1, ()), DraftAsk(2, second, 3, 4, 1, ())])
    drafter.forget(1)
    again = drafter.draft([DraftAsk(1, second, 3, 4, 1, ())])

    assert [len(one) for one in drafts] == [1, 0]
    assert list(again[0]) == []


@settings(max_examples=20)
@given(st.integers(2, 9))
def test_copying_saves_steps_and_changes_nothing(period: int) -> None:
    """A text that repeats itself is written in a fraction of the steps."""
    runner = FakeRunner(rule=following(32, lambda tokens: 10 + len(tokens) % period))
    loop = Loop(runner, ArgmaxSampler(runner), LookupDrafter(is_end), most_drafts=2)
    text = loop.write((3, 4, 5), 60)

    assert text == runner.continued((3, 4, 5), 60)
    assert loop.n_steps < 30
