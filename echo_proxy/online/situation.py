"""What is the decision made from, beside the arms?"""

from echo_proxy.learning.context import context_of
from echo_proxy.learning.knowledge import Knowledge
from echo_proxy.limits.deadline import deadline_of
from echo_proxy.limits.preference import preference_of
from echo_proxy.online.segment import segment_of
from echo_proxy.policy import Policy, RegressionEstimate
from echo_proxy.types import Conditions, Embedding, Request, Selection, Situation


def conditions_of(
    request: Request, last_deployment: str, policy: Policy, knowledge: Knowledge, spent_s: float = 0.0
) -> Conditions:
    """What beside the request bears on the decision, as it is so many seconds after the request came."""
    loads = knowledge.board.total(request.received_at + spent_s)
    deadline_s = deadline_of(request, policy)
    return Conditions(
        loads=loads,
        forecasts=knowledge.forecaster.forecasts(loads),
        budget_price=knowledge.pacer.price if policy.budget else 0.0,
        last_deployment=last_deployment,
        deadline_s=None if deadline_s is None else max(deadline_s - spent_s, 0.0),
        preference=preference_of(request, policy),
    )


def situation_of(
    request: Request, vector: Embedding, selection: Selection, conditions: Conditions, policy: Policy
) -> Situation:
    """All that the router sees of a request and its selection."""
    return Situation(
        segment=segment_of(request, selection, policy.bandit.segments),
        context=context_of(
            request,
            vector,
            selection,
            conditions,
            with_text=isinstance(policy.bandit.estimate, RegressionEstimate),
        ),
        vector=vector,
        utility=selection.chosen[0].utility if selection.chosen else 0.0,
        n_chosen=len(selection.chosen),
        conditions=conditions,
    )
