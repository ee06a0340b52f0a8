"""The client loop sends every request once to every phase, judges it, and gives feedback where Echo decided."""

from collections.abc import Iterator

import pytest

from echo_proxy.demo.client import DemoClient
from echo_proxy.demo.phases import LARGE_ONLY, SMALL_ONLY, Answer, phases_for
from echo_proxy.demo.play import BLOCK, play, warm_up
from echo_proxy.demo.proxy import Connection, DemoFailed
from echo_proxy.demo.report import answers_of, summarize
from echo_proxy.demo.traffic import Ask, stream
from echo_proxy.demo.world import make_world
from tests.demo.fake_proxy import FakeProxy, serving

N = BLOCK + 5
PHASES = phases_for(("epsilon_greedy", "ucb1"))
ECHO = PHASES[2]


@pytest.fixture(scope="module")
def asks() -> list[Ask]:
    """One full block and a part of the next."""
    return stream(make_world(), N, seed=1)


@pytest.fixture
def proxy(asks: list[Ask]) -> FakeProxy:
    """A fake that knows the stream."""
    fake = FakeProxy()
    fake.knows(asks)
    return fake


@pytest.fixture
def connection(proxy: FakeProxy) -> Iterator[Connection]:
    """Where the fake is."""
    with serving(proxy) as found:
        yield found


async def _play(connection: Connection, asks: list[Ask], seen: list[Answer]) -> list[Answer]:
    async with DemoClient(connection) as client:
        return await play(client, PHASES, asks, 4, seen.append)


async def test_every_phase_answers_the_whole_stream(connection: Connection, proxy: FakeProxy, asks: list[Ask]) -> None:
    """Each request goes once to each phase, and the view sees every answer."""
    seen: list[Answer] = []

    answers = await _play(connection, asks, seen)

    assert seen == answers
    assert proxy.n_asked == {"large": N, "small": N, "demo-epsilon": N, "demo-ucb": N}
    for phase in PHASES:
        assert sorted(answer.index for answer in answers_of(phase, answers)) == list(range(N))


async def test_phases_take_turns(connection: Connection, asks: list[Ask]) -> None:
    """A block goes to every phase before the next block begins, and the next begins with another phase."""
    answers = await _play(connection, asks, [])

    first, second = answers[: BLOCK * len(PHASES)], answers[BLOCK * len(PHASES) :]
    assert {answer.index for answer in first} == set(range(BLOCK))
    assert (first[0].phase, second[0].phase) == (PHASES[0], PHASES[1])


async def test_answers_are_judged_and_measured(connection: Connection, asks: list[Ask]) -> None:
    """Quality comes from the world, the rest from headers and usage."""
    answers = await _play(connection, asks, [])
    large, small, echo = (summarize(phase, answers) for phase in PHASES[:3])

    assert (large.correctness, large.share_small) == (1.0, 0.0)
    assert (small.correctness, small.share_small) == (0.0, 1.0)
    assert (echo.correctness, echo.share_small, echo.share_with_examples) == (1.0, 1.0, 1.0)
    assert echo.cost_usd == pytest.approx(N * 0.0001)
    assert (echo.prompt_tokens, echo.completion_tokens) == (10 * N, 5 * N)
    assert answers_of(ECHO, answers)[0].arm == "small+1"


async def test_feedback_goes_to_echo_only(connection: Connection, proxy: FakeProxy, asks: list[Ask]) -> None:
    """Every decision gets the quality of its answer; plain LiteLLM gets none."""
    answers = await _play(connection, asks, [])

    assert proxy.feedback == {one.decision_id: one.quality for one in answers if one.phase.is_echo}
    assert len(proxy.feedback) == 2 * N


async def test_concurrency_is_a_limit(connection: Connection, proxy: FakeProxy, asks: list[Ask]) -> None:
    """Never more requests at once than asked for."""
    await _play(connection, asks, [])

    assert 1 <= proxy.busiest <= 4


async def test_an_error_counts_as_a_wrong_answer(connection: Connection, proxy: FakeProxy, asks: list[Ask]) -> None:
    """A failing phase is reported and does not end the run."""
    proxy.broken_groups = frozenset({"demo-epsilon"})

    answers = await _play(connection, asks, [])
    echo = summarize(ECHO, answers)

    assert (echo.n, echo.n_errors, echo.correctness) == (N, N, 0.0)
    assert answers_of(ECHO, answers)[0].error == "InternalServerError"
    assert answers_of(ECHO, answers)[0].arm == "none"


async def test_lost_feedback_is_counted(connection: Connection, proxy: FakeProxy, asks: list[Ask]) -> None:
    """Feedback that the proxy did not take is not forgotten silently."""
    proxy.refuses_feedback = True

    answers = await _play(connection, asks, [])

    assert summarize(ECHO, answers).n_lost_feedback == N
    assert summarize(LARGE_ONLY, answers).n_lost_feedback == 0


async def test_warm_up_leaves_echo_alone(connection: Connection, proxy: FakeProxy) -> None:
    """Only the baselines are asked before the clock starts."""
    async with DemoClient(connection) as client:
        await warm_up(client, PHASES)

    assert proxy.n_asked == {"large": 1, "small": 1}


async def test_a_broken_model_stops_the_demo_at_once(connection: Connection, proxy: FakeProxy) -> None:
    """Six hundred errors would tell no more than the first."""
    proxy.broken_groups = frozenset({"small"})

    async with DemoClient(connection) as client:
        with pytest.raises(DemoFailed, match="small only: expected an answer to the first request, got Internal"):
            await warm_up(client, (SMALL_ONLY,))
