"""What comes of a stream of requests with the answer tier, and with a threshold on the distance?"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bench.keeping.answers_data import Stream
from echo_proxy.answers.consider import consider
from echo_proxy.answers.eligible import may_answer, obstacle
from echo_proxy.answers.observe import known_already, seen
from echo_proxy.answers.pool import Pools
from echo_proxy.answers.same import say_the_same
from echo_proxy.answers.witnesses import witness_of
from echo_proxy.online.names import compare_names, names_in
from echo_proxy.policy import Policy
from echo_proxy.types import Caller, Candidate, Example, Message, Observation, Request

_K = 8
_START = 1_700_000_000.0
_EVERY_S = 60.0
"""Between two requests of a team."""


@dataclass(frozen=True, slots=True)
class Count:
    """What came of a stream."""

    n: int = 0
    n_served: int = 0
    n_wrong: int = 0

    def __add__(self, other: "Count") -> "Count":
        return Count(self.n + other.n, self.n_served + other.n_served, self.n_wrong + other.n_wrong)

    @property
    def hits(self) -> float:
        """Share of requests that were served."""
        return self.n_served / self.n

    @property
    def error(self) -> float:
        """Share of requests that were served a wrong answer."""
        return self.n_wrong / self.n


class Shelf:
    """The examples of a stream, found by exact search."""

    def __init__(self, what: Stream, scope: str = "key:a") -> None:
        self._what = what
        self._scope = scope
        self._rows = np.empty(len(what.texts), dtype=np.int64)
        self._examples: list[Example] = []
        self._place: dict[int, int] = {}

    def nearest(self, i: int, max_distance: float) -> list[tuple[int, float]]:
        """Rows of the nearest examples with their distances, nearest first."""
        found: NDArray[np.float32] = self._what.near[i, self._rows[: len(self._examples)]]
        first = np.argpartition(found, _K)[:_K] if len(found) > _K else np.arange(len(found))
        order = first[np.argsort(found[first], kind="stable")]
        return [(int(row), float(found[row])) for row in order if found[row] <= max_distance]

    def example(self, row: int) -> Example:
        """The example in a row."""
        return self._examples[row]

    def text_of(self, row: int) -> int:
        """Which text it answers."""
        return int(self._rows[row])

    def add(self, i: int) -> None:
        """Keep the teacher's answer to a text, once."""
        if i not in self._place:
            self._place[i] = len(self._examples)
            self._rows[len(self._examples)] = i
            self._examples.append(_example(self._what, i, self._scope))

    def observe(self, example_id: str, seen: Observation) -> None:
        """Note it with the example, as a store does."""
        row = self._place[int(example_id)]
        one = self._examples[row]
        self._examples[row] = replace(one, observations=(*one.observations, seen)[-64:])


class Fits:
    """Which candidates may answer which text, by the proxy's own rules; each pair is looked at once."""

    def __init__(self, what: Stream, policy: Policy) -> None:
        assert policy.answers is not None
        self._rules = policy.answers
        self._what = what
        self._names = [names_in(text) for text in what.texts]
        self._requests = [_request(i, text) for i, text in enumerate(what.texts)]
        self.is_open = [obstacle(one, self._rules) is None for one in self._requests]
        """Whether a text may be answered from the store at all."""
        self._known: dict[tuple[int, int], Candidate] = {}
        self._fit: dict[tuple[int, int], bool] = {}

    def request(self, i: int) -> Request:
        """The request of a text."""
        return self._requests[i]

    def candidate(self, i: int, j: int, example: Example, distance: float) -> Candidate:
        """An example for text j, as retrieval finds it for text i."""
        known = self._known.get((i, j))
        if known is None:
            known = Candidate(example, distance, compare_names(self._names[i], example))
            self._known[(i, j)] = known
        return known if known.example is example else replace(known, example=example)

    def fits(self, i: int, j: int, example: Example, distance: float) -> bool:
        """Whether that example may answer text i."""
        if (i, j) not in self._fit:
            self._fit[(i, j)] = may_answer(self._requests[i], self.candidate(i, j, example, distance), self._rules)
        return self._fit[(i, j)]


def tier(what: Stream, fits: Fits, policy: Policy, seed: int, n_people: int = 1) -> Count:
    """The stream through the answer tier, asked by people in turns of chance; more than one share a team's scope."""
    assert policy.answers is not None
    shelf, pools, rng = Shelf(what, _scope(n_people)), Pools(), np.random.default_rng((seed, 77))
    people = np.random.default_rng((seed, 78)).integers(n_people, size=len(what.order))  # (n_requests,)
    n_served = n_wrong = 0
    for at, i in enumerate(what.order):
        near = shelf.nearest(i, policy.answers.max_distance) if fits.is_open[i] else []
        found = [  # what the rules exclude is left out beforehand, because each pair is looked at once then
            fits.candidate(i, shelf.text_of(row), shelf.example(row), distance)
            for row, distance in near
            if fits.fits(i, shelf.text_of(row), shelf.example(row), distance)
        ]
        asked = _asked(fits.request(i), at, int(people[at]), n_people)
        answer = consider(asked, found, policy, int(rng.integers(2**31)), pools)
        if answer is None:
            shelf.add(i)
            continue
        told = answer.example.response
        if answer.is_served:
            n_served += 1
            n_wrong += not what.is_right(i, told)
            continue
        same = say_the_same(told, what.said[i])
        is_correct = what.is_right(i, told) if same is None else same
        pools.learn(asked.decision_id, is_correct)
        noted = seen(answer, is_correct, _START + at, witness_of(asked.caller))
        shelf.observe(answer.example.id, noted.observation)
        if known_already(noted, asked, policy) is None:
            shelf.add(i)
    return Count(len(what.order), n_served, n_wrong)


def static(what: Stream, fits: Fits, threshold: float) -> Count:
    """The stream through a threshold on the distance."""
    shelf = Shelf(what)
    n_served = n_wrong = 0
    for i in what.order:
        near = shelf.nearest(i, threshold) if fits.is_open[i] else []
        fit = (row for row, distance in near if fits.fits(i, shelf.text_of(row), shelf.example(row), distance))
        row = next(fit, None)
        if row is None:
            shelf.add(i)
            continue
        n_served += 1
        n_wrong += not what.is_right(i, shelf.example(row).response)
    return Count(len(what.order), n_served, n_wrong)


def _scope(n_people: int) -> str:
    return "key:a" if n_people == 1 else "team:a"


def _asked(request: Request, at: int, person: int, n_people: int) -> Request:
    """A text's request as it comes from one of the people; one comes every minute."""
    if n_people == 1:
        return request
    return replace(
        request,
        decision_id=f"{request.decision_id}-{at}",
        caller=Caller(f"p{person}"),
        scope=_scope(n_people),
        received_at=_START + at * _EVERY_S,
    )


def _example(what: Stream, i: int, scope: str) -> Example:
    return Example(
        id=str(i),
        scope=scope,
        partition="p",
        request=what.texts[i],
        response=what.said[i],
        vector=np.zeros(1, dtype=np.float32),
        teacher="gold",
        decision_id=str(i),
        writer="a",
        quality=1.0,
        n_tokens=1,
        created_at=_START,
        expires_at=_START + 1e9,
        answer_key="k",
    )


def _request(i: int, text: str) -> Request:
    return Request(
        *(
            str(i),
            str(i),
            "auto",
            "chat",
            "",
            (Message("user", text),),
            Caller("a"),
            "key:a",
            "p",
            False,
            False,
            _START,
        ),
        answer_key="k",
        is_deterministic=True,
    )
