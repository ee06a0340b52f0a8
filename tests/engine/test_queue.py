import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from echo_proxy.engine.queue import (
    AdmissionQueue,
    Choice,
    Forecast,
    QueueLimits,
    Room,
    Running,
    Served,
    Waiter,
)
from echo_proxy.engine.work import Overloaded

LIMITS = QueueLimits(n_parallel=2, n_cells=10_000, max_queue=4, max_queue_s=60.0)
ROOM = Room(1, 10_000)
FULL = Room(0, 10_000)
STEP_S = 0.01


def _waiter(number: int, scope: str = "a", priority: int = 0, at: float = 0.0, deadline_s: float = math.inf) -> Waiter:
    return Waiter(number, scope, priority, at, at + deadline_s, 100, 1000)


def _running(number: int, scope: str = "z", priority: int = 0, n_written: int = 10) -> Running:
    """One that has run for long and was read fast."""
    return Running(_waiter(number, scope, priority), n_written, -100.0, 100 + n_written)


def _queue(limits: QueueLimits = LIMITS, **n_usual: int) -> AdmissionQueue:
    """A queue that has heard ten answers of each scope, of so many tokens; 10 ms per token, 0.1 s to read."""
    forecast = Forecast()
    for scope, n_tokens in n_usual.items():
        for _ in range(10):
            forecast.hear(Served(_waiter(0, scope), 100, n_tokens, 0.1, STEP_S * (n_tokens - 1), 2))
    return AdmissionQueue(limits, forecast)


def _need(number: int) -> int:
    return 100


def _order(queue: AdmissionQueue, now: float = 0.0, n_most: int = 100) -> list[int]:
    """Numbers in the order in which they are admitted, one at a time."""
    numbers: list[int] = []
    while len(queue) and len(numbers) < n_most:
        choice = queue.choose((), ROOM, _need, now)
        assert choice.admit is not None
        numbers.append(choice.admit)
    return numbers


def _put(queue: AdmissionQueue, *waiters: Waiter, running: Sequence[Running] = (), now: float = 0.0) -> None:
    for waiter in waiters:
        assert queue.put(waiter, running, now) == ()


# ------------------------------------------------------------------ order


def test_arrival_decides_between_equals() -> None:
    """Equals leave in the order in which they came."""
    queue = _queue(a=100)
    _put(queue, *(_waiter(number, at=number * 0.1) for number in range(4)))

    assert _order(queue) == [0, 1, 2, 3]


def test_priority_comes_before_everything() -> None:
    """Higher priority leaves first, even without a deadline."""
    queue = _queue(a=100)
    _put(queue, _waiter(0, deadline_s=5.0), _waiter(1, priority=1), _waiter(2, priority=-1))

    assert _order(queue) == [1, 0, 2]


def test_least_slack_goes_first_once_it_is_urgent() -> None:
    """A deadline counts when one more service time would cost it; then the tightest goes first."""
    queue = _queue(a=100)
    _put(queue, _waiter(0), _waiter(1, deadline_s=50.0), _waiter(2, deadline_s=2.05), _waiter(3, deadline_s=2.0))

    assert _order(queue) == [3, 2, 0, 1]


def test_shorter_answers_go_first() -> None:
    """Among those of one scope that came together, the one that allows less is predicted shorter and leaves first."""
    queue = _queue(a=500)
    _put(queue, _waiter(0), replace(_waiter(1), most_tokens=10))

    assert _order(queue) == [1, 0]


def test_ageing_ends_the_advantage_of_short_answers() -> None:
    """A long one is not passed by short ones that came much later."""
    queue = _queue(a=500)
    _put(queue, _waiter(0), replace(_waiter(1, at=21.0), most_tokens=10), now=21.0)

    assert _order(queue, now=21.0) == [0, 1]


def test_scopes_take_turns() -> None:
    """A scope with many requests does not keep another one waiting."""
    queue = _queue(replace(LIMITS, max_queue=10), a=100, b=100)
    _put(queue, *(_waiter(number) for number in range(4)), *(_waiter(number, "b") for number in (4, 5)))

    assert _order(queue) == [0, 4, 1, 5, 2, 3]


def test_what_a_scope_really_got_counts() -> None:
    """A scope whose answers ended early is charged less, and is next sooner."""
    queue = _queue(replace(LIMITS, max_queue=10), a=100, b=100)
    _put(queue, *(_waiter(number, "ab"[number % 2]) for number in range(6)))
    first = queue.choose((), ROOM, _need, 0.0)
    second = queue.choose([_running(0, "a")], ROOM, _need, 0.0)
    for number, n_written in ((0, 300), (1, 2)):
        queue.heard(Served(_waiter(number, "ab"[number]), 100, n_written, 0.1, 1.0, 2), 1.0)

    assert (first.admit, second.admit) == (0, 1)
    assert _order(queue, n_most=2) == [3, 5]


def test_oldest_gets_a_turn_whatever_the_priorities() -> None:
    """After sixteen admissions of others the one that came first is admitted."""
    queue = _queue(replace(LIMITS, max_queue=100), a=100)
    _put(queue, _waiter(0), *(_waiter(number, priority=5) for number in range(1, 40)))

    assert _order(queue).index(0) == 16


# ------------------------------------------------------------------ room


def test_nothing_is_admitted_without_a_slot() -> None:
    """No slot, nobody less important running: nothing to do."""
    queue = _queue(a=100)
    _put(queue, _waiter(0))

    assert queue.choose([_running(9), _running(8)], FULL, _need, 0.0) == Choice()


def test_memory_is_kept_for_what_running_ones_will_write() -> None:
    """Cells must suffice for the prompt, the answer, and the rest of all answers under way."""
    queue = _queue(a=100, z=100)
    _put(queue, _waiter(0))
    running = [_running(9, n_written=40)]  # will write 60 more
    needed = 100 + 100 + 60

    assert queue.choose(running, Room(1, needed - 1), _need, 0.0) == Choice()
    assert queue.choose(running, Room(1, needed), _need, 0.0) == Choice(admit=0)


def test_anything_is_admitted_when_nothing_runs() -> None:
    """A request that is predicted not to fit is tried when it would have everything for itself."""
    queue = _queue(a=100)
    _put(queue, _waiter(0))

    assert queue.choose((), Room(2, 110), _need, 0.0) == Choice(admit=0)


def test_small_ones_may_pass_a_large_one_for_a_while() -> None:
    """What does not fit is passed by smaller ones eight times; then the memory is kept for it."""
    queue = _queue(replace(LIMITS, max_queue=100), a=10, z=10)
    _put(queue, *(_waiter(number) for number in range(20)))
    passed = []
    while True:
        choice = queue.choose([_running(99)], Room(1, 200), lambda number: 100 if number else 5000, 0.0)
        if choice.admit is None:
            break
        passed.append(choice.admit)

    assert passed == list(range(1, 9))
    assert queue.choose([_running(99)], Room(1, 6000), lambda number: 5000, 0.0) == Choice(admit=0)


# ------------------------------------------------------------------ pauses


def test_long_one_of_lower_priority_is_paused_for_a_deadline() -> None:
    """A deadline that waiting would cost is met by pausing the longest one; nobody else takes its slot."""
    queue = _queue(a=50, z=900)
    _put(queue, _waiter(0, priority=1, deadline_s=2.0))
    running = [_running(8, n_written=500), _running(9, n_written=10)]
    first = queue.choose(running, FULL, _need, 0.0)
    queue.put_back(replace(running[1].waiter, n_done=10, n_pauses=1))
    _put(queue, _waiter(10, priority=2), running=running[:1])

    assert first == Choice(pause=9)
    assert queue.choose(running[:1], ROOM, _need, 0.0) == Choice(admit=0)


def test_same_pause_is_asked_for_once() -> None:
    """A caller that asks again before it has paused gets no second victim for the same slot."""
    queue = _queue(a=50, z=900)
    _put(queue, _waiter(0, priority=1, deadline_s=2.0))
    running = [_running(9), Running(_waiter(8, "z", 1), 10, -100.0, 110)]
    first = queue.choose(running, FULL, _need, 0.0)

    assert first == Choice(pause=9)
    assert queue.choose(running, FULL, _need, 0.0) == Choice()


@pytest.mark.parametrize(
    "spared",
    [
        _running(9, priority=1),
        replace(_running(9), waiter=replace(_waiter(9, "z"), n_pauses=2)),
        _running(9, n_written=899),
        replace(_running(9), started_at=-0.01),
    ],
    ids=["as important", "paused twice", "nearly done", "just begun"],
)
def test_who_is_not_paused(spared: Running) -> None:
    """Nobody of the same priority, nobody a third time, nobody who has just begun or is nearly done."""
    queue = _queue(a=50, z=900)
    _put(queue, _waiter(0, priority=1, deadline_s=2.0))

    assert queue.choose([spared, _running(8, priority=1)], FULL, _need, 0.0) == Choice()
    assert queue.choose([_running(9), _running(8, priority=1)], FULL, _need, 0.0) == Choice(pause=9)


def test_short_wait_is_no_reason_to_pause() -> None:
    """Higher priority alone pauses nobody when somebody leaves soon."""
    queue = _queue(a=50, z=900)
    _put(queue, _waiter(0, priority=1))

    assert queue.choose([_running(9), _running(8, n_written=880)], FULL, _need, 0.0) == Choice()


def test_nobody_is_paused_in_vain() -> None:
    """When all that could be paused would not free enough memory, all go on."""
    queue = _queue(a=50, z=900)
    _put(queue, _waiter(0, priority=1, deadline_s=2.0))
    running = [_running(9), _running(8, priority=1)]

    assert queue.choose(running, Room(0, 1800), lambda number: 5000, 0.0) == Choice()


def test_a_shortage_of_cells_spares_nobody_a_pause() -> None:
    """However often it had to leave for want of cells, it makes way for a deadline."""
    queue = _queue(a=50, z=900)
    _put(queue, _waiter(0, priority=1, deadline_s=2.0))
    often_short = replace(_running(9), waiter=replace(_waiter(9, "z"), n_shortages=9))

    assert queue.choose([often_short, _running(8, priority=1)], FULL, _need, 0.0) == Choice(pause=9)


def test_one_that_ran_out_of_cells_comes_back_when_it_can_stay() -> None:
    """Its prediction is used up: it waits until it could write as much again."""
    queue = _queue(a=100, z=100)
    queue.put_back(replace(_waiter(0), n_prompt_tokens=500, n_done=400, n_shortages=1))
    running = [_running(9, n_written=40)]  # will write 60 more
    needed = 500 + 400 + 60

    assert queue.choose(running, Room(1, needed - 1), lambda number: 500, 0.0) == Choice()
    assert queue.choose(running, Room(1, needed), lambda number: 500, 0.0) == Choice(admit=0)


def test_nobody_takes_the_cells_that_one_ran_out_of() -> None:
    """Smaller ones that came later do not pass it; what is more important does."""
    queue = _queue(a=100, z=100)
    queue.put_back(replace(_waiter(0), n_done=400, n_shortages=1))
    _put(queue, _waiter(1))
    running = [_running(9)]

    assert queue.choose(running, Room(1, 400), lambda number: 10, 0.0) == Choice()
    _put(queue, _waiter(2, priority=1), running=running)
    assert queue.choose(running, Room(1, 400), lambda number: 10, 0.0) == Choice(admit=2)


# ------------------------------------------------------------------ overload


def test_full_queue_refuses() -> None:
    """One too many of the same kind is refused at once, with a time to come back."""
    queue = _queue(a=100)
    running = [_running(8, "a"), _running(9, "a")]
    _put(queue, *(_waiter(number) for number in range(4)), running=running)

    with pytest.raises(Overloaded, match="the queue is full: 4 requests wait") as caught:
        queue.put(_waiter(4), running, 0.0)
    assert 1 <= caught.value.retry_after_s <= 60
    assert len(queue) == 4


def test_free_slots_count_as_places() -> None:
    """With no queue allowed, requests still come in as long as slots are free for them."""
    queue = _queue(replace(LIMITS, max_queue=0), a=100)
    _put(queue, _waiter(0), _waiter(1))

    with pytest.raises(Overloaded):
        queue.put(_waiter(2), (), 0.0)


def test_less_urgent_one_is_pushed_out() -> None:
    """A full queue makes place for higher priority; the last of the lowest priority goes."""
    queue = _queue(a=100)
    running = [_running(8), _running(9)]
    _put(queue, _waiter(0), _waiter(1), _waiter(2, priority=1), _waiter(3, priority=1), running=running)
    (refusal,) = queue.put(_waiter(4, priority=1), running, 0.0)

    assert refusal.number == 1
    assert refusal.retry_after_s >= 1
    assert sorted(_order(queue)) == [0, 2, 3, 4]


def test_flooding_scope_makes_place_for_another() -> None:
    """A scope that fills the queue loses its last request to a scope that has fewer, but not the other way round."""
    queue = _queue(a=100, b=100)
    running = [_running(8), _running(9)]
    _put(queue, *(_waiter(number) for number in range(4)), running=running)
    (refusal,) = queue.put(_waiter(4, "b"), running, 0.0)

    assert refusal.number == 3
    with pytest.raises(Overloaded):
        queue.put(_waiter(5), running, 0.0)


def test_long_wait_is_refused_at_once() -> None:
    """Who would probably wait longer than allowed hears so when it comes; higher priority does not wait for it."""
    queue = _queue(QueueLimits(2, 10_000, max_queue=100, max_queue_s=5.0), a=300)
    running = [_running(8, "a", 1), _running(9, "a", 1)]
    _put(queue, _waiter(0), _waiter(1), running=running)

    with pytest.raises(Overloaded, match="at most 5 s in the queue, got about 6 s"):
        queue.put(_waiter(2), running, 0.0)
    _put(queue, _waiter(3, priority=1), running=running)


def test_deadline_that_cannot_be_met_is_refused_at_once() -> None:
    """A deadline before the predicted end is refused, unless nobody has to be waited for."""
    queue = _queue(a=300)
    running = [_running(8, "a"), _running(9, "a")]

    with pytest.raises(Overloaded, match="until its deadline"):
        queue.put(_waiter(0, deadline_s=4.0), running, 0.0)
    _put(queue, _waiter(1, deadline_s=8.0), running=running)
    assert queue.expire(3.0) == ()


def test_idle_engine_tries_what_looks_hopeless() -> None:
    """With a free slot nobody is refused because of a prediction, which could not be corrected otherwise."""
    queue = _queue(a=300)
    _put(queue, _waiter(0, deadline_s=1.0))

    assert queue.expire(0.5) == ()
    assert queue.choose((), ROOM, _need, 0.5) == Choice(admit=0)


def test_nobody_is_refused_because_of_a_guess() -> None:
    """Before anything was heard, a tight deadline waits its turn."""
    queue = AdmissionQueue(LIMITS, Forecast())
    _put(queue, _waiter(0, deadline_s=0.5), running=[_running(8), _running(9)])

    assert queue.expire(0.4) == ()


def test_waiting_ones_expire() -> None:
    """Who waited longer than allowed, or whose deadline is lost, is refused."""
    queue = _queue(a=300)
    running = [_running(8, "a", n_written=200), _running(9, "a", n_written=200)]
    _put(queue, _waiter(0), _waiter(1, deadline_s=10.0), running=running)

    assert queue.expire(5.0) == ()
    assert [one.number for one in queue.expire(8.0)] == [1]
    assert [one.number for one in queue.expire(60.5)] == [0]
    assert len(queue) == 0


def test_paused_one_is_never_refused() -> None:
    """It outlasts limits and deadline and is not pushed out, as part of its answer may have been sent."""
    queue = _queue(replace(LIMITS, max_queue=1), a=100, z=100)
    running = [_running(8), _running(9)]
    queue.put_back(replace(_waiter(0, deadline_s=5.0, priority=-1), n_done=50, n_pauses=1))

    with pytest.raises(Overloaded):
        queue.put(_waiter(1), running, 0.0)
    assert queue.expire(500.0) == ()
    assert _order(queue, now=500.0) == [0]


def test_removed_one_is_gone() -> None:
    """A cancelled request is not chosen; cancelling what does not wait is nothing."""
    queue = _queue(a=100)
    _put(queue, _waiter(0), _waiter(1))
    queue.remove(0)
    queue.remove(7)

    assert _order(queue) == [1]


# ------------------------------------------------------------------ predictions


def test_wait_is_what_lies_before_it() -> None:
    """Waiting for higher priority and one's own, not for lower; nothing when a slot is free."""
    queue = _queue(replace(LIMITS, max_queue=100), a=100)
    idle_s = queue.wait_s(0, [_running(8, "a")], 0.0)
    running = [_running(8, "a", 1, n_written=50), _running(9, "a", 1, n_written=50)]
    free_s = queue.wait_s(0, running, 0.0)
    _put(queue, *(_waiter(number) for number in range(4)), running=running)

    assert idle_s == 0
    assert free_s == pytest.approx(0.5, rel=0.05)
    assert queue.wait_s(0, running, 0.0) == pytest.approx(0.5 + 4 * 1.1 / 2, rel=0.05)
    assert queue.wait_s(1, running, 0.0) == pytest.approx(free_s)


def test_scarce_memory_makes_the_wait_longer() -> None:
    """Where the memory holds fewer requests than there are slots, slots are not counted as free."""
    roomy, scarce = (_queue(QueueLimits(8, n_cells), a=100) for n_cells in (10_000, 450))
    running = [_running(8, "a"), _running(9, "a")]

    assert roomy.wait_s(0, running, 0.0) == 0
    assert scarce.wait_s(0, running, 0.0) > 0.5


def test_new_service_times_reach_those_that_wait() -> None:
    """When answers turn out much slower, deadlines of those that wait are seen in the new light."""
    queue = _queue(replace(LIMITS, max_queue=10), a=100)
    running = [_running(8, "z"), _running(9, "z")]
    _put(queue, _waiter(0), _waiter(1, deadline_s=30.0), running=running)
    for number in range(100, 200):
        queue.heard(Served(_waiter(number), 100, 100, 0.1, 20.0, 2), 0.0)

    assert _order(queue) == [1, 0]
