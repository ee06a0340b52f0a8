"""Lists, single examples and sums, as a terminal shows them."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from echo_proxy.browse.listing import SORTS, age, largest, show_list
from echo_proxy.browse.matching import grep, highlighted, matcher
from echo_proxy.browse.showing import show_example
from echo_proxy.browse.statistics import gather, show_statistics
from echo_proxy.errors import InputError
from echo_proxy.types import Example, ExamplePage, Which
from tests.builders import NOW, example
from tests.fakes import MemoryStore

HOSTILE = "\x1b]0;owned\x07\x1b[2J[bold]\u202e"


def console() -> Console:
    """A terminal that understands everything."""
    return Console(file=io.StringIO(), force_terminal=True, color_system=None, width=200)


def written(one: Console) -> str:
    """What it was sent."""
    return one.file.getvalue()  # type: ignore[attr-defined,no-any-return]


async def filled(*examples: Example) -> MemoryStore:
    """A store with these."""
    store = MemoryStore()
    await store.add_many(examples)
    return store


async def test_the_largest_come_first() -> None:
    """In each order; no more than were asked for."""
    store = await filled(
        *(
            example(f"e{i}", created_at=NOW - i, offloads=i % 7, uses=i % 5, regret=i % 3, response="x" * (i % 11))
            for i in range(40)
        )
    )
    for sort, key in SORTS.items():
        found = await largest(store, Which(), sort, 6)
        expected = sorted(store.examples.values(), key=lambda one: (key(one), one.id), reverse=True)[:6]

        assert [one.id for one in found] == [one.id for one in expected]


async def test_one_that_a_store_gives_twice_is_listed_once() -> None:
    """As may happen to one that is written during the walk."""

    class Twice(MemoryStore):
        async def find(self, which: Which, cursor: str, limit: int) -> ExamplePage:
            page = await super().find(which, "", limit)
            return replace(page, cursor="" if cursor else "again")

    store = Twice()
    await store.add(example())

    assert len(await largest(store, Which(), "created", 5)) == 1


async def test_stored_text_cannot_steer_a_terminal() -> None:
    """Wherever it may stand: every field that a stranger can write is shown with its control characters written out."""
    one = example(
        "e1",
        request=HOSTILE + "needle",
        response=HOSTILE,
        system=HOSTILE,
        scope=HOSTILE,
        teacher=HOSTILE,
        writer=HOSTILE,
        reader=HOSTILE,
        confirmed_by=(HOSTILE,),
        decision_id=HOSTILE,
        partition=HOSTILE,
        answer_key=HOSTILE,
    )
    store, out = await filled(one), console()
    show_list([one], NOW, out)
    show_example(one, NOW, out)
    show_statistics(await gather(store, Which(), NOW, 1000), 5, out)
    async for match in grep(store, Which(), matcher("needle")):
        out.print(highlighted(match))
    text = written(out)

    assert text.replace("\n", "").isprintable()
    assert "\\x1b]0;owned\\x07" in text
    assert "[bold]" in text


async def test_a_match_is_shown_in_its_surroundings() -> None:
    """In request, response or system prompt."""
    store = await filled(example("e1", request="a" * 100 + "needle" + "b" * 100, response="no", system="a needle"))
    found = [match async for match in grep(store, Which(), matcher("NEEDLE", ignores_case=True))]

    assert [(one.field, one.spans) for one in found] == [("request", ((100, 106),)), ("system", ((2, 8),))]
    assert highlighted(found[0]).plain == "…" + "a" * 60 + "needle" + "b" * 60 + "…"
    assert [str(span.style) for span in highlighted(found[1]).spans] == ["bold red"]


async def test_a_fixed_text_is_no_expression() -> None:
    """Its dots are dots."""
    store = await filled(example("e1", request="a.c"), example("e2", request="abc"))
    found = [match async for match in grep(store, Which(), matcher("a.c", is_fixed=True))]

    assert [one.example.id for one in found] == ["e1"]


async def test_a_pattern_without_end_hangs_nothing() -> None:
    """Texts on which it takes too long are given up, and counted."""
    store = await filled(example("e1", request="a" * 60 + "!"), example("e2", request="b"))
    wanted = matcher(r"(a|aa)+$|b")
    found = [match.example.id async for match in grep(store, Which(), wanted)]

    assert found == ["e2"]
    assert wanted.n_slow == 1


def test_a_wrong_pattern_is_told() -> None:
    """What was expected and what came."""
    with pytest.raises(InputError, match=r"expected a regular expression, got '\('"):
        matcher("(")


async def test_sums_are_those_of_the_examples() -> None:
    """By scope, teacher, origin and state; how old they are, and how near the byte budget."""
    day = 86400.0
    store = await filled(
        example("e1", quality=1.0, uses=2.0, created_at=NOW - 10, expires_at=NOW + 5 * day),
        example("e2", quality=0.5, offloads=3.0, created_at=NOW - 2 * day),
        example("e3", scope="team:red", reader="a", created_at=NOW - 90 * day, expires_at=NOW + 2 * day),
    )
    found = (await gather(store, Which(), NOW, 10_000)).as_json()
    out = console()
    show_statistics(await gather(store, Which(), NOW, 10_000), 1, out)

    assert found["total"]["n"] == 3
    assert found["total"]["n_bytes"] == sum(one.n_bytes for one in store.examples.values())
    assert found["total"]["n_expiring"] == 1
    assert found["by"]["scope"]["key:a"] == {
        "n": 2,
        "n_bytes": sum(store.examples[one].n_bytes for one in ("e1", "e2")),
        "uses": 2.0,
        "offloads": 3.0,
        "n_expiring": 1,
        "mean_quality": 0.75,
    }
    assert {name: sums["n"] for name, sums in found["by"]["state"].items()} == {"released": 2, "quarantine": 1}
    assert found["younger_than"] == {"1 hour": 1, "1 day": 0, "1 week": 1, "30 days": 0, "older": 1}
    assert "and 1 more (--limit)" in written(out)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0s"), (59, "59s"), (60, "1m"), (7200, "2h"), (86400 * 400, "400d"), (-3600, "-1h")]
)
def test_an_age_is_short(seconds: float, shown: str) -> None:
    """In its largest unit."""
    assert age(seconds) == shown


def test_a_pattern_of_nothing_but_brackets_is_told() -> None:
    """Its parser goes as deep as they do."""
    with pytest.raises(InputError, match="expected a regular expression"):
        matcher("(" * 400)
