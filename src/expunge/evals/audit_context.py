"""The context of an audit, from its inputs: who plays which role, and by which rules."""

from collections.abc import Sequence

from expunge.attacks.runner import battery_of
from expunge.attacks.store import recorded
from expunge.config.request import Tier
from expunge.evals.comparison import HalfTrained
from expunge.evidence.context import AuditContext, Policy
from expunge.evidence.store import EvidenceStore
from expunge.planning.memory import has_routers
from expunge.preparation.prepare import Prepared


def gold_role(index: int) -> str:
    """Return the role of the gold with this place in the request."""
    return f"gold-{index}"


def half_role(index: int) -> str:
    """Return the role of a model that was trained on a random half."""
    return f"half-{index}"


def context_of(
    prepared: Prepared,
    store: EvidenceStore,
    *,
    adapter: bool,
    guard: bool,
    halves: Sequence[HalfTrained],
) -> AuditContext:
    """Return what is audited against what; of an audit that goes on, with what it has noted.

    Args:
        prepared: The inputs of the run.
        store: The evidence.
        adapter: True when what is judged is an unmerged adapter.
        guard: True when what is judged is asked through a guard.
        halves: Models that were trained on random halves of forget and holdout records.
    """
    settings, request = prepared.settings, prepared.settings.request
    tier = request.tier or (Tier.G2 if request.gold else Tier.G4)
    known = store.context() if store.begun() else None
    return AuditContext(
        request=request.id,
        goal=request.goal.value,
        tier=tier.value,
        threat_model=request.threat_model.value,
        level=settings.audit.level,
        battery=tuple(
            recorded(attack, seed=settings.train.seed) for attack in battery_of(settings.audit)
        ),
        golds=tuple(map(gold_role, range(len(request.gold)))),
        adapter=adapter,
        guard=guard,
        response=request.response.value,
        seed=settings.train.seed,
        policy=Policy(**request.margins.model_dump()),
        precision=prepared.source.precision,
        models=known.models if known else {},
        notes=known.notes if known else _notes_of(prepared),
        routers=has_routers(prepared.config),
        other_tokens=known.other_tokens if known else False,
        halves={half_role(index): half.saw for index, half in enumerate(halves)},
    )


def _notes_of(prepared: Prepared) -> tuple[str, ...]:
    """Return what is known before anything is asked.

    An audit that has chosen what it judges makes its numbers look better; that is said.
    """
    among = prepared.settings.chosen_among
    chosen = (
        f"these settings were chosen among {among} runs by this same audit, so the best of them"
        " looks better than a new audit would find it; judge it on other records",
    )
    return (*prepared.scope.repeated, *(chosen if among is not None else ()))
