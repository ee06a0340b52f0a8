"""Records survive being kept, and versions of the program read each other's."""

import pytest

from echo_proxy.stores.records import decision_fields, decision_from
from tests.contracts import record


def test_a_decision_from_before_fields_were_added_is_read() -> None:
    """They take their defaults."""
    fields = decision_fields(record("d"))
    del fields["signals"], fields["deadline_s"]

    assert decision_from(fields) == record("d", signals={}, deadline_s=None)


def test_a_decision_from_a_later_version_is_read() -> None:
    """What it has more is left out."""
    assert decision_from(decision_fields(record("d")) | {"mood": '"sunny"'}) == record("d")


def test_a_decision_without_what_it_must_have_is_no_decision() -> None:
    """Nothing is made up for a field without a default."""
    fields = decision_fields(record("d"))
    del fields["reward"]
    with pytest.raises(TypeError, match="reward"):
        decision_from(fields)
