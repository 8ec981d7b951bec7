"""The plan as a user meets it: what will be done, to what, at what cost."""

from collections.abc import Sequence
from dataclasses import dataclass

from expunge.audit.attacks import QUICK
from expunge.data.encode import Encoded
from expunge.engine.plan import Cost, Load, Size, estimate, measure
from expunge.methods.terms import Trains
from expunge.prepare import Prepared

ANSWER_SHARE = 0.5
"""Share of greedy answers that the teacher-forced pass does not already determine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a run will do and cost."""

    model: str
    forget: str
    retain: str
    method: str
    cost: Cost

    def lines(self) -> list[tuple[str, str]]:
        """Return what to show, as label and text."""
        cost = self.cost
        minutes = cost.seconds / 60
        time = f"{minutes:.0f} min" if minutes >= 2 else f"{cost.seconds:.0f} s"
        return [
            ("model", self.model),
            ("forget", self.forget),
            ("retain", self.retain),
            ("method", self.method),
            (
                "cost",
                f"{cost.tokens / 1000:.0f}k tokens, {cost.flops / 1e12:.0f} TFLOP, about {time}, "
                f"peak {cost.peak_gib:.1f} GiB, {cost.disk_gib:.2f} GiB on disk",
            ),
        ]

    def to_dict(self) -> dict[str, object]:
        """Return plain values."""
        return {
            "model": self.model,
            "forget": self.forget,
            "retain": self.retain,
            "method": self.method,
            "cost": self.cost.to_dict(),
        }


def make_plan(prepared: Prepared) -> Plan:
    """Derive the plan from the prepared inputs; loads no weights."""
    settings, streams = prepared.settings, prepared.streams
    size = measure(prepared.config)
    load = _load(prepared, size)
    scope = prepared.scope
    forget_tokens = sum(len(record.ids) for record in streams.forget)
    subjects = {record.subject for record in scope.forget if record.subject}
    about = f", {len(subjects)} subject{'s' * (len(subjects) != 1)}" if subjects else ""
    trains = prepared.method.trains(prepared.shape)
    knobs = ", ".join(f"{key} {value}" for key, value in settings.method.knobs.items())
    precision = str(prepared.source.dtype).removeprefix("torch.")
    return Plan(
        model=f"{settings.model}, {size.total / 1e6:.0f} M parameters, {precision} "
        f"on {prepared.source.device.type}",
        forget=f"{len(scope.forget)} records{about}, {forget_tokens} tokens",
        retain=f"{len(scope.retain)} records, {len(scope.neighbours)} neighbours, "
        f"{len(scope.holdout) + len(scope.control)} never seen",
        method=f"{settings.method.name}{' (' + knobs + ')' if knobs else ''}, "
        f"{_weights(prepared, trains)}, {load.steps} steps: {prepared.method.advice}",
        cost=estimate(size, load, device=prepared.source.device, dtype=prepared.source.dtype),
    )


def _weights(prepared: Prepared, trains: Trains | None) -> str:
    lora = prepared.options.lora
    if lora is None:
        return "all weights"
    if trains is not None:
        return f"blocks {trains.first_layer} to {trains.last_layer}"
    return f"LoRA rank {lora.rank}"


def _load(prepared: Prepared, size: Size) -> Load:
    options, streams, recipe = prepared.options, prepared.streams, prepared.method.recipe
    batch = min(options.forget_batch, len(streams.forget))
    steps = options.steps or (options.epochs or recipe.epochs) * -(-len(streams.forget) // batch)
    retain_batch = options.retain_batch if streams.retain else 0
    pools: list[tuple[Sequence[Encoded], int]] = [
        (streams.forget, batch),
        (streams.retain, retain_batch),
    ]
    for stream, choices in streams.variants.items():
        records = [record for several in choices for record in several]
        pools.append((records, batch if stream.side == "forget" else retain_batch))
    step_tokens = step_scored = 0.0
    for records, count in pools:
        if records:
            step_tokens += count * sum(len(r.ids) for r in records) / len(records)
            step_scored += count * sum(len(r.ids) - r.start for r in records) / len(records)
    audited = prepared.audited()
    models = 2 + len(prepared.settings.request.gold)
    plain = sum(
        len(prepared.encoder.encode(record).ids) for group in audited.values() for record in group
    )
    forget = sum(len(record.ids) for record in streams.forget)
    asked = sum(len(group) for split, group in audited.items() if split != "generic")
    answers = asked * models + len(streams.forget) * len(QUICK) * models
    trains = prepared.method.trains(prepared.shape)
    lora = options.lora
    trained = size.linear_sides * lora.rank if lora is not None else size.total
    return Load(
        steps=steps,
        step_tokens=round(step_tokens),
        step_scored=round(step_scored),
        trained=trained,
        first_trained_layer=trains.first_layer if trains is not None and lora is not None else 0,
        reference_tokens=forget,
        audit_tokens=models * (plain + forget * (len(QUICK) + 1)),
        audit_answers=round(ANSWER_SHARE * answers * 16),
        tokens_per_pass=options.tokens_per_pass,
    )
