"""`expunge trace`: which records of a corpus teach what is to be forgotten."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from expunge.attribution.ranking import LEXICAL, RecordRanking, ranking, recommended
from expunge.attribution.record_gradients import record_gradients, whitened
from expunge.attribution.similarity import bm25, cosines, embeddings
from expunge.data.readers import read
from expunge.data.records import Record
from expunge.data.splits import normalise
from expunge.data.tokenization import Encoder
from expunge.errors import InputError
from expunge.models.loading import float32_source, load
from expunge.utils.console import Console, SilentConsole
from expunge.utils.io import AnyPath, jsonl, write_bytes

MOST = 2000
"""Records that the model reads: of a larger corpus, those that BM25 ranks highest."""
TOP = 20
VARIANTS_TOP = 40
"""How far down a planted variant may stand to count as found."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TracedData:
    """Rankings of a corpus.

    Example:
        >>> trace("model", ["data"], ["erase.jsonl"], out=Path("t")).missed  # doctest: +SKIP
        ()
    """

    rankings: tuple[RecordRanking, ...]
    others: tuple[Record, ...]
    """Records of the corpus that are not to be forgotten, in the order of the scores."""
    variants: tuple[int, ...]
    """Places of those that were made from a record to forget (`parent`)."""
    file: Path

    @property
    def recommended(self) -> RecordRanking:
        """The ranking to use."""
        return recommended(self.rankings, variants=self.variants, top=VARIANTS_TOP)

    @property
    def missed(self) -> tuple[Record, ...]:
        """Records that look like those to forget, by the recommended ranking."""
        return tuple(self.others[place] for place in self.recommended.missed)


def trace(
    model: str,
    corpus: Sequence[str],
    erase: Sequence[str],
    *,
    out: AnyPath,
    top: int = TOP,
    seed: int = 0,
    device: str = "auto",
    offline: bool = False,
    console: Console | None = None,
) -> TracedData:
    """Rank the records of a corpus by what they have to do with records to forget.

    Args:
        model: The model that was trained on the corpus.
        corpus: Files, folders or Hub ids of the training records.
        erase: The same, of the records to forget; at least three.
        out: File for the highest records, JSON Lines. It holds their texts.
        top: How many records are written, at least.
        seed: Of the projections.
        device: Where the model computes.
        offline: Never use the network.
        console: Where to say what happens; silent by default.

    Raises:
        InputError: A file or the model cannot be read; `few-records`: fewer than three to forget;
            `nothing-else`: the corpus has no other records.

    Example:
        >>> trace("no-such-folder/model", ["data"], ["erase.jsonl"], out=Path("trace.jsonl"))
        Traceback (most recent call last):
            ...
        expunge.errors.InputError: error[data-missing]: no file or folder erase.jsonl...
    """
    out = Path(out)
    console = console or SilentConsole()
    forget = read(erase, offline=offline).records
    records = read(corpus, offline=offline).records
    same = {_content(record) for record in forget}
    others = tuple(record for record in records if _content(record) not in same)
    _require_enough(forget, others)
    there = len(records) - len(others)
    console.line("corpus", f"{len(records)} records; {there} of {len(forget)} to forget are there")
    scores = bm25([_text(record) for record in forget], [_text(r) for r in (*forget, *others)])
    if len(others) > MOST:
        highest = sorted(ranking(LEXICAL, scores).order[:MOST])
        others = tuple(others[place] for place in highest)
        scores = scores[:, [*range(len(forget)), *(len(forget) + place for place in highest)]]
        console.warn(f"the model reads the {MOST} records that BM25 ranks highest, no others")
    similar = _by_model(model, (*forget, *others), len(forget), seed, device, offline, console)
    found = TracedData(
        rankings=tuple(ranking(name, each) for name, each in {LEXICAL: scores, **similar}.items()),
        others=others,
        variants=_variants(forget, others),
        file=out,
    )
    _write(found, top=top)
    _say(found, console, top=top)
    return found


def _require_enough(forget: Sequence[Record], others: Sequence[Record]) -> None:
    if len(forget) < 3:
        raise InputError(
            "few-records",
            what=f"{len(forget)} records to forget",
            why="each is looked for by the others, so that a ranking can be judged",
            fix="give at least three; `expunge request` finds records from a name",
        )
    if not others:
        raise InputError(
            "nothing-else",
            what="the corpus holds no record that is not to be forgotten",
            why="there is nothing to rank",
            fix="name all training data with --corpus",
        )


def _by_model(
    model: str,
    records: Sequence[Record],
    count: int,
    seed: int,
    device: str,
    offline: bool,
    console: Console,
) -> dict[str, NDArray[np.float32]]:
    """Return similarities of the first `count` records with all, by the model's own view."""
    loaded = load(model, float32_source(device, offline=offline))
    encoder = Encoder(loaded.tokenizer)
    encoded = [encoder.encode(record) for record in records]
    with console.progress("embed", total=len(encoded), unit="records") as bar:
        states = embeddings(loaded.network, encoded, pad_id=encoder.pad_id, done=bar.advance)
    with console.progress("gradients", total=len(encoded), unit="records") as bar:
        slopes = record_gradients(
            loaded.network, encoded, pad_id=encoder.pad_id, seed=seed, done=bar.advance
        )
    seen = {"embedding": states, "gradient": slopes, "ekfac": whitened(slopes)}
    return {name: cosines(each[:count], each).numpy() for name, each in seen.items()}


def _variants(forget: Sequence[Record], others: Sequence[Record]) -> tuple[int, ...]:
    ids = {record.id for record in forget}
    return tuple(place for place, record in enumerate(others) if ids & {*record.parents})


def _text(record: Record) -> str:
    turns = (turn.content for turn in record.prompt if turn.role != "system")
    return "\n".join((*turns, record.completion))


def _content(record: Record) -> str:
    return normalise(_text(record))


def _write(found: TracedData, *, top: int) -> None:
    chosen = found.recommended
    missed = {*chosen.missed}
    rows = [
        {
            "rank": rank,
            "id": found.others[place].id,
            "source": found.others[place].source,
            "missed": place in missed,
            "scores": {each.name: round(float(each.others[place]), 4) for each in found.rankings},
            "prompt": found.others[place].question,
            "completion": found.others[place].completion,
        }
        for rank, place in enumerate(chosen.order[: max(top, len(missed))], start=1)
    ]
    write_bytes(found.file, jsonl(rows), owner_only=True)


def _say(found: TracedData, console: Console, *, top: int) -> None:
    for each in found.rankings:
        text = f"finds {each.recall:.0%} of the records to forget by the others, AUC {each.auc:.3f}"
        if found.variants:
            share = float(each.recalled(found.variants, top=VARIANTS_TOP).mean())
            text += f"; {share:.0%} of {len(found.variants)} variants in its top {VARIANTS_TOP}"
        console.line(each.name, text)
    chosen = found.recommended
    why = "nothing beats it" if chosen.name == LEXICAL else "it beats BM25"
    console.line("use", f"{chosen.name}: {why}")
    missed = chosen.missed
    console.line("missed", f"{len(missed)} other records look like those to forget")
    for place in (missed or chosen.order)[: min(top, TOP)]:
        record = found.others[place]
        mark = "" if missed else "   below the threshold"
        console.note(f"{chosen.others[place]:.3f}   {record.source or record.id}{mark}")
    console.line("wrote", f"{found.file}: the highest records with their texts, for review")
