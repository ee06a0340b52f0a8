"""What only the real parts, put together, can show."""

from pathlib import Path

import pytest

from echo_proxy.engine.chat import parse_chat
from echo_proxy.engine.gate import FEATURES, AgreementLog, Gate, read_agreements
from echo_proxy.errors import LocalModelError
from echo_proxy.llama.library import WeightOptions, load_weights
from echo_proxy.local.build import build_engine
from echo_proxy.local.options import CoDecoding, LocalModelOptions, NoDrafts
from tests.engine.engines import Mail
from tests.local.children import PAIR, SMALL

LARGE = PAIR / "large-q8_0.gguf"
_SYSTEM = {"role": "system", "content": "You are a careful helper who knows the world. " * 12}


def _options(**more: object) -> LocalModelOptions:
    fields: dict[str, object] = {
        "path": str(SMALL),
        "n_threads": 1,
        "n_threads_batch": 1,
        "n_ctx": 512,
        "drafting": NoDrafts(kind="none"),
        **more,
    }
    return LocalModelOptions(**fields)  # type: ignore[arg-type]


def _life(options: LocalModelOptions, folder: Path, *questions: str) -> list[int]:
    """Load the model, ask, and unload it; how many tokens of each prompt were cached."""
    model = build_engine("m", options, folder)
    cached = []
    for question in questions:
        mail = Mail()
        messages = [_SYSTEM, {"role": "user", "content": question}]
        model.engine.submit(parse_chat({"messages": messages, "max_tokens": 4}), mail.events.put)
        cached.append(mail.finished().usage.n_cached_tokens)
    model.close()
    return cached


def test_prefixes_outlive_the_process(tmp_path: Path) -> None:
    """What a model has read is on disk when it was unloaded, and need not be read again when it comes back."""
    options = _options(prefix_disk_mb=50, kept_cells=1024)
    first = _life(options, tmp_path, "Say lamp.", "Which number follows 41?")
    (second,) = _life(options, tmp_path, "Tell me.")

    assert first[0] == 0
    assert second >= first[1] > 100


def test_nothing_is_written_where_no_disk_is_allowed(tmp_path: Path) -> None:
    """Saving would only take time."""
    _life(_options(), tmp_path, "Say lamp.")

    assert list(tmp_path.rglob("*")) == []


def _co_decoding(**more: object) -> CoDecoding:
    fields: dict[str, object] = {"kind": "co_decode", "path": str(SMALL), **more}
    return CoDecoding(**fields)  # type: ignore[arg-type]


def _fingerprint(path: Path) -> str:
    weights = load_weights(str(path), WeightOptions())
    try:
        return weights.fingerprint
    finally:
        weights.close()


def test_agreement_is_noted_under_the_names_of_both_files(tmp_path: Path) -> None:
    """A gate is fitted from it for these two and no others."""
    path = tmp_path / "agreement"
    options = _options(path=str(LARGE), drafting=_co_decoding(agreement=str(path)))
    _life(options, tmp_path, "Say lamp.", "Which number follows 41?")
    known = read_agreements(path)

    assert (known.little, known.big) == (_fingerprint(SMALL), _fingerprint(LARGE))
    assert known.rows != ()


@pytest.mark.parametrize("option", ["gate", "agreement"])
def test_files_of_other_models_are_refused(option: str, tmp_path: Path) -> None:
    """A gate says nothing of models that it was not fitted to, and logs are not mixed."""
    path = tmp_path / "file"
    if option == "gate":
        Gate("other", "models", FEATURES, (0.0,) * len(FEATURES), 0.0, 0.5).save(path)
    else:
        AgreementLog("other", "models", path=path).flush()

    with pytest.raises(LocalModelError, match=r"drafting: .*expected a"):
        build_engine("m", _options(path=str(LARGE), drafting=_co_decoding(**{option: str(path)})), tmp_path)
