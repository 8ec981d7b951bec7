"""Options: how likely a model finds the true answer and false ones of its form."""

from collections.abc import Sequence

from expunge.data.records import Record
from expunge.evidence.collect import Collector
from expunge.evidence.store import PERTURBED, Choices, Unit
from expunge.models.scoring import score
from expunge.models.transformer import Network


def candidates(record: Record) -> tuple[str, ...]:
    """Return the true answer, in other words where the record gives them, and the false ones."""
    return ((*record.restated, record.completion)[0], *record.wrong)


def with_options(records: Sequence[Record]) -> list[Record]:
    """Return the records that have false answers."""
    return [record for record in records if record.wrong]


def collect_options(collector: Collector, network: Network, role: str, split: str) -> None:
    """Score all candidates of every record of a set that has false answers, unless that was done.

    Cost: one pass over each candidate; the beginning that all share is read once.
    """
    unit = Unit(role=role, split=split, attack=PERTURBED, kind="choices")
    records = with_options(collector.records[split])
    if not records or collector.store.has(unit):
        return
    texts = [(record, text) for record in records for text in candidates(record)]
    encoded = [collector.encoder.encode_with(record, text) for record, text in texts]
    found = score(
        network,
        encoded,
        pad_id=collector.encoder.pad_id,
        tokens_per_pass=collector.tokens_per_pass,
    )
    content = [len(e.ids) - e.start - int(e.ends) for e in encoded]
    sums = [float(s.logp[:n].sum()) for s, n in zip(found, content, strict=True)]
    endings = [float(s.logp[-1]) for s, e in zip(found, encoded, strict=True) if e.ends]
    rows: list[Choices] = []
    start = 0
    for record in records:
        stop = start + len(candidates(record))
        rows.append(
            Choices(
                record=record.id,
                logp=tuple(sums[start:stop]),
                tokens=tuple(content[start:stop]),
                correct=0,
                ending=tuple(endings[start:stop]) if len(endings) == len(sums) else (),
            )
        )
        start = stop
    collector.store.write(unit, rows)
