from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.local.occupancy import Plan, Standing, plan_next

WAITED_FOR = Standing("new", "unloaded", asked_at=5.0)
BUSY = Standing("busy", "ready", is_busy=True, used_at=9.0, turn_ends_at=4.0)
IDLE = Standing("idle", "ready", used_at=8.0, turn_ends_at=99.0)

times = st.floats(0, 20)
standings = st.lists(
    st.builds(
        Standing,
        name=st.uuids().map(str),
        phase=st.sampled_from(["unloaded", "ready", "failed"]),
        asked_at=st.none() | times,
        is_wished=st.booleans(),
        retry_at=times,
        is_busy=st.booleans(),
        used_at=times,
        turn_ends_at=times,
        unload_after_s=st.none() | times,
    ),
    max_size=5,
    unique_by=lambda one: one.name,
)


def test_who_waits_longest_is_loaded_first() -> None:
    """Callers come before what is loaded at the start."""
    others = [replace(WAITED_FOR, name="later", asked_at=6.0), Standing("wished", "unloaded", is_wished=True)]

    assert plan_next([*others, WAITED_FOR], 3, 10.0) == Plan(load="new")
    assert plan_next(others[1:], 3, 10.0) == Plan(load="wished")


def test_a_model_with_nothing_to_do_makes_room_at_once() -> None:
    """The one that was used longest ago goes; who is busy stays."""
    younger = replace(IDLE, name="younger", used_at=8.5)

    assert plan_next([BUSY, younger, IDLE, WAITED_FOR], 3, 10.0) == Plan(close="idle")


def test_a_busy_model_gets_nothing_new_after_its_turn() -> None:
    """Traffic without end on one model does not starve the other; before its turn ends nothing changes."""
    assert plan_next([BUSY, WAITED_FOR], 1, 10.0) == Plan(leaving="busy", is_contended=True)
    assert plan_next([replace(BUSY, turn_ends_at=11.0), WAITED_FOR], 1, 10.0) == Plan(is_contended=True)


def test_a_wish_without_a_caller_pushes_nobody_out() -> None:
    """What should be loaded at the start waits for room."""
    assert plan_next([IDLE, Standing("wished", "unloaded", is_wished=True)], 1, 10.0) == Plan()


def test_a_failed_model_rests() -> None:
    """It is neither tried nor does it push out others before its time."""
    failed = Standing("failed", "failed", asked_at=1.0, retry_at=11.0)

    assert plan_next([IDLE, failed], 1, 10.0) == Plan()
    assert plan_next([failed], 1, 11.0) == Plan(load="failed")


def test_one_model_changes_at_a_time() -> None:
    """While one is loaded or closed, the next waits."""
    loading = Standing("loading", "loading", is_changing=True)

    assert plan_next([loading, IDLE, WAITED_FOR], 3, 10.0) == Plan()


def test_an_idle_model_leaves_after_its_time() -> None:
    """Exactly when nobody asked for so long, and never while it has something to do."""
    idle = replace(IDLE, unload_after_s=2.0)

    assert plan_next([idle], 1, 9.9) == Plan()
    assert plan_next([idle], 1, 10.0) == Plan(close="idle")
    assert plan_next([replace(idle, is_busy=True)], 1, 99.0) == Plan()


@given(standings, st.integers(1, 4), times)
def test_plans_keep_the_rules(standings: list[Standing], max_loaded: int, now: float) -> None:
    """Never more than may be loaded, never a busy one closed, and who waits is never left without a way in."""
    plan = plan_next(standings, max_loaded, now)
    by_name = {one.name: one for one in standings}
    loaded = [one for one in standings if one.phase == "ready"]

    assert plan.load is None or plan.close is None
    assert plan.load is None or len(loaded) < max_loaded
    assert plan.load is None or (by_name[plan.load].phase != "ready" and by_name[plan.load].retry_at <= now)
    assert plan.close is None or (by_name[plan.close].phase == "ready" and not by_name[plan.close].is_busy)
    if any(one.asked_at is not None and one.phase != "ready" and one.retry_at <= now for one in standings):
        assert plan.load or plan.close or plan.leaving or all(one.turn_ends_at > now for one in loaded)
