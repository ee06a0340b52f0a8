from typing import Any

from echo_proxy.litellm.deployments import id_of, named, names_of, rooms_of

ONE: dict[str, Any] = {"litellm_params": {"model": "llama_cpp/one"}, "model_info": {"id": "a", "max_input_tokens": 10}}
TWO: dict[str, Any] = {
    "litellm_params": {"model": "llama_cpp/one"},
    "model_info": {"id": "b", "llama_cpp": {"n_ctx": 7}},
}
BARE: dict[str, Any] = {"litellm_params": None, "model_info": None}


def test_a_deployment_has_an_id_and_names() -> None:
    """Arms may know it by either; one without both has none."""
    assert [id_of(one) for one in (ONE, TWO, BARE)] == ["a", "b", ""]
    assert names_of([ONE, TWO, BARE]) == {"a", "b", "llama_cpp/one"}


def test_a_name_picks_its_deployments() -> None:
    """All of them where there is none of that name: none at all would be an error to the caller."""
    assert named("a", [ONE, TWO]) == [ONE]
    assert named("llama_cpp/one", [ONE, TWO]) == [ONE, TWO]
    assert named("gone", [ONE, TWO]) == [ONE, TWO]
    assert named(None, [BARE]) == [BARE]


def test_replicas_have_the_room_of_the_smallest() -> None:
    """Whichever of them is asked must hold the prompt; unknown sizes are left out."""
    assert rooms_of([ONE, TWO, BARE]) == {"a": 10, "b": 7, "llama_cpp/one": 7}
