"""Publishing: facts, report, card and manifest of a finished run, the manifest last."""

import os
import platform
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path

from expunge.config.request import Request
from expunge.config.settings import Settings
from expunge.data.readers import hub_name
from expunge.evidence.collect import item
from expunge.evidence.preregistration import read_preregistration
from expunge.evidence.store import EvidenceStore
from expunge.models.license import License, declared_license, license_of
from expunge.models.reference import run_of_model
from expunge.pipeline.plan import Plan
from expunge.pipeline.run_folder import RunFolder
from expunge.pipeline.train import FinishedStage
from expunge.preparation.prepare import Prepared
from expunge.preparation.validate import described
from expunge.provenance.files import name_in
from expunge.provenance.keys import item_fingerprints
from expunge.provenance.leftovers import Traces
from expunge.provenance.manifest import Retention, write_manifest
from expunge.provenance.signature import key_fingerprint, signing_key
from expunge.provenance.training_facts import claim_in
from expunge.reporting.build import build_reports
from expunge.reporting.card import build_card
from expunge.reporting.redaction import Redactor
from expunge.reporting.schema import (
    CurvePoint,
    MethodFacts,
    Parameter,
    PlanFacts,
    RunFacts,
    StageFacts,
    TrainFacts,
    write_facts,
)
from expunge.training.train_loop import StepRecord, Trained
from expunge.utils.system import peak_gib

_VOCABULARY = ("tokenizer.", "vocab.", "merges.")
"""Beginnings of the names of files that list the words of a tokenizer."""
PACKAGES = ("expunge", "torch", "transformers", "safetensors", "numpy", "scipy")


def publish(
    prepared: Prepared,
    run: RunFolder,
    *,
    planned: Plan | None,
    stages: Sequence[tuple[Prepared, FinishedStage]],
    store: EvidenceStore,
    key: bytes,
    audit_seconds: float,
    command: str,
) -> None:
    """Write everything that tells about a run whose results stand.

    Args:
        prepared: The inputs of the run.
        run: Its folder, with evidence and results.
        planned: What was promised; None for an audit.
        stages: Inputs of each stage and what it did; empty for an audit.
        store: Its evidence.
        key: The operator's key.
        audit_seconds: Time that the audit took.
        command: The words of the command.
    """
    settings, signing = prepared.settings, signing_key(run.path)
    mask = masker(prepared).label if settings.report.redact else str
    facts = RunFacts(
        model=mask(_shown(settings.model)),
        device=_device(prepared),
        precision=prepared.source.precision,
        method=_method(stages) if stages else None,
        plan=_plan(planned) if planned is not None else None,
        train=_train([done.trained for _, done in stages]) if stages else None,
        stages=tuple(_stage(part, done) for part, done in stages) if len(stages) > 1 else (),
        audit_seconds=audit_seconds,
        peak_gib=peak_gib(prepared.source.device),
        versions=versions(),
        command=mask(command),
        exact=claim_in(run.path),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        signer=key_fingerprint(signing.public) if signing else "",
        license=_license(prepared),
        datasets=tuple(map(mask, _datasets(settings.request))),
    )
    write_facts(run.path, facts)
    redact = settings.report.redact
    build_reports(run.path, redact=redact, key=key)
    build_card(run.path, redact=redact, key=key)
    write_manifest(
        run.path,
        run_id=run.run_id,
        facts=facts,
        models=store.context().models,
        seeds={"train": settings.train.seed, "audit": settings.train.seed},
        data_fingerprints=item_fingerprints(store.items(), key),
        evidence=retention(settings, store),
        registered=read_preregistration(store),
        signing=signing,
    )


def masker(prepared: Prepared) -> Redactor:
    """Return what masks names of subjects, and answers, in the log and in the facts of a run.

    They stand there where ids and names of files hold them.
    """
    sets = prepared.audited()
    return Redactor(item(each, split) for split, group in sets.items() for each in group)


def traces_in_model(run: RunFolder, store: EvidenceStore) -> list[str]:
    """Name the files of the model folder of a run that hold something of its forget records.

    Vocabularies are no texts of records, whichever words they know.
    """
    holders = Traces.of(store.items_with_facts()).holders(run.model)
    names = (name_in(run.model, path) for path in holders)
    return [name for name in names if not name.startswith(_VOCABULARY)]


def versions() -> dict[str, str]:
    """Return the versions that numbers may depend on, by package."""
    return {**{name: version(name) for name in PACKAGES}, "python": platform.python_version()}


def retention(settings: Settings, store: EvidenceStore) -> Retention:
    """Return how the evidence of a run that ends now is kept, and until when."""
    return Retention(
        sealed=store.sealed,
        expires=str(settings.audit.expires(datetime.now(UTC).date())),
        redacted=settings.report.redact,
    )


def _license(prepared: Prepared) -> License:
    chosen = prepared.settings.report.license
    if chosen is not None:
        return license_of({"license": chosen}, "setting")
    return declared_license(prepared.settings.model, offline=prepared.source.offline)


def _datasets(request: Request) -> list[str]:
    """Return the data sets of the Hub that a request names, each once."""
    sets = (request.forget, request.retain, request.neighbours, request.holdout)
    named = [each for group in sets if not isinstance(group, str) for each in group]
    return list(dict.fromkeys(filter(None, map(hub_name, named))))


def _shown(reference: str) -> str:
    """Return a reference without the folders that lead to it: they say nothing about the model."""
    named = [run_of_model(Path(part)) for part in reference.split("+")]
    parts = [each.name if each.exists() else str(each) for each in named]
    return " + ".join(parts)


def _device(prepared: Prepared) -> str:
    kind = prepared.source.device.type
    return f"{kind} ({os.cpu_count()} cores)" if kind == "cpu" else kind


def _method(stages: Sequence[tuple[Prepared, FinishedStage]]) -> MethodFacts:
    every = [_chosen(part) for part, _ in stages]
    if len(every) == 1:
        return every[0]
    parameters: dict[str, Parameter] = {
        f"stage {number}: {each.name}": ", ".join(f"{k} {v}" for k, v in each.parameters.items())
        or "defaults"
        for number, each in enumerate(every, 1)
    }
    name = ", then ".join(each.name for each in every)
    return MethodFacts(
        name=name, parameters=parameters, advice="; ".join(each.advice for each in every)
    )


def _chosen(part: Prepared) -> MethodFacts:
    settings = part.settings.method
    parameters = {**settings.parameters, **described(part.settings, part.method)}
    return MethodFacts(name=settings.name, parameters=parameters, advice=part.method.advice)


def _stage(part: Prepared, done: FinishedStage) -> StageFacts:
    trained = done.trained
    return StageFacts(
        method=_chosen(part),
        steps=trained.steps,
        seconds=trained.seconds,
        stopped=trained.stopped,
        weights=done.digest,
    )


def _plan(planned: Plan) -> PlanFacts:
    cost = planned.cost
    return PlanFacts(
        tokens=cost.tokens, flops=cost.flops, peak_gib=cost.peak_gib, seconds=cost.seconds
    )


def _train(every: Sequence[Trained]) -> TrainFacts:
    """Add up what the stages did; their curves follow one another."""
    before = list(accumulate((len(each.curve) for each in every), initial=0))
    points = [
        replace(point, step=point.step + done)
        for each, done in zip(every, before[:-1], strict=True)
        for point in each.curve
    ]
    return TrainFacts(
        steps=sum(each.steps for each in every),
        seconds=sum(each.seconds for each in every),
        tokens=sum(each.tokens for each in every),
        stopped=", then ".join(each.stopped for each in every),
        curve=tuple(_point(point) for point in points),
    )


def _point(point: StepRecord) -> CurvePoint:
    return CurvePoint(
        step=point.step + 1,
        forget=_side(point, "forget"),
        retain=_side(point, "retain"),
        grad_norm=point.gradient_norm,
        lr=point.lr,
    )


def _side(point: StepRecord, side: str) -> float | None:
    """Sum the terms of one side: methods with several of them name them `forget-...`."""
    found = [value for name, value in point.values.items() if name.split("-")[0] == side]
    return sum(found) if found else None
