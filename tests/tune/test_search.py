from dataclasses import replace
from pathlib import Path

import pytest

from echo_proxy.errors import InputError
from echo_proxy.local.options import LocalModelOptions
from echo_proxy.tune.axes import Axis, Machine, all_axes, frugal
from echo_proxy.tune.files import ModelFile
from echo_proxy.tune.records import CandidateFailed, changed
from echo_proxy.tune.search import Found, Search, SearchParts
from tests.tune.surface import FILE, GIB, LOAD, START, PaperMachine, parts_for

AXES = all_axes([FILE], Machine(n_cores=8, n_threads=8), LOAD, 1024)
SMALLER = ModelFile(Path("/m/model-q4_0.gguf"), FILE.header, GIB // 2, "model")


def known(options: LocalModelOptions) -> float:
    """Best with 4 threads for writing and 8 for reading, 2 rows, no drafts and flash attention; they interact."""
    writing, reading = options.n_threads or 4, options.n_threads_batch or 8
    speed = 2.0 - 0.2 * abs(writing - 4) + 0.1 * min(reading, 8)
    speed *= 1.2 if options.min_rows == 2 else 1.0
    speed *= 1.1 if options.drafting.kind == "none" and options.min_rows == 2 else 1.0
    return speed * (1.05 if options.flash_attn else 1.0)


def constant(_: LocalModelOptions) -> float:
    """Nothing matters."""
    return 2.0


def searched(parts: SearchParts, axes: tuple[Axis, ...] = AXES, start: LocalModelOptions = START) -> Found:
    search = Search(parts, axes)
    return search.improve(search.start([start]))


def outcomes(found: Found) -> dict[str, str]:
    return {row.changed: row.outcome for row in found.rows}


# ------------------------------------------------------------------ what is found


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_the_best_of_a_known_surface_is_found(noise: float) -> None:
    """Also where one option pays only with another."""
    found = searched(parts_for(PaperMachine(known, noise, shared_noise=0.3)))

    best = found.winner
    assert (best.n_threads, best.n_threads_batch, best.min_rows) == (4, 8, 2)
    assert (best.drafting.kind, best.flash_attn, found.ended) == ("none", True, "done")
    assert found.gain == pytest.approx(known(best) / known(START), rel=0.08)


def test_a_search_that_ended_tries_nothing_twice() -> None:
    """Each row is another candidate."""
    found = searched(parts_for(PaperMachine(known)))

    first = [row.options for row in found.rows if not row.changed.endswith(", again")]
    assert len(set(first)) == len(first)


def test_noise_alone_replaces_nothing() -> None:
    """Where all are equally fast, the defaults stay: two seeds of twenty may be fooled."""
    n_fooled = 0
    for seed in range(20):
        found = searched(parts_for(PaperMachine(constant, noise=0.1, shared_noise=0.5, seed=seed)))
        n_fooled += found.winner != START

    assert n_fooled <= 2


def test_a_gain_below_the_margin_replaces_nothing() -> None:
    """1 % is not worth another configuration, however sure."""
    found = searched(parts_for(PaperMachine(lambda options: 2.02 if options.flash_attn else 2.0)))

    assert found.winner == START


def test_time_that_is_left_goes_to_what_looked_better() -> None:
    """A gain of 6 % that ten rounds could not prove is proved by more of them."""
    noisy = {"noise": 0.06, "shared_noise": 0.3}
    n_found = 0
    for seed in range(10):
        machine = PaperMachine(lambda options: 2.2 if options.flash_attn else 2.0, **noisy, seed=seed)
        n_found += searched(parts_for(machine)).winner.flash_attn

    assert n_found >= 6


def test_both_candidates_of_a_race_get_the_same_prompts_and_never_again() -> None:
    """What is cached of a prompt would be measured otherwise."""
    machine = PaperMachine(known)
    searched(parts_for(machine))

    assert all(len(set(numbers)) == len(numbers) for numbers in machine.numbers.values())
    assert all(set(numbers) <= set(range(1, machine.n_rounds + 1)) for numbers in machine.numbers.values())


def test_a_quicker_answer_with_a_late_first_token_is_not_chosen() -> None:
    """The guard of the goal `latency`."""
    machine = PaperMachine(lambda options: 3.0 if options.min_rows == 2 else 2.0)
    machine.alter = lambda options, round_: replace(round_, first_s=0.4) if options.min_rows == 2 else round_
    found = searched(parts_for(machine))

    assert found.winner == START
    assert any("first token" in row.note for row in found.rows)


# ------------------------------------------------------------------ time


@pytest.mark.parametrize("budget_s", [5.0, 20.0, 60.0])
def test_the_budget_is_kept(budget_s: float) -> None:
    """Less the grace of a round that is under way."""
    machine = PaperMachine(known, noise=0.05)
    found = searched(parts_for(machine, budget_s))

    assert machine.now_s <= budget_s + 2.0
    assert found.ended == "budget"


def test_doubtful_candidates_do_not_use_up_the_time_of_the_others() -> None:
    """All axes are seen before any of them is looked at for long."""
    machine = PaperMachine(lambda options: 2.1 if options != START else 2.0, noise=0.3)
    found = searched(parts_for(machine, 200.0))

    assert any(row.options.type_k == "q4_0" for row in found.rows)


def test_a_candidate_that_would_take_forever_is_stopped() -> None:
    """The others are still tried."""
    machine = PaperMachine(lambda options: 0.0001 if options.min_rows == 2 else known(options))
    found = searched(parts_for(machine))

    assert outcomes(found)["min_rows: 2"] == "failed"
    assert found.winner.n_threads == 4
    assert machine.now_s < 300


def test_an_interrupted_search_tells_what_it_knows() -> None:
    """Ctrl-C in the middle."""
    machine = PaperMachine(known)
    machine.interrupted_after = 12
    found = searched(parts_for(machine))

    assert found.ended == "interrupted"
    assert len(found.rows) > 1


def test_the_forecast_is_of_the_right_size() -> None:
    """Within a factor of three of what one pass takes."""
    machine = PaperMachine(known)
    search = Search(parts_for(machine), AXES)
    found = search.start([START])
    forecast, began = search.forecast_s(found), machine.now_s
    search.improve(found)

    assert search.n_candidates(found) == 0
    assert forecast / 3 < machine.now_s - began < forecast * 3


# ------------------------------------------------------------------ failures and memory


def test_a_candidate_that_fails_is_a_row_with_its_reason() -> None:
    """The search goes on."""

    def crashing(options: LocalModelOptions) -> float:
        if options.flash_attn:
            raise CandidateFailed("it crashed: SIGSEGV")
        return known(options)

    found = searched(parts_for(PaperMachine(crashing)))

    failed = [row for row in found.rows if row.outcome == "failed"]
    assert {row.note for row in failed} == {"it crashed: SIGSEGV"}
    assert (found.winner.n_threads, found.winner.flash_attn) == (4, False)


def test_what_would_not_fit_is_not_tried() -> None:
    """The reason is told, with what it would need."""
    larger = ModelFile(Path("/m/model-f16.gguf"), FILE.header, 20 * GIB, "model")
    files = [FILE, larger]
    machine = PaperMachine(lambda options: 9.0 if options.path == str(larger.path) else 2.0)
    found = searched(parts_for(machine, files=files), all_axes(files, Machine(1, 1), LOAD, 1024))

    row = next(row for row in found.rows if row.options.path == str(larger.path))
    assert row.outcome == "not tried"
    assert "20.1 GiB" in row.note
    assert larger.path not in {Path(one.path) for one in machine.numbers}


def test_what_took_too_much_memory_is_not_chosen() -> None:
    """An estimate may be wrong."""
    machine = PaperMachine(lambda options: 3.0 if options.min_rows == 2 else 2.0)
    machine.alter = lambda options, round_: replace(round_, n_bytes=9 * GIB) if options.min_rows == 2 else round_
    found = searched(parts_for(machine))

    assert found.winner == START
    assert next(row.note for row in found.rows if row.options.min_rows == 2) == "took 9.0 GiB, 8.0 GiB may be used"


def test_without_memory_for_the_first_choice_the_next_one_starts() -> None:
    """Fewer cells, then a smaller cache, then the next file."""
    files = [FILE, SMALLER]
    starts = frugal(START, files, 1024, Machine(8, 8))
    parts = parts_for(PaperMachine(known), n_bytes=3 * GIB // 4, files=files)
    found = Search(parts, ()).start(starts)

    assert found.winner.path == str(SMALLER.path)
    assert {row.outcome for row in found.rows[:-1]} == {"not tried"}


def test_nothing_that_fits_is_refused_with_the_reason() -> None:
    """What it would need, and what there is."""
    with pytest.raises(InputError, match=r"needs about .* 64 MiB may be used"):
        Search(parts_for(PaperMachine(known), n_bytes=2**26), AXES).start(frugal(START, [FILE], 1024, Machine(8, 8)))


# ------------------------------------------------------------------ quality


def fast_when_lossy(options: LocalModelOptions) -> float:
    return 4.0 if options.type_k == "q4_0" else 2.0


def test_a_cache_that_changes_texts_is_shown_but_not_chosen() -> None:
    """With how much of the texts stays the same."""
    found = searched(parts_for(PaperMachine(fast_when_lossy)))

    assert found.winner.type_k == "f16"
    lossy = {row.options.type_k: row for row in found.rows if row.outcome == "lossy"}
    assert (lossy["q8_0"].agreement, lossy["q4_0"].agreement) == (1.0, 0.75)
    assert "--allow-lossy-kv" in lossy["q4_0"].note


def test_a_cache_that_changes_texts_may_win_when_allowed() -> None:
    """The operator knows."""
    found = searched(parts_for(PaperMachine(fast_when_lossy), allows_lossy=True))

    assert found.winner == changed(START, type_k="q4_0", type_v="q4_0", flash_attn=True)
