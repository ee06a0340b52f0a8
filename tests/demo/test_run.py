"""The demo as a whole, against a proxy without models: views, tables, worked example, figures."""

import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from echo_proxy.demo import run, worked
from echo_proxy.demo.client import DemoClient
from echo_proxy.demo.phases import SMALL_ONLY, Answer, Phase, phases_for
from echo_proxy.demo.play import play
from echo_proxy.demo.proxy import Connection, new_connection
from echo_proxy.demo.run import DemoOptions, results, show_results
from echo_proxy.demo.setup import SetupFiles
from echo_proxy.demo.stay import curl_lines
from echo_proxy.demo.traffic import Ask, Label, Mix, stream
from echo_proxy.demo.view import LiveView, PlainView, View
from echo_proxy.demo.world import make_world, repeat_item
from echo_proxy.errors import SettingsError
from tests.demo import fake_proxy
from tests.demo.fake_proxy import FakeProxy, serving

N = 30
PHASES = phases_for(("epsilon_greedy", "ucb1"))
ECHO = PHASES[2]


@pytest.fixture
def console() -> Console:
    """Wide enough that nothing is cut; what it prints is read with export_text."""
    return Console(width=220, record=True, file=io.StringIO(), force_terminal=True)


@pytest.fixture
def asks() -> list[Ask]:
    """A short stream, in which some facts come back."""
    return stream(make_world(), N, seed=1, mix=Mix(n_topics=6, n_countries=2))


async def _answers(asks: list[Ask], view: View) -> tuple[list[Answer], worked.WorkedExample | None]:
    proxy = FakeProxy()
    proxy.knows(asks)
    with serving(proxy) as connection:
        async with DemoClient(connection) as client:
            with view.shown():
                answers = await play(client, PHASES, asks, 2, view.note)
            return answers, await worked.fetch(client, answers)


async def test_final_tables_and_figures(console: Console, asks: list[Ask]) -> None:
    """The end of a run: all phases, all kinds, one request in full, and the same for a file."""
    answers, found = await _answers(asks, PlainView(console, PHASES, N))

    show_results(console, PHASES, answers, N)
    worked.show(console, found)
    text = console.export_text()
    figures = json.loads(json.dumps(results(DemoOptions(requests=N), PHASES, answers, found)))

    assert all(phase.name in text for phase in PHASES)
    assert "rare fact, asked again" in text
    assert "earlier [x]." in text
    assert "left out: threshold" in text
    assert "errors" not in text
    assert [one["n"] for one in figures["phases"]] == [N] * 4
    assert figures["worked_example"]["example"]["id"] == "e1"


async def test_live_view_shows_the_latest(console: Console, asks: list[Ask]) -> None:
    """While it runs one sees progress, arms and the last answers."""
    view = LiveView(console, PHASES, N)
    answers, _ = await _answers(asks, view)

    console.print(view.render())
    text = console.export_text()

    assert f"{4 * N} of {4 * N} answers" in text
    assert "small+1" in text
    assert answers[-1].ask.item.question in text


async def test_plain_view_prints_now_and_then(console: Console, asks: list[Ask]) -> None:
    """A line per hundred answers and one at the end."""
    await _answers(asks, PlainView(console, PHASES, N))

    lines = console.export_text().splitlines()

    assert [line.split(";")[0] for line in lines] == ["100/120 answers", "120/120 answers"]
    assert "large only 100%" in lines[-1]


def _answer(
    index: int, quality: float, phase: Phase, n_examples: int = 0, label: Label = Label.REPEATED, word: str = "bon"
) -> Answer:
    ask = Ask(repeat_item(word, 0), label)
    return Answer(
        phase, index, ask, "", quality, 0.1, deployment="small", n_examples=n_examples, decision_id=str(index)
    )


def test_worked_example_is_one_that_needed_help() -> None:
    """The latest repeated fact that was wrong alone and right with an example; never one that was easy."""
    words = ["ab", "cd", "ef", "gh"]
    alone = [_answer(index, float(index == 3), SMALL_ONLY, word=word) for index, word in enumerate(words)]
    echo = [_answer(index, 1.0, ECHO, n_examples=int(index != 2), word=word) for index, word in enumerate(words)]

    assert worked.choose([*alone, *echo]) == (alone[1], echo[1])
    assert worked.choose(alone) is None


def test_worked_example_is_asked_in_other_words_if_possible() -> None:
    """A wording that stands in the stream for the first time cannot have been looked up."""
    words = ["bon", "tel", "bon"]
    alone = [_answer(index, 0.0, SMALL_ONLY, word=word) for index, word in enumerate(words)]
    echo = [_answer(index, 1.0, ECHO, n_examples=1, word=word) for index, word in enumerate(words)]

    assert worked.choose([*alone, *echo]) == (alone[1], echo[1])


def test_no_worked_example_is_said(console: Console) -> None:
    """A run too short to show it says so."""
    worked.show(console, None)

    assert "try more requests" in console.export_text()


def test_curl_lines_can_be_pasted() -> None:
    """Address and key stand once; the lines name decision and question."""
    text = curl_lines(Connection(4000, "sk-1"), _answer(7, 1.0, ECHO))

    assert text.count("sk-1") == 1
    assert "export ECHO_DEMO=http://127.0.0.1:4000 ECHO_DEMO_KEY=sk-1" in text
    assert "/echo/decisions/7 " in text
    assert '"model": "demo-epsilon"' in text
    assert "Say the word bon." in text


@pytest.mark.parametrize("name", ["requests", "concurrency"])
def test_nonsense_is_refused(name: str) -> None:
    """Nothing can be shown with no requests."""
    with pytest.raises(SettingsError, match=f"{name} must be at least 1, got 0"):
        DemoOptions(**{name: 0})  # type: ignore[arg-type]


def _fake_command(files: SetupFiles, port: int) -> list[str]:
    return [sys.executable, fake_proxy.__file__, str(port), str(N), "1"]


def test_main_runs_from_start_to_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Start, play, tables, file, stop; the state folder that was named is kept."""
    monkeypatch.setattr(run, "serve_command", _fake_command)
    state, figures = tmp_path / "state", tmp_path / "figures.json"

    status = run.main(DemoOptions(requests=N, seed=1, plain=True, state_dir=state, json_path=figures))

    assert status == 0
    assert json.loads(figures.read_text())["phases"][2]["correctness"] == 1.0
    assert {path.name for path in state.iterdir()} == {"litellm.yaml", "proxy.log"}
    assert "Results" in capsys.readouterr().out


INTERRUPTED = """
import sys
from tests.demo import test_run
from echo_proxy.demo import run
run.serve_command = test_run._fake_command
port, stays = int(sys.argv[1]), sys.argv[2] == "stay"
n = test_run.N if stays else 20_000
sys.exit(run.main(run.DemoOptions(requests=n, seed=1, plain=True, port=port, stay=stays)))
"""


@pytest.mark.parametrize(
    ("mode", "awaited", "sent", "status"),
    [
        ("stay", "/echo/stats", signal.SIGINT, 0),
        ("play", "answers; correct", signal.SIGTERM, 143),
        ("play", "answers; correct", signal.SIGINT, -signal.SIGINT),
    ],
)
def test_a_signal_ends_demo_and_proxy(mode: str, awaited: str, sent: signal.Signals, status: int) -> None:
    """Ctrl-C and SIGTERM leave no process behind; with --stay Ctrl-C is the normal end."""
    port = new_connection(None).port
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-u", "-c", INTERRUPTED, str(port), mode], stdout=subprocess.PIPE, text=True, cwd=root
    ) as demo:
        assert demo.stdout is not None
        seen = next((line for line in demo.stdout if awaited in line), None)
        children = psutil.Process(demo.pid).children()
        demo.send_signal(sent)
        rest, _ = demo.communicate(timeout=30)

    assert seen is not None, rest
    assert demo.returncode == status
    assert len(children) == 1
    assert not children[0].is_running()
