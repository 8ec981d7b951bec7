"""Contents: digests of what the settings of a matrix name only by where it lies.

Files can change between two commands while their names stay. Rows before and after would then be of
different data or models, and what original and golds said is lent from one run to the next.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from expunge.audit.attacks.asking.own_prompts import read_prompts
from expunge.bench.suite import Suite, plain
from expunge.data.read import read
from expunge.data.record import Record
from expunge.files import sha256_json
from expunge.model.load import files_digest
from expunge.prepare import data_digest, source_of
from expunge.settings import Settings


def contents_of(
    settings: Settings, suite: Suite | None = None, beside: Sequence[Suite] = ()
) -> dict[str, str]:
    """Return a digest for each thing that is read, under what it is called to the user.

    Args:
        settings: Those that all runs share; golds are among them.
        suite: What is forgotten, and the sets that it has; the others, and without it all, are
            those of the request.
        beside: What is asked beside it.

    Raises:
        InputError: Data or a model are not there or not well formed.
    """
    data = data_digest(settings) if suite is None else _digest(suite)
    found = {"the data": sha256_json([data, *(_digest(each) for each in beside)])}
    if suite is not None:
        found |= _own(settings, suite)
    if settings.audit.prompts:
        found["the prompts"] = read_prompts(Path(settings.audit.prompts)).digest
    models = {"the original": settings.model}
    models |= {f"gold {gold}": gold for gold in settings.request.gold}
    if settings.audit.sibling:
        models["the sibling"] = settings.audit.sibling
    source = source_of(settings)
    return found | {name: files_digest(each, source) for name, each in models.items()}


def _own(settings: Settings, suite: Suite) -> dict[str, str]:
    """Return a digest for each set of the request that stands beside those of a suite."""
    request = settings.request
    sets = {
        "request.retain": () if suite.retain else request.retain,
        "request.neighbours": () if suite.neighbours else request.neighbours,
        "request.holdout": () if suite.holdout else request.holdout,
        "request.control": request.control,
    }
    return {
        name: sha256_json(_plain(read(sources, offline=settings.offline).records))
        for name, sources in sets.items()
        if sources and not isinstance(sources, str)
    }


def _digest(suite: Suite) -> str:
    sets = (suite.forget, suite.retain, suite.neighbours, suite.holdout)
    probes = (probe.records for probe in suite.probes)
    return sha256_json([_plain(each) for each in (*sets, *probes)])


def _plain(records: Iterable[Record]) -> list[str]:
    return [sha256_json(plain(record)) for record in records]
