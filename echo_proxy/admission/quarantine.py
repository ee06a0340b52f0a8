"""Whom does a new example serve, and what lets it out of quarantine?

In a scope of many an example serves only its own writer, until others vouch for it: they were given the same answer
to the same request by a teacher, or a judge finds its answer at least as good as a fresh one to a request of theirs.

Who counts as another? A witness is known by his key, by his user where LiteLLM tells one, and in scopes wider than a
team (organization, domain, public) by his team. Two witnesses that share any of these are one, and who shares key or
user with the writer is none. The writer's team may vouch once; an organisation of one team shares by team instead.
What an attacker can do about that:

- As one user he releases nothing, however many keys he makes: neither his repetitions nor his feedback count, and
  nobody else's words vouch for a request or an answer in which a word differs (see twins.py). Poison in the request is
  thus vouched for by nobody who did not send that poison himself.
- N + 1 users, N being `confirmations`, confirm themselves, and so do N + 1 keys without users, such as those of service
  accounts: nothing known here tells them from honest ones. N is the number of dishonest users per scope that the
  operator wants to endure. In a scope wider than a team they must come from N teams.
- With `judge`, two users are enough for poison that stands in the request and is obeyed by the teacher: both send it,
  and the teacher's fresh answer obeys it as well. Poison in the answer alone (bought by odd parameters of the call)
  must persuade the judge in both orders. Operators who fear two dishonest users leave `judge` off.
- However many keys he has, he deletes nothing that others wrote, in quarantine or out of it.
- Once released an example serves all. It stays its writer's: he may change nothing of it, but can purge it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from echo_proxy.admission.floor import worth
from echo_proxy.admission.twins import merged, same_answer, twins_of
from echo_proxy.policy import Policy
from echo_proxy.policy_keeping import QuarantinePolicy
from echo_proxy.protocols import Clock, Examples
from echo_proxy.types import Example

_TRIES = 8
"""Changes that meet each other on one example are rare."""
_OF_ONE = frozenset({"key", "user"})
"""Kinds of scope that hold one person's keys: nobody is there to be protected, or to confirm anything."""
_OF_TEAMS = frozenset({"organization", "domain", "public"})
"""Kinds of scope that hold many teams."""


@dataclass(frozen=True, slots=True)
class Witness:
    """Somebody who was given the same answer."""

    key: str
    """Hash of his key."""
    person: str = ""
    """As in Example; empty = no user is known."""
    team: str = ""
    """Id of his team; empty = none is known."""

    def names(self, scope: str) -> tuple[str, ...]:
        """What he is known by in a scope, his key first."""
        is_wide = bool(self.team) and scope.partition(":")[0] in _OF_TEAMS
        team = hashlib.sha256(f"team:{self.team}".encode("utf-8", "replace")).hexdigest() if is_wide else ""
        return tuple(dict.fromkeys(name for name in (self.key, self.person, team) if name))


def quarantined(example: Example, rules: QuarantinePolicy | None) -> Example:
    """The example, to serve only its writer where others read its scope."""
    if rules is None or example.scope.partition(":")[0] in _OF_ONE:
        return example
    return replace(example, reader=example.writer)


class Quarantine:
    """Changes the state of stored examples. Every method raises StoreUnavailable."""

    def __init__(self, store: Examples, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def confirm(self, example: Example, witness: Witness, policy: Policy) -> bool:
        """Note that somebody else was given the same; whether it serves everybody now. He counts once, and never for
        himself."""
        rules = policy.admission.quarantine
        needed = rules.confirmations if rules else 1
        names = witness.names(example.scope)
        for _ in range(_TRIES):
            if not example.reader or not _known(example).isdisjoint(names):
                return not example.reader
            by = (*example.confirmed_by, " ".join(names))
            is_released = len(by) >= needed
            after = replace(example, confirmed_by=by, reader="" if is_released else example.reader)
            if await self._change(example, after, policy):
                return is_released
            stored = await self._store.get(example.id)
            if stored is None:
                return False
            example = stored
        return False

    async def approve(self, example_id: str, version: int, witness: str, policy: Policy) -> bool:
        """Release an example that a judge has found good beside another writer's request; whether it serves everybody
        now. An example that was changed since it was judged stays where it is."""
        example = await self._store.get(example_id)
        if example is None or example.version != version or not example.reader or witness == example.writer:
            return False
        by = example.confirmed_by if witness in _known(example) else (*example.confirmed_by, witness)
        return await self._change(example, replace(example, reader="", confirmed_by=by), policy)

    async def withdraw(self, example: Example, writer: str) -> None:
        """Take back a writer's confirmation of an example that still waits."""
        for _ in range(_TRIES):
            by = tuple(one for one in example.confirmed_by if one.split(" ")[0] != writer)
            if not example.reader or by == example.confirmed_by:
                return
            if await self._store.change(example, replace(example, confirmed_by=by)):
                return
            stored = await self._store.get(example.id)
            if stored is None:
                return
            example = stored

    async def _change(self, before: Example, after: Example, policy: Policy) -> bool:
        """Write it; one that is released takes the place of those of its writer that were open before it. What others
        wrote stays, or N + 1 keys could delete it."""
        if after.reader:
            return await self._store.change(before, after)
        outdone = await self._outdone_by(after, policy)
        if outdone:
            after = merged(after, outdone, self._clock.now(), policy.upkeep.offload_decay)
        if not await self._store.change(before, after):
            return False
        if outdone:
            await self._store.remove([one.id for one in outdone])
        return True

    async def _outdone_by(self, example: Example, policy: Policy) -> Sequence[Example]:
        """Open twins of the same writer that are not better: as many have vouched for this one, and later."""
        least = worth(example.quality, None, policy.admission.deviations)
        twins = await twins_of(replace(example, created_at=self._clock.now()), policy, self._store)
        return [
            one
            for one in twins
            if one.id != example.id
            and not one.reader
            and one.writer == example.writer
            and not same_answer(one.response, example.response)
            and worth(one.quality, None, policy.admission.deviations) <= least
        ]


def _known(example: Example) -> set[str]:
    """What its writer and its witnesses are known by."""
    named = {name for one in example.confirmed_by for name in one.split(" ")}
    return named | ({example.writer, example.person} - {""})
