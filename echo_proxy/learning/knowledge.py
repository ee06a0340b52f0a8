"""What do all workers together know about the arms?"""

import logging
from collections.abc import Iterable, Mapping

from echo_proxy.bandits.evidence import merge
from echo_proxy.errors import FAULTS
from echo_proxy.learning.best_effort import BestEffort
from echo_proxy.learning.discounted import DiscountedSums
from echo_proxy.learning.forecast import Forecaster
from echo_proxy.learning.learned_utility import Learned
from echo_proxy.learning.memory import Memory
from echo_proxy.learning.surprise import Surprises
from echo_proxy.limits.budget import Pacer
from echo_proxy.limits.load import LoadBoard
from echo_proxy.policy import Policy, SegmentEstimate
from echo_proxy.protocols import OutcomeModel
from echo_proxy.types import Amendment, ArmKey, ArmSums, Increment, Lesson, News

log = logging.getLogger("echo_proxy")

_CAPACITY = 5000


class Knowledge:
    """Merged evidence as last read from the store, plus what this worker has learned since.

    Not thread safe: it belongs to one event loop. Only the fitting of a model may happen elsewhere, on a snapshot.
    """

    def __init__(self, policy: Policy | None = None) -> None:
        self._sums: dict[ArmKey, ArmSums] = {}
        self.memory = Memory(policy.bandit.memory if policy else _CAPACITY)
        self.forecaster = Forecaster(policy.to_arms() if policy else ())
        self.surprises = Surprises()
        self.board = LoadBoard()
        self.pacer = Pacer(policy.budget if policy else None)
        self.model: OutcomeModel | None = None
        """Fitted to the lessons; None before the first fit, and for policies that need none."""
        self.values: BestEffort | None = None
        """The learned policy of a file; None for policies without one."""
        self.discounted = _discounted(policy) if policy else None
        """Averages that fade with every answer; None when they fade by time alone."""
        self.learned = Learned()
        """What was learned of the utility of examples; changes nothing before the first fit."""
        self._since_fit: list[News] = []

    def adopt(self, policy: Policy) -> None:
        """Go on by a new version of the policy; what was learned stays."""
        self.memory.resize(policy.bandit.memory)
        self.pacer.rules = policy.budget
        self.forecaster.adopt(policy.to_arms())
        self.discounted = _discounted(policy)
        if self.discounted is not None:
            for lesson in self.memory.snapshot():
                self.discounted.learn(News(lesson, None))

    # ------------------------------------------------------------------ averages

    def average(self, key: ArmKey) -> ArmSums:
        """Evidence about one arm in one segment, faded as the policy wants it."""
        return self.sums(key) if self.discounted is None else self.discounted.sums(key)

    def sums(self, key: ArmKey) -> ArmSums:
        """Evidence about one arm in one segment, as the store has it; zeros when there is none."""
        return self._sums.get(key, ArmSums())

    def absorb(self, increments: Iterable[Increment]) -> None:
        """Learn at once, without waiting for the store."""
        for increment in increments:
            self._sums[increment.key] = merge(self.sums(increment.key), increment.sums)

    def replace(self, sums: Mapping[ArmKey, ArmSums], unwritten: Iterable[Increment]) -> None:
        """Take over the store's state; what is not written there yet is added."""
        self._sums = dict(sums)
        self.absorb(unwritten)

    def snapshot(self) -> Mapping[ArmKey, ArmSums]:
        """A copy of all evidence."""
        return dict(self._sums)

    # ------------------------------------------------------------------ lessons

    def study(self, news: Iterable[Lesson | Amendment]) -> int:
        """Learn what is new in lessons of this worker or of others; hearing one twice changes nothing.

        Returns how many could not be learned: each is forgotten, so that no fit stumbles over it, and logged.
        """
        n_odd = 0
        for one in news:
            try:
                self._study(one)
            except FAULTS as error:
                n_odd += 1
                self.memory.drop(one.decision_id)
                log.warning("the lesson of decision %s cannot be learned: %r", one.decision_id, error)
        return n_odd

    def _study(self, one: Lesson | Amendment) -> None:
        heard = self.memory.absorb(one)
        if heard is None:
            return
        if heard.before is None:
            self.forecaster.learn(heard.lesson)
            self.pacer.learn(heard.lesson)
        self.surprises.learn(heard.lesson)
        if self.discounted is not None:
            self.discounted.learn(heard)
        if self.model is not None:
            self.model.learn(heard)
        self._since_fit.append(heard)

    def begin_fit(self) -> tuple[Lesson, ...]:
        """The lessons to fit a new model to."""
        self._since_fit = []
        return self.memory.snapshot()

    def end_fit(self, model: OutcomeModel | None) -> None:
        """Go on with the new model; it hears what has come in meanwhile."""
        self.model = model
        if model is not None:
            for heard in self._since_fit:
                model.learn(heard)


def _discounted(policy: Policy) -> DiscountedSums | None:
    rules = policy.bandit.estimate
    return DiscountedSums(rules.discount) if isinstance(rules, SegmentEstimate) and rules.discount < 1 else None
