import json
from pathlib import Path

import pytest

from echo_proxy.cli import main
from tests.commands.world import World, made

Out = pytest.CaptureFixture[str]


def run(capsys: Out, *arguments: str) -> tuple[int, str]:
    """Exit status and standard output of `echo-proxy examples`."""
    status = main(["examples", *arguments])
    return status, capsys.readouterr().out


@pytest.fixture
def filled(world: World) -> World:
    """Three examples of two writers."""
    world.keep(
        made("e1", offloads=1.0),
        made("e2", "Where is Bonn?", writer="b", offloads=3.0, reader="b"),
        made("e3", "\x1b[31mWho is Zaphod?", writer="b", response="A \x1b]0;owned\x07president."),
    )
    return world


def test_they_are_listed(filled: World, capsys: Out) -> None:
    """In the order that is asked for, those that are asked for."""
    status, out = run(capsys, "ls", "--sort", "offloads", "--json", "--writer", "b")

    assert status == 0
    assert [(one["id"], one["state"]) for one in json.loads(out)] == [("e2", "quarantine"), ("e3", "released")]


def test_an_id_can_be_copied_from_a_list(filled: World, capsys: Out) -> None:
    """It stands in one line, however long the texts beside it are."""
    filled.keep(made("0" * 32 + "-organization", "word " * 200, scope="team:" + "x" * 99, teacher="t" * 99, uses=1e6))
    _, out = run(capsys, "ls")

    assert "0" * 32 + "-organization " in out
    assert len(out.splitlines()) == 5


def test_a_terminal_is_never_steered(filled: World, capsys: Out) -> None:
    """No command lets a control character of a stored text through, as a table or as JSON."""
    lines = (["ls"], ["show", "e3"], ["grep", "Zaphod"], ["rm", "e3"], ["stats"])
    for line in lines:
        for form in ([], ["--json"]):
            _, out = run(capsys, *line, *form)

            assert out.replace("\n", "").isprintable(), line


def test_one_is_shown_whole(filled: World, capsys: Out) -> None:
    """As text for people, as JSON with its vector."""
    status, text = run(capsys, "show", "e2")
    found = json.loads(run(capsys, "show", "e2", "--json")[1])

    assert status == 0
    assert "quarantine, serves b alone" in text
    assert "Where is Bonn?" in text
    assert (found["writer"], len(found["vector"])) == ("b", 384)


def test_no_such_example_has_a_status_of_its_own(filled: World, capsys: Out) -> None:
    """3: a script can tell it from a store that does not answer."""
    assert run(capsys, "show", "nobody")[0] == 3
    assert run(capsys, "grep", "xyzzy")[0] == 3
    assert run(capsys, "rm", "nobody")[0] == 3
    assert run(capsys, "rm", "--writer", "nobody", "--yes")[0] == 3


def test_words_are_found(filled: World, capsys: Out) -> None:
    """With the id and the field in which they stand."""
    status, out = run(capsys, "grep", "zaphod", "-i")

    assert status == 0
    assert out == "e3:request: \\x1b[31mWho is Zaphod?\n"


def test_nothing_is_removed_without_yes(filled: World, capsys: Out) -> None:
    """What would be removed is told."""
    status, out = run(capsys, "rm", "--writer", "b")

    assert status == 0
    assert "would remove 2 examples" in out
    assert len(filled.kept()) == 3


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (["e1", "e2", "nobody"], {"e3"}),
        (["--writer", "b"], {"e1"}),
        (["--text", "zaphod"], {"e1", "e2"}),
        (["--regex", "B[o]nn"], {"e1", "e3"}),
        (["--scope", "team:red", "--after", "1h"], set()),
        (["--before", "1h"], {"e1", "e2", "e3"}),
        (["--quarantined"], {"e1", "e3"}),
        (["--released", "--writer", "b"], {"e1", "e2"}),
    ],
)
def test_what_is_meant_is_removed(filled: World, capsys: Out, arguments: list[str], left: set[str]) -> None:
    """By id, writer, time, words, state."""
    _, out = run(capsys, "rm", *arguments, "--yes", "--json")

    assert set(filled.kept()) == left
    assert json.loads(out)["n_removed"] == 3 - len(left)


def test_copies_for_wider_scopes_go_too(filled: World, capsys: Out) -> None:
    """What is forgotten is forgotten everywhere."""
    filled.keep(made("e1-public", scope="public:all", origin="shared"))
    run(capsys, "rm", "e1", "--yes")

    assert set(filled.kept()) == {"e2", "e3"}


@pytest.mark.parametrize("arguments", [["rm", "--yes"], ["rm", "e1", "--writer", "b", "--yes"], ["grep", "("]])
def test_an_unclear_wish_is_refused(filled: World, capsys: Out, arguments: list[str]) -> None:
    """Everything is never meant by saying nothing."""
    assert run(capsys, *arguments)[0] == 1
    assert len(filled.kept()) == 3


def test_sums_are_told(filled: World, capsys: Out) -> None:
    """With the share of what upkeep allows."""
    found = json.loads(run(capsys, "stats", "--json")[1])

    assert found["total"]["n"] == 3
    assert found["by"]["scope"]["team:red"]["offloads"] == pytest.approx(4.0, abs=0.01)
    assert "of upkeep.max_bytes" in run(capsys, "stats")[1]


def test_several_policies_are_several_stores(filled: World, capsys: Out) -> None:
    """One must be named."""
    (filled.folder / "q.yaml").write_text(filled.policy.read_text().replace("mine", "yours").replace("auto", "other"))
    status = main(["examples", "ls", "--policy", str(filled.folder)])

    assert status == 1
    assert "--policy: expected one policy, got 2 (mine, yours)" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_not_made(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    """Who only looks has mistyped its path."""
    monkeypatch.setenv("ECHO_STORE_URL", f"sqlite://{tmp_path / 'typo.db'}")
    statuses = [main(["examples", "ls"]), main(["export", "--out", str(tmp_path / "out.jsonl")])]
    told = capsys.readouterr().err

    assert statuses == [1, 1]
    assert told.count("ECHO_STORE_URL: expected a SQLite file that a proxy has made, got") == 2
    assert not (tmp_path / "typo.db").exists()
