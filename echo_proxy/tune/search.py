"""Which options serve a goal best? One axis after the other, until a whole pass over them changes nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from echo_proxy.errors import InputError
from echo_proxy.local.options import LocalModelOptions
from echo_proxy.tune.axes import Axis, is_lossy_change, may_differ
from echo_proxy.tune.memory import Bounds, MemoryEstimate
from echo_proxy.tune.race import Deadline, Races, Result
from echo_proxy.tune.records import CandidateFailed, Goal, Measurer, Round, Row, differing
from echo_proxy.tune.units import shown_bytes
from echo_proxy.tune.workload import agreement

_MOST_PASSES = 3
_ROUNDS_OF_LOSSY = 3
"""Of a candidate that cannot be chosen: for the table alone."""
_ROUNDS_OF_AGAIN = 30
_SHARES = 1.5
"""Of the time that is left per candidate, what one may take: most need less, so that the last ones are tried too."""
_USUAL_ROUNDS = 3
"""Pairs of rounds of a race, about; for the forecast."""
_ANSWERS_S = 60.0

Ended = Literal["done", "budget", "interrupted"]


@dataclass(slots=True)
class Found:
    """What is known so far."""

    winner: LocalModelOptions
    figures: Round
    """The winner's, of the race that it won."""
    gain: float = 1.0
    """Product of the ratios of all races that were won: its speed in that of the first candidate."""
    rows: list[Row] = field(default_factory=list)
    ended: Ended = "done"


@dataclass(frozen=True, slots=True)
class SearchParts:
    """What a search works with."""

    measurer: Measurer
    races: Races
    estimate: MemoryEstimate
    bounds: Bounds
    deadline: Deadline
    goal: Goal
    allows_lossy: bool
    tell: Callable[[str], None]
    """Hears what is being tried."""


class Search:
    """Coordinate search from the first options that work."""

    def __init__(self, parts: SearchParts, axes: Sequence[Axis]) -> None:
        self._parts = parts
        self._axes = axes
        self._tried: set[LocalModelOptions] = set()
        self._doubts: list[Row] = []
        """What looked better than the incumbent but could not prove it."""
        self._n_raced = 0
        self._raced_s = 0.0

    def start(self, starts: Sequence[LocalModelOptions]) -> Found:
        """The first of these options that fit and work are the first incumbent.

        Raises InputError: none do.
        """
        rows: list[Row] = []
        for options in starts:
            name = _shown(options, starts[0]) or "as it is by default"
            self._tried.add(options)
            if (too_much := self._too_much(options)) is not None:
                rows.append(Row(name, options, "not tried", n_bytes=self._need(options), note=too_much))
                continue
            self._parts.tell(name)
            began = self._parts.deadline.spent_s
            try:
                figures = self._parts.races.start(options)
            except CandidateFailed as error:
                rows.append(Row(name, options, "failed", note=str(error)))
                continue
            self._parts.estimate.calibrate(options, figures.n_bytes)
            self._raced_s, self._n_raced = self._parts.deadline.spent_s - began, 1
            row = Row(name, options, "start", figures, 1.0, figures.n_bytes)
            return Found(options, figures, rows=[*rows, row])
        raise InputError(f"expected options that fit and work, got none: {rows[-1].changed}: {rows[-1].note}")

    def improve(self, found: Found) -> Found:
        """The best that the time suffices for; after Ctrl-C, the best so far."""
        try:
            for _ in range(_MOST_PASSES):
                before = found.winner
                if not (all(self._try_axis(axis, found) for axis in self._axes) and self._look_again(found)):
                    found.ended = "budget"
                    break
                if found.winner == before:
                    break
        except KeyboardInterrupt:
            found.ended = "interrupted"
        return found

    def n_candidates(self, found: Found) -> int:
        """Those of one pass from here."""
        return sum(self._is_new(one) for axis in self._axes for one in axis.propose(found.winner))

    def forecast_s(self, found: Found) -> float:
        """How long they take, about."""
        return self.n_candidates(found) * self._usual_s()

    def _try_axis(self, axis: Axis, found: Found) -> bool:
        """Race what the axis proposes; False when the time is over."""
        for options in axis.propose(found.winner):
            if not self._is_new(options):
                continue
            if (too_much := self._too_much(options)) is not None:
                self._tried.add(options)
                name = _shown(options, found.winner)
                found.rows.append(Row(name, options, "not tried", n_bytes=self._need(options), note=too_much))
                continue
            if self._deadline_is_near():
                return False
            share_s = _SHARES * self._parts.deadline.left_s / self.n_candidates(found)
            self._tried.add(options)
            self._try(options, found, share_s)
        return True

    def _look_again(self, found: Found) -> bool:
        """Once the axes are through: longer races for what looked better but was not sure. False = no time left."""
        doubts = sorted(self._doubts, key=lambda row: -(row.ratio or 0.0))
        incumbent, self._doubts = found.winner, []
        for i, row in enumerate(doubts):
            if found.winner != incumbent:
                break  # the next pass proposes the others together with what is better now
            if self._deadline_is_near():
                return False
            share_s = self._parts.deadline.left_s / (len(doubts) - i)
            self._try(row.options, found, share_s, ", again", _ROUNDS_OF_AGAIN)
        return True

    def _try(
        self,
        options: LocalModelOptions,
        found: Found,
        most_s: float,
        suffix: str = "",
        most_rounds: int | None = None,
    ) -> None:
        incumbent, began = found.winner, self._parts.deadline.spent_s
        name = _shown(options, incumbent) + suffix
        is_barred = is_lossy_change(options, incumbent) and not self._parts.allows_lossy
        self._parts.tell(name)
        try:
            n_rounds = _ROUNDS_OF_LOSSY if is_barred else most_rounds
            result = self._parts.races.run(incumbent, options, n_rounds, most_s)
            share = self._agreement(options, incumbent)
        except CandidateFailed as error:
            found.rows.append(Row(name, options, "failed", note=self._why_failed(error)))
            self._parts.measurer.release(options)
            return
        finally:
            self._raced_s += self._parts.deadline.spent_s - began
            self._n_raced += 1
        row = self._judged(Row(name, options, "kept", result.figures, result.ratio, agreement=share), result, is_barred)
        found.rows.append(row)
        if result.is_open and row.outcome == "kept" and not suffix:
            self._doubts.append(row)
        if row.outcome == "better":
            self._doubts.clear()  # they were raced against another incumbent
            found.winner, found.figures = options, result.figures
            found.gain *= result.ratio
        self._parts.measurer.release(incumbent if row.outcome == "better" else options)

    def _judged(self, row: Row, result: Result, is_barred: bool) -> Row:
        """The row with its outcome."""
        n_bytes, most = result.figures.n_bytes, self._parts.bounds.n_bytes
        row = replace(row, n_bytes=n_bytes, note=result.note)
        if is_barred:
            return replace(row, outcome="lossy", note="changes the texts: --allow-lossy-kv")
        if n_bytes > most:
            return replace(row, note=f"took {shown_bytes(n_bytes)}, {shown_bytes(most)} may be used")
        return replace(row, outcome="better" if result.is_better else "kept")

    def _why_failed(self, error: CandidateFailed) -> str:
        return str(error) if self._parts.deadline.left_s else "the time was over before it could be measured"

    def _agreement(self, options: LocalModelOptions, incumbent: LocalModelOptions) -> float | None:
        if not may_differ(options, incumbent):
            return None
        limit_s = min(self._parts.deadline.left_s, _ANSWERS_S)
        try:
            return agreement(*(self._parts.measurer.answers(one, limit_s) for one in (options, incumbent)))
        except CandidateFailed:  # no time left for it; the race has been run all the same
            return None

    def _is_new(self, options: LocalModelOptions) -> bool:
        """What has lost against a slower incumbent would lose again."""
        return options not in self._tried

    def _need(self, options: LocalModelOptions) -> int:
        return self._parts.estimate.need(options).n_bytes

    def _too_much(self, options: LocalModelOptions) -> str | None:
        """Why its memory does not suffice."""
        need, bounds = self._parts.estimate.need(options), self._parts.bounds
        if need.n_bytes > bounds.n_bytes:
            return f"needs about {shown_bytes(need.n_bytes)}, {shown_bytes(bounds.n_bytes)} may be used"
        if need.n_gpu_bytes > bounds.n_free_gpu_bytes:
            return f"needs about {shown_bytes(need.n_gpu_bytes)} of {shown_bytes(bounds.n_free_gpu_bytes)} on the GPU"
        return None

    def _deadline_is_near(self) -> bool:
        """Whether no race could tell anything any more."""
        return self._parts.deadline.left_s < 2 * self._parts.races.round_s

    def _usual_s(self) -> float:
        return self._raced_s / max(self._n_raced, 1) + 2 * (_USUAL_ROUNDS - 1) * self._parts.races.round_s


def _shown(options: LocalModelOptions, base: LocalModelOptions) -> str:
    return ", ".join(f"{name}: {_value(name, value)}" for name, value in differing(options, base).items())


def _value(name: str, value: object) -> str:
    if name == "path":
        return str(value).rsplit("/", 1)[-1]
    if isinstance(value, dict):
        return f"{value['kind']} {value['most_tokens']}" if value["kind"] == "model" else str(value["kind"])
    return str(value).lower() if isinstance(value, bool) else str(value)
