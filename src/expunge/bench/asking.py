"""Asking: one model, the probes of all suites of a matrix and the tasks of lm-eval beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from expunge.audit.results import Score
from expunge.bench.harness import measure, note_of, split_tasks
from expunge.bench.heard import Column
from expunge.bench.hearing import hear
from expunge.bench.suite import Spec, Suite
from expunge.console import Console
from expunge.data.encode import Encoder
from expunge.model.load import load
from expunge.prepare import prepare
from expunge.settings import Settings

LONGEST = 4096
"""Tokens of a probe's record, where the model reads as many; passages are split."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What came of it."""

    numbers: tuple[Score, ...] = ()
    columns: Mapping[str, Column] = field(default_factory=dict[str, Column])
    """Values by record that are compared between models."""
    notes: tuple[str, ...] = ()
    """What is said beside every number."""


def ask(
    suites: Sequence[Suite],
    harness: Spec | None,
    settings: Settings,
    judged: str,
    *,
    folder: Path,
    console: Console,
) -> Asked:
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
        return Asked()
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
        heard = hear(
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
    return Asked(numbers=tuple(numbers), columns=columns, notes=tuple(notes))
