import math
from contextlib import suppress
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from echo_proxy.engine.forecast import Forecast
from echo_proxy.engine.queue import TURN, AdmissionQueue, QueueLimits, Room, Running, Served, Waiter
from echo_proxy.engine.queue_fairness import FairShare
from echo_proxy.engine.queue_line import AGEING, Entry, Line
from echo_proxy.engine.work import Overloaded
from tests.engine.queue_simulation import Arrival, SimulatedEngine

ARRIVALS = st.lists(
    st.builds(
        Arrival,
        at=st.floats(0, 4),
        n_answer=st.integers(1, 60),
        scope=st.sampled_from("abc"),
        priority=st.integers(-1, 2),
        deadline_s=st.sampled_from((0.01, 0.5, 2.0, math.inf)),
        n_prompt=st.integers(1, 300),
        most_tokens=st.integers(1, 60),
    ),
    min_size=1,
    max_size=50,
)
LIMITS = st.builds(
    QueueLimits,
    n_parallel=st.integers(1, 4),
    n_cells=st.integers(360, 1500),  # the largest fits alone
    max_queue=st.integers(0, 30),
    max_queue_s=st.sampled_from((0.2, 2.0, 60.0)),
)


@settings(max_examples=60, deadline=None)
@given(ARRIVALS, LIMITS)
def test_everybody_gets_exactly_one_fate(arrivals: list[Arrival], limits: QueueLimits) -> None:
    """Whatever comes, the queue never stalls, and each request is served or refused, in time and never both."""
    fates = SimulatedEngine(limits).run(arrivals)  # which itself fails on a stall and on a begun one that is refused

    assert len(fates) == len(arrivals)
    for fate in fates:
        assert (fate.ended_at is None) != (fate.refused_at is None)
        assert fate.wait_s <= limits.max_queue_s + 0.1 or fate.ended_at is not None
        assert fate.refused_at is None or 1 <= (fate.retry_after_s or 0) <= 60


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 100), st.sampled_from("xy"), st.integers(0, 900)), min_size=40, max_size=150))
def test_lowest_priority_starves_under_no_flood(flood: list[tuple[int, str, int]]) -> None:
    """However many more important ones keep coming, the least important one leaves within 2 * TURN admissions, though
    small ones fit and it does not: then the memory is kept for it until it does."""
    queue = AdmissionQueue(QueueLimits(4, 4000, max_queue=10_000, max_queue_s=math.inf), Forecast())
    queue.put(Waiter(0, "low", 0, 0.0, math.inf, 3000, 10), (), 0.0)
    beside = Running(Waiter(-1, "z", 200, 0.0, math.inf, 10, 10), 0, 0.0, 10)
    n_others = 0
    for number, (priority, scope, n_prompt) in enumerate(flood, start=1):
        queue.put(Waiter(number, scope, priority, number, math.inf, n_prompt, 10), (), number)
        choice = queue.choose([beside], Room(1, 1500), lambda one: 3000 if one == 0 else 10, number)
        n_others += choice.admit is not None
        assert choice.admit != 0

    assert n_others <= 2 * TURN
    if n_others == 2 * TURN:
        assert queue.choose([beside], Room(1, 3900), lambda one: 3000, 1e3).admit == 0


@given(
    st.lists(
        st.tuples(st.floats(0, 100), st.floats(0.01, 50), st.integers(0, 1), st.sampled_from("ab")),
        min_size=1,
        max_size=30,
    )
)
def test_order_keeps_its_promises(rows: list[tuple[float, float, int, str]]) -> None:
    """Without deadlines: all are told once, priorities fall, and within a scope ageing bounds who passes whom."""
    line = Line(FairShare())
    for number, (at, service_s, priority, scope) in enumerate(rows):
        line.add(Entry(Waiter(number, scope, priority, at, math.inf, 10, 100), 10.0, service_s, math.inf))
    told = list(line.ordered(200.0, 1.0))

    assert sorted(one.waiter.number for one in told) == list(range(len(rows)))
    assert [one.waiter.priority for one in told] == sorted((one.waiter.priority for one in told), reverse=True)
    for first, later in ((a, b) for at, a in enumerate(told) for b in told[at + 1 :]):
        if (first.waiter.scope, first.waiter.priority) == (later.waiter.scope, later.waiter.priority):
            head_start_s = AGEING * (later.service_s - first.service_s)
            assert first.waiter.arrived_at - later.waiter.arrived_at <= head_start_s + 1e-9


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2), st.sampled_from("ab"), st.booleans()), max_size=60))
def test_line_forgets_what_left(moves: list[tuple[int, int, str, bool]]) -> None:
    """After any sequence of coming, changing and leaving, the sorted lists hold those that wait and nothing else."""
    line = Line(FairShare())
    for number, priority, scope, has_deadline in moves:
        entry = line.get(number)
        if entry is None:
            until = 50.0 + number if has_deadline else math.inf
            line.add(Entry(Waiter(number, scope, priority, 0.0, until, 10, 100), 10.0, 1.0, until))
        elif has_deadline:
            line.replace(replace(entry, service_s=entry.service_s + 1, is_late=True, give_up_at=math.inf))
        else:
            line.pop(number)
    waiting = {one.waiter.number for one in line}

    assert {one.waiter.number for one in line.ordered(0.0, 1.0)} == waiting
    assert len(line) == len(waiting)
    assert not waiting or line.oldest.waiter.number == min(waiting)
    for number in waiting:
        line.pop(number)
    assert not line._levels
    assert not line._priorities
    assert not line._give_up
    assert not line._n_by_scope


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 500), st.floats(0.1, 100)), max_size=40),
    st.integers(0, 4),
    st.integers(0, 3),
)
def test_something_is_admitted_when_nothing_runs(
    arrivals: list[tuple[int, int, float]], n_heard: int, priority: int
) -> None:
    """However little memory there seems to be, an empty batch gets somebody; waits are finite and never negative."""
    queue = AdmissionQueue(QueueLimits(2, 600), Forecast())
    for _ in range(n_heard):
        queue.heard(Served(Waiter(-1, "a", 0, 0.0, math.inf, 50, 500), 50, 400, 0.1, 4.0, 2), 0.0)
    for number, (level, n_prompt, deadline_s) in enumerate(arrivals):
        with suppress(Overloaded):
            queue.put(Waiter(number, "a", level, 0.0, deadline_s, n_prompt, 500), (), 0.0)
    while len(queue):
        assert 0 <= queue.wait_s(priority, (), 0.0) < math.inf
        assert queue.choose((), Room(2, 600), lambda one: 500, 0.0).admit is not None
