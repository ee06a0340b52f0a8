"""How is a Redis reached, from its URL?"""

from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "redis+cluster", "rediss+cluster")
"""URL schemes that are a Redis."""
_SENTINEL_PORT = 26379
_Sentinel: Any = Sentinel  # its constructor has no types


class Closable(Protocol):
    """A client that holds connections."""

    async def aclose(self) -> None:
        """Let go of them."""
        ...


@dataclass(frozen=True, slots=True)
class Connection:
    """A client and all that must be closed with it. Connects at its first command."""

    client: Any
    """Redis or RedisCluster, asynchronous; redis-py's types do not tell sync from async, so it is not typed here."""
    also_open: tuple[Closable, ...] = ()

    async def aclose(self) -> None:
        """Let go of all connections."""
        for one in (self.client, *self.also_open):
            await one.aclose()


def connect(url: str, connect_timeout_s: float, read_timeout_s: float) -> Connection:
    """A client for redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://. Raises ValueError.

    Options of redis-py may stand in the query, e.g. `?ssl_ca_certs=/path/ca.pem`. A Sentinel URL names its master and
    database in the path: redis+sentinel://[[user]:password@]host[:port][,host...]/master[/db].
    """
    scheme = urlsplit(url).scheme
    if scheme not in SCHEMES:
        raise ValueError(f"a Redis URL must begin with one of {', '.join(SCHEMES)}, got {scheme!r}")
    options = _options(connect_timeout_s, read_timeout_s)
    if scheme == "redis+sentinel":
        return _sentinel(url, options)
    if scheme.endswith("+cluster"):
        return Connection(RedisCluster.from_url(url.replace("+cluster", "", 1), **options))
    return Connection(Redis.from_url(url, **options))


def _options(connect_timeout_s: float, read_timeout_s: float) -> dict[str, Any]:
    return {
        "protocol": 2,  # every RedisVL query breaks with 3
        "socket_connect_timeout": connect_timeout_s,
        "socket_timeout": read_timeout_s,
        "encoding_errors": "surrogatepass",  # a caller's JSON may hold half a surrogate pair
        # once, at once: a pooled connection may be of a server that was restarted since. Never after a timeout, which
        # would double the wait for a server that does not answer
        "retry": Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
    }


def _sentinel(url: str, options: dict[str, Any]) -> Connection:
    parts = urlsplit(url)
    hosts = [_host_port(host) for host in parts.netloc.rpartition("@")[2].split(",")]
    master, _, db = parts.path.strip("/").partition("/")
    if not master or not all(host for host, _ in hosts):
        raise ValueError("a Sentinel URL must be redis+sentinel://host[:port][,host...]/master[/db], got another form")
    login = {name: unquote(value) for name in ("username", "password") if (value := getattr(parts, name))}
    options |= login | dict(parse_url(f"redis://localhost?{parts.query}"))
    options.pop("host", None)
    sentinel: Any = _Sentinel(hosts, sentinel_kwargs=_for_sentinels(options), **options)
    client = sentinel.master_for(master, db=int(db or 0))
    return Connection(client, tuple(sentinel.sentinels))


def _for_sentinels(options: dict[str, Any]) -> dict[str, Any]:
    """A Sentinel has no databases; all else is as for the master."""
    return {name: value for name, value in options.items() if name != "db"}


def _host_port(host: str) -> tuple[str, int]:
    name, _, port = host.rpartition(":") if ":" in host else (host, "", "")
    return name, int(port or _SENTINEL_PORT)
