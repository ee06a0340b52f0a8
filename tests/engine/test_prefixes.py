import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from echo_proxy.engine.prefixes import Match, Prefixes, Seating
from echo_proxy.engine.runner import OutOfCells, Run
from echo_proxy.engine.vault import Vault
from tests.engine.runner_fake import FakeRunner

MUCH = 1 << 20


class Desk:
    """A small engine over fake runner and real vault: reads prompts, writes answers."""

    def __init__(
        self,
        n_seats: int = 3,
        n_cells: int = 200,
        ram: int = MUCH,
        min_saved: int = 4,
        is_sliceable: bool = True,
        max_kept: int | None = None,
    ) -> None:
        self.runner = FakeRunner(n_seats, n_cells, is_sliceable=is_sliceable)
        self.vault = Vault(ram, 0, None, "fake")
        self.prefixes = Prefixes(self.runner, self.vault, min_saved=min_saved, max_kept=max_kept)

    def look(self, prompt: list[int], domain: str = "a") -> tuple[int, int]:
        match = self.prefixes.look(domain, prompt)
        return match.n_known, match.n_coming

    def sit(self, prompt: list[int], domain: str = "a") -> Seating:
        place = self.prefixes.seat(domain, prompt)
        assert place is not None
        assert self.runner.tokens(place.seat) == prompt[: place.n_cached]
        return place

    def write(self, seat: int, tokens: list[int]) -> None:
        start = len(self.runner.tokens(seat))
        self.runner.decode([Run(tokens, start, (seat,), 0)])

    def read(self, prompt: list[int], domain: str = "a") -> Seating:
        """Seat and read all of it."""
        place = self.sit(prompt, domain)
        self.write(place.seat, prompt[place.n_cached :])
        self.prefixes.advance(place.seat, len(prompt))
        return place

    def serve(self, prompt: list[int], answer: list[int], domain: str = "a") -> int:
        """From the prompt to its end; how much was cached."""
        place = self.read(prompt, domain)
        if answer:
            self.write(place.seat, answer)
        self.prefixes.retire(place.seat, prompt + answer)
        return place.n_cached


BLOCK = [1, 2, 3, 4, 5, 6]


# ------------------------------------------------------------------ sharing


def test_a_prompt_shares_what_a_live_seat_has_read() -> None:
    """Only what is computed is shared; what is being read is known as coming, and both never count the last token."""
    desk = Desk()
    first = desk.sit([*BLOCK, 7, 7])
    desk.write(first.seat, BLOCK[:4])
    desk.prefixes.advance(first.seat, 4)

    assert desk.look([*BLOCK, 8]) == (4, 6)
    assert desk.look(BLOCK) == (4, 5)
    assert desk.look(BLOCK[:4]) == (3, 0)
    assert desk.sit([*BLOCK, 8]).n_cached == 4


def test_an_answer_that_ended_is_kept() -> None:
    """The next turn of a dialogue starts behind prompt and answer, in the same seat."""
    desk = Desk()
    first = desk.read(BLOCK)
    desk.write(first.seat, [8, 9])
    desk.prefixes.retire(first.seat, [*BLOCK, 8, 9])

    assert desk.sit([*BLOCK, 8, 9, 1, 1]) == Seating(first.seat, 8)


def test_the_same_prompt_again_reads_one_token() -> None:
    """All but the last token, whose logits are wanted, are there; the kept answer stays for others."""
    desk = Desk()
    desk.serve(BLOCK, [8, 9])

    assert desk.sit(BLOCK).n_cached == 5
    assert desk.look([*BLOCK, 8, 9, 1]) == (8, 0)


def test_domains_share_nothing() -> None:
    """Another scope's prompt is neither ready nor coming."""
    desk = Desk()
    desk.serve(BLOCK, [], "a")
    desk.sit(BLOCK, "c")

    assert desk.prefixes.look("b", BLOCK) == Match(0, 0)
    assert desk.sit(BLOCK, "b").n_cached == 0


def test_a_prompt_that_was_given_up_half_read_is_kept_as_far_as_it_was_read() -> None:
    """Cancelled while its prompt was read: what is computed serves the next one, and no more than that."""
    desk = Desk()
    place = desk.sit([*BLOCK, 7])
    desk.write(place.seat, BLOCK[:3])
    desk.prefixes.advance(place.seat, 3)

    desk.prefixes.retire(place.seat, BLOCK[:3])

    assert desk.look([*BLOCK, 7]) == (3, 0)


def test_superfluous_texts_are_not_kept() -> None:
    """A text that another kept one begins with takes no seat, whichever of them ended first."""
    desk = Desk()
    short, long = desk.read(BLOCK), desk.read([*BLOCK, 7, 7])
    desk.prefixes.retire(short.seat, BLOCK)
    desk.prefixes.retire(long.seat, [*BLOCK, 7, 7])
    again = desk.read(BLOCK)
    desk.prefixes.retire(again.seat, BLOCK)

    assert len(desk.prefixes.lend(3)) == 2
    assert desk.runner.n_used == desk.prefixes.n_cells_used == 8


def test_no_seat_is_to_be_had_when_all_are_live() -> None:
    """None, and nothing changes."""
    desk = Desk(n_seats=2)
    desk.sit([1, 1])
    desk.sit([2, 2])

    assert desk.prefixes.seat("a", [3, 3]) is None
    assert desk.prefixes.counts["seatings"] == 2


def test_a_prompt_has_tokens() -> None:
    """Nothing cannot be seated."""
    with pytest.raises(ValueError, match="at least one token"):
        Desk().prefixes.seat("a", [])


def test_only_what_live_seats_have_costs_no_cells() -> None:
    """A kept text counts as free until a prompt takes it over, and a restored state is a copy."""
    desk = Desk()
    prompt = [*BLOCK, 7, 7]
    live = desk.read(BLOCK)
    of_live = desk.prefixes.n_new_cells("a", prompt)
    desk.prefixes.retire(live.seat, BLOCK)
    of_kept = desk.prefixes.n_new_cells("a", prompt)
    desk.prefixes.save()
    of_saved = desk.prefixes.n_new_cells("a", prompt)

    assert (of_live, of_kept, of_saved) == (2, 8, 8)
    assert desk.look(prompt) == (6, 0)
    assert desk.prefixes.look("a", prompt).n_resident == 0


def test_a_seat_tells_what_it_shares() -> None:
    """Cells that are a live seat's too are not freed when one of both leaves; those of a kept text are."""
    desk = Desk(n_seats=4)
    live = desk.read(BLOCK)
    beside = desk.sit([*BLOCK, 7])
    for seat in (live.seat, beside.seat):
        desk.prefixes.retire(seat, BLOCK)

    assert (live.n_shared, beside.n_shared) == (0, 6)
    assert desk.sit([*BLOCK, 8]).n_shared == 0


# ------------------------------------------------------------------ eviction


def test_the_least_worth_leaves_first() -> None:
    """A short text that nobody asked for again leaves before a long one, and before a newer one that is used."""
    desk = Desk(n_seats=3, ram=0)
    desk.serve([*BLOCK, *BLOCK, *BLOCK], [])
    desk.serve([9, 9], [])
    desk.serve([8, 8, 8], [])

    desk.serve([7, 7, 7, 7], [])

    assert [desk.look([*text, 0])[0] for text in ([*BLOCK, *BLOCK, *BLOCK], [9, 9], [8, 8, 8])] == [18, 0, 3]
    assert desk.prefixes.counts["evicted"] == 1


def test_making_room_keeps_the_hot_beginning() -> None:
    """When cells are short, what only one prompt had leaves, and the beginning that several had stays."""
    desk = Desk(n_seats=4, n_cells=24, ram=0)
    desk.serve([*BLOCK, 7, 7, 7, 7], [])
    desk.serve([*BLOCK, 8, 8, 8, 8], [])

    assert desk.prefixes.make_room(18)
    assert desk.runner.n_cells - desk.runner.n_used == 18
    assert desk.look([*BLOCK, 9]) == (6, 0)


def test_room_that_cannot_be_made_says_so() -> None:
    """Where live seats hold too much, all that is kept goes, and it is told that this did not suffice."""
    desk = Desk(n_cells=20, ram=0)
    desk.read([9] * 10)
    desk.serve(BLOCK, [])

    assert desk.prefixes.make_room(4)
    assert desk.look([*BLOCK, 7]) == (6, 0)
    assert not desk.prefixes.make_room(11)
    assert desk.look([*BLOCK, 7]) == (0, 0)


def test_a_prompt_that_has_no_room_yet_costs_nothing() -> None:
    """While it cannot be read anyway, no kept text is given up for it."""
    desk = Desk(n_cells=20)
    desk.read([9] * 10)
    desk.serve(BLOCK, [])

    desk.sit([8] * 15)

    assert desk.look([*BLOCK, 7]) == (6, 0)


def test_seats_for_drafts_cost_no_valuable_text() -> None:
    """Empty seats are lent; a kept text leaves for them only when hardly anything would be read again."""
    desk = Desk(n_seats=3, ram=0)
    desk.serve([*BLOCK, *BLOCK], [])
    desk.serve([9], [])

    lent = desk.prefixes.lend(3)

    assert len(lent) == 2
    assert desk.look([*BLOCK, *BLOCK, 1]) == (12, 0)
    desk.write(lent[0], [1, 2])
    desk.prefixes.give_back(lent)
    assert desk.runner.n_used == 12
    assert desk.prefixes.lend(3) != ()


# ------------------------------------------------------------------ vault


def test_a_hot_beginning_outlives_its_seats() -> None:
    """What two prompts shared is saved when its last seat is given up, and restored for the third."""
    desk = Desk(n_seats=1)
    desk.serve([*BLOCK, 7, 7], [])
    desk.serve([*BLOCK, 8, 8], [])
    desk.serve([9] * 12, [])

    assert desk.look([*BLOCK, 6, 6]) == (6, 0)
    assert desk.sit([*BLOCK, 6, 6]).n_cached == 6
    assert desk.prefixes.counts["restored_states"] == 1


def test_a_text_that_was_used_once_is_saved_whole() -> None:
    """A dialogue goes on where it was, though its state had to leave; what is short is sooner read than copied."""
    desk = Desk(n_seats=1)
    desk.serve([*BLOCK, 7, 7], [])
    desk.serve([9, 9], [])
    desk.serve([8] * 12, [])

    assert desk.runner.n_saved == 1
    assert desk.look([*BLOCK, 7, 7, 6, 6]) == (8, 0)


def test_kept_texts_hold_no_more_cells_than_they_may() -> None:
    """The rest waits in the vault, where it does not slow the steps of others."""
    desk = Desk(n_seats=8, max_kept=9)
    for end in range(4):
        desk.serve([*BLOCK, 7 + end, 7, 7], [])

    assert desk.runner.n_used <= 9
    assert desk.look([*BLOCK, 9]) == (6, 0)


def test_restoring_must_be_worth_the_copy() -> None:
    """A saved state that has hardly more than a seat is left where it is."""
    desk = Desk(n_seats=2, min_saved=4)
    desk.serve([*BLOCK, 7], [])
    desk.serve([*BLOCK, 8], [])
    desk.prefixes.make_room(desk.runner.n_cells)
    place = desk.sit([*BLOCK[:5], 9, 9])
    desk.write(place.seat, [*BLOCK[:5], 9, 9][place.n_cached :])
    desk.prefixes.advance(place.seat, 7)
    assert desk.prefixes.counts["restored_states"] == 1

    other = desk.sit([*BLOCK, 3])

    assert other.n_cached == 5
    assert desk.prefixes.counts["restored_states"] == 1


def test_a_state_without_room_is_not_even_loaded() -> None:
    """It may lie on a disk; and no kept text leaves for it."""
    desk = Desk(n_cells=40)
    desk.serve([*BLOCK] * 4, [])
    desk.prefixes.save()
    desk.read([9] * 20)
    desk.serve([8] * 5, [])

    assert desk.sit([*BLOCK, *BLOCK, *BLOCK, *BLOCK, 1]).n_cached == 0
    assert desk.vault.counts["loaded"] == 0
    assert desk.look([8] * 6) == (5, 0)


def test_a_paused_answer_goes_on_where_it_was() -> None:
    """Its state is saved and pinned; the seat is free for others, and is filled again when it goes on."""
    desk = Desk(n_seats=1, ram=500)
    place = desk.read(BLOCK)
    desk.write(place.seat, [7, 8])
    desk.prefixes.grew(place.seat, 8)

    assert desk.prefixes.pause(place.seat, [*BLOCK, 7, 8])

    assert desk.runner.n_used == desk.prefixes.n_cells_used == 0
    desk.serve([5, 5, 5], [])
    assert desk.sit([*BLOCK, 7, 8, 9]).n_cached == 8
    desk.prefixes.unpin("a", [*BLOCK, 7, 8])


def test_an_answer_that_cannot_be_saved_is_kept() -> None:
    """Without a vault a pause says so, and the state is there as long as nobody needs its seat."""
    desk = Desk(n_seats=1, ram=0)
    place = desk.read(BLOCK)

    assert not desk.prefixes.pause(place.seat, BLOCK)

    assert desk.look([*BLOCK, 7]) == (6, 0)
    assert desk.sit([5, 5, 5]).n_cached == 0


def test_hot_beginnings_are_saved_at_the_end() -> None:
    """Before the model is unloaded, what several prompts shared goes to the vault."""
    desk = Desk()
    desk.serve([*BLOCK, 7, 7], [])
    desk.serve([*BLOCK, 8, 8], [])

    desk.prefixes.save()

    assert desk.runner.n_used == 0
    found = Prefixes(FakeRunner(), desk.vault, min_saved=4).seat("a", [*BLOCK, 9])
    assert found is not None
    assert found.n_cached == 6


def test_a_hot_beginning_is_saved_though_somebody_will_read_it_too() -> None:
    """Another seat that has not computed it yet is no reason to let it go."""
    desk = Desk(n_seats=2)
    desk.sit([*BLOCK, 5])
    desk.serve([*BLOCK, 7, 7], [])

    desk.prefixes.save()

    assert desk.prefixes.counts["saved_tokens"] == 6
    assert desk.look([*BLOCK, 9]) == (6, 0)


def test_a_hot_text_is_saved_before_its_seat_is_taken_over() -> None:
    """A prompt that takes the only seat with a part of what is there leaves the rest to the vault, if it was hot."""
    desk = Desk(n_seats=1)
    desk.serve([*BLOCK, *BLOCK], [])
    desk.serve([*BLOCK, *BLOCK], [])

    assert desk.serve([*BLOCK, 9], []) == 6

    assert desk.look([*BLOCK, *BLOCK, 1]) == (12, 0)


def test_an_accidental_token_in_common_is_not_worth_a_copy() -> None:
    """A hot beginning that is hardly longer than what another seat has is not saved."""
    desk = Desk(n_seats=4)
    for end in ([7, 1, 1], [7, 2, 2], [8, 3]):
        desk.serve([*BLOCK, *end], [])
    live = desk.read([*BLOCK, 9])

    desk.prefixes.save()

    assert desk.runner.n_saved == 0
    assert desk.runner.tokens(live.seat) == [*BLOCK, 9]


def test_shared_cells_count_once_along_a_chain() -> None:
    """One seat shares another's beginning, writes on, and is shared itself."""
    desk = Desk(n_seats=4)
    prompts = [[*BLOCK, *range(8, 8 + 2 * n), 7] for n in range(4)]
    seats = [desk.read(prompt).seat for prompt in prompts]

    assert desk.prefixes.n_cells_used == desk.runner.n_used
    for seat in seats[:3]:
        desk.prefixes.drop(seat)
        assert desk.prefixes.n_cells_used == desk.runner.n_used


# ------------------------------------------------------------------ models that cannot be cut


def test_a_shorter_state_that_cannot_be_cut_is_kept_beside_a_longer() -> None:
    """Where the longer one cannot be cut, the shorter is not superfluous; only the same text is."""
    desk = Desk(n_seats=3, is_sliceable=False)
    texts = (BLOCK, BLOCK, [*BLOCK, 7])
    seats = [desk.read(text).seat for text in texts]
    for seat, text in zip(seats, texts, strict=True):
        desk.prefixes.retire(seat, text)

    assert desk.look([*BLOCK, 9]) == (6, 0)
    assert desk.look([*BLOCK, 7, 9]) == (7, 0)
    assert desk.runner.n_used == 13


def test_a_state_that_cannot_be_cut_is_used_whole() -> None:
    """A kept text serves a prompt that goes on behind all of it, in its seat; a prompt that only shares its beginning
    reads everything."""
    desk = Desk(is_sliceable=False)
    desk.serve(BLOCK, [7, 8])

    assert desk.look([*BLOCK, 7, 9]) == (0, 0)
    assert desk.look([*BLOCK, 7, 8]) == (0, 0)
    assert desk.look([*BLOCK, 7, 8, 9]) == (8, 0)
    assert desk.serve([*BLOCK, 7, 9], []) == 0
    assert desk.serve([*BLOCK, 7, 8, 9], []) == 8


def test_a_paused_answer_that_cannot_be_cut_goes_on() -> None:
    """With the token behind the saved ones, nothing is read again."""
    desk = Desk(n_seats=1, is_sliceable=False)
    place = desk.read(BLOCK)
    desk.prefixes.pause(place.seat, BLOCK)
    desk.serve([5, 5], [])

    assert desk.sit([*BLOCK, 1]).n_cached == 6


# ------------------------------------------------------------------ whatever happens


class Life:
    """A live request of the machine below."""

    def __init__(self, domain: str, prompt: list[int], n_read: int) -> None:
        self.domain, self.prompt, self.n_read = domain, prompt, n_read
        self.answer: list[int] = []

    @property
    def tokens(self) -> list[int]:
        return self.prompt[: self.n_read] + self.answer


blocks = st.sampled_from([[1, 1, 1, 1], [1, 1, 2], [2, 1, 1, 1, 1, 1], [3], [1]])
prompts = st.lists(blocks, min_size=1, max_size=4).map(lambda parts: [token for part in parts for token in part])
domains = st.sampled_from(["a", "b"])


class AnyOrder(RuleBasedStateMachine):
    """Requests come, are read, answered, cancelled, paused and resumed in any order, with few seats and cells."""

    is_sliceable = True

    @initialize(n_seats=st.integers(1, 4), n_cells=st.integers(20, 60), ram=st.sampled_from([0, 300, MUCH]))
    def start(self, n_seats: int, n_cells: int, ram: int) -> None:
        self.runner = FakeRunner(n_seats, n_cells, is_sliceable=self.is_sliceable)
        self.vault = Vault(ram, 0, None, "fake")
        self.prefixes = Prefixes(self.runner, self.vault, min_saved=3)
        self.live: dict[int, Life] = {}
        self.paused: list[Life] = []
        self.lent: list[int] = []
        self.computed: dict[str, list[list[int]]] = {"a": [], "b": []}

    def take(self, life: Life) -> None:
        tokens = life.tokens if life.answer else life.prompt
        match = self.prefixes.look(life.domain, tokens)
        place = self.prefixes.seat(life.domain, tokens)
        if place is None:
            assert len(self.live) + len(self.lent) == self.runner.n_seats
            return
        assert place.seat not in self.live
        assert place.seat not in self.lent
        assert place.n_cached < len(tokens)
        assert match.saved is not None or place.n_cached == match.n_resident
        assert self.runner.tokens(place.seat) == tokens[: place.n_cached]
        assert any(text[: place.n_cached] == tokens[: place.n_cached] for text in [[], *self.computed[life.domain]])
        self.live[place.seat] = Life(life.domain, tokens, place.n_cached)

    def compute(self, seat: int, tokens: list[int]) -> bool:
        life = self.live[seat]
        run = Run(tokens, len(life.tokens), (seat,), 0)
        try:
            self.runner.decode([run])
        except OutOfCells:
            if not self.prefixes.make_room(len(tokens)):
                return False
            try:
                self.runner.decode([run])
            except OutOfCells:
                assert self.lent
                return False
        self.computed[life.domain].append(life.tokens + tokens)
        return True

    def pick(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.live)))

    @rule(domain=domains, prompt=prompts)
    def arrive(self, domain: str, prompt: list[int]) -> None:
        self.take(Life(domain, prompt, 0))

    @precondition(lambda self: self.live)
    @rule(data=st.data(), n=st.integers(1, 12))
    def read(self, data: st.DataObject, n: int) -> None:
        seat = self.pick(data)
        life = self.live[seat]
        chunk = life.prompt[life.n_read : life.n_read + n]
        if chunk and self.compute(seat, chunk):
            life.n_read += len(chunk)
            self.prefixes.advance(seat, life.n_read)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), tokens=st.lists(st.integers(1, 3), min_size=1, max_size=4))
    def answer(self, data: st.DataObject, tokens: list[int]) -> None:
        seat = self.pick(data)
        life = self.live[seat]
        if life.n_read == len(life.prompt) and self.compute(seat, tokens):
            life.answer += tokens
            self.prefixes.grew(seat, len(life.tokens))

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        seat = self.pick(data)
        self.prefixes.retire(seat, self.live.pop(seat).tokens)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        seat = self.pick(data)
        del self.live[seat]
        self.prefixes.drop(seat)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def pause(self, data: st.DataObject) -> None:
        seat = self.pick(data)
        life = self.live.pop(seat)
        if self.prefixes.pause(seat, life.tokens):
            self.paused.append(life)

    @precondition(lambda self: self.paused)
    @rule()
    def resume(self) -> None:
        life = self.paused.pop(0)
        assert self.prefixes.look(life.domain, [*life.tokens, 3]).n_known >= len(life.tokens) - 1
        self.take(Life(life.domain, [*life.tokens, 3], 0))
        self.prefixes.unpin(life.domain, life.tokens)

    @rule(n=st.integers(1, 2), data=st.data())
    def lend(self, n: int, data: st.DataObject) -> None:
        seats = self.prefixes.lend(n)
        assert len(seats) <= n
        assert all(self.runner.tokens(seat) == [] for seat in seats)
        self.lent += seats
        if seats and self.live and self.is_sliceable:
            source = self.pick(data)
            if n_tokens := len(self.live[source].tokens):
                self.runner.share(source, seats[0], 0, n_tokens)

    @precondition(lambda self: self.lent)
    @rule()
    def give_back(self) -> None:
        self.prefixes.give_back(self.lent)
        self.lent = []

    @rule(n=st.integers(0, 40))
    def make_room(self, n: int) -> None:
        n_free = self.runner.n_cells - self.prefixes.n_cells_used
        n_kept = self.prefixes.n_cells_kept
        is_made = self.prefixes.make_room(n)
        assert is_made == (n <= n_free + n_kept)
        assert not is_made or self.runner.n_cells - self.prefixes.n_cells_used >= n

    @invariant()
    def seats_hold_what_they_should(self) -> None:
        for seat, life in getattr(self, "live", {}).items():
            assert self.runner.tokens(seat) == life.tokens

    @invariant()
    def cells_are_counted(self) -> None:
        if not hasattr(self, "runner"):
            return
        others = [seat for seat in range(self.runner.n_seats) if seat not in self.lent]
        assert self.prefixes.n_cells_used == self.runner.n_used_by(others)
        assert self.prefixes.n_cells_kept == self.runner.n_used_by(others) - self.runner.n_used_by(self.live)

    def teardown(self) -> None:
        if not hasattr(self, "runner"):
            return
        for seat in self.live:
            self.prefixes.drop(seat)
        self.prefixes.give_back(self.lent)
        assert self.prefixes.make_room(self.runner.n_cells)
        assert self.runner.n_used == self.prefixes.n_cells_used == 0
        for _ in range(self.runner.n_seats):
            assert self.prefixes.seat("c", [0]) is not None
        assert self.prefixes.seat("c", [0]) is None


class AnyOrderWhole(AnyOrder):
    is_sliceable = False


AnyOrder.TestCase.settings = settings(max_examples=120, stateful_step_count=60, deadline=None)
AnyOrderWhole.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestAnyOrder = AnyOrder.TestCase
TestAnyOrderWhole = AnyOrderWhole.TestCase
