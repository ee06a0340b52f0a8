"""What do all parts of the store in Redis share?"""

from collections.abc import Sequence
from typing import Any

from echo_proxy.errors import StoreUnavailable
from echo_proxy.protocols import Clock
from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.keys import Keys
from echo_proxy.stores.redis_connect import Connection
from echo_proxy.stores.redis_errors import redis_errors


class RedisPart:
    """One policy's keys and the connection to them. Whoever connects it sets its connection."""

    def __init__(self, config: StoreConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._keys = Keys(config.policy)
        self._connection: Connection | None = None

    @property
    def _client(self) -> Any:
        if self._connection is None:
            raise StoreUnavailable("the store must be open, got a call before open() or after close()")
        return self._connection.client

    async def _run(self, doing: str, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """What a script of Lua returns."""
        with redis_errors(doing):
            return await self._client.register_script(script)(keys=keys, args=arguments)
