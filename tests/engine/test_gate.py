import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.engine.draft_model import glance
from echo_proxy.engine.gate import (
    FEATURES,
    Agreement,
    AgreementLog,
    Agreements,
    Gate,
    GateRejected,
    features,
    read_agreements,
)
from echo_proxy.engine.gate_fit import TooLittleAgreement, fit_gate
from echo_proxy.engine.runner import Draft, Verdict

GATE = Gate("small", "large", FEATURES, (-1.0, 0.5, 0.0, 0.0, 0.0, 0.0, 2.0), 0.25, 0.3)
KNOWN = (1.0, 2.0, 0.5, -1.0, 0.0, 0.0, 1.0)


def drawn(n_rows: int, seed: int = 0) -> Agreements:
    """Agreement that depends on the first and the last feature, and on nothing else."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((n_rows, len(FEATURES)))
    chance = 1 / (1 + np.exp(-(2 * x[:, 0] - 3 * x[:, -1] + 1)))
    agreed = random.random(n_rows) < chance
    rows = tuple(Agreement(tuple(map(float, one)), bool(two)) for one, two in zip(x, agreed, strict=True))
    return Agreements("small", "large", rows)


# ------------------------------------------------------------------ features


def test_features_of_a_known_distribution() -> None:
    """Each number is what its name says."""
    view = glance(np.log(np.array([0.2, 0.7, 0.06, 0.04], np.float32)))
    known = dict(zip(FEATURES, features(view, 3, False, True), strict=True))

    assert known == pytest.approx(
        {
            "log_odds": np.log(0.7 / 0.3),
            "margin": np.log(0.7 / 0.2),
            "entropy": -sum(p * np.log(p) for p in (0.2, 0.7, 0.06, 0.04)),
            "log_rest": np.log(0.1),
            "log_position": np.log(4),
            "is_end": 0.0,
            "is_number": 1.0,
        },
        rel=1e-4,
    )


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=2, max_size=40), st.integers(0, 64))
def test_features_are_finite(logits: list[float], position: int) -> None:
    """However sure or unsure a model is, a gate gets numbers."""
    assert np.isfinite(features(glance(np.array(logits, np.float32)), position, True, False)).all()


def test_a_forbidden_token_is_no_harm() -> None:
    """Minus infinity means a probability of 0."""
    view = glance(np.array([1.0, -np.inf, 0.0], np.float32))

    assert np.isfinite(features(view, 0, False, False)).all()


# ------------------------------------------------------------------ the gate


def test_doubt_is_logistic() -> None:
    """The weighted sum as a probability, and the threshold in use."""
    assert GATE.doubt(KNOWN) == pytest.approx(1 / (1 + np.exp(-(0.25 - 1.0 + 1.0 + 2.0))))
    assert GATE.hands_over(KNOWN)
    assert not GATE.hands_over((9.0, 0, 0, 0, 0, 0, 0))


def test_a_gate_survives_its_file(tmp_path: Path) -> None:
    """What was saved is what is loaded, and people can read it."""
    GATE.save(tmp_path / "gate.json")

    assert Gate.load(tmp_path / "gate.json", "small", "large") == GATE
    assert json.loads((tmp_path / "gate.json").read_text())["threshold"] == 0.3


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"features": ["other"]},
        {"weights": [1.0]},
        {"weights": ["a"] * 7},
        {"bias": float("nan")},
        {"threshold": 2.0},
        {"more": 1},
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    """Neither another version nor other features nor numbers that are none."""
    path = tmp_path / "gate.json"
    GATE.save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))

    with pytest.raises(GateRejected, match=r"gate\.json: expected a gate of version 1"):
        Gate.load(path)


def test_a_file_that_is_no_gate(tmp_path: Path) -> None:
    """Missing files, other texts and other JSON are named."""
    (tmp_path / "text").write_text("hello")
    (tmp_path / "list").write_text("[]")

    for name in ("missing", "text", "list"):
        with pytest.raises(GateRejected, match=name):
            Gate.load(tmp_path / name)


def test_a_gate_for_other_models_is_refused(tmp_path: Path) -> None:
    """It says nothing about them."""
    GATE.save(tmp_path / "gate.json")

    with pytest.raises(GateRejected, match="big: expected a gate for model huge, got one for large"):
        Gate.load(tmp_path / "gate.json", "small", "huge")


# ------------------------------------------------------------------ the log


def test_the_log_notes_what_was_looked_at() -> None:
    """Of a draft of three, two were looked at."""
    log = AgreementLog("small", "large")
    log.hear(Verdict(0, Draft((1, 2, 3), "little", (KNOWN, KNOWN, KNOWN)), 1, (True, False)))

    assert [row.agreed for row in log.rows] == [True, False]


def test_the_log_is_bounded(tmp_path: Path) -> None:
    """The newest stay in memory; the file ends with as many lines."""
    log = AgreementLog("small", "large", 3, tmp_path / "log")
    for i in range(5):
        log.add((float(i), *KNOWN[1:]), i % 2 == 0)
    log.flush()

    assert [row.features[0] for row in log.rows] == [2, 3, 4]
    assert [row.features[0] for row in read_agreements(tmp_path / "log").rows] == [0, 1, 2]


def test_the_log_goes_on_where_it_ended(tmp_path: Path) -> None:
    """A restart appends, within the same bound; other models need another file."""
    path = tmp_path / "log"
    for _ in range(2):
        log = AgreementLog("small", "large", 3, path)
        log.add(KNOWN, True)
        log.add(KNOWN, False)
        log.flush()

    assert [row.agreed for row in read_agreements(path).rows] == [True, False, True]
    assert read_agreements(path).rows[0].features == KNOWN
    with pytest.raises(GateRejected, match="expected a log for models small, huge"):
        AgreementLog("small", "huge", 3, path)


def test_a_full_disk_ends_the_file_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be written is said once and does not stop the answers."""
    log = AgreementLog("small", "large", path=tmp_path / "missing" / "log")
    log.add(KNOWN, True)
    log.flush()
    log.add(KNOWN, True)
    log.flush()

    assert len(log.rows) == 2
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_broken_log_is_refused(tmp_path: Path) -> None:
    """A line that is cut off is no agreement."""
    path = tmp_path / "log"
    log = AgreementLog("small", "large", path=path)
    log.add(KNOWN, True)
    log.flush()
    path.write_text(path.read_text() + "[1.0, 2.0]\n")

    with pytest.raises(GateRejected, match="a line of 2 numbers, expected 8"):
        read_agreements(path)


# ------------------------------------------------------------------ fitting


def test_a_fit_finds_what_matters() -> None:
    """Weights point the right way, and the gate beats the plain chance where something else matters too."""
    fit = fit_gate(drawn(4000), most_disagreement=0.1)

    assert fit.gate.weights[0] < -1.5
    assert fit.gate.weights[-1] > 2.5
    assert max(map(abs, fit.gate.weights[1:-1])) < 0.3
    assert fit.auc > 0.9 > fit.chance_auc
    assert fit.perplexity < 0.8 * fit.base_perplexity
    assert fit.share_kept > 2 * fit.chance_share_kept
    assert fit.n_rows == 4000


@pytest.mark.parametrize("most", [0.02, 0.1, 0.3])
def test_the_threshold_keeps_its_promise(most: float) -> None:
    """On tokens that were not seen, about as many disagree as were allowed, and as many pass as can."""
    fit = fit_gate(drawn(8000), most_disagreement=most)

    assert fit.disagreement == pytest.approx(most, abs=0.02)
    assert 0 < fit.share_kept < 1


def test_a_stricter_gate_keeps_less() -> None:
    """The fewer may be wrong, the fewer pass."""
    shares = [fit_gate(drawn(4000), most).share_kept for most in (0.02, 0.1, 0.3)]

    assert shares == sorted(shares)


def test_nothing_can_be_promised() -> None:
    """When even the surest tokens are wrong too often, the gate hands over everything."""
    random = np.random.default_rng(0)
    rows = tuple(
        Agreement(tuple(map(float, random.standard_normal(7))), bool(random.random() < 0.5)) for _ in range(1000)
    )
    fit = fit_gate(Agreements("small", "large", rows), most_disagreement=0.0)

    assert fit.share_kept < 0.05


def test_too_little_is_said() -> None:
    """Few tokens, or tokens of one kind, make no gate."""
    rows = drawn(1000).rows
    with pytest.raises(TooLittleAgreement, match="got 50"):
        fit_gate(Agreements("small", "large", rows[:50]))
    with pytest.raises(TooLittleAgreement, match="both kinds"):
        fit_gate(Agreements("small", "large", tuple(row for row in rows if row.agreed)))
