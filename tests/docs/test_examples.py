"""The guide to examples says what the commands do."""

import re
import shlex
from pathlib import Path

import pytest

from echo_proxy.cli import _parser
from echo_proxy.transfer.rows import Header, Row

GUIDE = Path(__file__).parents[2] / "docs" / "examples.md"


def test_every_field_of_a_file_is_documented() -> None:
    """Of the header and of a row."""
    named = set(re.findall(r"`(\w+)`", GUIDE.read_text().split("## The file")[1]))

    assert set(Header.model_fields) | set(Row.model_fields) <= named


@pytest.mark.parametrize("line", re.findall(r"^    (echo-proxy [^\[\n]*?)(?: \||$)", GUIDE.read_text(), re.M))
def test_every_command_is_understood(line: str) -> None:
    """As it stands in the guide, by the parser of the command line."""
    options = _parser().parse_args(shlex.split(line)[1:])

    assert callable(options.command)
