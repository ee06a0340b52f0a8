import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from echo_proxy.doctor import report
from echo_proxy.local.doctor import Device, LocalDiagnosis, diagnose, examine, lines, model_lines
from echo_proxy.local.gguf import describe
from tests.local.children import SMALL, small_model

FACTS: dict[str, Any] = {
    "version": "1",
    "system_info": "CUDA : ARCHS = 900 | CPU : AVX = 1 | AVX2 = 0 | ",
    "can_offload_to_gpu": True,
    "can_mmap": True,
    "can_mlock": False,
    "devices": [
        {"name": "CPU", "description": "CPU", "is_gpu": False, "n_free_bytes": 2**30, "n_total_bytes": 2**30},
        {
            "name": "CUDA0",
            "description": "NVIDIA H200",
            "is_gpu": True,
            "n_free_bytes": 3 * 2**30,
            "n_total_bytes": 4 * 2**30,
        },
    ],
}
"""What the probe says of a build for GPUs."""


def test_the_installed_build_is_described() -> None:
    """Version, CPU features and devices come from the library itself, which stays out of this process's doctor."""
    found = examine()
    text = "\n".join(lines(found))

    assert found.is_installed
    assert found.error is None
    assert found.can_mmap
    assert any(device.name.startswith("CPU") and device.n_total_bytes > 0 for device in found.devices)
    assert not any(device.is_gpu for device in found.devices if device.name.startswith("CPU"))
    assert f"llama-cpp-python {found.version}" in text


def test_a_missing_extra_names_both_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader learns how to install it, and how to build it for CUDA."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    text = "\n".join(lines(examine()))

    assert "pip install 'echo-proxy[local]'" in text
    assert 'CMAKE_ARGS="-DGGML_CUDA=on" pip install --force-reinstall' in text


def test_a_build_that_does_not_load_is_told_from_none() -> None:
    """Its last line of complaint is shown."""
    found = diagnose(-6, "", "Traceback\nOSError: libcuda.so.1: cannot open\n")

    assert found == LocalDiagnosis(
        True, "expected llama.cpp to load, got status -6: OSError: libcuda.so.1: cannot open"
    )
    assert "libcuda" in lines(found)[0]


def test_a_build_for_gpus_says_so() -> None:
    """Then no build command is shown."""
    found = diagnose(0, f"ggml_cuda_init: found 1 device\n{json.dumps(FACTS)}\n", "")
    text = "\n".join(lines(found))

    assert found.cpu_features == ("AVX",)
    assert found.devices[1] == Device("CUDA0", "NVIDIA H200", True, 3 * 2**30, 4 * 2**30)
    assert "CPU: CPU, 1.0 GiB\n" in text
    assert "CUDA0: NVIDIA H200, 3.0 GiB of 4.0 GiB free" in text
    assert "CMAKE_ARGS" not in text


def test_models_are_told_with_what_fits() -> None:
    """Layers, size and quantisation come from the file; a missing file says so."""
    models = [small_model(), small_model("gone", path="/no.gguf")]
    with_gpu = model_lines(diagnose(0, json.dumps(FACTS), ""), models)
    without = model_lines(LocalDiagnosis(True), models)
    size, n_layers = f"{SMALL.stat().st_size / 2**20:.1f} MiB", describe(SMALL).n_layers

    assert f"llama Q8_0, {size}, {n_layers} layers; all of them should fit onto CUDA0: n_gpu_layers: -1" in with_gpu[0]
    assert without[0].endswith(" layers")
    assert "No such file" in without[1]


def test_a_config_s_models_are_told(tmp_path: Path) -> None:
    """Beside what the installation can do."""
    config = tmp_path / "litellm.yaml"
    config.write_text(
        "model_list: [{model_name: auto, litellm_params: {model: llama_cpp/mine}, "
        f"model_info: {{llama_cpp: {{path: '{SMALL}'}}}}}}]"
    )

    assert report(config)[-1].startswith("mine                 llama Q8_0")
    assert not any(line.startswith("mine") for line in report())


def test_looking_does_not_load_llama_cpp() -> None:
    """The proxy's process stays free of the library."""
    code = "import sys, echo_proxy.local.doctor as d, echo_proxy.local.fleet, echo_proxy.local.client; d.examine()"
    code += "; assert 'llama_cpp' not in sys.modules"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
