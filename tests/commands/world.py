"""What the commands work on: a policy and its store."""

import asyncio
import time
from pathlib import Path
from typing import Any

from echo_proxy.app import store_config
from echo_proxy.clock import SystemClock
from echo_proxy.embedders.local import LocalEmbedder
from echo_proxy.policy_files import load_policy
from echo_proxy.stores.sqlite import SqliteStore
from echo_proxy.types import Example, Which
from tests.builders import example

POLICY = "name: mine\nmatch: {model_groups: [auto]}\narms: [{deployment: x}]\nbandit: {kind: uniform}\nscope: team\n"
DIMENSIONS = 384


class World:
    """A folder with a policy and a SQLite file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.policy = folder / "p.yaml"
        self.policy.write_text(POLICY)
        self.file = folder / "echo.db"

    def keep(self, *examples: Example) -> None:
        """Put them into the store."""

        async def work() -> None:
            store = self._store()
            await store.open()
            await store.add_many(examples)
            await store.close()

        asyncio.run(work())

    def kept(self) -> dict[str, Example]:
        """What the store holds, by id."""

        async def work() -> dict[str, Example]:
            store = self._store()
            await store.open()
            page = await store.find(Which(), "", 1000)
            await store.close()
            return {one.id: one for one in page.examples}

        return asyncio.run(work())

    def _store(self) -> SqliteStore:
        return SqliteStore(store_config(load_policy(self.policy), LocalEmbedder()), self.file, SystemClock())


def made(example_id: str, request: str = "Where is Rome?", **changes: Any) -> Example:
    """An example of now, with the bundled model's vector of its request."""
    now = time.time()

    async def embed() -> Any:
        embedder = LocalEmbedder()
        rows = await embedder.embed([request])
        await embedder.close()
        return rows[0]

    times = {"created_at": now - 60, "expires_at": now + 86400 * 9, "counted_at": now}
    return example(
        example_id, request=request, vector=asyncio.run(embed()), **{**times, "scope": "team:red", **changes}
    )
