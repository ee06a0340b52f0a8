"""How do stored examples get the vectors of another embedding model?"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from echo_proxy.app import make_embedder, store_config, store_url
from echo_proxy.clock import SystemClock
from echo_proxy.errors import EmbedderError
from echo_proxy.policy_files import load_policies
from echo_proxy.protocols import Clock, Embedder, Reembeddable, Reembedding
from echo_proxy.settings import read_settings
from echo_proxy.stores.connect import make_reembeddable
from echo_proxy.types import Example

_BATCH = 32
"""Texts embedded at once, and written at once: what kill -9 may cost."""
_LOCKED = "Every proxy that uses this store must be stopped first."
_UNLOCKED = "Proxies with another model serve on meanwhile."
_NEXT = (
    "Next: restart the proxies with this model, one by one. What those with another model add is not found by it until "
    "the same command has run again, so run it when the last one is restarted; then once with --finish, which drops "
    "the other models' vectors."
)


@dataclass(frozen=True, slots=True)
class Tally:
    """What one run did to a policy's examples."""

    n_embedded: int = 0
    n_expired: int = 0
    """Dropped without being embedded."""


async def reembed_all(
    places: Sequence[Path],
    console: Console | None = None,
    embedder: Embedder | None = None,
    clock: Clock | None = None,
    *,
    is_last: bool = False,
) -> None:
    """Embed the examples of all policies with the embedder that the settings name; says what was done.

    With is_last, only drop what belongs to other models instead.

    Raises PolicyError, SettingsError, StoreError, EmbedderError. After any of them the same command goes on.
    """
    settings = read_settings()
    policies = load_policies(places)
    embedder = embedder or make_embedder(settings)
    console = console or Console()
    clock = clock or SystemClock()
    stores = {
        policy.name: make_reembeddable(store_url(settings), store_config(policy, embedder), clock)
        for policy in policies
    }
    if is_last:
        for policy, store in stores.items():
            n = await store.forget_others()
            console.print(f"{policy}: only {embedder.model} is left; {n} examples had others' vectors", soft_wrap=True)
        return
    locks_out = any(store.locks_out for store in stores.values())
    console.print(
        f"Embedding with {embedder.model} ({embedder.dimensions} dimensions). {_LOCKED if locks_out else _UNLOCKED} "
        "Interrupting is harmless: the same command again goes on.",
        soft_wrap=True,
    )
    await _embed(["does the model answer?"], embedder)  # before any store is touched
    for policy, store in stores.items():
        await _reembed(policy, store, embedder, console)
    if not locks_out:
        console.print(_NEXT, soft_wrap=True)


async def _reembed(policy: str, store: Reembeddable, embedder: Embedder, console: Console) -> None:
    started = time.monotonic()
    async with store.reembedding() as work:
        if work is None:
            console.print(f"{policy}: nothing to do, the examples fit {embedder.model}", soft_wrap=True)
            return
        tally = await _exchange(policy, work, embedder, console)
    seconds = time.monotonic() - started
    expired = f"; {tally.n_expired} expired left out" if tally.n_expired else ""
    console.print(f"{policy}: {tally.n_embedded} examples embedded in {seconds:.1f} s{expired}", soft_wrap=True)


async def _exchange(policy: str, work: Reembedding, embedder: Embedder, console: Console) -> Tally:
    """Batch by batch until none is left."""
    tally = Tally()
    with _progress(console) as progress:
        bar = progress.add_task(policy, total=None)
        while True:
            backlog = await work.stale(_BATCH)
            tally = replace(tally, n_expired=tally.n_expired + backlog.n_expired)
            progress.update(bar, total=tally.n_embedded + backlog.n_left)
            if not backlog.examples:
                break
            await work.rewrite(await _with_new_vectors(backlog.examples, embedder))
            tally = replace(tally, n_embedded=tally.n_embedded + len(backlog.examples))
            progress.update(bar, completed=tally.n_embedded)
        progress.update(bar, description=f"{policy}: building the index")
        await work.finish()
        progress.update(bar, description=policy)
    return tally


async def _with_new_vectors(examples: Sequence[Example], embedder: Embedder) -> list[Example]:
    """The examples, each with the vector of the text that retrieval embeds. Raises EmbedderError naming them."""
    try:
        rows = await _embed([example.request for example in examples], embedder)
    except EmbedderError as error:
        names = f"{examples[0].id} to {examples[-1].id}" if len(examples) > 1 else examples[0].id
        raise EmbedderError(f"examples {names}: {error}; the same command again goes on from here") from error
    return [replace(example, vector=row) for example, row in zip(examples, rows, strict=True)]


async def _embed(texts: Sequence[str], embedder: Embedder) -> NDArray[np.float32]:
    """Unit rows, shape (len(texts), dimensions)."""
    try:
        return await embedder.embed(texts)
    except ValueError as error:  # a text that no embedder takes, such as a blank one
        raise EmbedderError(f"expected texts that can be embedded, got: {error}") from error


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=console)
