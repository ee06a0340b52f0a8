import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from echo_proxy.transfer.claims import Claims
from echo_proxy.transfer.rows import json_schema
from echo_proxy.types import Example
from tests.builders import NOW, policy
from tests.fakes import HashingEmbedder, MemoryStore
from tests.transfer.builders import example, filled, full, give, take

TRUSTED = Claims(is_trusted=True)
LENIENT = policy(admission={"max_turns": 100, "max_tokens": 1_000_000})
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: bool(text.strip()))


@st.composite
def examples(draw: st.DrawFn) -> Example:
    """Any example that a store can hold."""
    uses = draw(st.floats(0, 1e6))
    return example(
        draw(st.from_regex(r"[!-~]{1,40}", fullmatch=True)),
        draw(TEXTS),
        response=draw(TEXTS),
        scope=draw(TEXTS),
        partition=draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=20)),
        quality=draw(st.floats(0, 1)),
        uses=uses,
        gain=draw(st.floats(0, uses)),
        reader=draw(st.sampled_from(["", "a"])),
        writer=draw(TEXTS),
        wants_json=draw(st.booleans()),
        n_turns=draw(st.integers(1, 9)),
        version=draw(st.integers(1, 2**40)),
        regret=draw(st.floats(0, 1e6)),
    )


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz"])
async def test_what_was_exported_is_imported_as_it_was(tmp_path: Path, name: str) -> None:
    """Every field, of a file that is trusted; a .gz is compressed."""
    kept = [full(), example("e2", "Where is Rome?")]
    target = MemoryStore()
    await give(await filled(kept), tmp_path / name, vectors="float32")
    done = await take(tmp_path / name, target, claims=TRUSTED)

    assert done.n_kept == 2
    assert done.n_embedded == 0
    assert [replace(one, vector=kept[0].vector) for one in target.examples.values()] == [
        replace(one, vector=kept[0].vector) for one in kept
    ]
    assert all(np.allclose(target.examples[one.id].vector, one.vector, atol=1e-6) for one in kept)
    assert ((tmp_path / name).read_bytes()[:2] == b"\x1f\x8b") == name.endswith(".gz")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(examples(), max_size=5, unique_by=lambda one: one.id))
async def test_any_example_survives(tmp_path: Path, kept: list[Example]) -> None:
    """Whatever its texts hold: line breaks, quotation marks, letters of all scripts."""
    target = MemoryStore()
    await give(await filled(kept), tmp_path / "out.jsonl", vectors="float16", overwrites=True)
    await take(tmp_path / "out.jsonl", target, claims=TRUSTED, rules=LENIENT, replaces=True, reembeds=True)

    assert {one.id: replace(one, vector=None) for one in target.examples.values()} == {  # type: ignore[arg-type]
        one.id: replace(one, vector=None)  # type: ignore[arg-type]
        for one in kept
    }


async def test_every_line_fits_the_schema(tmp_path: Path) -> None:
    """The one that is documented."""
    check = Draft202012Validator(json_schema())
    await give(await filled([full(), example("e2")]), tmp_path / "a", vectors="float16")
    await give(await filled([full(), example("e2")]), tmp_path / "b")
    lines = (tmp_path / "a").read_text().splitlines() + (tmp_path / "b").read_text().splitlines()

    assert len(lines) == 6
    assert [error.message for text in lines for error in check.iter_errors(json.loads(text))] == []


def test_the_schema_beside_the_guide_is_that_of_the_code() -> None:
    """`echo-proxy export --schema` prints it."""
    written = json.loads((Path(__file__).parents[2] / "docs" / "examples.schema.json").read_text())

    assert written == json_schema()


async def test_a_line_can_be_read_by_people(tmp_path: Path) -> None:
    """Letters of all scripts as they are, the names of the record, no vector unless it is asked for."""
    await give(await filled([full()]), tmp_path / "out.jsonl")
    header, row = (json.loads(text) for text in (tmp_path / "out.jsonl").read_text("utf-8").split("\n")[:2])

    assert header["vectors"] is None
    assert "日本の首都は" in (tmp_path / "out.jsonl").read_text("utf-8")
    assert row["confirmed_by"] == ["b", "c"]
    assert "vector" not in row
    assert list(header)[:3] == ["echo_proxy_examples", "model", "dimensions"]


async def test_another_model_embeds_anew(tmp_path: Path) -> None:
    """Vectors of one model mean nothing to another; without vectors it is the same."""

    class Other(HashingEmbedder):
        model = "other"

    store = await filled([example("e1", "Where is Rome?"), example("e2", "Where is Bonn?")])
    await give(store, tmp_path / "with.jsonl", vectors="float32")
    await give(store, tmp_path / "without.jsonl")
    other = await take(tmp_path / "with.jsonl", MemoryStore(), Other())
    target = MemoryStore()
    without = await take(tmp_path / "without.jsonl", target)

    assert other.n_embedded == 2
    assert without.n_embedded == 2
    assert np.array_equal(target.examples["e2"].vector, HashingEmbedder().vector("Where is Bonn?"))


async def test_gzip_members_are_one_file(tmp_path: Path) -> None:
    """Each page is a member of its own; any reader of .gz sees the whole."""
    kept = [example(f"e{i}") for i in range(1200)]
    done = await give(await filled(kept), tmp_path / "out.jsonl.gz")

    assert done.n_examples == 1200
    assert done.n_bytes == (tmp_path / "out.jsonl.gz").stat().st_size
    assert gzip.decompress((tmp_path / "out.jsonl.gz").read_bytes()).count(b"\n") == 1201


async def test_a_kept_expiry_and_one_that_is_over(tmp_path: Path) -> None:
    """An example that would be dead at once gets the policy's time anew."""
    later = NOW + 900
    kept = [example("alive", expires_at=later + 1), example("over", expires_at=later - 1)]
    await give(await filled(kept), tmp_path / "out.jsonl")
    target = MemoryStore()
    await take(tmp_path / "out.jsonl", target, now=later)

    assert target.examples["alive"].expires_at == later + 1
    assert target.examples["over"].expires_at == later + 30 * 86400
