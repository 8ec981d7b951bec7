"""`expunge locate`: where in a model the facts lie, and whether knowing it helps to forget them."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from expunge.attribution.causal_trace import traced_record
from expunge.attribution.localisation import Localisation, MaskTrial, localised
from expunge.attribution.masked_step import RISE
from expunge.attribution.parts import KINDS, ModelPart, PartKind, part_matrices
from expunge.data.corpora import general_records
from expunge.data.readers import read
from expunge.data.records import Record
from expunge.data.splits import without_target
from expunge.data.subjects import with_subjects
from expunge.data.tokenization import Encoder
from expunge.errors import InputError
from expunge.models.loading import float32_source, load
from expunge.models.transformer import Network
from expunge.reporting.plots import HeatRow, alone, heat_map
from expunge.training.early_stopping import spread
from expunge.utils.console import Console, SilentConsole
from expunge.utils.io import AnyPath, write_json, write_text

RESULT = "locate.json"
PICTURE = "locate.svg"
RECORDS = 20
"""Most records of each set that are used, evenly spaced."""
TRACED = 12
"""Most questions that are traced: each takes two runs of every part."""
_FEWEST = 4
"""Retain records below which the damage would be that of one or two."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LocatedFacts:
    """Where the facts lie, and what that is worth.

    Example:
        >>> print(locate("model", ["erase.jsonl"], out=Path("located")).verdict)  # doctest: +SKIP
        localisation did not help
    """

    found: Localisation
    settings: tuple[str, ...]
    """Settings for `--set` that train the located weights alone; empty where that does not help."""
    folder: Path

    @property
    def verdict(self) -> str:
        """One line: whether localisation helps."""
        best = self.found.best
        if best is None or best.kind is None or best.damage is None:
            return "localisation did not help"
        return f"localisation helps: {best.kind} of blocks {best.blocks[0]} to {best.blocks[-1]}"


def locate(
    model: str,
    erase: Sequence[str],
    *,
    retain: Sequence[str] = (),
    out: AnyPath,
    seed: int = 0,
    device: str = "auto",
    offline: bool = False,
    console: Console | None = None,
) -> LocatedFacts:
    """Rank attention and MLP of each block for some facts, and test the ranking.

    Args:
        model: The model that states the facts.
        erase: Files of the records to forget.
        retain: Files of records that stay; none: general questions that ship with expunge.
        out: Folder for `locate.json` and `locate.svg`.
        seed: Of the noise and the random masks.
        device: Where the model computes.
        offline: Never use the network.
        console: Where to say what happens; silent by default.

    Raises:
        InputError: A file or the model cannot be read; `few-retained`: too few records stay.

    Example:
        >>> locate("no-such-folder/model", ["erase.jsonl"], out=Path("located"))
        Traceback (most recent call last):
            ...
        expunge.errors.InputError: error[data-missing]: no file or folder erase.jsonl...
    """
    out = Path(out)
    console = console or SilentConsole()
    forget, retained = _records(erase, retain, offline=offline)
    loaded = load(model, float32_source(device, offline=offline))
    encoder = Encoder(loaded.tokenizer)
    questions = (traced_record(encoder, record) for record in forget)
    traced = spread([each for each in questions if each], TRACED)
    console.line("forget", f"{len(forget)} records, {len(traced)} of them traced")
    console.line("retain", f"{len(retained)} records{'' if retain else ' of general knowledge'}")
    found = localised(
        loaded.network,
        traced=traced,
        forget=[encoder.encode_fact(record) for record in forget],
        retain=[encoder.encode(record) for record in retained],
        pad_id=encoder.pad_id,
        seed=seed,
        console=console,
    )
    located = LocatedFacts(found=found, settings=settings_of(found, loaded.network), folder=out)
    _write(located, model=model, records=len(forget))
    _say(located, console)
    return located


def _records(
    erase: Sequence[str], retain: Sequence[str], *, offline: bool
) -> tuple[tuple[Record, ...], tuple[Record, ...]]:
    """Return the records to forget, with subjects, and those that stay: a few of each."""
    kept = read(retain, offline=offline).records if retain else ()
    forget = with_subjects(read(erase, offline=offline).records, kept)
    retained = kept or without_target(general_records(), forget)
    if len(retained) < _FEWEST:
        raise InputError(
            "few-retained",
            what=f"{len(retained)} records that stay",
            why="one half ranks the weights and the other half measures the damage",
            fix=f"give at least {_FEWEST} with --retain, or leave --retain out",
        )
    return spread(forget, RECORDS), spread(retained, RECORDS)


def settings_of(found: Localisation, network: Network) -> tuple[str, ...]:
    """Return the settings that train the best window alone; none where none helps."""
    best = found.best
    if best is None or best.kind is None:
        return ()
    names = part_matrices(network)[ModelPart(best.blocks[0], best.kind)]
    tops = dict.fromkeys(
        rf"{name.partition('.')[0]}\..*" if "." in name else name for name in names
    )
    return (
        f"train.first_layer={best.blocks[0]}",
        f"train.last_layer={best.blocks[-1]}",
        f"train.targets={','.join(tops)}",
    )


def _rows(found: Localisation) -> list[HeatRow]:
    blocks = range(1 + max(part.block for part in found.saliency.parts))
    return [
        HeatRow(
            label=f"{name}, {kind}",
            values=tuple(scores.get(ModelPart(block, kind)) for block in blocks),
        )
        for name, scores in found.rankings.items()
        for kind in KINDS
    ]


def _write(located: LocatedFacts, *, model: str, records: int) -> None:
    found = located.found
    effects = found.effects
    levels = None if effects is None else {"clean": effects.clean, "noised": effects.noised}
    write_json(
        located.folder / RESULT,
        {
            "model": model,
            "records": records,
            "levels": levels,
            "parts": [
                {**part._asdict(), **{n: scores[part] for n, scores in found.rankings.items()}}
                for part in found.saliency.parts
            ],
            "matrices": [
                {"block": block, "matrix": name, "saliency": value}
                for (block, name), value in found.saliency.matrices.items()
            ],
            "rise": RISE,
            "before": asdict(found.before),
            "candidates": [asdict(each) for each in found.candidates],
            "controls": [asdict(each) for each in found.controls],
            "everything": asdict(found.everything),
            "helps": found.best is not None,
            "settings": list(located.settings),
        },
    )
    picture = heat_map(_rows(found), measure="effect of each part on the facts")
    write_text(located.folder / PICTURE, alone(picture))


def _say(located: LocatedFacts, console: Console) -> None:
    found = located.found
    console.line("block", "  ".join(f"{name + ' attn':>13} {'mlp':>6}" for name in found.rankings))
    for block in range(1 + max(part.block for part in found.saliency.parts)):
        console.line(str(block), _row(found.rankings, block))
    console.line("test", f"nats of retain loss per nat of forget loss, after {RISE:.0f} nat")
    for trial in found.candidates:
        console.line("", _compared(found, trial))
    console.line("", f"all parts: {_figure(found.everything.damage)}")
    console.line("result", located.verdict)
    if located.settings:
        console.line("try", " ".join(f"--set '{each}'" for each in located.settings))
    console.line("wrote", f"{located.folder / RESULT}, {located.folder / PICTURE}")


def _row(rankings: Mapping[str, Mapping[ModelPart, float]], block: int) -> str:
    def cell(scores: Mapping[ModelPart, float], kind: PartKind) -> str:
        value = scores.get(ModelPart(block, kind))
        return "-" if value is None else f"{value:.3f}"

    pairs = [[cell(scores, kind) for kind in KINDS] for scores in rankings.values()]
    return "  ".join(f"{attention:>13} {mlp:>6}" for attention, mlp in pairs)


def _compared(found: Localisation, trial: MaskTrial) -> str:
    assert trial.kind is not None
    control = found.control(trial.kind)
    random = "cannot forget that much"
    if control:
        random = f"{statistics.fmean(control):.3f}, lowest of {len(control)} {min(control):.3f}"
    where = f"{trial.kind} of blocks {trial.blocks[0]} to {trial.blocks[-1]}"
    return f"{trial.name}, {where}: {_figure(trial.damage)}; random blocks: {random}"


def _figure(damage: float | None) -> str:
    return "cannot forget that much" if damage is None else f"{damage:.3f}"
