"""Records survive being kept, and versions of the program read each other's."""

import json

import pytest

from echo_proxy.stores.records import (
    EXAMPLE_FIELDS,
    SINCE_SCHEMA_2,
    changed_fields,
    decision_fields,
    decision_from,
    example_fields,
    example_from,
    observation_text,
)
from echo_proxy.types import Example, Observation
from tests.contracts import DIMENSIONS, NOW, example, record
from tests.contracts_examples import full_example, same


def stored_fields(one: Example) -> dict[str, bytes]:
    """As a store gives them back."""
    fields = example_fields(one, DIMENSIONS)
    return {name: value if isinstance(value, bytes) else str(value).encode() for name, value in fields.items()}


def test_an_examples_fields_are_known() -> None:
    """All of them, and no others; what most examples have is left out, but never whom it serves."""
    assert sorted(example_fields(full_example(), DIMENSIONS)) == sorted(EXAMPLE_FIELDS)
    assert same(example_from("e", stored_fields(full_example())), full_example())
    assert same(example_from("e", stored_fields(example("e"))), example("e"))
    assert set(EXAMPLE_FIELDS) - example_fields(example("e"), DIMENSIONS).keys() == {
        *("system", "answer_key", "wants_json", "n_turns", "confirmed_by", "counted_at", "person"),
        *("history", "observations", "replayed_at"),
    }


@pytest.mark.parametrize("name", [*SINCE_SCHEMA_2, "n_bytes"])
def test_an_example_from_before_a_field_was_added_is_read(name: str) -> None:
    """It takes its default; an example of schema 1 is given the same."""
    fields = stored_fields(example("e"))
    stored = fields.pop(name)

    assert same(example_from("e", fields), example("e"))
    assert name == "n_bytes" or stored == str(SINCE_SCHEMA_2[name]).encode()


def test_an_example_that_does_not_say_whom_it_serves_serves_its_writer() -> None:
    """It fails closed."""
    fields = stored_fields(example("e"))
    del fields["reader"]

    assert same(example_from("e", fields), example("e", reader="a"))


def test_an_example_from_a_later_version_is_read() -> None:
    """What it, its replays and its observations have more is left out."""
    fields = stored_fields(full_example()) | {"mood": b"sunny"}
    for name in ("history", "observations"):
        fields[name] = json.dumps([one | {"mood": "sunny"} for one in json.loads(fields[name])]).encode()

    assert same(example_from("e", fields), full_example())


def test_observations_from_before_witnesses_were_noted_are_read() -> None:
    """Nobody is named; what is noted since comes back as it was."""
    seen = Observation(0.25, True, NOW, "5f2a")
    old = {"distance": 0.25, "is_correct": True, "at": NOW}
    fields = stored_fields(example("e"))
    fields["observations"] = json.dumps([old, json.loads(observation_text(seen))]).encode()

    assert example_from("e", fields).observations == (Observation(0.25, True, NOW, ""), seen)


def test_only_what_differs_is_changed() -> None:
    """With the numbers that follow from it, and without the version, which is the store's business."""
    before = example("e")
    longer = example("e", response="x" * 100, version=9)

    assert changed_fields(before, before, DIMENSIONS) == {}
    assert changed_fields(before, longer, DIMENSIONS) == {"response": "x" * 100, "n_bytes": longer.n_bytes}
    assert set(changed_fields(before, example("e", history=full_example().history), DIMENSIONS)) == {
        *("history", "n_replays", "replayed_at")
    }


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
