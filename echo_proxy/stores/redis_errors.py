"""Which of Redis's many errors mean that it cannot be reached?"""

from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import RedisClusterException, RedisError, ResponseError
from redisvl.exceptions import RedisVLError

from echo_proxy.errors import StoreError, StoreUnavailable

_PASSING = (
    "LOADING",
    "READONLY",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "MOVED",
    "ASK",
    "BUSY",
    "OOM",
    "MISCONF",
    "NOREPLICAS",
    "NOAUTH",
    "NOPERM",
    "WRONGPASS",
)
"""Replies of a server that may well do what was asked a little later, or once its operator has acted."""
_NO_INDEX = ("no such index", "unknown index name", "index not found")


def is_missing_index(error: BaseException) -> bool:
    """The index is not there: Redis was flushed, or another node has taken over."""
    return isinstance(error, ResponseError) and any(words in str(error).lower() for words in _NO_INDEX)


def is_passing(error: BaseException) -> bool:
    """The same command may succeed later. redis-py strips the code of some replies, so their classes count too."""
    if not isinstance(error, ResponseError):
        return True
    words = str(error).upper()
    return type(error) is not ResponseError or words.startswith(_PASSING) or is_missing_index(error)


@contextmanager
def redis_errors(doing: str) -> Iterator[None]:
    """Turn what Redis and its clients raise into StoreUnavailable, or StoreError when it would only fail again."""
    try:
        yield
    except (RedisError, RedisVLError, RedisClusterException, OSError, TimeoutError) as error:
        cause = error.__cause__ if isinstance(error, RedisVLError) and error.__cause__ else error
        message = f"Redis failed at {doing}: {type(cause).__name__}: {cause}"
        if is_passing(cause):
            raise StoreUnavailable(message) from error
        raise StoreError(message) from error
