"""Numbers of examples become columns."""

import numpy as np
import pytest

from echo_proxy.stores.holdings import COLUMNS, holdings_of


def test_rows_become_columns() -> None:
    """In the order of COLUMNS; what was never counted is not faded, and what was counted later neither."""
    rows = np.arange(2.0 * len(COLUMNS)).reshape(2, len(COLUMNS))
    rows[:, COLUMNS.index("counted_at")] = (0.0, 9000.0)
    found = holdings_of(["a", "b"], ["%", "key:%C3%A4"], rows, 3600.0, 0.5)

    assert found.ids == ("a", "b")
    assert found.writers == ("", "key:ä")
    assert found.versions.tolist() == [0, 12]
    assert found.n_bytes.tolist() == [1, 13]
    assert found.offloads.tolist() == [1.0, 14.0]
    assert found.regret.tolist() == [1.5, 15.0]
    assert found.replayed_at.tolist() == [10.0, 22.0]
    assert (found.versions.dtype, found.n_replays.dtype) == (np.int64, np.int64)


@pytest.mark.parametrize("decay", [1.0, 0.9])
def test_no_rows_are_empty_columns(decay: float) -> None:
    """Of the same kinds."""
    found = holdings_of([], [], np.zeros((0, len(COLUMNS))), 0.0, decay)

    assert (found.ids, found.quality.shape, found.n_bytes.dtype) == ((), (0,), np.int64)
