"""How fast are examples imported and exported, and does memory stay flat?

    python -m bench.keeping.import_examples [--n 100000] [--n-embedded 2000] [--stores redis-flat redis-hnsw sqlite]

Texts are requests and commands of nl2bash, numbered where they repeat; vectors are those of the bundled model for the
first 2,000, and of these with some noise for all others, so that every example has one of its own. Each run is a
process of its own; its memory is what the kernel counts for it, the store's not included (Redis is another process;
SQLite's vectors are searched in the process that has opened it, so they count). Its CPU seconds are told too: on a
machine that others use they say more than the wall clock.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import redis
from rich.console import Console
from rich.table import Table

from echo_proxy.app import store_config
from echo_proxy.clock import SystemClock
from echo_proxy.embedders.local import LocalEmbedder
from echo_proxy.policy import Policy
from echo_proxy.stores.connect import make_store
from echo_proxy.stores.embedded import EmbeddedRedis
from echo_proxy.stores.keys import Keys
from echo_proxy.transfer.exporting import ExportCommand, export_examples
from echo_proxy.transfer.importing import ImportCommand, import_examples
from echo_proxy.transfer.rows import Header, Row
from echo_proxy.transfer.vectors import vector_text

_N_BASE = 2000
_NOISE = 0.01
_PATIENT_S = 60.0
STORES = ("redis-flat", "redis-hnsw", "sqlite")


@dataclass(frozen=True)
class Figures:
    """What one run took."""

    n: int
    seconds: float
    per_second: float
    cpu_s: float
    """Of this process, of all its threads."""
    rss_10_mb: float
    """Memory of the process when a tenth was done."""
    rss_100_mb: float
    """At the end."""
    rss_peak_mb: float
    """The most in between."""
    indexed_s: float = 0.0
    """From the end of the import until all can be found."""
    n_embedded: int = 0
    unfit: int = 0
    """Left out by the policy's rules about secrets and personal data."""


class Memory:
    """Watches the memory of this process."""

    def __init__(self) -> None:
        self.rss: list[tuple[float, float]] = []
        """When, and how many MB."""
        self._process = psutil.Process()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def at(self, share: float) -> float:
        """When so much of the time had passed."""
        first, last = self.rss[0][0], self.rss[-1][0]
        return next(mb for when, mb in self.rss if when >= first + share * (last - first))

    def _watch(self) -> None:
        while True:
            self.rss.append((time.monotonic(), self._process.memory_info().rss / 2**20))
            if self._is_over.wait(0.1):
                return


def policy_for(store: str) -> Policy:
    """With the defaults of a policy, but for the index."""
    return Policy.model_validate(
        {
            "name": f"bench-{store}",
            "match": {"model_groups": ["auto"]},
            "arms": [{"deployment": "large", "teacher": True}],
            "bandit": {"kind": "uniform"},
            "retrieval": {"index": "hnsw" if store.endswith("hnsw") else "flat"},
        }
    )


async def write_file(path: Path, n: int, data: Path, seed: int) -> None:
    """A file as `echo-proxy export --vectors` writes it."""
    rng = np.random.default_rng(seed)
    asked, given = ((data / "nl2bash" / name).read_text().splitlines() for name in ("all.nl", "all.cm"))
    chosen = rng.permutation([i for i in range(len(asked)) if asked[i].strip() and given[i].strip()])[:_N_BASE]
    embedder = LocalEmbedder()
    base = await embedder.embed([asked[i] for i in chosen])  # (_N_BASE, dimensions)
    await embedder.close()
    header = Header(model=embedder.model, dimensions=base.shape[1], vectors="float16", policy="bench", exported_at=0)
    with open(path, "w", encoding="utf-8") as file:
        file.write(json.dumps(header.model_dump()) + "\n")
        for i in range(n):
            turn, which = divmod(i, _N_BASE)
            vector = base[which] + (rng.normal(0, _NOISE, base.shape[1]) if turn else 0)
            text = asked[chosen[which]] + (f" ({turn})" if turn else "")
            file.write(json.dumps(_row(i, text, given[chosen[which]], vector.astype(np.float32))) + "\n")


def _row(i: int, request: str, response: str, vector: Any) -> dict[str, Any]:
    now = time.time()
    row = Row(
        id=f"{i:032x}",
        scope="team:red",
        partition="p",
        request=request,
        response=response,
        teacher="large",
        writer="a",
        decision_id=f"{i:032x}",
        quality=0.9,
        n_tokens=max(1, (len(request) + len(response)) // 4),
        created_at=now,
        expires_at=now + 30 * 86400,
        vector=vector_text(vector / np.linalg.norm(vector), "float16"),
    )
    return row.model_dump(mode="json")


def without_vectors(source: Path, target: Path, n: int) -> None:
    """The first n examples of a file."""
    with open(source, encoding="utf-8") as lines, open(target, "w", encoding="utf-8") as out:
        for i, line in enumerate(lines):
            if i > n:
                return
            out.write(json.dumps({**json.loads(line), **({"vectors": None} if i == 0 else {"vector": None})}) + "\n")


async def run(kind: str, store: str, url: str, file: Path) -> Figures:
    """Import or export once, in this process."""
    policy, embedder, clock = policy_for(store), LocalEmbedder(), SystemClock()
    opened = make_store(url, store_config(policy, embedder), clock, _PATIENT_S)
    await opened.open()
    console = Console(file=StringIO())
    unfit, n_embedded, indexed_s = 0, 0, 0.0
    with Memory() as memory:
        started, cpu = time.monotonic(), time.process_time()
        if kind == "import":
            done = await import_examples(ImportCommand(str(file)), policy, opened, embedder, clock, console)
            n, unfit, n_embedded = done.n_kept, sum(done.unfit.values()), done.n_embedded
        else:
            asked = ExportCommand(str(file), "float16")
            n = (await export_examples(asked, policy.name, opened, embedder, clock, console)).n_examples
        seconds, cpu_s = time.monotonic() - started, time.process_time() - cpu
    if kind == "import":
        indexed_s = _until_indexed(url, policy.name, n)
    await opened.close()
    peak = max(mb for _, mb in memory.rss)
    return Figures(
        *(n, seconds, n / seconds, cpu_s, memory.at(0.1), memory.rss[-1][1], peak, indexed_s, n_embedded, unfit)
    )


def _until_indexed(url: str, policy: str, n: int) -> float:
    """Seconds until the index holds n examples and is not being built; 0 where there is none."""
    if not url.startswith(("unix://", "redis://")):
        return 0.0
    started = time.monotonic()
    with redis.Redis.from_url(url, protocol=2) as client:
        while True:
            info = client.ft(Keys(policy).index).info()
            if int(info["num_docs"]) >= n and not int(info["indexing"]):
                return time.monotonic() - started
            time.sleep(0.05)


def _in_child(kind: str, store: str, url: str, file: Path) -> Figures:
    command = [sys.executable, "-m", "bench.keeping.import_examples", "--child", kind, store, url, str(file)]
    reply = subprocess.run(command, check=True, capture_output=True, text=True)
    return Figures(**json.loads(reply.stdout))


def _measure(store: str, url: str, folder: Path, n_embedded: int, table: Table) -> None:
    steps = (
        ("import", "with vectors", store, folder / "with.jsonl"),
        ("export", "with vectors", store, folder / f"{store}.jsonl"),
        *([("import", "without vectors", f"{store}-embed", folder / "without.jsonl")] if n_embedded else []),
    )
    for kind, words, name, file in steps:
        target = url if url.startswith("unix") else f"{url}.{name}"
        target = target if kind == "import" or url.startswith("unix") else f"{url}.{store}"
        found = _in_child(kind, name, target, file)
        memory = (found.rss_10_mb, found.rss_100_mb, found.rss_peak_mb)
        table.add_row(
            *(
                f"{kind} {words}",
                store,
                f"{found.n:,}",
                f"{found.seconds:.1f}",
                f"{found.per_second:,.0f}",
                f"{found.cpu_s:.1f}",
            ),
            *(f"{mb:.0f}" for mb in memory),
            *(f"{found.indexed_s:.2f}" if kind == "import" else "", f"{found.n_embedded:,}", f"{found.unfit:,}"),
        )
        print(store, kind, words, asdict(found), file=sys.stderr, flush=True)


def measure(stores: Sequence[str], n: int, n_embedded: int, data: Path, seed: int) -> Table:
    """All runs, one after the other."""
    names = (
        "examples",
        "s",
        "examples/s",
        "CPU s",
        "MB at 10 %",
        "MB at 100 %",
        "MB peak",
        "index after s",
        "embedded",
        "left out",
    )
    table = Table("run", "store", *names, title="Import and export")
    with tempfile.TemporaryDirectory(prefix="echo-import-") as place:
        folder = Path(place)
        asyncio.run(write_file(folder / "with.jsonl", n, data, seed))
        without_vectors(folder / "with.jsonl", folder / "without.jsonl", n_embedded)
        size_mb = (folder / "with.jsonl").stat().st_size / 2**20
        print(f"{n:,} examples in {size_mb:.0f} MB", file=sys.stderr, flush=True)
        for store in stores:
            if store == "sqlite":
                _measure(store, f"sqlite://{folder / 'echo.db'}", folder, n_embedded, table)
                continue
            server = EmbeddedRedis(folder / store)
            try:
                _measure(store, server.start(), folder, n_embedded, table)
            finally:
                server.stop()
    return table


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog="example: see above"
    )
    parser.add_argument("--n", type=int, default=100_000, help="examples with vectors (default: %(default)s)")
    parser.add_argument("--n-embedded", type=int, default=2000, help="examples without (default: %(default)s)")
    parser.add_argument("--stores", nargs="+", choices=STORES, default=STORES)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="real data (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        kind, store, url, file = options.child
        print(json.dumps(asdict(asyncio.run(run(kind, store, url, Path(file))))))
        return
    Console(width=180).print(measure(options.stores, options.n, options.n_embedded, options.data, options.seed))


if __name__ == "__main__":
    main()
