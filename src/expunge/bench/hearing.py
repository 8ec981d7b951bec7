"""Hearing: ask one model the probes of a suite; what was asked before is not asked again."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from expunge.audit.attacks import Ask, Attack
from expunge.audit.collect import Collector, item
from expunge.audit.evidence import PLAIN, Choices, EvidenceStore, Kind, Unit
from expunge.audit.further import PERTURBED
from expunge.audit.further.options import collect_options
from expunge.bench.heard import SUBJECT, Heard
from expunge.bench.suite import Probe
from expunge.console import Console
from expunge.data.encode import Encoded, Encoder
from expunge.data.record import Record
from expunge.model.network import Network

CONTINUED = "continued"
"""Name of the test in which the prompt is the beginning of a text."""


def hear(
    network: Network,
    encoder: Encoder,
    probes: Sequence[Probe],
    *,
    folder: Path,
    tokens_per_pass: int,
    console: Console,
) -> Heard:
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
        store=EvidenceStore(folder),
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
            if probe.options:
                collect_options(collector, network, SUBJECT, probe.name)
            bar.advance(1, detail=probe.name)
    return _read(collector.store, probes)


def _ask(network: Network, collector: Collector, probe: Probe, console: Console) -> None:
    plainly, attacks = (probe.name,), ()
    if probe.continued:
        plainly, attacks = (), (Attack(name=CONTINUED, ask=_continued),)
    with console.progress(probe.name, total=1, unit="tests") as bar:
        collector.model(
            network,
            SUBJECT,
            scored=(),
            asked=plainly,
            attacks=attacks,
            attacked=(probe.name,),
            bar=bar,
        )


def _continued(encoder: Encoder, record: Record, encoded: Encoded) -> Ask:
    passage = replace(record, prompt=())
    return Ask(prompt=encoder.prompt_ids(passage, prefill=record.question), skipped=None)


def _split(probe: Probe, encoder: Encoder) -> Probe:
    """Passages too long for one pass are scored in parts, which share a subject."""
    return replace(probe, records=tuple(encoder.split_long(probe.records)))


def _unit(probe: Probe, kind: Kind) -> Unit:
    asked = CONTINUED if probe.continued else PLAIN
    attack = {"answers": asked, "choices": PERTURBED}.get(kind, PLAIN)
    return Unit(role=SUBJECT, split=probe.name, attack=attack, kind=kind)


def _read(store: EvidenceStore, probes: Sequence[Probe]) -> Heard:
    return Heard(
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
    )
