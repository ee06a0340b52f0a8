"""The scan in memory finds what is near and forgets what is gone."""

import numpy as np

from echo_proxy.stores.scan import EVERYBODY, NOBODY, Bucket
from tests.contracts import DIMENSIONS, vector


def filled(n: int) -> Bucket:
    """Rows 0..n-1 at growing distance; row i expires at i."""
    bucket = Bucket(DIMENSIONS)
    for i in range(n):
        bucket.append(i, float(i), vector(i / n))
    return bucket


def seqs(bucket: Bucket, k: int, now: float = -1.0) -> list[int]:
    return [seq for seq, _ in bucket.nearest(vector(0.0), k, 2.0, now)]


def test_it_grows_and_keeps_its_rows() -> None:
    """More rows than the first arrays hold."""
    assert len(filled(100)) == 100
    assert seqs(filled(100), 100) == list(range(100))
    assert seqs(filled(100), 3) == [0, 1, 2]


def test_expired_rows_are_not_found() -> None:
    """A row that expires now is gone."""
    assert seqs(filled(100), 2, now=10.0) == [11, 12]


def test_it_forgets_all_but_those() -> None:
    """What remains is found as before, and new rows find room."""
    bucket = filled(50)
    bucket.keep([3, 40, 1, 99])
    bucket.append(50, 50.0, vector(0.0))

    assert seqs(bucket, 10) == [50, 1, 3, 40]
    assert np.isclose(bucket.nearest(vector(0.0), 1, 2.0, -1.0)[0][1], 0.0)


def test_rows_of_other_readers_are_not_found() -> None:
    """Nor do they take places; who asks for all finds all, and what nobody reads is found by nobody else."""
    bucket = Bucket(DIMENSIONS)
    for i, reader in enumerate([NOBODY, 2, 2, 1, EVERYBODY, 1] * 10):
        bucket.append(i, 1.0, vector(i / 60), reader)

    def seen_by(reader: int | None) -> list[int]:
        return [seq for seq, _ in bucket.nearest(vector(0.0), 4, 2.0, 0.0, reader)]

    assert seen_by(1) == [3, 4, 5, 9]
    assert seen_by(2) == [1, 2, 4, 7]
    assert seen_by(EVERYBODY) == [4, 10, 16, 22]
    assert seen_by(None) == [0, 1, 2, 3]
    bucket.keep([3, 4, 30])
    assert (seen_by(1), seen_by(2), seen_by(None)) == ([3, 4], [4], [3, 4, 30])


def test_an_empty_one_finds_nothing() -> None:
    """No rows, no error."""
    assert seqs(Bucket(DIMENSIONS), 5) == []
