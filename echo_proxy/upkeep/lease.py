"""How does exactly one process do the upkeep, and stop when it is no longer the one?"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from echo_proxy.errors import LeaseLost, StoreUnavailable
from echo_proxy.protocols import Leases
from echo_proxy.types import Lease

log = logging.getLogger("echo_proxy")

NAME = "upkeep"
LEASE_S = 30.0
"""A holder that dies is replaced after so long. Longer than any pause of a store that comes back."""
_KEEP_EVERY_S = LEASE_S / 3

Wait = Callable[[float], Awaitable[None]]


async def under_lease(work: Awaitable[None], lease: Lease, leases: Leases, wait: Wait = asyncio.sleep) -> None:
    """Do the work while the lease is prolonged beside it.

    Raises what the work raises, and LeaseLost as soon as somebody else has the lease: the work is cancelled then. What
    it was just writing carries the lease and is refused by the store.
    """
    task = asyncio.ensure_future(work)
    keeper = asyncio.create_task(_keep(lease, leases, wait))
    try:
        await asyncio.wait((task, keeper), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise LeaseLost(f"lease {lease.name} must be held, got one that has ended")
        await task
    finally:
        for one in (task, keeper):
            one.cancel()
        await asyncio.gather(task, keeper, return_exceptions=True)


async def confirm_held(leases: Leases, lease: Lease) -> None:
    """Prolong it once more before a write that cannot carry it. Raises LeaseLost when it has ended."""
    if not await leases.keep_lease(lease, LEASE_S):
        raise LeaseLost(f"lease {lease.name} must be held to write, got one that has ended")


async def _keep(lease: Lease, leases: Leases, wait: Wait) -> None:
    """Prolong it until it has ended; a store that is away is asked again, for writes fail meanwhile anyway."""
    while True:
        await wait(_KEEP_EVERY_S)
        try:
            if not await leases.keep_lease(lease, LEASE_S):
                return
        except StoreUnavailable as error:
            log.warning("the lease of upkeep could not be prolonged: %s", error)
