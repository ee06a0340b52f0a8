"""Whose observations speak for an answer, so that nobody proves it alone for others?

An observation is caused by whoever asked. In a scope of many he may ask what he likes, word it so that the teacher says
what is stored already, and the answer would be taken for right for everybody. So of each witness the newest two count:
six observations, the least that any policy asks for, then take three people. Scopes of one key or one user hold one
person's requests, there all of them count.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence

from echo_proxy.types import Caller, Example, Observation

LEAST_WITNESSES = 3
"""So many people must have been told what a stored answer would have been worth before others are given it."""
_PER_WITNESS = 2
"""Times three it is the least `answers.min_observations`. # guess, not yet measured"""
_OF_ONE = frozenset({"key", "user"})


def is_of_many(scope: str) -> bool:
    """Whether a scope, `<kind>:<identity>`, holds requests of more than one person."""
    return scope.partition(":")[0] not in _OF_ONE


def witness_of(caller: Caller) -> str:
    """The caller as an observation names him: 16 hex digits, the same for all keys of a user."""
    return hashlib.sha256(caller.person.encode("utf-8", "replace")).hexdigest()[:16]


def counted(example: Example) -> Sequence[Observation]:
    """The observations of an example that count, oldest first. Those from before witnesses were noted are one
    witness's."""
    if not is_of_many(example.scope):
        return example.observations
    n_of: Counter[str] = Counter()
    newest: list[Observation] = []
    for one in reversed(example.observations):
        n_of[one.witness] += 1
        if n_of[one.witness] <= _PER_WITNESS:
            newest.append(one)
    return tuple(reversed(newest))
