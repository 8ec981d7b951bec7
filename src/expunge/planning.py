"""The plan as a user meets it: what will be done, to what, at what cost."""

from collections.abc import Sequence
from dataclasses import dataclass

from expunge.audit.attacks import QUICK
from expunge.data.encode import Encoded
from expunge.engine.localise import RECORDS
from expunge.engine.plan import Cost, Load, Size, estimate, measure
from expunge.engine.watch import spread
from expunge.methods.edits.protocol import Edit
from expunge.methods.guards.protocol import Guard
from expunge.methods.terms import SelfTaught, Trains
from expunge.prepare import Prepared
from expunge.wrapping import described

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
        f"{_weights(prepared, trains)}{_wrappers(prepared)}, {_steps(prepared)} steps: "
        f"{prepared.method.advice}",
        cost=estimate(size, load, device=prepared.source.device, dtype=prepared.source.dtype),
    )


def _weights(prepared: Prepared, trains: Trains | None) -> str:
    if isinstance(prepared.method, Guard):
        return "no weights"
    edits = isinstance(prepared.method, Edit)
    lora = prepared.options.lora
    if (lora is None and not edits) or (trains is None and edits):
        return "all weights"
    if trains is not None:
        return f"blocks {trains.first_layer} to {trains.last_layer}"
    assert lora is not None, "neither all weights nor chosen ones"
    parts = [f"LoRA rank {lora.rank}", *([f"on {', '.join(lora.targets)}"] if lora.targets else [])]
    if lora.first_layer or lora.last_layer is not None:
        last = prepared.shape.layers - 1 if lora.last_layer is None else lora.last_layer
        parts.append(f"in blocks {lora.first_layer} to {last}")
    return " ".join(parts)


def _wrappers(prepared: Prepared) -> str:
    return "".join(f", {table} {text}" for table, text in described(prepared.settings).items())


def _load(prepared: Prepared, size: Size) -> Load:
    options, streams, method = prepared.options, prepared.streams, prepared.method
    batch = min(options.forget_batch, len(streams.forget))
    retain_batch: float = options.retain_batch if streams.retain else 0
    wraps = prepared.wraps
    pulled: float = batch if wraps.robust is None else batch * wraps.robust.pulls
    if isinstance(method, Edit | Guard):  # counted as one step that reads all that it reads
        passes = method.passes()
        pulled = passes.forget * len(streams.forget)
        retain_batch = passes.retain * len(streams.retain)
    pools: list[tuple[Sequence[Encoded], float]] = [
        (streams.forget, pulled),
        (streams.retain, retain_batch),
    ]
    for stream, choices in streams.variants.items():
        records = [record for several in choices for record in several]
        pools.append((records, pulled if stream.side == "forget" else retain_batch))
    if isinstance(prepared.method, SelfTaught):
        pools.append((streams.forget, pulled))  # not written yet: taken to be as long as these
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
    lora = None if isinstance(method, Edit | Guard) else options.lora
    still = isinstance(method, Guard)
    first, trained = 0, 0 if still else size.total
    if isinstance(method, Edit) and trains is not None:
        blocks = 1 + trains.last_layer - trains.first_layer
        trained = round(size.body * blocks / size.layers)
    if lora is not None:
        first = lora.first_layer if trains is None else trains.first_layer
        trained = size.linear_sides * lora.rank
    if lora is not None and trains is None:
        last = size.layers - 1 if lora.last_layer is None else lora.last_layer
        trained = round(trained * (last + 1 - first) / size.layers)
    return Load(
        steps=1 if isinstance(method, Edit | Guard) else _steps(prepared),
        step_tokens=round(step_tokens),
        step_scored=round(step_scored),
        trained=trained,
        first_trained_layer=first,
        reference_tokens=forget + _localised(prepared),
        audit_tokens=models * (plain + forget * (len(QUICK) + 1)),
        audit_answers=round(ANSWER_SHARE * answers * 16) + _invented(prepared),
        tokens_per_pass=options.tokens_per_pass,
        copies=(4 if wraps.robust else 0) + (2 if wraps.combine else 0) + bool(wraps.average_last),
    )


def _invented(prepared: Prepared) -> int:
    """New tokens that the model writes before training."""
    if not isinstance(prepared.method, SelfTaught):
        return 0
    return prepared.method.samples * sum(len(r.ids) - r.start for r in prepared.streams.forget)


def _steps(prepared: Prepared) -> int:
    method, options = prepared.method, prepared.options
    if isinstance(method, Edit | Guard):
        return 0
    batch = min(options.forget_batch, len(prepared.streams.forget))
    epochs = options.epochs or method.recipe.epochs
    return options.steps or epochs * -(-len(prepared.streams.forget) // batch)


def _localised(prepared: Prepared) -> int:
    """Tokens whose gradients are taken before training, at three forward passes each."""
    if prepared.wraps.choose is None and prepared.options.init == "default":
        return 0
    sets = (prepared.streams.forget, prepared.streams.retain)
    return 3 * sum(len(record.ids) for records in sets for record in spread(records, RECORDS))
