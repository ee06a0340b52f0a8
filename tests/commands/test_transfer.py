import json
from pathlib import Path

import pytest

from echo_proxy.cli import main
from echo_proxy.transfer.rows import json_schema
from tests.commands.world import World, made


def test_a_store_moves_in_a_file(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Out of one, into another; what was done is told."""
    world.keep(made("e1", uses=2.0), made("e2", "Where is Bonn?"))
    before = world.kept()
    file = str(tmp_path / "out.jsonl.gz")
    first = main(["export", "--out", file, "--vectors", "--json"])
    told = json.loads(capsys.readouterr().out)
    main(["examples", "rm", "--scope", "team:red", "--yes"])
    emptied = world.kept()
    capsys.readouterr()
    second = main(["import", file, "--trusted", "--json"])
    done = json.loads(capsys.readouterr().out)
    after = world.kept()

    assert (first, second) == (0, 0)
    assert (told["n_examples"], done["n_kept"], done["n_embedded"]) == (2, 2, 0)
    assert emptied == {}
    assert set(after) == {"e1", "e2"}
    assert (after["e1"].uses, after["e1"].reader) == (2.0, "")
    assert after["e2"].vector @ before["e2"].vector == pytest.approx(1.0, abs=1e-5)


def test_fine_tuning_data_seeds_a_store(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the scope that is named, in quarantine there."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}\n')
    status = main(["import", str(rows), "--scope", "team:red", "--teacher", "gpt", "--quality", "0.9"])
    (kept,) = world.kept().values()

    assert status == 0
    assert (kept.request, kept.response, kept.teacher, kept.quality) == ("Hi", "Ho", "gpt", 0.9)
    assert (kept.scope, kept.reader, kept.origin) == ("team:red", "import", "import")
    assert capsys.readouterr().out.startswith("imported 1 examples in ")


def test_lines_put_aside_have_a_status_of_their_own(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """3: done, but for these; 1 where the first one ends it."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"request": "a", "response": "b"}\n{"request": "c"}\n')
    refused = main(["import", str(rows), "--scope", "team:red"])
    error = capsys.readouterr().err
    status = main(["import", str(rows), "--scope", "team:red", "--skip-bad", str(tmp_path / "bad")])
    out = capsys.readouterr()

    assert (refused, status) == (1, 3)
    assert f"echo-proxy: {rows}:2: response: expected a text" in error
    assert "imported 1; fix line 2 and run again" in error
    assert "1 wrong lines written to" in out.out
    assert "rows.jsonl:2: response" in out.err
    assert (tmp_path / "bad").read_text() == '{"request": "c"}\n'


@pytest.mark.parametrize("scope", ["red", "team:", "nobody:x", ""])
def test_a_scope_has_a_kind(scope: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One that no caller could ever be in is wrong usage."""
    with pytest.raises(SystemExit) as caught:
        main(["import", "f", "--scope", scope])

    assert caught.value.code == 2
    assert "expected a scope such as team:red" in capsys.readouterr().err


@pytest.mark.parametrize("time", ["soon", "2026-99-99", "5x"])
def test_a_time_is_an_age_or_a_date(time: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Anything else is wrong usage."""
    with pytest.raises(SystemExit) as caught:
        main(["export", "--after", time])

    assert caught.value.code == 2
    assert "expected a time like 30m" in capsys.readouterr().err


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a store."""
    assert main(["export", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json_schema()


def test_a_store_s_password_is_not_shown(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever goes wrong with it."""
    monkeypatch.setenv("ECHO_STORE_URL", "redis://:hunter2@127.0.0.1:1/0")
    for line in (["examples", "ls"], ["export", "--out", str(tmp_path / "f")], ["import", str(world.policy)]):
        status = main(line)
        shown = capsys.readouterr()

        assert status == 1
        assert "hunter2" not in shown.out + shown.err
