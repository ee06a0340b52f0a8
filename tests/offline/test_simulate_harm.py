import numpy as np
import pytest

from echo_proxy.offline.simulate_harm import Dealt, harm


def dealt(at: list[float], latest: list[float], occupied_s: float = 1.0, slack_s: float = 0.0) -> Dealt:
    n = len(at)
    return Dealt(np.array(at), np.full(n, occupied_s), np.array(latest), np.full(n, 0.8), slack_s)


def test_no_later_request_no_harm() -> None:
    """Nobody comes after it, or only after it is done."""
    assert harm([0.0], 0.0, 1.0, dealt([], [])) == 0.0
    assert harm([0.0], 0.0, 1.0, dealt([1.5], [1.5])) == 0.0


def test_who_becomes_late_is_counted() -> None:
    """One slot, a request every half second behind it: those whose latest beginning is passed lose their quality."""
    later = dealt([0.5, 1.5, 2.5], [0.9, 9.0, 2.6])

    assert harm([0.0], 0.0, 1.0, later) == pytest.approx(2 * 0.8)


def test_a_free_slot_spares_the_others() -> None:
    """With two slots nobody waits."""
    assert harm([0.0, 0.0], 0.0, 1.0, dealt([0.5, 1.5], [0.5, 1.5])) == 0.0


def test_who_is_late_anyway_is_not_counted() -> None:
    """The queue was too long before."""
    assert harm([5.0], 0.0, 1.0, dealt([0.5], [1.0])) == 0.0


def test_with_slack_a_part_is_lost() -> None:
    """Half a second too late of one second of slack."""
    assert harm([0.0], 0.0, 1.0, dealt([0.5], [0.5], slack_s=1.0)) == pytest.approx(0.4)
