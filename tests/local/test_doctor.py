import subprocess
import sys

import pytest

from echo_proxy.local.doctor import LocalDiagnosis, diagnose, examine, lines


def test_the_installed_build_is_described() -> None:
    """Version, CPU features and devices come from the library itself, which stays out of this process's doctor."""
    found = examine()
    text = "\n".join(lines(found))

    assert found.is_installed
    assert found.error is None
    assert found.can_mmap
    assert any(device.startswith("CPU") for device in found.devices)
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
    facts = (
        '{"version": "1", "system_info": "CUDA : ARCHS = 900 | CPU : AVX = 1 | AVX2 = 0 | ",'
        ' "can_offload_to_gpu": true, "can_mmap": true, "can_mlock": false, "devices": ["CUDA0: NVIDIA H200"]}'
    )
    found = diagnose(0, f"ggml_cuda_init: found 1 device\n{facts}\n", "")
    text = "\n".join(lines(found))

    assert found.cpu_features == ("AVX",)
    assert "CUDA0: NVIDIA H200" in text
    assert "CMAKE_ARGS" not in text


def test_looking_does_not_load_llama_cpp() -> None:
    """The proxy's process stays free of the library."""
    code = "import sys, echo_proxy.local.doctor as d, echo_proxy.local.fleet, echo_proxy.local.client; d.examine()"
    code += "; assert 'llama_cpp' not in sys.modules"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
