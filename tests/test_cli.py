import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from echo_proxy import __version__
from echo_proxy.cli import main
from echo_proxy.litellm import serve as serving

GOOD = "name: a\nmatch: {model_groups: [auto]}\narms: [{deployment: x}]\nbandit: {kind: uniform}\n"


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "p.yaml"
    path.write_text(GOOD)
    return path


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `serve` was asked for, instead of serving."""
    asked: list[Any] = []
    monkeypatch.setattr(serving, "serve", asked.append)
    return asked


def test_check_says_ok(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 0."""
    assert main(["check", "--policy", str(rules)]) == 0
    assert "ok: 1 policy" in capsys.readouterr().out


def test_a_refusal_is_one_line_on_stderr(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 1, the place of the mistake, no traceback."""
    rules.write_text(GOOD + "modee: act\n")

    status = main(["check", "--policy", str(rules)])

    assert status == 1
    assert capsys.readouterr().err == f"echo-proxy: {rules}:5: modee: no such key is known here\n"


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["serve"], ["serve", "--config", "x", "--port", "many"]])
def test_wrong_usage_has_a_status_of_its_own(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """2, with the usage."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)

    assert caught.value.code == 2
    assert "usage: echo-proxy" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        *(
            [],
            ["serve"],
            ["demo"],
            ["check"],
            ["doctor"],
            ["reembed"],
            ["schema"],
            ["export"],
            ["import"],
            ["examples"],
        ),
        *(["examples", name] for name in ("ls", "show", "grep", "rm", "stats")),
    ],
)
def test_every_command_has_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Status 0."""
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])

    assert caught.value.code == 0
    assert "usage: " + " ".join(["echo-proxy", *command]) in capsys.readouterr().out


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """The package's own."""
    with pytest.raises(SystemExit):
        main(["--version"])

    assert capsys.readouterr().out == f"echo-proxy {__version__}\n"


def test_serve_takes_its_options(served: list[Any]) -> None:
    """What stands after -- is LiteLLM's."""
    line = ["serve", "--config", "c.yaml", "--policy", "a.yaml", "--policy", "b", "--port", "8080", "--workers", "2"]

    status = main([*line, "--", "--detailed_debug", "--x", "1"])

    assert status == 0
    assert served == [
        serving.ServeOptions(
            Path("c.yaml"), (Path("a.yaml"), Path("b")), "127.0.0.1", 8080, 2, ("--detailed_debug", "--x", "1")
        )
    ]


def test_serve_has_safe_defaults(served: list[Any]) -> None:
    """This machine only, one worker, the default policy."""
    main(["serve", "--config", "c.yaml"])

    assert served == [serving.ServeOptions(Path("c.yaml"), (Path("policies/default.yaml"),), "127.0.0.1", 4000, 1, ())]


def test_an_interruption_has_the_shell_s_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """130, without a traceback."""

    def interrupted(options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(serving, "serve", interrupted)

    assert main(["serve", "--config", "c.yaml"]) == 130


def test_the_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    """For editors; with every key of a policy."""
    main(["schema"])
    schema = json.loads(capsys.readouterr().out)

    assert {"name", "match", "arms", "bandit", "scope", "mode"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False


def test_a_full_disk_is_told() -> None:
    """In a line, where the output goes to one."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "echo_proxy.cli", "schema"], stdout=full, stderr=subprocess.PIPE, text=True
        )

    assert done.returncode == 1
    assert "cannot be written: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
