from collections.abc import Sequence
from pathlib import Path

from echo_proxy.engine.prefixes import Prefixes, Seating
from echo_proxy.engine.vault import Vault
from echo_proxy.llama.language import LlamaLanguage
from echo_proxy.llama.library import Weights
from echo_proxy.llama.runner import ContextOptions, LlamaRunner
from tests.llama.pair import answer, prompts, read, write

MUCH = 1 << 26


def serve(runner: LlamaRunner, prefixes: Prefixes, prompt: Sequence[int], n_tokens: int = 24) -> tuple[int, list[int]]:
    """How much of the prompt was cached, and the likeliest answer."""
    place = prefixes.seat("a", prompt)
    assert place is not None
    assert runner.length(place.seat) == place.n_cached
    first = read(runner, place.seat, prompt[place.n_cached :], place.n_cached)
    prefixes.advance(place.seat, len(prompt))
    written = write(runner, place.seat, first, len(prompt), n_tokens)
    prefixes.retire(place.seat, [*prompt, *written[:-1]])
    return place.n_cached, written


def paused(runner: LlamaRunner, prefixes: Prefixes, prompt: Sequence[int], n_before: int) -> tuple[Seating, list[int]]:
    """Write some tokens, pause, let others use the cells, and take a seat again."""
    place = prefixes.seat("a", prompt)
    assert place is not None
    first = read(runner, place.seat, prompt[place.n_cached :], place.n_cached)
    written = write(runner, place.seat, first, len(prompt), n_before)
    state = [*prompt, *written[:-1]]
    assert prefixes.pause(place.seat, state)
    assert prefixes.make_room(runner.n_cells)
    serve(runner, prefixes, [5] * 50)
    again = prefixes.seat("a", [*prompt, *written])
    prefixes.unpin("a", state)
    assert again is not None
    return again, written


def test_reused_beginnings_change_no_answer(small: Weights, runner: LlamaRunner, language: LlamaLanguage) -> None:
    """With two seats, so that texts are shared, taken over, given up, saved and restored all the time, each answer is
    the one that an empty model gives."""
    asked = [prompt for prompt in prompts(language) for _ in range(2)] + prompts(language)
    expected = []
    for prompt in asked:
        expected.append(answer(runner, 0, prompt))
        runner.cut(0, 0)
    few = LlamaRunner(small, ContextOptions(n_seats=2, n_cells=256, n_batch=128))
    vault = Vault(MUCH, 0, None, few.fingerprint)
    prefixes = Prefixes(few, vault, min_saved=8)

    served = [serve(few, prefixes, prompt) for prompt in asked]

    assert [text for _, text in served] == expected
    assert all(n_cached > 0 for n_cached, _ in served[1:])
    assert prefixes.counts["restored_states"] > 0
    few.close()


def test_a_paused_answer_goes_on_as_if_nothing_had_been(runner: LlamaRunner, language: LlamaLanguage) -> None:
    """Its state comes back from the vault, and the rest of the answer is the same."""
    prompt = prompts(language)[3]
    expected = answer(runner, 0, prompt)
    runner.cut(0, 0)
    prefixes = Prefixes(runner, Vault(MUCH, 0, None, runner.fingerprint), min_saved=8)

    place, written = paused(runner, prefixes, prompt, n_before=9)

    assert place.n_cached == len(prompt) + 8
    assert write(runner, place.seat, written[-1], place.n_cached, 16)[1:] == expected[9:]


def test_a_beginning_survives_a_restart(
    tmp_path: Path, small: Weights, runner: LlamaRunner, language: LlamaLanguage
) -> None:
    """What two prompts shared is on disk when the model is unloaded, and serves the next process."""
    one, other, third = prompts(language)[:3]
    first = LlamaRunner(small, ContextOptions(n_seats=2, n_cells=256, n_batch=128))
    vault = Vault(MUCH, MUCH, tmp_path, first.fingerprint)
    prefixes = Prefixes(first, vault, min_saved=1)
    serve(first, prefixes, one)
    serve(first, prefixes, other)
    prefixes.save()
    vault.close()
    first.close()
    expected = answer(runner, 0, third)

    second = LlamaRunner(small, ContextOptions(n_seats=2, n_cells=256, n_batch=128))
    vault = Vault(MUCH, MUCH, tmp_path, second.fingerprint)
    n_cached, text = serve(second, Prefixes(second, vault, min_saved=1), third)

    assert n_cached > 0
    assert text == expected
    vault.close()
    second.close()
