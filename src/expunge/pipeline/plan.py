"""The plan as a user meets it: what will be done, to what, at what cost."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import torch

from expunge.attacks.presets import AUDIT_FORMS
from expunge.errors import UsageError
from expunge.methods.base import Controlled, SelfTaught, Stream, Trains, last_block
from expunge.methods.counterfactual import Counterfactual
from expunge.methods.edits.base import WEIGHED, Edit
from expunge.methods.guards.base import Guard
from expunge.metrics.statistics import clopper_pearson
from expunge.models.lora import LoraShape
from expunge.planning.cost import Load, PlannedCost, Way, estimate, ways
from expunge.planning.memory import (
    GIB,
    Size,
    count_adapter,
    count_chosen,
    measure,
    targets_routers,
)
from expunge.planning.routes import Route, table
from expunge.planning.term_costs import (
    Depth,
    Once,
    StepWork,
    adversary_needs,
    once_needs,
    step_needs,
)
from expunge.preparation.prepare import Prepared, with_training
from expunge.preparation.validate import described, needs_float32
from expunge.requests.draft import knowledge_sentence, written_knowledge
from expunge.requests.screening import record_concerns
from expunge.training.controller import first_steps
from expunge.training.early_stopping import spread
from expunge.training.localization import RECORDS
from expunge.training.sampler import Sampler, Streams
from expunge.training.trainer import trained_weights

ANSWER_SHARE = 0.5
"""Share of greedy answers that the teacher-forced pass does not already determine."""
_NOTHING_ONCE = Once(forward=0.0, scored=0.0, states=0.0, below=0.0, kinds=())


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a run will do and cost.

    Example:
        >>> cost = PlannedCost(tokens=9000, flops=2e12, peak_gib=1.5, disk_gib=0.5, seconds=60.0)
        >>> texts = dict.fromkeys(("model", "forget", "retain", "method", "computes"), "")
        >>> Plan(**texts, cost=cost).lines()[-1]
        ('cost', '9k tokens, 2 TFLOP, about 60 s, peak 1.5 GiB, 0.50 GiB on disk')
    """

    model: str
    forget: str
    retain: str
    method: str
    computes: str
    cost: PlannedCost
    ways: tuple[Way, ...] = ()
    """What it would hold with other settings."""
    routes: tuple[Route, ...] = ()
    """The ways that were weighed; none where the method was named."""
    excluded: float | None = None
    """Smallest leak rate that the audit can exclude at 95 %, with no record stated; None: no
    records are known."""
    concerns: tuple[str, ...] = ()
    """What is wrong with the records to forget, a sentence each."""
    knowledge: str = ""
    """What the model states of the facts; empty where it was not asked."""

    def lines(self) -> list[tuple[str, str]]:
        """Return what to show, as label and text."""
        cost = self.cost
        minutes = cost.seconds / 60
        time = f"{minutes:.0f} min" if minutes >= 2 else f"{cost.seconds:.0f} s"
        return [
            ("model", self.model),
            ("forget", self.forget),
            *([("knows", self.knowledge)] if self.knowledge else []),
            *(("look twice", sentence) for sentence in self.concerns),
            ("retain", self.retain),
            *table(self.routes),
            ("method", self.method),
            ("computes", self.computes),
            *self._limits(),
            (
                "cost",
                f"{cost.tokens / 1000:.0f}k tokens, {cost.flops / 1e12:.0f} TFLOP, about {time}, "
                f"peak {cost.peak_gib:.1f} GiB, {cost.disk_gib:.2f} GiB on disk",
            ),
        ]

    def _limits(self) -> list[tuple[str, str]]:
        """Say what so many records can show at best."""
        if self.excluded is None:
            return []
        text = (
            f"with no record stated afterwards, a leak rate above {self.excluded:.1%} is excluded"
        )
        return [("can show", f"{text} at 95 %")]

    def to_dict(self) -> dict[str, object]:
        """Return plain values."""
        return {
            "model": self.model,
            "forget": self.forget,
            "retain": self.retain,
            "method": self.method,
            "computes": self.computes,
            "cost": self.cost.to_dict(),
            "excluded": self.excluded,
            "concerns": list(self.concerns),
            "knowledge": self.knowledge,
            "routes": [asdict(route) for route in self.routes],
        }


def plan_stages(parts: Sequence[Prepared]) -> Plan:
    """Derive the plan of a run from the inputs of its stages; the audit is counted once."""
    if len(parts) == 1:
        return make_plan(parts[0])
    plans = [make_plan(part, audited=not number) for number, part in enumerate(parts)]
    costs = [plan.cost for plan in plans]
    kept = measure(parts[0].config).total * (torch.finfo(parts[0].source.dtype).bits // 8) / GIB
    return replace(
        plans[0],
        method="; ".join(f"{number}. {plan.method}" for number, plan in enumerate(plans, 1)),
        computes="; ".join(f"{number}. {plan.computes}" for number, plan in enumerate(plans, 1)),
        cost=PlannedCost(
            tokens=sum(cost.tokens for cost in costs),
            flops=sum(cost.flops for cost in costs),
            peak_gib=max(cost.peak_gib for cost in costs),
            disk_gib=max(cost.disk_gib for cost in costs) + kept,
            seconds=sum(cost.seconds for cost in costs),
        ),
        ways=_ways_of_stages(plans),
    )


def _ways_of_stages(plans: Sequence[Plan]) -> tuple[Way, ...]:
    """Return the ways of the stage that holds most; the run holds no less than the others do."""
    peaks = [plan.cost.peak_gib for plan in plans]
    most = peaks.index(max(peaks))
    others = max(peak for number, peak in enumerate(peaks) if number != most)
    return tuple(
        replace(way, peak_gib=max(way.peak_gib, others), stage=most + 1)
        for way in plans[most].ways
        if all(setting.startswith("train.") for setting in way.settings)
    )


def make_plan(prepared: Prepared, *, audited: bool = True) -> Plan:
    """Derive the plan from the prepared inputs; loads no weights.

    Args:
        prepared: The inputs of one method.
        audited: Whether the cost of the audit is counted.
    """
    settings, streams = prepared.settings, prepared.streams
    size = measure(prepared.config)
    load = load_of(prepared, size, audited=audited)
    scope = prepared.scope
    forget_tokens = sum(len(record.ids) for record in streams.forget)
    subjects = {record.subject for record in scope.forget if record.subject}
    about = f", {len(subjects)} subject{'s' * (len(subjects) != 1)}" if subjects else ""
    trains = _trains(prepared)
    chosen = ", ".join(f"{key} {value}" for key, value in settings.method.parameters.items())
    return Plan(
        model=f"{settings.model}, {size.total / 1e6:.0f} M parameters, "
        f"{prepared.source.precision} on {prepared.source.device.type}",
        forget=f"{len(scope.forget)} records{about}, {forget_tokens} tokens",
        retain=f"{len(scope.retain)} records, {len(scope.neighbours)} neighbours, "
        f"{len(scope.holdout) + len(scope.control) + len(scope.levels)} never seen",
        method=f"{settings.method.name}{' (' + chosen + ')' if chosen else ''}, "
        f"{_weights(prepared, size, trains)}{_wrappers(prepared)}, {_steps(prepared)} steps: "
        f"{prepared.method.advice}{_lesson(prepared)}",
        computes=_computes(load, prepared),
        cost=estimate(size, load, device=prepared.source.device, dtype=prepared.source.dtype),
        ways=_ways(prepared, size, load),
        excluded=clopper_pearson(0, len(scope.forget))[1],
        concerns=_concerns(prepared),
        knowledge=_knowledge(prepared),
    )


def _knowledge(prepared: Prepared) -> str:
    """Say what the audit of a written request found, and what no training uses."""
    request, unstated = prepared.settings.request, len(prepared.scope.unstated)
    found = written_knowledge((*request.forget, *request.unstated))
    asked = f"{unstated} are asked about and never trained on" if unstated else ""
    return "; ".join(filter(None, (knowledge_sentence(found) if found else "", asked)))


def _concerns(prepared: Prepared) -> tuple[str, ...]:
    """Screen the records against what the request names to keep: general text reads otherwise."""
    scope, request = prepared.scope, prepared.settings.request
    own = scope.retain if request.retain not in ("auto", "none") else ()
    found = record_concerns(scope.forget, (*scope.neighbours, *own))
    return tuple(each.sentence for each in found)


def _ways(prepared: Prepared, size: Size, load: Load) -> tuple[Way, ...]:
    """Return what training would hold with other settings; edits and guards have no such ones."""
    if isinstance(prepared.method, Edit | Guard):
        return ()
    streams = prepared.streams
    varied = (
        record for several in streams.variants.values() for each in several for record in each
    )
    longest = max(len(record.ids) for record in (*streams.forget, *streams.retain, *varied))
    return ways(
        size,
        load,
        prepared.source.dtype,
        longest=longest,
        narrows=not needs_float32(prepared.settings),
        smaller=_smaller(prepared, size),
    )


def _smaller(prepared: Prepared, size: Size) -> list[tuple[tuple[str, ...], Load]]:
    """Return settings under which less is trained, and the run under them, mildest first.

    What the method or a wrapper does not take is left out.
    """
    train, upper = prepared.settings.train, size.layers // 2
    changes: list[tuple[str, object]] = [("full", False)] if train.full else []
    changes += [("first_layer", upper)] if upper > train.first_layer else []
    words: tuple[str, ...] = ()
    found: list[tuple[tuple[str, ...], Load]] = []
    for key, value in changes:
        words = (*words, f"train.{key}={str(value).lower()}")
        train = train.model_copy(update={key: value})
        try:
            changed = with_training(prepared, train)
        except UsageError:
            break
        found.append((words, load_of(changed, size, audited=False)))
    return found


def _computes(load: Load, prepared: Prepared) -> str:
    """Say how high, how far down, at which positions, and what is kept."""
    if isinstance(prepared.method, Edit | Guard):
        return f"{load.step.tokens:.0f} tokens read, no steps"
    step, depth = load.step, _depth(prepared)
    blocks = step.forward / step.tokens
    parts = [f"{step.tokens:.0f} tokens a step through {blocks:.0f} of {depth.layers} blocks"]
    parts.append(f"gradients through {step.backward / step.tokens:.0f}")
    parts.append(f"head at {step.scored:.0f} positions" if step.scored else "no head")
    if load.adversary is not None:
        parts.append(f"{load.adversary.tokens:.0f} more of the adversary")
    once = ", ".join(load.once.kinds)
    return ", ".join(parts) + (f"; once: {once}" if once else "")


def _weights(prepared: Prepared, size: Size, trains: Trains | None) -> str:
    if isinstance(prepared.method, Guard):
        return "no weights"
    lora = None if isinstance(prepared.method, Edit) else prepared.options.lora
    targets = trains.modules if trains else lora.targets if lora else ()
    frozen = size.routers > 0 and not targets_routers(prepared.config, targets)
    return _trained(prepared, size, trains, lora) + ", routers frozen" * frozen


def _trained(prepared: Prepared, size: Size, trains: Trains | None, lora: LoraShape | None) -> str:
    if trains is not None:
        blocks = f"blocks {trains.first_layer} to {trains.last_layer}"
        named = ", ".join(trains.modules) if prepared.options.only else ""
        return f"{named} in {blocks}" if named else blocks
    if lora is None:
        return "all weights"
    parts = [f"LoRA rank {lora.rank}", *([f"on {', '.join(lora.targets)}"] if lora.targets else [])]
    if lora.first_layer or lora.last_layer is not None:
        last = last_block(lora.last_layer, prepared.shape.layers)
        parts.append(f"in blocks {lora.first_layer} to {last}")
    if size.experts:
        share = f"{size.experts / size.body:.0%} of the blocks' weights"
        parts.append(f"that leaves the experts as they are ({share})")
    return " ".join(parts)


def _wrappers(prepared: Prepared) -> str:
    given = described(prepared.settings, prepared.method)
    return "".join(f", {table} {text}" for table, text in given.items())


def load_of(prepared: Prepared, size: Size, *, audited: bool = True) -> Load:
    """Return what a run is asked to do.

    Args:
        prepared: The inputs of one method.
        size: The model.
        audited: Whether the tokens of the audit are counted.
    """
    options, streams, method = prepared.options, prepared.streams, prepared.method
    records = prepared.audited() if audited else {}
    models = 2 + len(prepared.settings.request.gold)
    plain = sum(
        len(prepared.encoder.encode(record).ids) for group in records.values() for record in group
    )
    forget = sum(len(record.ids) for record in streams.forget)
    asked = sum(len(group) for split, group in records.items() if split != "generic")
    attacked = len(AUDIT_FORMS) if audited else 0
    answers = asked * models + len(streams.forget) * attacked * models
    step, adversary, once = _training(prepared)
    trains = _trains(prepared)
    lora = None if isinstance(method, Edit | Guard) else options.lora
    trained, body = size.total - size.routers, size.passed - size.routers
    if isinstance(method, Guard):
        trained = body = 0
    elif trains is not None:
        trained = count_chosen(prepared.config, trains)
        blocks = trains.last_layer + 1 - trains.first_layer
        body = min(trained, round(size.passed * blocks / size.layers))
    elif lora is not None:
        trained = body = count_adapter(prepared.config, lora)
    return Load(
        steps=1 if isinstance(method, Edit | Guard) else _steps(prepared),
        step=step,
        once=once,
        trained=trained,
        trained_body=body,
        adapter=lora is not None and trains is None,
        head_trains=lora is None and trains is None,
        gradient_tokens=_localised(prepared),
        audit_tokens=models * (plain + forget * (attacked + 1)) if audited else 0,
        audit_answers=round(ANSWER_SHARE * answers * 16) + _invented(prepared),
        copies=_copies(prepared),
        optimiser=prepared.settings.optimiser.name,
        checkpointing=prepared.options.checkpointing,
        card=prepared.source.device.type == "cuda",
        models=_models(prepared),
        adversary=adversary,
    )


def _models(prepared: Prepared) -> int:
    """Models that the audit holds at a time: golds, and attacks of a level, lie beside others."""
    audit = prepared.settings.audit
    attacked = audit.level != "quick" or bool(audit.attacks)
    return 1 + bool(prepared.settings.request.gold) + attacked


def _trains(prepared: Prepared) -> Trains | None:
    """Return which weights move themselves; None for an adapter, all weights, or none."""
    method = prepared.method
    if isinstance(method, Edit | Guard):
        return method.trains(prepared.shape)
    return trained_weights(method, prepared.options, prepared.shape)


def _copies(prepared: Prepared) -> int:
    wraps = prepared.wraps
    return (4 if wraps.robust else 0) + (2 if wraps.combine else 0) + bool(wraps.average_last)


def _training(prepared: Prepared) -> tuple[StepWork, StepWork | None, Once]:
    """What a step, an adversary in it, and what is done once need.

    An edit or a guard counts as one step that reads all that it reads.
    """
    method, streams = prepared.method, prepared.streams
    if isinstance(method, Edit | Guard):
        return _edit_step(method, prepared), None, _NOTHING_ONCE
    shape, options = prepared.shape, prepared.options
    order = Sampler(
        forget=len(streams.forget),
        retain=len(streams.retain),
        forget_batch=min(options.batch, len(streams.forget)),
        retain_batch=options.retained,
        seed=options.seed,
    )
    terms, streams = method.terms(shape), _stand_in(prepared)
    depth, steps, pulls = _depth(prepared), _steps(prepared), prepared.wraps.pulls(shape)
    tokens = options.tokens_per_pass
    return (
        step_needs(
            terms, streams, order, steps=steps, depth=depth, tokens_per_pass=tokens, pulls=pulls
        ),
        adversary_needs(
            terms,
            streams,
            order,
            steps=steps,
            layers=depth.layers,
            tokens_per_pass=tokens,
            pulls=pulls,
        ),
        once_needs(terms, streams, order, steps=steps, depth=depth),
    )


def _depth(prepared: Prepared) -> Depth:
    layers, lora, trains = prepared.shape.layers, prepared.options.lora, _trains(prepared)
    if trains is not None:
        return Depth.of(layers, trains.first_layer, trains)
    return Depth.of(layers, 0 if lora is None else lora.first_layer, None)


def _stand_in(prepared: Prepared) -> Streams:
    """The streams, with answers that are not written yet taken to be as long as the old ones."""
    streams = prepared.streams
    if not isinstance(prepared.method, SelfTaught | Counterfactual):
        return streams
    missing = Stream.ALTERNATIVE if isinstance(prepared.method, SelfTaught) else Stream.OTHERS
    written = tuple((replace(r, record=f"{r.record} rewritten"),) for r in streams.forget)
    return replace(streams, variants={**streams.variants, missing: written})


def _edit_step(method: Edit | Guard, prepared: Prepared) -> StepWork:
    passes, streams, layers = method.passes(), prepared.streams, prepared.shape.layers
    known = passes.memorised(len(streams.forget))
    read = [(streams.forget, passes.forget + known), (streams.retain, passes.retain)]
    sets = {Stream.FORGET: streams.forget, Stream.RETAIN: streams.retain}
    read += [(spread(sets[stream], WEIGHED), 1.0) for stream in passes.weighed]
    for stream, choices in streams.variants.items():
        records = tuple(record for several in choices for record in several)
        read.append((records, passes.forget if stream.side == "forget" else passes.retain))
    tokens = sum(times * sum(len(r.ids) for r in records) for records, times in read)
    scored = sum(times * sum(len(r.ids) - r.start for r in records) for records, times in read)
    return StepWork(
        tokens=tokens,
        forward=tokens * layers,
        backward=0.0 if isinstance(method, Guard) else tokens * layers,
        scored=scored,
        again=0.0,
        again_trained=0.0,
        frozen=0.0,
        largest=max(1, min(round(tokens), prepared.options.tokens_per_pass)),
    )


def _invented(prepared: Prepared) -> int:
    """New tokens that the model writes before training."""
    if not isinstance(prepared.method, SelfTaught):
        return 0
    return prepared.method.samples * sum(len(r.ids) - r.start for r in prepared.streams.forget)


def _lesson(prepared: Prepared) -> str:
    taught = Stream.ALTERNATIVE in prepared.streams.variants
    return f"; teaches the {prepared.settings.request.response} that is wanted" if taught else ""


def _steps(prepared: Prepared) -> int:
    method, options = prepared.method, prepared.options
    if isinstance(method, Edit | Guard):
        return 0
    batch = min(options.batch, len(prepared.streams.forget))
    if isinstance(method, Controlled):
        per_epoch = -(-len(prepared.streams.forget) // batch)
        return first_steps(options, method.recipe.epochs, per_epoch, prepared.streams)
    epochs = options.epochs or method.recipe.epochs
    return options.steps or epochs * -(-len(prepared.streams.forget) // batch)


def _localised(prepared: Prepared) -> int:
    """Tokens whose gradients are taken before training, at three forward passes each."""
    if prepared.wraps.choose is None and prepared.options.init == "default":
        return 0
    sets = (prepared.streams.forget, prepared.streams.retain)
    return 3 * sum(len(record.ids) for records in sets for record in spread(records, RECORDS))
