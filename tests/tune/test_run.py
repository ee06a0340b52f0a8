"""The command itself, with the bundled small model."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from echo_proxy.cli import main
from echo_proxy.local.options import LocalModelOptions, parse_model
from echo_proxy.tune.process import Candidates, read_words
from echo_proxy.tune.records import CandidateFailed, Load, changed
from echo_proxy.tune.workload import Words
from tests.local.children import SMALL

LOAD = Load(n_requests=2, n_clients=2, n_prompt_tokens=60, n_answer_tokens=16)
OPTIONS = LocalModelOptions(path=str(SMALL), n_threads=1, n_threads_batch=1)


@pytest.fixture(scope="module")
def words() -> Words:
    """Of the small model."""
    return read_words(SMALL)[0]


@pytest.fixture
def candidates(words: Words) -> Iterator[Candidates]:
    """Processes, of which one at a time fits."""
    with Candidates(words, LOAD, lambda options: len(options) <= 1) as measurer:
        yield measurer


def test_a_round_in_a_process_of_its_own(candidates: Candidates) -> None:
    """Answers have their full length, although the model would have ended them."""
    figures = candidates.measure(OPTIONS, LOAD, 1, 60.0)

    assert figures.tokens_per_s * figures.seconds == pytest.approx(32)
    assert 0 < figures.first_s < figures.latency_s <= figures.seconds
    assert figures.n_bytes > SMALL.stat().st_size


def test_greedy_answers_are_the_same_in_another_process(candidates: Candidates) -> None:
    """Threads and seats change no text; here each candidate pushes out the other."""
    ours = candidates.answers(OPTIONS, 60.0)

    assert candidates.answers(changed(OPTIONS, n_parallel=2), 60.0) == ours
    assert all(ours)


def test_a_candidate_that_cannot_be_loaded_fails_with_its_reason(candidates: Candidates, tmp_path: Path) -> None:
    """And the next one works."""
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(SMALL.read_bytes()[:20_000])

    with pytest.raises(CandidateFailed, match=r"broken\.gguf"):
        candidates.measure(changed(OPTIONS, path=str(broken)), LOAD, 1, 60.0)
    assert candidates.measure(OPTIONS, LOAD, 1, 60.0).tokens_per_s > 0


def test_a_candidate_that_says_nothing_in_time_is_ended(candidates: Candidates) -> None:
    """It does not hold up the search."""
    with pytest.raises(CandidateFailed, match=r"too slow: nothing within 0\.0 s"):
        candidates.measure(OPTIONS, LOAD, 1, 0.0)


def test_tune_writes_what_the_proxy_can_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A real search with little time: the figures on stdout, the winner in the file."""
    out = tmp_path / "litellm.yaml"
    line = [
        "tune",
        str(SMALL),
        "--budget",
        "8s",
        "--max-threads",
        "1",
        "--prompt-tokens",
        "60",
        "--answer-tokens",
        "16",
    ]
    status = main([*line, "--json", "--out", str(out)])
    told = json.loads(capsys.readouterr().out)
    (item,) = yaml.safe_load(out.read_text())["model_list"]

    assert status == 0
    assert told["candidates"][0]["outcome"] == "start"
    assert told["config"]["model_list"] == [item]
    found = parse_model(item["litellm_params"]["model"].removeprefix("llama_cpp/"), item["model_info"]["llama_cpp"])
    assert (found.options.path, found.options.n_threads) == (str(SMALL), 1)


# ------------------------------------------------------------------ errors


def _refusal(line: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["tune", *line]) == 1
    return capsys.readouterr().err.removeprefix("echo-proxy: ")


def test_a_missing_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is run."""
    assert "expected a readable GGUF file" in _refusal([str(tmp_path / "x.gguf")], capsys)


def test_what_is_no_gguf_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With what its first bytes are."""
    (tmp_path / "x.gguf").write_text("hello world")

    assert "expected a GGUF file (it begins with b'GGUF'), got b'hell'" in _refusal([str(tmp_path / "x.gguf")], capsys)


def test_a_file_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Unless that is wished."""
    (tmp_path / "out.yaml").write_text("mine")

    told = _refusal([str(SMALL), "--out", str(tmp_path / "out.yaml")], capsys)
    assert "expected a file that is not there yet, or --force" in told
    assert (tmp_path / "out.yaml").read_text() == "mine"


def test_requests_must_fit_into_the_context(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the model, or as wished."""
    assert "to fit into a context of 1024 tokens, got 1100" in _refusal([str(SMALL), "--prompt-tokens", "1000"], capsys)


def test_without_the_library_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the proxy itself does."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    assert "pip install 'echo-proxy[local]'" in _refusal([str(SMALL)], capsys)


def test_a_model_that_cannot_be_loaded_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its header is whole, its weights are not."""
    broken = tmp_path / "broken.gguf"
    shutil.copy(SMALL, broken)
    with broken.open("r+b") as file:
        file.truncate(SMALL.stat().st_size // 2)

    assert "broken.gguf" in _refusal([str(broken), "--budget", "10s"], capsys)


def test_too_little_memory_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """With what the least hungry options would need."""
    assert "2 MiB may be used" in _refusal([str(SMALL), "--memory", "2M", "--budget", "10s"], capsys)


@pytest.mark.parametrize("option", [["--memory", "lots"], ["--budget", "0"], ["--concurrency", "65"], ["--goal", "x"]])
def test_wrong_usage(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2."""
    with pytest.raises(SystemExit) as caught:
        main(["tune", str(SMALL), *option])

    assert caught.value.code == 2
    assert "usage: echo-proxy tune" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["tune", "gate"])
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As all commands have."""
    with pytest.raises(SystemExit):
        main([command, "--help"])

    assert f"examples:\n  echo-proxy {command} " in capsys.readouterr().out
