"""How are the sums of a linear bandit written down and read back?"""

from collections.abc import Mapping

import numpy as np

from echo_proxy.bandits.linear import LinearSums
from echo_proxy.errors import SchemaMismatch
from echo_proxy.types import Json

_FIELDS = frozenset({"schema", "weight", "gram", "moment", "reward_sq"})


def to_json(sums: LinearSums, schema: str) -> dict[str, Json]:
    """Mapping that json.dumps writes and `from_json` reads back bit for bit.

    Args:
        sums: evidence about one arm.
        schema: name of the context's features, which changes whenever their meaning or order does.
    """
    return {
        "schema": schema,
        "weight": sums.weight,
        "gram": sums.gram.tolist(),
        "moment": sums.moment.tolist(),
        "reward_sq": sums.reward_sq,
    }


def from_json(state: Mapping[str, Json], schema: str) -> LinearSums:
    """The sums that `to_json` wrote.

    Raises:
        SchemaMismatch: they were learned with other features; they say nothing about these.
        ValueError: the mapping is not what `to_json` writes: fields are missing, shapes disagree, or a value is not
            finite.
    """
    if set(state) != _FIELDS:
        raise ValueError(f"fields must be {sorted(_FIELDS)}, got {sorted(state)}")
    if state["schema"] != schema:
        raise SchemaMismatch(f"state must be of features {schema!r}, got {state['schema']!r}")
    moment = np.atleast_1d(_numbers("moment", state["moment"]))
    gram = _numbers("gram", state["gram"])
    if moment.ndim != 1 or gram.shape != (moment.size, moment.size):
        raise ValueError(f"gram must have shape ({moment.size}, {moment.size}), got {gram.shape}")
    return LinearSums(_number("weight", state["weight"]), gram, moment, _number("reward_sq", state["reward_sq"]))


def _number(name: str, value: Json) -> float:
    numbers = _numbers(name, value)
    if numbers.ndim != 0:
        raise ValueError(f"{name} must be one number, got {value!r}")
    return float(numbers)


def _numbers(name: str, value: Json) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    try:
        numbers = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers, got {value!r}") from error
    if not np.isfinite(numbers).all():  # None becomes NaN
        raise ValueError(f"{name} must be finite, got {value!r}")
    return numbers
