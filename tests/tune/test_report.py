import json
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from echo_proxy.errors import LocalModelError
from echo_proxy.local.options import LocalModelOptions, parse_model
from echo_proxy.tune.records import Round, Row, changed
from echo_proxy.tune.report import as_json, as_yaml, config, model_name, table
from echo_proxy.tune.search import Found
from tests.tune.surface import LOAD, START

FIGURES = Round(100.0, 0.25, 0.05, 0.04, 1.0, 2**30, n_drafted=100, n_accepted=30)


def test_the_winner_can_be_read_back() -> None:
    """LiteLLM's item, with only what differs from the defaults, gives the same options again."""
    best = changed(START, drafting={"kind": "model", "path": "/m/draft.gguf"}, type_k="q8_0", min_rows=2)
    (item,) = yaml.safe_load(as_yaml(best))["model_list"]
    name = item["litellm_params"]["model"].removeprefix("llama_cpp/")

    assert parse_model(name, item["model_info"]["llama_cpp"]).options == best
    assert "n_batch" not in item["model_info"]["llama_cpp"]


def test_defaults_are_not_told() -> None:
    """The path is all there is."""
    item = config(LocalModelOptions(path="/m/a.gguf"))["model_list"][0]

    assert item["model_info"] == {"llama_cpp": {"path": "/m/a.gguf"}}


def test_what_could_not_be_read_back_is_not_written() -> None:
    """Options that are none."""
    with pytest.raises(LocalModelError, match="n_parallel"):
        as_yaml(START.model_copy(update={"n_parallel": 0}))


@pytest.mark.parametrize(
    ("file", "name"), [("a b (1).gguf", "a-b-1-"), ("._x.gguf", "x"), ("Ü.gguf", "model"), ("q8.gguf", "q8")]
)
def test_a_name_is_made_of_the_file_s(file: str, name: str) -> None:
    """One that options of local models take."""
    assert model_name(Path(file)) == name


def test_the_table_shows_all_rows() -> None:
    """Figures where there are some, reasons where not."""
    rows = [
        Row("as it is by default", START, "start", FIGURES, 1.0, 2**30),
        Row("type_k: q4_0", START, "lossy", FIGURES, 1.25, 2**29, 0.5, "changes the texts"),
        Row("path: [x].gguf", START, "not tried", n_bytes=2**33, note="needs about 8.0 GiB"),
    ]
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115 - nothing to close
    console.print(table(rows, "latency"))
    lines = [one for one in console.export_text().splitlines() if one.strip()]

    assert [word in lines[2] for word in ("250 ms", "50 ms", "1.0 GiB", "30% of drafts accepted")] == [True] * 4
    assert [word in lines[3] for word in ("1.25", "512 MiB", "50%", "lossy")] == [True] * 4
    assert [word in lines[4] for word in ("[x].gguf", "8.0 GiB", "not tried")] == [True] * 3


def test_json_has_everything() -> None:
    """For programs."""
    found = Found(START, FIGURES, 1.5, [Row("a", START, "start", FIGURES, 1.0)])
    told = json.loads(as_json(found, "latency", LOAD))

    assert (told["gain"], told["load"]["n_prompt_tokens"]) == (1.5, 100)
    assert told["candidates"][0]["figures"]["latency_s"] == 0.25
    assert told["config"]["model_list"][0]["model_info"]["llama_cpp"]["n_threads"] == 1
