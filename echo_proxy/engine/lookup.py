"""What followed these words before? Prompts hold examples, and retrieved answers resemble the answer being written.

Per sequence one long list of tokens: the hints, each behind the last words of the prompt as if it were the answer, the
likeliest last; then prompt and answer. Where the newest words occur in it is a place to copy from; the longest match
wins, and among equally long ones the most recent. An answer's first words need no rule of their own: the end of the
prompt is the turn header, which stands before every hint and before every earlier answer.

Source: LLMA, Yang et al. 2023, https://arxiv.org/abs/2304.04487
"""

from collections.abc import Callable, Sequence

from echo_proxy.engine.runner import Draft, DraftAsk, Verdict

PROMPT, HINT = "prompt", "hint"
"""What its drafts are called, by where they are copied from."""
_BREAK = -1
"""Stands between texts; no token, so nothing matches across it."""
_REACH = 16
"""Words before a place that are compared, at most; a longer match says no more. guess, not yet measured"""
_N_PLACES = 8
"""Earlier occurrences that are compared. guess, not yet measured"""
_SURE = 3
"""Words that must match before a place is trusted with a long draft."""
_SHORT = 4
"""Longest draft after a match of fewer words. guess, not yet measured"""


class _Occurrences:
    """Where each n-gram has ended: the newest place, and from there one place back after the other."""

    __slots__ = ("_before", "_n", "_newest")

    def __init__(self, n: int) -> None:
        self._n = n
        self._newest: dict[tuple[int, ...], int] = {}
        self._before: dict[int, int] = {}

    def add(self, words: Sequence[int], start: int) -> None:
        """Note the n-grams whose last word is at position `start` or later. A place is the position after it."""
        newest, before, n = self._newest, self._before, self._n
        first = max(start - n + 1, 0)
        grams = zip(*(words[first + i :] for i in range(n)), strict=False)
        for place, gram in enumerate(grams, first + n):
            earlier = newest.get(gram)
            if earlier is not None:
                before[place] = earlier
            newest[gram] = place

    def places(self, words: Sequence[int], n_most: int) -> list[int]:
        """Where the last n words occurred before, newest first."""
        found: list[int] = []
        place = self._newest.get(tuple(words[-self._n :]))
        if place == len(words):
            place = self._before.get(place)
        while place is not None and len(found) < n_most:
            found.append(place)
            place = self._before.get(place)
        return found


class _Text:
    """What one sequence can copy from."""

    __slots__ = ("_ends", "_n_hints", "_n_tokens", "_pairs", "_singles", "_triples", "_words")

    def __init__(self, ask: DraftAsk, is_end: Callable[[int], bool]) -> None:
        self._ends = {token for token in set(ask.tokens) if is_end(token)} | {_BREAK}
        # How an answer ends can be seen where an earlier turn ends.
        end = next((token for token in reversed(ask.tokens) if token in self._ends), _BREAK)
        header = ask.tokens[max(ask.n_prompt - _REACH, 0) : ask.n_prompt]
        self._words: list[int] = []
        for hint in reversed(ask.hints):
            self._words += [*header, *hint, end, _BREAK]
        self._n_hints = len(self._words)
        self._n_tokens = 0
        self._triples, self._pairs, self._singles = _Occurrences(3), _Occurrences(2), _Occurrences(1)
        self._note(0)

    def grow(self, tokens: Sequence[int]) -> None:
        """Take in what was written since the last time."""
        n_known = len(self._words)
        self._words += tokens[self._n_tokens :]
        self._n_tokens = len(tokens)
        self._note(n_known)

    def _note(self, start: int) -> None:
        for one in (self._triples, self._pairs, self._singles):
            one.add(self._words, start)

    def drafts(self, most_tokens: int, most_drafts: int) -> list[Draft]:
        """What followed the best matches, if they disagree; else what followed the best one."""
        kept: list[Draft] = []
        for n_same, place in self._matches():
            copied = self._copied(place, most_tokens if n_same >= _SURE else min(most_tokens, _SHORT))
            if copied and not any(one.tokens[: len(copied)] == copied for one in kept):
                kept.append(Draft(copied, HINT if place < self._n_hints else PROMPT))
                if len(kept) == most_drafts:
                    break
        return kept

    def _matches(self) -> list[tuple[int, int]]:
        """(matching words, place), the longest first, then the most recent."""
        words = self._words
        places = self._triples.places(words, _N_PLACES) or self._pairs.places(words, _N_PLACES)
        if not places:
            # A single word says something only if it is rare.
            singles = self._singles.places(words, 2)
            return [(1, place) for place in singles] if len(singles) == 1 else []
        return sorted(((self._n_same(place), place) for place in places), reverse=True)

    def _n_same(self, place: int) -> int:
        words, n = self._words, len(self._words)
        reach = min(_REACH, place)
        if words[place - reach : place] == words[n - reach :]:
            return reach
        n_same = 1
        while words[place - 1 - n_same] == words[n - 1 - n_same]:
            n_same += 1
        return n_same

    def _copied(self, place: int, most_tokens: int) -> tuple[int, ...]:
        """The words from there on, until an answer ends; beyond the newest word it goes on in circles."""
        copied = self._words[place : place + most_tokens]
        period = len(copied)
        while len(copied) < most_tokens:
            copied.append(copied[-period])
        for i, token in enumerate(copied):
            if token in self._ends:
                return tuple(copied[: i + (token != _BREAK)])
        return tuple(copied)


class LookupDrafter:
    """Copies what followed the newest words before; see above."""

    def __init__(self, is_end: Callable[[int], bool]) -> None:
        """`is_end` tells whether an answer ends with a token."""
        self._is_end = is_end
        self._texts: dict[int, _Text] = {}

    def draft(self, asks: Sequence[DraftAsk]) -> list[list[Draft]]:
        """See Drafter. Takes microseconds per sequence, and time for the whole prompt at its first call."""
        return [self._of_one(ask) for ask in asks]

    def _of_one(self, ask: DraftAsk) -> list[Draft]:
        text = self._texts.get(ask.key)
        if text is None:
            text = self._texts[ask.key] = _Text(ask, self._is_end)
        text.grow(ask.tokens)
        return text.drafts(ask.most_tokens, ask.most_drafts)

    def hear(self, verdict: Verdict) -> None:
        """Nothing is learned."""

    def forget(self, key: int) -> None:
        """See Drafter."""
        self._texts.pop(key, None)

    def close(self) -> None:
        """See Drafter."""
        self._texts.clear()
