import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from echo_proxy.errors import LocalModelError
from echo_proxy.local.fleet import Fleet, shared_fleet
from echo_proxy.local.groups import ModelGroup
from echo_proxy.local.state import ModelState, read_state, write_state
from echo_proxy.local.status import LocalModelStatus
from echo_proxy.local.supervisor import Supervisor
from tests.local.children import is_running, ready_state, small_model, wait_for
from tests.local.parrot_child import COMMAND

WORKER = """
import sys, time
from pathlib import Path
from echo_proxy.local.fleet import Fleet
from tests.local.children import small_model
from tests.local.parrot_child import COMMAND
fleet = Fleet(Path(sys.argv[1]), COMMAND)
fleet.warm_up([small_model()])
while True:
    time.sleep(60)
"""
"""A proxy worker that only keeps a local model."""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """This worker's models, gone afterwards."""
    one = Fleet(tmp_path, COMMAND)
    yield one
    one.shutdown()


def _worker(state_dir: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", WORKER, str(state_dir)])


def _only(fleet: Fleet) -> LocalModelStatus:
    (status,) = fleet.status()
    return status


def _health(state: ModelState) -> int:
    headers = {"Authorization": f"Bearer {state.token}"}
    return httpx.get(f"{state.url}/health", headers=headers, trust_env=False).status_code


def test_a_model_is_loaded_in_a_process_of_its_own(fleet: Fleet, tmp_path: Path) -> None:
    """The address is private, the log is ours, and the proxy never imports llama.cpp."""
    state = ready_state(fleet.ensure(small_model()))

    assert _health(state) == 200
    assert (tmp_path / "local" / "small.json").stat().st_mode & 0o777 == 0o600
    assert _only(fleet).phase == "ready"
    assert (_only(fleet).is_leader, _only(fleet).n_restarts) == (True, 0)
    assert "Started server process" in _only(fleet).log.read_text()
    assert state.token not in " ".join(psutil.Process(state.pid).cmdline())


def test_shutdown_ends_the_process_and_leaves_no_address(tmp_path: Path) -> None:
    """After a clean end nothing runs and nobody finds an old address."""
    fleet = Fleet(tmp_path, COMMAND)
    state = ready_state(fleet.ensure(small_model()))
    fleet.shutdown()

    assert state.pid is not None
    assert wait_for(lambda: not is_running(state.pid or 0))
    assert not (tmp_path / "local" / "small.json").exists()
    fleet.shutdown()


def test_two_workers_share_one_process(fleet: Fleet, tmp_path: Path) -> None:
    """The second worker finds the process of the first, and takes over when the first stops."""
    first = ready_state(fleet.ensure(small_model()))
    other = Fleet(tmp_path, COMMAND)
    try:
        second = ready_state(other.ensure(small_model()))
        assert second == first
        assert not _only(other).is_leader

        fleet.shutdown()
        third = ready_state(other.ensure(small_model()), after=first.token)
        assert _health(third) == 200
        assert _only(other).is_leader
    finally:
        other.shutdown()


def test_a_killed_process_is_started_again_and_counted(fleet: Fleet) -> None:
    """A crash costs some hundred milliseconds and is seen."""
    supervisor = fleet.ensure(small_model())
    first = ready_state(supervisor)
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    second = ready_state(supervisor, after=first.token)

    assert _health(second) == 200
    assert second.pid != first.pid
    assert _only(fleet).n_restarts == 1
    assert "signal 9" in (_only(fleet).error or "")


def test_a_killed_worker_leaves_no_orphan_and_another_takes_over(fleet: Fleet, tmp_path: Path) -> None:
    """kill -9 of the worker that leads: its child ends by itself, and the next worker starts another."""
    worker = _worker(tmp_path)
    try:
        path = tmp_path / "local" / "small.json"
        first = wait_for(lambda: state if (state := read_state(path)) and state.phase == "ready" else None)
        supervisor = fleet.ensure(small_model())
        assert ready_state(supervisor) == first
    finally:
        worker.kill()
        worker.wait()
    second = ready_state(supervisor, after=first.token)

    assert wait_for(lambda: not is_running(first.pid or 0))
    assert _health(second) == 200
    assert (_only(fleet).is_leader, _only(fleet).n_restarts) == (True, 1)


def test_a_killed_lone_worker_leaves_no_orphan(tmp_path: Path) -> None:
    """Also without another worker the child ends; the address it leaves behind is not believed later."""
    worker = _worker(tmp_path)
    path = tmp_path / "local" / "small.json"
    try:
        first = wait_for(lambda: state if (state := read_state(path)) and state.phase == "ready" else None)
        children = psutil.Process(worker.pid).children(recursive=True)
    finally:
        worker.kill()
        worker.wait()

    assert len(children) == 2  # the other one carries what C libraries print into the log
    assert first.pid in [child.pid for child in children]
    assert wait_for(lambda: not any(is_running(child.pid) for child in children))
    assert Supervisor(ModelGroup("small", (small_model(),)), tmp_path / "local").state() is None


def test_a_file_that_is_missing_is_reported_and_found_later(fleet: Fleet, tmp_path: Path) -> None:
    """The error names the option; when the file appears, the model comes up by itself."""
    path = tmp_path / "later.gguf"
    supervisor = fleet.ensure(small_model(path=str(path)))
    failed = wait_for(lambda: status if (status := _only(fleet)).phase == "failed" else None)
    path.symlink_to(small_model().options.path)

    assert "model_info.llama_cpp.path: expected a readable GGUF file" in (failed.error or "")
    assert _health(ready_state(supervisor)) == 200


def test_what_only_the_process_can_judge_is_reported(fleet: Fleet) -> None:
    """The child's own error reaches the status, and it is tried again."""
    fleet.ensure(small_model(n_gpu_layers=-1))
    failed = wait_for(lambda: status if (status := _only(fleet)).phase == "failed" else None)

    assert "n_gpu_layers: expected 0" in (failed.error or "")
    assert wait_for(lambda: _only(fleet).n_restarts >= 1)


def test_models_of_one_process_share_it(fleet: Fleet) -> None:
    """One process, one log, one fate; the others have their own."""
    models = [small_model("a", process="both"), small_model("b", process="both"), small_model("c")]
    fleet.warm_up(models)
    both, alone = fleet.ensure(models[0]), fleet.ensure(models[2])
    first, other = ready_state(both), ready_state(alone)
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    ready_state(both, after=first.token)
    statuses = {one.name: one for one in fleet.status()}

    assert fleet.ensure(models[1]) is both
    assert [(one.process, one.n_restarts) for one in statuses.values()] == [("both", 1), ("both", 1), ("c", 0)]
    assert statuses["a"].log == statuses["b"].log
    assert statuses["c"].pid == other.pid


def test_a_broken_model_leaves_the_others_of_its_process(fleet: Fleet) -> None:
    """The process serves those that it could load, also when a file is missing."""
    models = [
        small_model("a", process="both"),
        small_model("broken", process="both"),
        small_model("gone", process="both", path="/no.gguf"),
    ]
    fleet.warm_up(models)

    assert _health(ready_state(fleet.ensure(models[0]))) == 200


def test_a_process_starts_with_the_first_call_of_its_models(fleet: Fleet, tmp_path: Path) -> None:
    """Until then nothing runs, if none of them is loaded at the start."""
    models = [small_model(name, process="lazy", load="first_call") for name in "ab"]
    fleet.warm_up(models)
    before = [one.phase for one in fleet.status()]
    files = list(tmp_path.glob("local/lazy*"))

    assert (before, files) == (["unloaded", "unloaded"], [])
    assert _health(ready_state(fleet.ensure(models[1]))) == 200


def test_a_process_takes_no_new_models(fleet: Fleet) -> None:
    """A model that was added later cannot join a process; alone it can be used."""
    fleet.warm_up([small_model("a", process="both", path="/no.gguf")])

    with pytest.raises(LocalModelError, match=r"model_info.llama_cpp.process: .*in the config when the proxy starts"):
        fleet.ensure(small_model("b", process="both"))
    with pytest.raises(LocalModelError, match="expected the models a, with which it was started, got a, b"):
        fleet.warm_up([small_model("a", process="both", path="/no.gguf"), small_model("b", process="both")])
    with pytest.raises(LocalModelError, match="in the config when the proxy starts"):
        fleet.ensure(small_model("both"))
    fleet.ensure(small_model("c", path="/no.gguf"))
    assert [one.name for one in fleet.status()] == ["a", "c"]


def test_one_name_has_one_set_of_options(fleet: Fleet, tmp_path: Path) -> None:
    """Two deployments may share a model, not a name with different options."""
    fleet.ensure(small_model(path=str(tmp_path / "none.gguf")))

    fleet.ensure(small_model(path=str(tmp_path / "none.gguf")))
    with pytest.raises(LocalModelError, match="give one of them another name"):
        fleet.ensure(small_model(path=str(tmp_path / "other.gguf")))


def test_state_file_survives_the_round_trip(tmp_path: Path) -> None:
    """What is written is read; what is broken or from another version counts as nothing."""
    state = ModelState("ready", "f", 2, 1, 3, 4, "t", "e")
    path = tmp_path / "x.json"
    write_state(path, state)

    assert read_state(path) == state
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text('{"phase": "ready", "colour": "red"}')
    assert read_state(path) is None
    assert read_state(tmp_path / "none") is None


def test_a_process_has_one_fleet_per_folder(tmp_path: Path) -> None:
    """LiteLLM may execute the provider's module twice; the fleet stays one."""
    assert shared_fleet(tmp_path) is shared_fleet(tmp_path)
    assert shared_fleet(tmp_path) is not shared_fleet(tmp_path / "other")
