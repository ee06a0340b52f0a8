"""A policy with a store in SQLite, as the settings name it."""

from pathlib import Path

import pytest

from tests.commands.world import World


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Empty; the environment names it."""
    made = World(tmp_path)
    monkeypatch.setenv("ECHO_STORE_URL", f"sqlite://{made.file}")
    monkeypatch.setenv("ECHO_POLICY", str(made.policy))
    return made
