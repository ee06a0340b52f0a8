"""Who sits, who must leave, and who goes on: the batch without its engine."""

from echo_proxy.engine.batch import Batch, Ending
from echo_proxy.engine.batch_seats import Seats
from echo_proxy.engine.chat import Service
from echo_proxy.engine.sequence import Ask
from echo_proxy.engine.sequence import Sequence as Served
from echo_proxy.engine.work import Failed, Job
from tests.engine.engines import ask, batch_parts
from tests.engine.language_fake import ALPHABET
from tests.engine.runner_fake import FakeRunner, following

MUCH = 1 << 20


def _runner(n_cells: int, n_seats: int = 12) -> FakeRunner:
    """Its answers end with max_tokens."""
    rule = following(len(ALPHABET), lambda tokens: 1 + len(tokens) % 26)
    return FakeRunner(n_seats, n_cells, 32, len(ALPHABET), rule=rule)


def _served(number: int, text: str, max_tokens: int = 50, priority: int = 0) -> Served:
    request = ask(text, max_tokens=max_tokens, service=Service(priority=priority))
    prompt = tuple(map(ALPHABET.index, text))
    return Served(Job(request, lambda event: None), Ask(number, prompt, (), max_tokens, "", (), 0.0))


def _admit(batch: Batch, *requests: Served) -> None:
    for served in requests:
        batch.prepare(served)
        batch.admit(served)


def _first_to_leave(batch: Batch) -> tuple[list[Served], list[Ending]]:
    while True:
        result = batch.step()
        if result.paused or result.ended:
            return result.paused, result.ended


# ------------------------------------------------------------------ too few cells


def test_the_least_important_gives_way_when_cells_run_out() -> None:
    """Of the least priority the one that came last; it was nobody's victim, so this spares it no pause."""
    batch = Batch(batch_parts(_runner(40), ram_bytes=MUCH))
    requests = [_served(0, "aaaa"), _served(1, "bbbb"), _served(2, "cccc", priority=1)]
    _admit(batch, *requests)

    paused, ended = _first_to_leave(batch)

    assert (paused, ended) == ([requests[1]], [])
    assert (requests[1].n_pauses, requests[1].n_shortages) == (0, 1)
    assert requests[1].pinned == tuple(requests[1].tokens[:-1])


def test_who_has_no_seat_has_nothing_to_give() -> None:
    """A request that waits for another one's reading stays: its leaving would free no cells."""
    batch = Batch(batch_parts(_runner(40)))
    requests = [_served(0, "x"), _served(1, "a" * 99), _served(2, "a" * 99)]
    _admit(batch, *requests)
    assert requests[2].seat is None

    paused, _ = _first_to_leave(batch)

    assert paused == [requests[1]]


def test_one_that_can_never_have_its_cells_fails_alone() -> None:
    """Those who wait for its reading do not fail with it."""
    batch = Batch(batch_parts(_runner(50)))
    requests = [_served(0, "a" * 99), _served(1, "a" * 90)]
    _admit(batch, *requests)

    _, ended = _first_to_leave(batch)

    assert [one.served for one in ended] == [requests[0]]
    assert isinstance(ended[0].event, Failed)
    assert batch.sequences == [requests[1]]


def test_drafts_are_given_up_before_anybody_must_leave() -> None:
    """What is only guessed makes room for what is asked; then the step happens."""
    runner = _runner(28)
    batch = Batch(batch_parts(runner, drafting=True))
    _admit(batch, _served(0, "abcdefghijklabcdefghijkl", max_tokens=4))

    paused, ended = _first_to_leave(batch)

    assert (paused, [type(one.event).__name__ for one in ended]) == ([], ["Finished"])


def test_cells_for_what_is_not_yet_read_are_promised() -> None:
    """A prompt that was admitted has its cells, though they are written in steps; nobody promises shared ones twice."""
    batch = Batch(batch_parts(_runner(500)))
    _admit(batch, _served(0, "a" * 60), _served(1, "a" * 60 + "bc"))

    assert batch.n_promised_cells == 59 + 2
    batch.step()
    assert batch.n_promised_cells == 59 + 2 - 32


# ------------------------------------------------------------------ pauses


def test_what_was_saved_stays_until_it_is_had_again() -> None:
    """A request that goes on while there is no room to restore its state, and must leave once more, loses nothing."""
    parts = batch_parts(_runner(64), ram_bytes=MUCH)
    seats = Seats(parts.prefixes, Batch(parts).counts)
    batch = Batch(parts)
    paused, other = _served(0, "a" * 30), _served(1, "b" * 50)
    _admit(batch, paused)
    for _ in range(5):
        batch.step()
    n_saved = paused.n_ready
    batch.pause(paused)
    _admit(batch, other)
    for _ in range(2):
        batch.step()

    seats.take(paused)
    n_without_room, pinned = paused.n_ready, paused.pinned
    seats.set_aside(paused)
    batch.leave(other)
    seats.take(paused)

    assert (n_without_room, paused.n_ready) == (0, n_saved)
    assert (len(pinned), len(paused.pinned)) == (n_saved, 0)


def test_a_prompt_is_counted_once_whenever_it_sits_down() -> None:
    """One that was paused before it had a seat is counted when it gets one, and not again."""
    batch = Batch(batch_parts(_runner(500)))
    requests = [_served(0, "a" * 60), _served(1, "a" * 60)]
    _admit(batch, *requests)
    batch.pause(requests[1])
    for _ in range(5):
        batch.step()
    _admit(batch, requests[1])
    batch.pause(requests[1])
    _admit(batch, requests[1])

    assert batch.counts["prompt_tokens"] == 120
    assert batch.counts["cached_tokens"] == requests[1].tally.cached == 59
