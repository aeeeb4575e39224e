"""What `result.json` says of the architectures that a search has evaluated."""

from typing import Any

from vaenas.networks.cost import Cost
from vaenas.search.evaluated_set import pareto_front
from vaenas.search.search import Found
from vaenas.spaces.space import SearchSpace


def architectures(found: Found, space: SearchSpace, cost: Cost) -> dict[str, Any]:
    """The best, the Pareto front by ascending multiply-adds, and all scores."""
    costs = cost(found.population)
    order = costs.multiply_adds.argsort(stable=True)
    pareto = order[pareto_front(found.predicted, costs.multiply_adds)[order]].tolist()
    codes = space.encode(found.population)

    def entry(i: int) -> dict[str, Any]:
        facts = {
            "architecture": found.population[i].tolist(),
            "code": codes[i],
            "score": float(found.scores[i]),
            "predicted_score": float(found.predicted[i]),
            "flops": int(costs.multiply_adds[i]),
            "params": int(costs.params[i]),
        }
        return facts if costs.latency is None else {**facts, "latency_ms": int(costs.latency[i]) / 1e6}

    every = zip(found.scores.tolist(), found.predicted.tolist(), costs.multiply_adds.tolist(), strict=True)
    return {
        "best": entry(found.best),
        "pareto": [entry(i) for i in pareto],
        "evaluated": len(found.scores),
        "evaluations": [dict(zip(("score", "predicted_score", "flops"), values, strict=True)) for values in every],
        "draws": found.draws
        and {
            name: {"mean": float(of.mean()), "std": float(of.std()), "n": len(of)} for name, of in found.draws.items()
        },
    }
