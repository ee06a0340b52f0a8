from pathlib import Path

import pytest

from echo_proxy.errors import LocalModelError
from echo_proxy.local.groups import ModelGroup, form_groups
from echo_proxy.local.options import LocalModel, parse_model
from echo_proxy.local.order import Order, Reply


def _model(name: str, **options: object) -> LocalModel:
    return parse_model(name, {"path": "/a.gguf", **options})


def test_models_live_alone_unless_they_name_a_process() -> None:
    """The groups are the same whatever the order of the config, and so are their fingerprints."""
    models = [_model("b", process="x"), _model("c"), _model("a", process="x")]
    groups = form_groups(models)

    assert [(one.process, [model.name for model in one.models]) for one in groups] == [("c", ["c"]), ("x", ["a", "b"])]
    assert [one.fingerprint for one in form_groups(reversed(models))] == [one.fingerprint for one in groups]


def test_a_fingerprint_covers_every_model() -> None:
    """Another option or another model makes another process."""
    (one,) = form_groups([_model("a", process="x")])
    (two,) = form_groups([_model("a", process="x", max_wait_s=1.0)])
    (three,) = form_groups([_model("a", process="x"), _model("b", process="x")])

    assert len({one.fingerprint, two.fingerprint, three.fingerprint}) == 3


def test_models_of_a_process_agree_about_it() -> None:
    """How many are loaded at once is said once; a process does not take the name of a model that lives alone."""
    with pytest.raises(LocalModelError, match=r"llama_cpp/b: model_info.llama_cpp.max_loaded: expected 1"):
        form_groups([_model("a", process="x", max_loaded=1), _model("b", process="x")])
    with pytest.raises(LocalModelError, match=r"llama_cpp/b: model_info.llama_cpp.process: .* got 'a'"):
        form_groups([_model("a"), _model("b", process="a")])


def test_a_group_knows_when_it_is_needed() -> None:
    """One model that is loaded at the start suffices to start the process."""
    eager, late = _model("a", process="x"), _model("b", process="x", load="first_call")

    assert not ModelGroup("x", (eager, late)).is_lazy
    assert ModelGroup("x", (late,)).is_lazy
    assert ModelGroup("x", (eager, late)).max_loaded == 2
    assert ModelGroup("x", (_model("a", max_loaded=1), late)).max_loaded == 1


def test_orders_and_replies_survive_the_pipe() -> None:
    """What is written is read; a process that died says nothing."""
    models = (_model("a", tensor_split=[1, 2], drafting={"kind": "model", "path": "/d.gguf"}), _model("b"))
    order = Order(ModelGroup("x", models), "secret", Path("/state/local/prefixes"))

    assert Order.from_line(order.to_line()) == order
    assert Reply.from_line(Reply(port=1).to_line()) == Reply(port=1)
    assert Reply.from_line(b"") == Reply()
