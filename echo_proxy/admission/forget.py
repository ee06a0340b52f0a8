"""What is forgotten when the reader of an answer finds it bad?"""

from dataclasses import replace

from echo_proxy.admission.offspring import with_offspring
from echo_proxy.admission.quarantine import Quarantine
from echo_proxy.admission.twins import twins_of
from echo_proxy.policy import Policy
from echo_proxy.protocols import Clock, Examples
from echo_proxy.types import DecisionRecord


async def forget_answer(record: DecisionRecord, policy: Policy, store: Examples, clock: Clock) -> int:
    """Forget the example that holds an answer, with its copies and what was promoted from it, where the reader wrote it
    himself; the number gone.

    What others wrote stays: a stranger who is given the same answer and says that it is bad could delete anything. He
    takes back his word for it, where it still waits for others'. Raises StoreUnavailable.
    """
    if not record.admitted_id:
        return 0
    held = await store.get(record.admitted_id)
    if held is None:  # evicted, perhaps; its copies may be there
        return await store.remove(await with_offspring(store, [record.id]))
    quarantine = Quarantine(store, clock)
    for twin in await twins_of(replace(held, created_at=clock.now()), policy, store):
        await quarantine.withdraw(twin, record.caller)
    return await store.remove(await with_offspring(store, [held.id])) if held.writer == record.caller else 0
