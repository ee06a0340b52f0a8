import json
from pathlib import Path

import pytest

from echo_proxy.cli import main
from echo_proxy.engine.gate import FEATURES, AgreementLog, Gate
from tests.engine.test_gate import drawn


@pytest.fixture
def noted(tmp_path: Path) -> Path:
    """A log from which something can be learned."""
    path = tmp_path / "agreement.jsonl"
    log = AgreementLog("small", "large", path=path)
    for row in drawn(4000).rows:
        log.add(row.features, row.agreed)
    log.flush()
    return path


def test_a_gate_is_fitted_and_written(noted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With what it is worth on tokens that it has not seen."""
    status = main(["gate", str(noted), "--out", str(tmp_path / "gate.json"), "--json"])
    told = json.loads(capsys.readouterr().out)

    assert status == 0
    assert Gate.load(tmp_path / "gate.json", "small", "large").features == FEATURES
    assert told["auc"] > told["chance_auc"]
    assert told["disagreement"] < 0.1


def test_the_wished_disagreement_counts(noted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With more of it the smaller model writes more."""
    kept = []
    for wished in ("0.02", "0.2"):
        main(["gate", str(noted), "--out", str(tmp_path / "gate.json"), "--json", "--disagreement", wished])
        kept.append(json.loads(capsys.readouterr().out)["share_kept"])

    assert kept[0] < kept[1]


def test_a_person_gets_a_table(noted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside the plain chance, which `fallback` looks at."""
    main(["gate", str(noted), "--out", str(tmp_path / "gate.json")])
    told = capsys.readouterr().out

    assert "plain chance" in told
    assert "4000 tokens" in told


@pytest.mark.parametrize(
    ("content", "message"), [("nonsense", "expected a log of agreement"), (None, "expected a log of agreement")]
)
def test_what_is_no_log_is_refused(
    content: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 1 and the file's name."""
    path = tmp_path / "log.jsonl"
    if content is not None:
        path.write_text(content)
    status = main(["gate", str(path), "--out", str(tmp_path / "gate.json")])

    assert status == 1
    assert capsys.readouterr().err.startswith(f"echo-proxy: {path}: {message}")
    assert not (tmp_path / "gate.json").exists()


def test_too_short_a_log_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With how many tokens are needed."""
    path = tmp_path / "log.jsonl"
    log = AgreementLog("small", "large", path=path)
    log.add((0.0,) * len(FEATURES), True)
    log.flush()

    assert main(["gate", str(path), "--out", str(tmp_path / "gate.json")]) == 1
    assert "expected at least 200 tokens, got 1" in capsys.readouterr().err


def test_a_gate_that_cannot_be_written_is_an_error(
    noted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 1, and which file."""
    assert main(["gate", str(noted), "--out", str(tmp_path / "no" / "gate.json")]) == 1
    assert "gate.json: expected a file that can be written" in capsys.readouterr().err
