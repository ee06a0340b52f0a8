"""Which stored examples are near enough to be candidates?"""

from dataclasses import replace

from echo_proxy.online.names import compare_names, names_in
from echo_proxy.policy import Retrieval
from echo_proxy.protocols import Examples
from echo_proxy.types import Candidate, Embedding, Query, Request


async def retrieve(request: Request, vector: Embedding, rules: Retrieval, store: Examples) -> tuple[Candidate, ...]:
    """Candidates of the request's scope and partition, nearest first. Raises StoreUnavailable."""
    found = await store.nearest(
        Query(
            *(vector, request.scope, request.partition, rules.k, rules.max_distance, request.received_at),
            reader=request.caller.key,
            wider=request.wider,
        )
    )
    wanted = names_in(request.text) if found else frozenset()
    return tuple(replace(candidate, names=compare_names(wanted, candidate.example)) for candidate in found)
