import argparse

import pytest

from echo_proxy.tune.units import n_bytes, seconds, share, shown_bytes, whole


@pytest.mark.parametrize(("text", "expected"), [("8G", 2**33), ("512MiB", 2**29), ("1.5g", 3 * 2**29), ("100", 100)])
def test_sizes(text: str, expected: int) -> None:
    """In powers of 1,024."""
    assert n_bytes(text) == expected


@pytest.mark.parametrize(("text", "expected"), [("90", 90.0), ("90s", 90.0), ("5m", 300.0), ("1.5h", 5400.0)])
def test_times(text: str, expected: float) -> None:
    """In seconds."""
    assert seconds(text) == expected


@pytest.mark.parametrize("parse", [n_bytes, seconds, share, whole(1, 8)])
@pytest.mark.parametrize("text", ["", "0", "-1", "many", "8X", "nan"])
def test_anything_else_is_wrong_usage(parse: object, text: str) -> None:
    """Argparse tells it."""
    with pytest.raises(argparse.ArgumentTypeError, match="expected"):
        parse(text)  # type: ignore[operator]


def test_sizes_for_people() -> None:
    """Two units suffice."""
    assert [shown_bytes(n) for n in (2**20, 2**30, 3 * 2**29)] == ["1 MiB", "1.0 GiB", "1.5 GiB"]
