import math

from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.engine.queue_fairness import FairShare
from echo_proxy.engine.queue_records import Waiter


def _waiter(number: int, scope: str) -> Waiter:
    return Waiter(number, scope, 0, 0.0, math.inf, 10, 100)


def _serve(shares: FairShare, number: int, scope: str, n_tokens: int, now: float = 0.0) -> None:
    shares.begin(_waiter(number, scope), 0, n_tokens, now)
    shares.settle(_waiter(number, scope), n_tokens, now)


def test_prediction_is_settled_with_what_was_written() -> None:
    """In the end a scope is charged what it got, whatever was predicted."""
    shares = FairShare()
    shares.begin(_waiter(1, "a"), 10, 400.0, 0.0)
    before = shares.of("a")
    shares.settle(_waiter(1, "a"), 5, 0.0)

    assert before == 810
    assert shares.of("a") == 20


def test_absence_earns_nothing() -> None:
    """A scope that comes back is lifted to the least served of those that wait."""
    shares = FairShare()
    _serve(shares, 1, "a", 1000)
    shares.wake("back", ["a"])

    assert shares.of("back") == shares.of("a")


def test_absence_earns_nothing_when_nobody_waits() -> None:
    """With nobody waiting, it is lifted to the scope that left the queue last."""
    shares = FairShare()
    _serve(shares, 1, "a", 1000)
    shares.sleep("a")
    shares.wake("back", [])

    assert shares.of("back") == shares.of("a")


def test_old_service_fades() -> None:
    """What was served long ago weighs less than what was served now."""
    shares = FairShare()
    _serve(shares, 1, "early", 1000, now=0.0)
    _serve(shares, 2, "late", 300, now=600.0)

    assert shares.of("late") > shares.of("early")


def test_uptime_of_months_is_no_problem() -> None:
    """Counters stay finite and in order however late it is."""
    shares = FairShare()
    for hour in range(0, 24 * 100):
        _serve(shares, hour, "a" if hour % 2 else "b", 100, now=3600.0 * hour)

    assert 0 <= shares.of("b") < shares.of("a") < math.inf


def test_memory_is_bounded() -> None:
    """Ever new scopes do not fill the memory, and those that wait are kept."""
    shares = FairShare()
    for number in range(5000):
        shares.wake(str(number), ["0"])
        _serve(shares, number, str(number), 1)

    assert len(shares._served) <= 1026
    assert shares.of("0") > 0


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 300), st.integers(1, 300)), max_size=50))
def test_counters_are_never_negative(history: list[tuple[str, int, int]]) -> None:
    """However wrong predictions were, nobody gets credit from nothing."""
    shares = FairShare()
    for number, (scope, predicted, written) in enumerate(history):
        shares.begin(_waiter(number, scope), 0, predicted, number)
        shares.settle(_waiter(number, scope), written, number)

    assert shares.of("a") >= 0
    assert shares.of("b") >= 0
