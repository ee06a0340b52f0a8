"""Can this installation serve local models, on what, and what would fit there?"""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from echo_proxy.errors import LocalModelError
from echo_proxy.local.fit import layers_that_fit
from echo_proxy.local.gguf import describe
from echo_proxy.local.options import INSTALL, LocalModel, default_context

_PIN = "0.3.36"
"""As in pyproject.toml's extra `local`; used when the package is not there to ask."""
_PROBE_S = 60.0


@dataclass(frozen=True, slots=True)
class Device:
    """What ggml can compute on."""

    name: str
    """`CPU`, `CUDA0`, ..."""
    description: str
    is_gpu: bool
    n_free_bytes: int
    n_total_bytes: int


@dataclass(frozen=True, slots=True)
class LocalDiagnosis:
    """What the installed llama-cpp-python can do."""

    is_installed: bool
    error: str | None = None
    """Why it is installed but cannot be loaded."""
    version: str = ""
    """Of llama-cpp-python."""
    system_info: str = ""
    """llama.cpp's own line about its build."""
    cpu_features: tuple[str, ...] = ()
    """Instruction sets that the build uses here, such as AVX2."""
    can_offload_to_gpu: bool = False
    """The build can put layers on a GPU; whether there is one, `devices` tells."""
    devices: tuple[Device, ...] = ()
    """What ggml computes on."""
    can_mmap: bool = False
    """Weights can be mapped instead of read."""
    can_mlock: bool = False
    """Weights can be kept from being swapped out."""


def examine() -> LocalDiagnosis:
    """Ask the library, in a process of its own; takes about half a second."""
    if importlib.util.find_spec("llama_cpp") is None:
        return LocalDiagnosis(is_installed=False)
    command = [sys.executable, "-m", "echo_proxy.local.probe"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return LocalDiagnosis(is_installed=True, error=f"expected llama.cpp to load, got: {error}")
    return diagnose(done.returncode, done.stdout, done.stderr)


def diagnose(status: int, output: str, errors: str) -> LocalDiagnosis:
    """What the probe's end means: its exit status, what it printed, and what it complained about."""
    lines = output.strip().splitlines()
    if status != 0 or not lines:
        last = (errors.strip().splitlines() or [""])[-1]
        return LocalDiagnosis(is_installed=True, error=f"expected llama.cpp to load, got status {status}: {last}")
    facts = json.loads(lines[-1])
    return LocalDiagnosis(
        is_installed=True,
        version=facts["version"],
        system_info=facts["system_info"],
        cpu_features=_enabled(facts["system_info"]),
        can_offload_to_gpu=facts["can_offload_to_gpu"],
        devices=tuple(Device(**one) for one in facts["devices"]),
        can_mmap=facts["can_mmap"],
        can_mlock=facts["can_mlock"],
    )


def _enabled(system_info: str) -> tuple[str, ...]:
    """`CPU : AVX = 1 | AVX2 = 1` > ("AVX", "AVX2")."""
    pairs = [part.split(":")[-1].split("=") for part in system_info.split("|")]
    return tuple(pair[0].strip() for pair in pairs if len(pair) == 2 and pair[1].strip() == "1")


def lines(diagnosis: LocalDiagnosis) -> Sequence[str]:
    """The diagnosis for a reader, one fact a line."""
    if not diagnosis.is_installed:
        return [_line("local models", f"llama-cpp-python is not installed: {INSTALL}"), *_cuda_lines()]
    if diagnosis.error:
        return [
            _line("local models", diagnosis.error),
            _line("to repair", f"{INSTALL} --force-reinstall --no-cache-dir"),
        ]
    return [
        _line("local models", f"llama-cpp-python {diagnosis.version}"),
        _line("CPU features", " ".join(diagnosis.cpu_features) or "none reported"),
        *(_device_lines(diagnosis.devices) or [_line("devices", "not reported")]),
        _line("mmap, mlock", f"{_yes(diagnosis.can_mmap)}, {_yes(diagnosis.can_mlock)}"),
        _line("GPU offload", "yes: set n_gpu_layers" if diagnosis.can_offload_to_gpu else "no, built for the CPU only"),
        *([] if diagnosis.can_offload_to_gpu else _cuda_lines()),
    ]


def model_lines(diagnosis: LocalDiagnosis, models: Iterable[LocalModel]) -> Sequence[str]:
    """What the models' files say, one model a line, and how much of each the first GPU could take."""
    gpu = next((one for one in diagnosis.devices if one.is_gpu), None)
    return [_line(model.name, _model(model, gpu)) for model in models]


def _model(model: LocalModel, gpu: Device | None) -> str:
    path = Path(model.options.path)
    try:
        header = describe(path)
        n_ctx = model.options.n_ctx or default_context(path)
    except LocalModelError as error:
        return str(error)
    n_layers = "an unknown number of" if header.n_layers is None else str(header.n_layers)
    told = f"{header.architecture} {header.file_type}, {_size(header.n_bytes)}, {n_layers} layers".replace("  ", " ")
    fitting = layers_that_fit(header, gpu.n_free_bytes, model.options.n_cells or 2 * n_ctx) if gpu else None
    if gpu is None or fitting is None:
        return told
    if header.n_layers is not None and fitting > header.n_layers:
        return f"{told}; all of them should fit onto {gpu.name}: n_gpu_layers: -1"
    return f"{told}; about {fitting} should fit onto {gpu.name}: n_gpu_layers: {fitting}"


def _device_lines(devices: Iterable[Device]) -> list[str]:
    return [_line("device", f"{one.name}: {one.description}, {_memory(one)}") for one in devices]


def _memory(device: Device) -> str:
    if not device.is_gpu:  # ggml calls all of the machine's memory free
        return _size(device.n_total_bytes)
    return f"{_size(device.n_free_bytes)} of {_size(device.n_total_bytes)} free"


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.1f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.1f} MiB"


def _cuda_lines() -> list[str]:
    try:
        wanted = version("llama-cpp-python")
    except PackageNotFoundError:
        wanted = _PIN
    command = f"pip install --force-reinstall --no-cache-dir --no-binary llama-cpp-python llama-cpp-python=={wanted}"
    return [_line("to build with CUDA", f'CMAKE_ARGS="-DGGML_CUDA=on" {command}')]


def _line(name: str, value: str) -> str:
    return f"{name:20} {value}"


def _yes(value: bool) -> str:
    return "yes" if value else "no"
