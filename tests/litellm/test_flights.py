import pytest

from echo_proxy.litellm.flights import Flight, FlightBook, Serving, serving_of
from echo_proxy.types import Plan, StoredAnswer
from tests.builders import NOW, answer, example, failed, lane, plan, request, served


def flight(taken_off_at: float = 0.0, is_streamed: bool = False) -> Flight:
    return Flight(lane(), plan(request=request(is_streamed=is_streamed)), taken_off_at)


@pytest.mark.parametrize(
    ("is_streamed", "has_answer", "error", "stream_end", "is_due"),
    [
        (False, False, None, None, False),
        (False, True, None, None, True),
        (True, True, None, None, False),
        (True, False, None, True, False),
        (True, True, None, True, True),
        (True, True, None, False, True),
        (True, True, "Timeout", None, True),
    ],
)
def test_a_flight_is_due_when_all_is_known(
    is_streamed: bool, has_answer: bool, error: str | None, stream_end: bool | None, is_due: bool
) -> None:
    """A stream needs its answer and its end, in either order; an error ends both."""
    one = flight(is_streamed=is_streamed)
    one.answer = answer(error=error) if has_answer else None
    one.stream_end = stream_end

    assert one.is_due is is_due


def test_a_settled_flight_is_not_due_again() -> None:
    """LiteLLM reports some calls twice."""
    one = flight()
    one.answer, one.is_settled = answer(), True

    assert one.is_due is False


def test_only_deployments_that_failed_are_avoided() -> None:
    """By their ids."""
    one = flight()
    one.attempts = [failed(), served()]
    two = flight()
    two.attempts = [served()]

    assert (one.failed_deployments, two.failed_deployments) == ({"large-1"}, frozenset())


def test_flights_are_found_by_call_id() -> None:
    """Until they are dropped, which may happen twice."""
    book, one = FlightBook(), flight()

    gone = book.put("c1", one)
    found = (book.get("c1"), book.get("c2"))
    book.drop("c1")
    book.drop("c1")

    assert (gone, found, book.get("c1"), len(book)) == ([], (one, None), None, 0)


def test_the_oldest_flights_go_when_there_are_too_many() -> None:
    """They are handed back, so that they can be counted."""
    book, flights = FlightBook(max_flights=2), [flight() for _ in range(4)]

    gone = [lost for i, one in enumerate(flights) for lost in book.put(f"c{i}", one)]

    assert gone == flights[:2]
    assert (book.get("c1"), book.get("c2"), len(book)) == (None, flights[2], 2)


def test_flights_that_are_too_old_go() -> None:
    """A caller that left without a report would stay for ever."""
    book, old, young, new = FlightBook(max_age_s=10), flight(0), flight(5), flight(11)
    book.put("old", old)
    book.put("young", young)

    assert book.put("new", new) == [old]
    assert len(book) == 2


def considered(is_served: bool, is_shadow: bool = False) -> Plan:
    return plan(answer=StoredAnswer(example(), 0.1, 0.5, is_served, "drawn"), is_shadow=is_shadow)


def test_a_served_answer_is_told_with_its_age() -> None:
    """A clock that went back makes nothing younger than new."""
    assert serving_of(considered(True), NOW + 5) == Serving("Paris.", "stored", "e1", 5.0)
    assert serving_of(considered(True), NOW - 5) == Serving("Paris.", "stored", "e1", 0.0)


@pytest.mark.parametrize("one", [plan(), considered(False), considered(True, is_shadow=True)])
def test_nothing_is_served_that_was_only_considered(one: Plan) -> None:
    """Nor in shadow mode."""
    assert serving_of(one, NOW) is None


@pytest.mark.parametrize(("words", "expected"), [(None, "Paris."), ("<CITY>.", "<CITY>.")])
def test_an_answer_is_told_as_the_model_gave_it(words: str | None, expected: str) -> None:
    """Where that is known; else as it was reported."""
    one = flight()
    one.words = words

    assert one.given(answer("Paris.")) == expected
