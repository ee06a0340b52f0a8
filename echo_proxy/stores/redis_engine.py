"""What is at the other end: has it loaded its data, can it search, which versions are they?"""

import asyncio
from typing import Any

from redis.exceptions import BusyLoadingError, ResponseError

from echo_proxy.errors import StoreError

_POLL_S = 0.05


async def wait_until_loaded(client: Any, key: str, timeout_s: float) -> None:
    """Until a key can be asked for. Raises BusyLoadingError after timeout_s."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        try:
            await client.exists(key)
            return
        except BusyLoadingError:
            if asyncio.get_running_loop().time() >= deadline:
                raise
            await asyncio.sleep(_POLL_S)


async def check_search(client: Any) -> None:
    """Raises StoreError when it has no vector search."""
    try:
        await client.execute_command("FT._LIST")
    except ResponseError as error:
        if "unknown command" not in str(error).lower():
            raise
        raise StoreError("Redis must have vector search (Redis 8 or later, or the search module), got none") from error


async def engine_name(client: Any) -> str:
    """Such as `Redis 8.2.3 + search 2.10.5`: the module reports 21005."""
    server = (await client.execute_command("INFO", "server"))["redis_version"]
    for module in await client.execute_command("MODULE", "LIST"):
        words = [word.decode() if isinstance(word, bytes) else word for word in module]
        if words[1] == "search":
            version = int(words[3])
            return f"Redis {server} + search {version // 10000}.{version // 100 % 100}.{version % 100}"
    return f"Redis {server} + built-in search"
