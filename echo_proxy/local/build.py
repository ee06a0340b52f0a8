"""How do the options of a model become an engine? The one place where its parts are put together.

Imported by the model's own process only: it loads llama.cpp.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from echo_proxy.engine.batch import BatchParts
from echo_proxy.engine.batching import BatchingEngine, EngineRules
from echo_proxy.engine.co_decode import HandOver, LittleDrafter
from echo_proxy.engine.draft_model import ModelDrafter
from echo_proxy.engine.gate import AgreementLog, Gate, GateRejected
from echo_proxy.engine.guesses import Drafting, Guesses
from echo_proxy.engine.lookup import LookupDrafter
from echo_proxy.engine.prefixes import Prefixes
from echo_proxy.engine.queue import AdmissionQueue, Forecast, QueueLimits
from echo_proxy.engine.schedule import StepLimits
from echo_proxy.engine.vault import Vault
from echo_proxy.errors import LocalModelError
from echo_proxy.llama.load import Loaded, LoadedDrafts, load_draft_runner, load_runner
from echo_proxy.local.options import CoDecoding, LocalModelOptions, LookupDrafts, ModelDrafts

_MIB = 2**20
_SLOWER = 0.2
"""guess: what is kept helps some requests and slows all"""


@dataclass(frozen=True, slots=True)
class BuiltModel:
    """A model in memory, with its engine."""

    engine: BatchingEngine
    n_ctx: int

    def close(self) -> None:
        """See LoadedModel.close."""
        self.engine.close()


def build_engine(name: str, options: LocalModelOptions, folder: Path) -> BuiltModel:
    """Load the model and start its engine; takes as long as reading the file.

    Args:
        name: the model's own, under which its files stand in the folder.
        options: their paths are absolute.
        folder: for states of prefixes, when the options allow some on disk.

    Raises:
        LocalModelError: naming the option that is wrong.
    """
    loaded = load_runner(options)
    freed: list[Callable[[], None]] = [loaded.close]
    try:
        vault = _vault(options, loaded, folder / name)
        freed.append(vault.close)
        drafting = _drafting(options, loaded, freed)
        return BuiltModel(_engine(options, loaded, vault, drafting, freed), loaded.n_ctx)
    except BaseException:
        _close(freed)
        raise


def _engine(
    options: LocalModelOptions, loaded: Loaded, vault: Vault, drafting: Drafting | None, freed: list[Callable[[], None]]
) -> BatchingEngine:
    runner, language = loaded.runner, loaded.language
    max_kept = _max_kept(loaded) if options.kept_cells is None else options.kept_cells
    prefixes = Prefixes(runner, vault, max_kept=max_kept)
    guesses = Guesses(runner, language, prefixes, drafting, time.perf_counter)
    limits = StepLimits(runner.n_batch, min(options.prefill_rows or runner.n_batch, runner.n_batch))
    parts = BatchParts(runner, language, prefixes, guesses, limits, time.monotonic)
    queue = AdmissionQueue(
        QueueLimits(
            n_parallel=options.n_parallel,
            n_cells=runner.n_cells,
            max_queue=options.max_queue,
            max_queue_s=options.max_queue_s,
        ),
        Forecast(),
    )
    rules = EngineRules(
        n_ctx=loaded.n_ctx,
        n_parallel=options.n_parallel,
        is_shared=options.prefix_sharing == "all",
        takes_hints=isinstance(options.drafting, LookupDrafts),
    )
    # What the model still holds goes to the vault before that writes its files, and before the model goes.
    saving = [prefixes.save] if options.prefix_disk_mb else []
    return BatchingEngine(parts, queue, rules, lambda: _close([*freed, *saving, guesses.close]))


def _max_kept(loaded: Loaded) -> int:
    """Cells of kept prefixes that make a step about a fifth slower."""
    return min(int(_SLOWER / loaded.weights.cell_cost), loaded.runner.n_cells)


def _vault(options: LocalModelOptions, loaded: Loaded, folder: Path) -> Vault:
    return Vault(
        options.prefix_ram_mb * _MIB,
        options.prefix_disk_mb * _MIB,
        folder if options.prefix_disk_mb else None,
        loaded.runner.fingerprint,
    )


def _drafting(options: LocalModelOptions, loaded: Loaded, freed: list[Callable[[], None]]) -> Drafting | None:
    """How the options want tokens to be guessed. What it loads is added to `freed`."""
    wanted = options.drafting
    if wanted.kind == "none" or not loaded.runner.is_sliceable:  # what cannot forget cannot undo a wrong guess
        return None
    if isinstance(wanted, LookupDrafts):
        return Drafting(LookupDrafter(loaded.language.is_end), wanted.most_tokens, wanted.most_drafts)
    little = load_draft_runner(options, wanted.path, wanted.n_gpu_layers, loaded.n_ctx)
    freed.append(little.weights.close)
    _check_tokens(little, loaded, wanted.path)
    if isinstance(wanted, ModelDrafts):
        return Drafting(ModelDrafter(little.runner, loaded.language.is_end), wanted.most_tokens, source="model")
    return Drafting(_little_drafter(wanted, little, loaded), wanted.window, rollback=wanted.rollback)


def _little_drafter(wanted: CoDecoding, little: LoadedDrafts, loaded: Loaded) -> LittleDrafter:
    names = little.weights.fingerprint, loaded.weights.fingerprint
    try:
        gate = Gate.load(Path(wanted.gate), *names) if wanted.gate is not None else None
        agreement = AgreementLog(*names, path=Path(wanted.agreement)) if wanted.agreement is not None else None
    except GateRejected as error:
        raise LocalModelError(f"drafting: {error}") from error
    return LittleDrafter(little.runner, loaded.language, HandOver(wanted.fallback, wanted.window, gate), agreement)


def _check_tokens(little: LoadedDrafts, loaded: Loaded, path: str) -> None:
    if little.fingerprint != loaded.language.fingerprint:
        raise LocalModelError(f"drafting.path: expected a model with the same tokens, got another vocabulary in {path}")


def _close(freed: list[Callable[[], None]]) -> None:
    for close in reversed(freed):
        close()
