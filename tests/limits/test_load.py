import pytest

from echo_proxy.limits.load import LoadBoard, load_bias
from echo_proxy.policy import LoadPolicy
from echo_proxy.types import Arm, Conditions, Forecast, Load

SMALL, LARGE = Arm("small+0", "small", 0), Arm("large+0", "large", 0)
RULES = LoadPolicy(weight=0.5, steepness=2.0, threshold=4.0)


def conditions(small: float, large: float, **more: Forecast) -> Conditions:
    return Conditions(
        {"small": Load(small), "large": Load(large)}, {name.replace("_", "+"): f for name, f in more.items()}
    )


def test_quality_decides_alone_up_to_the_threshold() -> None:
    """Nothing at all is taken while no deployment is above its threshold."""
    at_threshold = load_bias((SMALL, LARGE), conditions(4, 4), RULES)
    above = load_bias((SMALL, LARGE), conditions(4, 4.5), RULES)

    assert at_threshold is None
    assert above is not None
    assert above.penalties[0] == 0.0
    assert above.penalties[1] > 0.0


@pytest.mark.parametrize(("small", "large"), [(0, 12), (12, 0)])
def test_traffic_moves_away_from_the_busy_deployment(small: float, large: float) -> None:
    """The busy one loses, be it the dear one or the cheap one; the other loses nothing."""
    taken = load_bias((SMALL, LARGE), conditions(small, large), RULES)

    assert taken is not None
    assert (taken.penalties[0] > 0.4) == (small > large)
    assert (taken.penalties[1] > 0.4) == (large > small)
    assert min(taken.penalties) == 0.0


def test_when_all_are_busy_the_least_compute_wins() -> None:
    """At equal load the arm that takes least of its deployment's capacity loses least."""
    forecasts = {"small_0": Forecast(0.0, 9.0, 5, service_s=1.0), "large_0": Forecast(0.0, 9.0, 5, service_s=4.0)}
    taken = load_bias((SMALL, LARGE), conditions(20, 20, **forecasts), RULES)

    assert taken is not None
    assert taken.penalties[0] == pytest.approx(taken.penalties[1] / 4)
    assert taken.penalties[1] == pytest.approx(0.5, abs=1e-3)


def test_bias_grows_with_load_up_to_the_weight() -> None:
    """It is lambda * tanh(gamma * x): steeper first, never above lambda."""
    found = [load_bias((SMALL, LARGE), conditions(0, n), RULES) for n in (5, 6, 8, 1000)]
    penalties = [one.penalties[1] for one in found if one]

    assert penalties == sorted(penalties)
    assert len(penalties) == 4
    assert penalties[-1] == pytest.approx(0.5)


def test_latency_counts_where_it_is_asked_for() -> None:
    """A deployment that others keep busy is slow with few requests of ours."""
    slow = Conditions({"large": Load(1, 0, 9.0)})
    by_requests = load_bias((SMALL, LARGE), slow, RULES)
    by_latency = load_bias((SMALL, LARGE), slow, LoadPolicy(latency_s=3.0))

    assert by_requests is None
    assert by_latency is not None
    assert by_latency.penalties[1] > by_latency.penalties[0] == 0.0


def test_board_counts_requests_in_flight() -> None:
    """A start adds one, an end takes it away, a repeated start of one request counts once."""
    board = LoadBoard()
    board.start("a", "small", 0.0)
    board.start("b", "small", 1.0)
    board.start("b", "large", 2.0)
    board.end("a", 2.0)
    board.end("a", 2.0)
    board.end("unknown", 2.0)

    assert {name: load.in_flight for name, load in board.total(2.0).items()} == {"small": 0, "large": 1}
    assert board.total(2.0)["small"].latency_s == 2.0


def test_board_adds_up_workers() -> None:
    """Requests and rates of all workers add up; the worst latency counts."""
    board = LoadBoard()
    board.start("a", "small", 0.0)
    board.hear([{"small": Load(2, 1, 5.0, 0.5), "large": Load(3)}, {"small": Load(1, 4, 2.0, 0.25)}])
    total = board.total(0.0)

    assert total["small"] == Load(4, 4, 5.0, pytest.approx(0.75 + 0.1))
    assert total["large"].in_flight == 3


def test_board_forgets_what_was_lost_or_is_stale() -> None:
    """Requests that never end and latencies that nothing confirms do not count for ever."""
    board = LoadBoard()
    board.start("lost", "small", 0.0)
    board.start("done", "large", 0.0)
    board.end("done", 30.0)

    assert board.total(31.0)["large"].latency_s == 30.0
    assert board.total(301.0) == {"small": Load(0, 0, 0, pytest.approx(0)), "large": Load(0, 0, 0, pytest.approx(0))}


def test_board_measures_arrivals() -> None:
    """Two starts a second are a rate of about two a second."""
    board = LoadBoard()
    for i in range(200):
        board.start(str(i), "small", i / 2)

    assert board.total(99.5)["small"].starts_per_s == pytest.approx(2.0, rel=0.05)


def test_a_request_that_waits_in_the_process_counts_once() -> None:
    """In flight here and held there is the same request; only what others have sent there waits beside."""
    board = LoadBoard()
    for name in "abc":
        board.start(name, "small", 0.0)
    board.tell({"small": Load(held=3, wait_s=2.0, service_s=0.5)}, 0.0)
    ours_alone = board.total(0.0)["small"]
    board.tell({"small": Load(held=8)}, 0.0)
    with_others = board.total(0.0)["small"]

    assert (ours_alone.in_flight, ours_alone.waiting) == (3, 0)
    assert (ours_alone.wait_s, ours_alone.service_s) == (2.0, 0.5)
    assert (with_others.in_flight, with_others.waiting) == (3, 5)


def test_workers_speak_of_the_same_queue() -> None:
    """Requests in flight add up over workers, what the process holds does not."""
    board = LoadBoard()
    board.start("a", "small", 0.0)
    board.tell({"small": Load(held=10, wait_s=1.0, service_s=0.5)}, 0.0)
    board.hear([{"small": Load(3, held=12, wait_s=2.0, service_s=0.4)}, {"small": Load(2, held=11)}])
    total = board.total(0.0)["small"]

    assert (total.in_flight, total.held, total.waiting) == (6, 12, 6)
    assert (total.wait_s, total.service_s) == (2.0, 0.5)


def test_what_a_process_said_is_passed_on_and_forgotten() -> None:
    """Also of a deployment that this worker never chose; not for ever, when the process says no more."""
    board = LoadBoard()
    board.tell({"small": Load(held=7)}, 100.0)

    assert board.own(101.0)["small"].held == 7
    assert board.total(101.0)["small"].waiting == 7
    assert board.total(111.0)["small"] == Load(starts_per_s=pytest.approx(0))


def test_a_long_queue_of_others_moves_traffic_away() -> None:
    """The bias sees what Echo did not send there itself."""
    board = LoadBoard()
    board.tell({"small": Load(held=12)}, 0.0)
    taken = load_bias((SMALL, LARGE), Conditions(board.total(0.0)), RULES)

    assert taken is not None
    assert taken.penalties[0] > 0.4
    assert taken.penalties[1] == 0.0
