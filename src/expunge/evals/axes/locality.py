"""Locality: did the neighbours survive?"""

from expunge.evals.comparison import Comparison
from expunge.evals.damage import damage, knowledge, not_measured, rate_gate
from expunge.evals.results import Gate
from expunge.metrics.outcomes import Axis


def locality_gates(case: Comparison) -> tuple[Gate, ...]:
    """Return the loss on all neighbours, then the loss per relation.

    Loss is the fall of what is known (see `expunge.evals.damage.knowledge`) below the worse of
    original and gold, so a loss that gold shares is not held against the method, nor is one by
    which golds differ. All neighbours together are gated first: they are the nearest set. Each
    relation is judged by the same rule and printed, and fails the axis when its own lower bound
    exceeds the margin; a relation too small to be settled does not block.
    """
    measure, policy = knowledge(case, "neighbours"), case.policy.neighbours
    found = damage(case, measure, "neighbours")
    name = f"{measure.metric.id} neighbours"
    if found is None:
        return (not_measured(Axis.LOCALITY, name, "neighbours", policy),)
    gates = [rate_gate(case, Axis.LOCALITY, name, found, policy=policy)]
    bins: dict[str, set[str]] = {}
    for record, item in case.table.items["neighbours"].items():
        if item.relation:
            bins.setdefault(item.relation, set()).add(record)
    for relation, records in bins.items():
        part = damage(case, measure, "neighbours", keep=frozenset(records))
        if part is not None:
            label = f"{name}: {relation}"
            gates.append(rate_gate(case, Axis.LOCALITY, label, part, policy=policy))
    return tuple(gates)
