"""What one number does the bandit learn from?"""

from echo_proxy.policy import Reward


def reward(quality: float, cost_usd: float, latency_s: float, rules: Reward) -> float:
    """Weighted mean of quality, cheapness and quickness, [0, 1].

    A bad answer earns nothing for being cheap or quick: both parts are multiplied by quality, otherwise an arm that
    fails at once would collect their weight every time.
    """
    cheapness = 1 - min(cost_usd / rules.cost_scale_usd, 1.0)
    quickness = 1 - min(max(latency_s, 0.0) / rules.latency_scale_s, 1.0)
    total = rules.quality_weight + rules.cost_weight + rules.latency_weight
    extras = rules.cost_weight * cheapness + rules.latency_weight * quickness
    return quality * min((rules.quality_weight + extras) / total, 1.0)  # rounding may push it above one
