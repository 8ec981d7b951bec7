"""Evaluation: one model, the probes of all suites of a matrix and the tasks of lm-eval beside them.

What was asked before is not asked again. What original and golds say is the same for every run of a
matrix, so it is asked once: evidence units are files that are whole or absent, and those of
original and golds are copied into each new run, whose audit then finds them there. A model in bf16
is another one than in float32.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from expunge.attacks.prompting.prefill import Affirm
from expunge.benchmarking.lm_eval_tasks import measure, note_of, split_tasks
from expunge.benchmarking.probe_outputs import SUBJECT, Column, ProbeOutputs
from expunge.benchmarking.suites.base import Probe, Spec, Suite
from expunge.config.settings import Settings
from expunge.data.records import Record
from expunge.data.tokenization import Encoded, Encoder
from expunge.evals.extra_evidence import collect_options
from expunge.evals.results import Score
from expunge.evidence.collect import Collector, PromptTokens, QuestionForm, item
from expunge.evidence.store import (
    GREEDY,
    PERTURBED,
    PLAIN,
    UNLEARNED,
    Answer,
    Choices,
    EvidenceStore,
    Kind,
    Unit,
)
from expunge.models.generation import sample
from expunge.models.loading import load
from expunge.models.transformer import Network
from expunge.preparation.prepare import prepare, source_of
from expunge.utils.console import Console
from expunge.utils.io import atomic, private

ORIGINAL = ("original",)
GOLDS = ("gold-",)
SHARED = (*ORIGINAL, *GOLDS)
"""How the names of roles begin that are the same for every run."""


def shared_folder(matrix: Path, settings: Settings) -> Path:
    """Return where runs of a matrix share what original and golds say, in one number format.

    What lies there is evidence, so the folder is made for its owner only.
    """
    return private(matrix / "shared") / source_of(settings).precision


def copy_evidence(
    shared: Path,
    evidence: Path,
    *,
    roles: Sequence[str] = SHARED,
    names: Mapping[str, str] | None = None,
) -> None:
    """Copy the units of original and golds into the evidence folder of a new run.

    Args:
        shared: Where they are.
        evidence: That of the run.
        roles: How the names of roles begin that are copied.
        names: What a role is called in the run, where not as it is.
    """
    _copy(shared, evidence, tuple(roles), names or {})


def store_evidence(evidence: Path, shared: Path, *, roles: Sequence[str] = SHARED) -> None:
    """Copy the units of original and golds from a run to where the next one finds them."""
    _copy(evidence, shared, tuple(roles), {})


def judged_gold(place: int, golds: int) -> dict[str, str]:
    """Return what the golds are called in the audit of one of them: the others are its golds."""
    others = [index for index in range(golds) if index != place]
    renamed = {f"gold-{index}": f"gold-{new}" for new, index in enumerate(others)}
    return {f"gold-{place}": UNLEARNED, **renamed}


def _copy(source: Path, target: Path, roles: tuple[str, ...], names: Mapping[str, str]) -> None:
    private(target)
    for path in sorted(source.glob("*.jsonl")):
        unit = Unit.parse(path.name)
        if unit is None or not unit.role.startswith(roles):
            continue
        place = target / replace(unit, role=names.get(unit.role, unit.role)).filename
        if not place.is_file():
            with path.open("rb") as read, atomic(place) as write:
                shutil.copyfileobj(read, write)


CONTINUED = "continued"
"""Name of the test in which the prompt is the beginning of a text."""
DRAWN = "sample-T1"
"""Decoding of drawn answers."""


def collect_outputs(
    network: Network,
    encoder: Encoder,
    probes: Sequence[Probe],
    *,
    folder: Path,
    tokens_per_pass: int,
    console: Console,
) -> ProbeOutputs:
    """Collect the evidence of one model, a file for each probe and kind.

    Args:
        network: The model, in evaluation mode.
        encoder: Turns records into tokens.
        probes: What to ask.
        folder: Where the evidence lies; what is there is not collected again.
        tokens_per_pass: Largest number of padded tokens in one forward pass.
        console: Where to say how far it is.
    """
    probes = [_split(probe, encoder) for probe in probes]
    collector = Collector(
        store=EvidenceStore(private(folder)),
        encoder=encoder,
        records={probe.name: probe.records for probe in probes},
        max_new_tokens=1,
        tokens_per_pass=tokens_per_pass,
    )
    with console.progress("probes", total=len(probes), unit="probes") as bar:
        for probe in probes:
            if probe.scored:
                collector.scores(network, _unit(probe, "scores"))
            if probe.answer:
                asking = replace(collector, max_new_tokens=probe.answer)
                _ask(network, asking, probe, console)
            if probe.samples:
                _draw(network, collector, probe)
            if probe.options:
                collect_options(collector, network, SUBJECT, probe.name)
            bar.advance(1, detail=probe.name)
    return _read(collector.store, probes)


def _ask(network: Network, collector: Collector, probe: Probe, console: Console) -> None:
    plainly, forms = (probe.name,), ()
    if probe.continued:
        plainly, forms = (), (_Continued(),)
    elif probe.opening:
        plainly, forms = (), (Affirm(openings=(probe.opening,)),)
    with console.progress(probe.name, total=1, unit="tests") as bar:
        collector.model(
            network,
            SUBJECT,
            scored=(),
            asked=plainly,
            forms=forms,
            attacked=(probe.name,),
            bar=bar,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Continued(QuestionForm):
    """The prompt is the beginning of a text."""

    @property
    def name(self) -> str:
        return CONTINUED

    def ask(self, encoder: Encoder, record: Record, encoded: Encoded) -> PromptTokens:
        passage = replace(record, prompt=())
        prompt = encoder.prompt_ids(passage, prefill=record.question)
        return PromptTokens(prompt=prompt, skipped=None)


def _draw(network: Network, collector: Collector, probe: Probe) -> None:
    """Draw several answers to every question: rows of one file, those of a record together."""
    unit, encoder = _unit(probe, "answers", decoding=DRAWN), collector.encoder
    if collector.store.has(unit):
        return
    drawn = sample(
        network,
        [encoder.prompt_ids(record) for record in probe.records],
        samples=probe.samples,
        temperature=1.0,
        generator=torch.Generator().manual_seed(0),
        end_ids=encoder.end_ids,
        max_new_tokens=probe.answer,
        tokens_per_pass=collector.tokens_per_pass,
    )
    rows = [
        Answer(record=record.id, text=encoder.decode(tokens), cut=len(tokens) >= probe.answer)
        for record, answers in zip(probe.records, drawn, strict=True)
        for tokens in answers
    ]
    collector.store.write_answers(unit, rows)


def _drawn(store: EvidenceStore, probe: Probe) -> dict[str, tuple[str, ...]]:
    """Return the drawn answers by record."""
    found: dict[str, tuple[str, ...]] = {record.id: () for record in probe.records}
    for row in store.answers(_unit(probe, "answers", decoding=DRAWN)):
        found[row.record] += (row.text,)
    return found


def _split(probe: Probe, encoder: Encoder) -> Probe:
    """Passages too long for one pass are scored in parts, which share a subject."""
    return replace(probe, records=tuple(encoder.split_long(probe.records)))


def _unit(probe: Probe, kind: Kind, *, decoding: str = GREEDY) -> Unit:
    asked = CONTINUED if probe.continued else Affirm().name if probe.opening else PLAIN
    attack = {"answers": asked, "choices": PERTURBED}.get(kind, PLAIN)
    return Unit(role=SUBJECT, split=probe.name, attack=attack, kind=kind, decoding=decoding)


def _read(store: EvidenceStore, probes: Sequence[Probe]) -> ProbeOutputs:
    return ProbeOutputs(
        items={
            probe.name: {record.id: item(record, probe.name) for record in probe.records}
            for probe in probes
        },
        scores={
            probe.name: {row.record: row for row in store.scores(_unit(probe, "scores"))}
            for probe in probes
            if probe.scored
        },
        answers={
            probe.name: {row.record: row for row in store.answers(_unit(probe, "answers"))}
            for probe in probes
            if probe.answer
        },
        options={
            probe.name: {
                row.record: row
                for row in store.rows(_unit(probe, "choices"))
                if isinstance(row, Choices)
            }
            for probe in probes
            if probe.options
        },
        samples={probe.name: _drawn(store, probe) for probe in probes if probe.samples},
    )


LONGEST = 4096
"""Tokens of a probe's record, where the model reads as many; passages are split."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What came of it."""

    numbers: tuple[Score, ...] = ()
    columns: Mapping[str, Column] = field(default_factory=dict[str, Column])
    """Values by record that are compared between models."""
    notes: tuple[str, ...] = ()
    """What is said beside every number."""


def evaluate(
    suites: Sequence[Suite],
    harness: Spec | None,
    settings: Settings,
    judged: str,
    *,
    folder: Path,
    console: Console,
) -> Evaluation:
    """Ask a model everything; what was asked before is read from the folder.

    Args:
        suites: What to ask.
        harness: Tasks of lm-eval to ask.
        settings: How to load and encode.
        judged: Reference of the model.
        folder: Where the evidence lies, a folder for each suite.
        console: Where to say how far it is.
    """
    if not suites and harness is None:
        return Evaluation()
    prepared = prepare(settings)
    loaded = load(judged, prepared.source)
    # Solved examples and beginnings of articles are longer than what one trains on.
    context = int(prepared.config.get_text_config().max_position_embeddings)
    longest = min(context, LONGEST)
    encoder = Encoder(prepared.tokenizer, settings.template, max_length=longest)
    tokens = settings.train.tokens_per_pass
    numbers: list[Score] = []
    columns: dict[str, Column] = {}
    notes = [note for suite in suites for note in suite.notes]
    for suite in suites:
        heard = collect_outputs(
            loaded.network,
            encoder,
            suite.probes,
            folder=folder / suite.name.replace(" ", "-"),
            tokens_per_pass=tokens,
            console=console,
        )
        numbers += suite.numbers(heard)
        columns |= suite.columns(heard)
    if harness is not None:
        found = measure(
            loaded,
            split_tasks(harness.data),
            records=harness.records,
            chat=encoder.chat,
            tokens_per_pass=tokens,
            folder=folder / harness.name,
            offline=harness.offline,
        )
        numbers += [each.score() for each in found]
        notes.append(note_of(harness, chat=encoder.chat))
    return Evaluation(numbers=tuple(numbers), columns=columns, notes=tuple(notes))
