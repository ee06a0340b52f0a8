"""Draws the pictures of the guide to Redis Insight, from the replies of a real Redis to its queries.

    python -m docs.pictures

The embedded Redis is started in a temporary folder and filled as the tests fill it (tests/docs/filled.py).
"""

import asyncio
import io
import re
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import redis
from rich.console import Console
from rich.table import Table
from rich.text import Text

from docs.queries import GUIDE, documents, entries, queries, rows
from echo_proxy.clock import SystemClock
from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.embedded import EmbeddedRedis
from echo_proxy.stores.redis import RedisStore
from tests.docs.filled import DIMENSIONS, POLICY, Filled, fill

_PICTURE = re.compile(r"!\[([^\]]+)\]\((pictures/[^)]+)\)")
_FONT_FACE = re.compile(r"\s*@font-face \{.*?\}", re.S)
_FONTS = "DejaVu Sans Mono, Menlo, Consolas"
"""Those of the reader's machine: rich would name a server on the Internet."""
_WIDTH = 120
_LONGEST = 52


def main() -> None:
    """Draw all pictures that the guide names."""
    with tempfile.TemporaryDirectory(prefix="echo-guide-") as folder:
        server = EmbeddedRedis(folder)
        url = server.start()
        try:
            filled = asyncio.run(_filled(url))
            for title, name in _PICTURE.findall(GUIDE.read_text(encoding="utf-8")):
                path = GUIDE.parent / name
                path.parent.mkdir(exist_ok=True)
                path.write_text(_picture(url, title, filled), encoding="utf-8")
                print(path)
        finally:
            server.stop()


async def _filled(url: str) -> Filled:
    config = StoreConfig(POLICY, "all-minilm-l6-v2-int8", DIMENSIONS, "flat", 86400.0, 86400.0 * 30, 1000)
    store = RedisStore(config, url, SystemClock(), read_timeout_s=20.0)
    await store.open()
    filled = await fill(store)
    await store.close()
    return filled


def _picture(url: str, title: str, filled: Filled) -> str:
    """An SVG of the query and its reply."""
    query = queries()[title]
    words = query.words(filled.examples[7].id)
    with redis.Redis.from_url(url, protocol=2) as client:
        client.response_callbacks.clear()
        reply = client.execute_command(*words)
    console = Console(record=True, width=_WIDTH, file=io.StringIO())
    console.print(Text(query.text.rstrip().replace("<id>", filled.examples[7].id), style="bold cyan"), soft_wrap=False)
    console.print(_table(words[0], reply))
    drawn = console.export_svg(title=f"{title} - Redis 8.2.3, RediSearch 2.10.5")
    return _FONT_FACE.sub("", drawn).replace("Fira Code", _FONTS)


def _table(command: str, reply: Any) -> Table:
    found = _rows(command, reply)
    table = Table(caption=f"{reply[0]} in all" if command == "FT.SEARCH" else None, show_lines=False)
    names = dict.fromkeys(name for row in found for name in row)
    for name in names:
        table.add_column(name, overflow="ellipsis", no_wrap=True)
    for row in found:
        table.add_row(*(Text(_short(name, row.get(name, ""))) for name in names))
    return table


def _rows(command: str, reply: Any) -> list[dict[str, str]]:
    if command == "FT.AGGREGATE":
        return rows(reply)
    if command == "XREVRANGE":
        return entries(reply)
    if command == "SORT":
        return _lines(reply, ("arm", "segment", "weight", "reward_sum"))
    return documents(reply)


def _lines(reply: Sequence[bytes], names: Sequence[str]) -> list[dict[str, str]]:
    cells = [one.decode() for one in reply]
    return [dict(zip(names, cells[i : i + 4], strict=True)) for i in range(0, len(cells), 4)]


def _short(name: str, value: str) -> str:
    """A value as a table has room for it."""
    if name == "key":
        return f"…{value[-8:]}"
    if name in ("created_at", "expires_at"):
        return datetime.fromtimestamp(float(value), UTC).strftime("%Y-%m-%d %H:%M")
    if re.fullmatch(r"-?\d+\.\d{4,}(e-?\d+)?", value):
        return f"{float(value):.3f}"
    return value if len(value) <= _LONGEST else value[: _LONGEST - 1] + "…"


if __name__ == "__main__":
    main()
