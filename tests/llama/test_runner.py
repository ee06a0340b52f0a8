"""Many sequences in one context: each as if it was alone."""

from collections.abc import Sequence

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echo_proxy.engine.runner import OutOfCells, Run
from echo_proxy.llama.language import LlamaLanguage
from echo_proxy.llama.library import Weights, load_weights
from echo_proxy.llama.runner import ContextOptions, LlamaRunner
from tests.llama.pair import SMALL, answer, prompts, read, write


def answer_together(runner: LlamaRunner, texts: Sequence[Sequence[int]], n_tokens: int = 24) -> list[list[int]]:
    """The likeliest answers of all, one token of each in every decode."""
    runner.decode([Run(text, 0, (seat,), 1) for seat, text in enumerate(texts)])
    ends = np.cumsum([len(text) for text in texts])
    written = [[int(runner.logits(int(end) - 1).argmax())] for end in ends]
    for done in range(n_tokens - 1):
        runner.decode(
            [Run(w[-1:], len(t) + done, (s,), 1) for s, (t, w) in enumerate(zip(texts, written, strict=True))]
        )
        for row, tokens in enumerate(written):
            tokens.append(int(runner.logits(row).argmax()))
    return written


def of_one_seat(weights: Weights) -> LlamaRunner:
    """The smallest context."""
    return LlamaRunner(weights, ContextOptions(n_seats=1, n_cells=256))


def lengths(runner: LlamaRunner) -> list[int]:
    """Positions of each seat."""
    return [runner.length(seat) for seat in range(runner.n_seats)]


@pytest.mark.parametrize("size", ["small", "large"])
def test_a_batch_changes_no_text(size: str, request: pytest.FixtureRequest) -> None:
    """Sequences that are decoded together say what each says alone."""
    weights: Weights = request.getfixturevalue(size)
    runner = LlamaRunner(weights, ContextOptions(n_seats=8, n_cells=1024))
    texts = prompts(LlamaLanguage(weights, runner))
    alone = []
    for text in texts:
        alone.append(answer(runner, 7, text))
        runner.cut(7, 0)

    assert answer_together(runner, texts) == alone
    runner.close()


def test_answers_are_those_that_were_taught(runner: LlamaRunner, language: LlamaLanguage) -> None:
    """The prompt, the positions and the choice are right: a true fact comes out."""
    written = answer(runner, 0, prompts(language)[0])
    text = b"".join(map(language.piece, written[: next(i for i, t in enumerate(written) if language.is_end(t))]))

    assert text == b"The capital of Lervaia is Larhes."


@settings(max_examples=10)
@given(chunk=st.integers(1, 40))
def test_a_prompt_in_pieces_is_the_same_prompt(chunk: int) -> None:
    """However it is cut, the next token is the same."""
    weights = load_weights(SMALL)
    runner = LlamaRunner(weights, ContextOptions(n_seats=2, n_cells=256, min_rows=2))
    text = prompts(LlamaLanguage(weights, runner))[0]
    whole = read(runner, 0, text)
    for start in range(0, len(text), chunk):
        last = read(runner, 1, text[start : start + chunk], start)

    assert last == whole
    runner.close()
    weights.close()


def test_prefill_goes_beside_decoding(runner: LlamaRunner, language: LlamaLanguage) -> None:
    """One sequence reads its prompt in the same decodes in which another one writes."""
    first, second = prompts(language)[:2]
    expected = [answer(runner, 0, first, 9), answer(runner, 1, second, 4)]
    runner.cut(0, 0)
    runner.cut(1, 0)
    written = [read(runner, 0, first)]
    chunks = [second[start : start + 3] for start in range(0, len(second), 3)]
    for done, chunk in enumerate(chunks):
        runner.decode([Run(written[-1:], len(first) + done, (0,), 1), Run(chunk, 3 * done, (1,), 1)])
        written.append(int(runner.logits(0).argmax()))
        other = int(runner.logits(len(chunk)).argmax())

    assert written[:9] == expected[0][: len(written)]
    assert write(runner, 1, other, len(second), 4) == expected[1]


def test_several_rows_of_a_seat_are_wanted(runner: LlamaRunner, language: LlamaLanguage) -> None:
    """A guess of four tokens is checked in one decode: each row says what it would have said by itself."""
    text = prompts(language)[0]
    written = answer(runner, 0, text, 6)
    runner.cut(0, len(text))
    runner.decode([Run(written[:4], len(text), (0,), 4)])

    assert [int(runner.logits(row).argmax()) for row in range(4)] == written[1:5]


def test_rows_can_belong_to_several_seats(runner: LlamaRunner, language: LlamaLanguage) -> None:
    """A tree of two drafts: one row for what they share, then one branch in each seat."""
    text = prompts(language)[0]
    written = answer(runner, 0, text, 5)
    runner.cut(0, len(text))
    runner.share(0, 1, 0, len(text))
    wrong = [written[1] ^ 1, written[2]]
    runner.decode(
        [
            Run(written[:1], len(text), (0, 1), 1),
            Run(written[1:3], len(text) + 1, (0,), 2),
            Run(wrong, len(text) + 1, (1,), 2),
        ]
    )
    right_rows = [int(runner.logits(row).argmax()) for row in range(3)]
    wrong_rows = [int(runner.logits(row).argmax()) for row in (3, 4)]
    runner.cut(1, 0)

    assert right_rows == written[1:4]
    assert write(runner, 0, written[3], len(text) + 3, 2) == written[3:5]
    assert wrong_rows == [read(runner, 2, [*text, written[0], wrong[0]]), read(runner, 2, wrong[1:], len(text) + 2)]


def test_a_shared_prefix_serves_both(runner: LlamaRunner, language: LlamaLanguage) -> None:
    """Seats that share cells go on independently, and what is shared takes no cells of its own."""
    text = prompts(language)[0]
    whole = answer(runner, 0, text)
    shared = len(text) - 3
    for seat in range(1, runner.n_seats):
        runner.share(0, seat, 0, shared)
    runner.cut(0, 0)

    assert write(runner, 3, read(runner, 3, text[shared:], shared), len(text)) == whole
    assert write(runner, 5, read(runner, 5, text[shared:], shared), len(text)) == whole


def test_a_cut_forgets_what_came_after(runner: LlamaRunner, language: LlamaLanguage) -> None:
    """After a cut the text goes on as if nothing had been there."""
    text = prompts(language)[0]
    whole = answer(runner, 0, text)
    runner.cut(0, len(text) + 2)

    assert runner.length(0) == len(text) + 2
    assert write(runner, 0, whole[2], len(text) + 2, 22) == whole[2:]


def test_a_saved_state_goes_on_elsewhere(runner: LlamaRunner, small: Weights, language: LlamaLanguage) -> None:
    """Also one that shared its cells, in another seat of another context of the same options."""
    text = prompts(language)[0]
    first = read(runner, 0, text)
    runner.share(0, 1, 0, len(text))
    state = runner.save(1)
    whole = write(runner, 0, first, len(text))
    other = LlamaRunner(small, ContextOptions(n_seats=3, n_cells=512))

    assert other.restore(2, state)
    assert other.fingerprint == runner.fingerprint
    assert write(other, 2, first, len(text)) == whole
    other.close()


@pytest.mark.parametrize("damage", [b"", b"nonsense", "cut", "other"])
def test_a_state_that_does_not_fit_leaves_an_empty_seat(
    damage: bytes | str, runner: LlamaRunner, large: Weights, language: LlamaLanguage
) -> None:
    """False, and the seat can be used; nobody else notices."""
    text = prompts(language)[0]
    first = read(runner, 0, text)
    state = damage if isinstance(damage, bytes) else runner.save(0)[:-7]
    if damage == "other":
        other = LlamaRunner(large, ContextOptions(n_seats=1, n_cells=256))
        read(other, 0, text)
        state = other.save(0)
        other.close()

    assert not runner.restore(1, state)
    assert lengths(runner) == [len(text), 0, 0, 0, 0, 0, 0, 0]
    assert read(runner, 1, text) == first


def test_a_state_without_room_leaves_an_empty_seat(small: Weights) -> None:
    """False when the cells do not suffice."""
    runner = LlamaRunner(small, ContextOptions(n_seats=3, n_cells=256))
    read(runner, 0, [5] * 150)
    state = runner.save(0)

    assert not runner.restore(1, state)
    assert lengths(runner) == [150, 0, 0]
    runner.close()


@pytest.mark.parametrize("min_rows", [1, 2])
def test_without_cells_nothing_changes(small: Weights, runner: LlamaRunner, min_rows: int) -> None:
    """OutOfCells leaves all seats as they were, and as many rows as there are cells still go."""
    text = prompts(LlamaLanguage(small, runner))[0]
    whole = answer(runner, 0, text, 2)
    full = LlamaRunner(small, ContextOptions(n_seats=3, n_cells=256, min_rows=min_rows))
    n_free = full.n_cells - len(text)
    first = read(full, 0, text)
    with pytest.raises(OutOfCells):
        full.decode([Run([5] * (n_free - 3), 0, (1,), 1), Run([first] * 4, len(text), (0,), 4)])
    after_failure = lengths(full)
    full.decode([Run([5] * (n_free - 1), 0, (1,), 1)])

    assert after_failure == [len(text), 0, 0]
    assert [first, read(full, 0, [first], len(text))] == whole  # in the last cell
    with pytest.raises(OutOfCells):
        read(full, 2, [5])
    full.close()


def test_positions_beyond_the_cells_are_out_of_cells(runner: LlamaRunner) -> None:
    """Not a crash."""
    with pytest.raises(OutOfCells):
        runner.decode([Run([5, 6], runner.n_cells - 1, (0,), 1)])


def test_rows_that_do_not_follow_fail(runner: LlamaRunner, language: LlamaLanguage) -> None:
    """RuntimeError says why, and the seat keeps what it had."""
    text = prompts(language)[0]
    read(runner, 0, text)
    with pytest.raises(RuntimeError, match="do not follow"):
        read(runner, 0, [5], len(text) + 4)

    assert runner.length(0) == len(text)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (Run([5] * 129, 0, (0,), 1), "at most 128 rows, got 129"),
        (Run([5], 0, (0,), 2), "want 0 to 1 rows"),
    ],
)
def test_impossible_runs_are_refused(runner: LlamaRunner, run: Run, message: str) -> None:
    """ValueError before llama.cpp, which would end the process, sees them."""
    with pytest.raises(ValueError, match=message):
        runner.decode([run])


def test_only_wanted_rows_have_logits(runner: LlamaRunner) -> None:
    """Any other row is refused, and so are those of the decode before."""
    runner.decode([Run([5, 6, 7], 0, (1,), 3)])
    runner.decode([Run([5, 6, 7], 0, (0,), 1)])

    assert runner.logits(2).shape == (runner.n_vocab,)
    assert not runner.logits(2).flags.writeable
    with pytest.raises(ValueError, match=r"one of \[2\], got 1"):
        runner.logits(1)
    runner.decode([Run([8], 3, (0,), 0)])
    with pytest.raises(ValueError, match=r"one of \[\], got 2"):
        runner.logits(2)


def test_no_runs_are_no_decode(runner: LlamaRunner) -> None:
    """Nothing to do is done at once."""
    runner.decode([])

    assert lengths(runner) == [0] * 8


@pytest.mark.parametrize("min_rows", [2, 4])
def test_padding_is_not_noticed(small: Weights, runner: LlamaRunner, language: LlamaLanguage, min_rows: int) -> None:
    """A decode that was filled up says the same, and leaves all seats to their users."""
    text = prompts(language)[0]
    padded = LlamaRunner(small, ContextOptions(n_seats=2, n_cells=256, min_rows=min_rows))

    assert answer(padded, 1, text) == answer(runner, 0, text)
    assert lengths(padded) == [0, len(text) + 23]
    padded.close()


def test_more_seats_than_rows_are_possible(small: Weights) -> None:
    """llama.cpp wants a row for each seat; a small batch must not end the process."""
    runner = LlamaRunner(small, ContextOptions(n_seats=40, n_cells=16, n_batch=8))
    read(runner, 39, [5] * 8)

    assert runner.n_batch == 8
    with pytest.raises(ValueError, match="at most 8 rows"):
        read(runner, 39, [5] * 9, 8)
    runner.close()


def test_two_models_do_not_mix(small: Weights, large: Weights) -> None:
    """Contexts of two models take turns and say what each says alone."""
    runners = [LlamaRunner(weights, ContextOptions(n_seats=2, n_cells=256)) for weights in (small, large)]
    text = prompts(LlamaLanguage(small, runners[0]))[0]
    alone = [answer(runner, 0, text) for runner in runners]
    written = [[read(runner, 1, text)] for runner in runners]
    for done in range(23):
        for runner, tokens in zip(runners, written, strict=True):
            tokens.append(read(runner, 1, tokens[-1:], len(text) + done))

    assert written == alone
    assert alone[0] != alone[1]
    for runner in runners:
        runner.close()


def test_weights_outlive_their_contexts() -> None:
    """Closed first, they are freed when the last context is closed, and no new one can be made."""
    weights = load_weights(SMALL)
    runner = of_one_seat(weights)
    weights.close()
    first = read(runner, 0, [5, 6])
    with pytest.raises(RuntimeError, match="closed"):
        of_one_seat(weights)
    runner.close()
    runner.close()

    assert 0 <= first < 1024
    assert weights.model is None


def test_closed_runners_give_their_memory_back(small: Weights) -> None:
    """Twenty contexts of 8 MiB, one after the other, need the room of one."""

    def open_and_close() -> None:
        runner = LlamaRunner(small, ContextOptions(n_seats=8, n_cells=4096))
        read(runner, 0, [5] * 400)
        runner.close()

    process = psutil.Process()
    open_and_close()
    before = process.memory_info().rss
    for _ in range(20):
        open_and_close()

    assert process.memory_info().rss - before < 24 << 20
