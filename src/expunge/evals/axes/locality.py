"""Locality: did the neighbours survive?"""

from expunge.evals.comparison import Comparison
from expunge.evals.damage import Measure, damage, damage_gate, knowledge, not_measured, parts_of
from expunge.evals.results import Gate
from expunge.metrics.outcomes import Axis


def locality_gates(case: Comparison) -> tuple[Gate, ...]:
    """Return the loss on all neighbours, then the loss per relation, by each measure.

    Loss is the fall of what is known (see `expunge.evals.damage.knowledge`) below the worse of
    original and gold, so a loss that gold shares is not held against the method, nor is one by
    which models that were trained alike differ. All neighbours together are gated. Each relation is
    judged by the same rule and printed, and fails the axis when its own lower bound exceeds the
    margin; a relation too small to be settled does not block.
    """
    first, *others = knowledge(case, "neighbours")
    return (
        *_measured(case, first, part=False),
        *(gate for measure in others for gate in _measured(case, measure, part=True)),
    )


def _measured(case: Comparison, measure: Measure, *, part: bool) -> tuple[Gate, ...]:
    policy, name = case.policy.neighbours, f"{measure.metric.id} neighbours"
    judged, beside = parts_of(case, "neighbours")
    found = damage(case, measure, "neighbours", keep=judged)
    if found is None:
        return (not_measured(Axis.LOCALITY, name, "neighbours", policy),)
    gates = [damage_gate(Axis.LOCALITY, name, found, policy=policy, seed=case.seed, part=part)]
    bins: dict[str, set[str]] = {}
    for record, item in case.table.items["neighbours"].items():
        if item.relation and (judged is None or record in judged):
            bins.setdefault(item.relation, set()).add(record)
    further = {relation: frozenset(records) for relation, records in bins.items()}
    if beside is not None:
        further["rehearsed"] = beside
    for which, records in further.items():
        some = damage(case, measure, "neighbours", keep=records)
        if some is not None:
            gates.append(
                damage_gate(
                    Axis.LOCALITY,
                    f"{name}: {which}",
                    some,
                    policy=policy,
                    seed=case.seed,
                    part=True,
                )
            )
    return tuple(gates)
