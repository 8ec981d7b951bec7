"""Canaries by design: planted before a training, and asked for after it.

`plant` writes the data with the canaries in it. `audit_canaries` scores the secrets of the planted
canaries and of their controls under a model. It reads likelihoods alone, so a model that only
refuses to answer, or hides the records of a request, is measured as any other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from expunge.data.canaries import (
    PAIRS,
    TIERS,
    CanarySet,
    make_canaries,
    planted_rows,
    read_canaries,
    write_canaries,
)
from expunge.data.readers import read
from expunge.data.tokenization import Encoder
from expunge.errors import UsageError
from expunge.evals.canaries import CanaryFindings, CanaryScores, judge_canaries
from expunge.ledger.entries import RegistrationEntry
from expunge.ledger.store import own_ledger
from expunge.models.loading import Loaded, float32_source, load
from expunge.models.number_formats import in_precision, in_stored_format
from expunge.models.scoring import score
from expunge.pipeline.bookkeeping import require_ledger
from expunge.utils.console import Console, SilentConsole
from expunge.utils.io import AnyPath, write_jsonl

DATA, CANARIES = "train.jsonl", "canaries.json"
_TOKENS_PER_PASS = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class PlantedData:
    """Training data with canaries in it.

    Example:
        >>> PlantedData(folder=Path("planted"), digest="ab" * 32, rows=900).data.name
        'train.jsonl'
    """

    folder: Path
    digest: str
    """Of the canaries: what was registered."""
    rows: int
    registration: str = ""
    """Id of the entry in the ledger; empty: it was not registered."""

    @property
    def data(self) -> Path:
        """The data to train on."""
        return self.folder / DATA

    @property
    def canaries(self) -> Path:
        """The canaries with their secrets: keep it to yourself."""
        return self.folder / CANARIES


def plant(
    data: Sequence[str],
    *,
    out: AnyPath,
    seed: int,
    pairs: int = PAIRS,
    ledger: AnyPath | None = None,
    offline: bool = False,
    console: Console | None = None,
) -> PlantedData:
    """Put canaries into training data, before anybody trains on it.

    Args:
        data: The training data: files, folders, Hub ids.
        out: Folder of the result; must be new or empty.
        seed: Of all draws.
        pairs: Canaries that are planted; as many controls are kept back.
        ledger: Where the digest of the canaries is registered; None: nowhere.
        offline: Never use the network.
        console: Where to say what happens; silent by default.

    Raises:
        UsageError: `folder-in-use`; `canary-count`; or as `require_ledger`.
        InputError: The data cannot be read.

    Example:
        >>> plant(["facts.jsonl"], out=Path("planted"), seed=7)  # doctest: +SKIP
    """
    out = Path(out)
    ledger = None if ledger is None else Path(ledger)
    console = console or SilentConsole()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(
            "folder-in-use",
            what=f"{out} is not empty; nothing was changed there",
            why="canaries that are written anew are others, and the old ones could not be asked",
            fix="choose another folder with --out",
        )
    if ledger is not None:
        require_ledger(ledger)  # before canaries are written that nobody registers
    made = make_canaries(seed=seed, pairs=pairs)
    rows = planted_rows(read(data, offline=offline).records, made)
    out.mkdir(parents=True, exist_ok=True)
    write_canaries(out / CANARIES, made)
    write_jsonl(out / DATA, rows)
    entry = ""
    if ledger is not None:
        with own_ledger(ledger).writing() as writer:
            entry = writer.add(RegistrationEntry(digest=made.digest, planted=pairs, controls=pairs))
        console.line("ledger", f"{ledger}   {entry}")
    console.line("planted", f"{pairs} canaries, repeated {', '.join(map(str, TIERS))} times")
    console.line("digest", made.digest)
    console.line("wrote", f"{out}/   {DATA} to train on, {CANARIES} for you only")
    return PlantedData(folder=out, digest=made.digest, rows=len(rows), registration=entry)


def audit_canaries(
    model: str, canaries: AnyPath, *, offline: bool = False, console: Console | None = None
) -> tuple[CanaryFindings, ...]:
    """Say what a model knows of planted canaries, with exact nulls.

    Args:
        model: Reference of the model.
        canaries: The file that `plant` wrote.
        offline: Never use the network.
        console: Where to say what happens; silent by default.

    Returns:
        The findings over all tiers, then those of each tier.

    Raises:
        InputError: The file or the model cannot be read.

    Example:
        >>> audit_canaries("org/model", Path("planted/canaries.json"))  # doctest: +SKIP
    """
    canaries = Path(canaries)
    console = console or SilentConsole()
    found = read_canaries(canaries)
    source = float32_source("auto", offline=offline)
    source = in_stored_format(in_precision(source, "auto", model), model)
    pairs = canary_scores(load(model, source), found)
    tiers = sorted({each.tier for each in pairs})
    findings = (judge_canaries(pairs), *(judge_canaries(pairs, tier=each) for each in tiers))
    for each in findings:
        console.line("canaries", each.text())
    return findings


@torch.no_grad()
def canary_scores(model: Loaded, canaries: CanarySet) -> list[CanaryScores]:
    """Return how likely a model finds the secret of each canary, pair by pair.

    Args:
        model: The model.
        canaries: The canaries.
    """
    encoder = Encoder(model.tokenizer)
    every = (*canaries.planted, *canaries.controls)
    scores = score(
        model.network,
        [encoder.encode_fact(each.record()) for each in every],
        pad_id=encoder.pad_id,
        tokens_per_pass=_TOKENS_PER_PASS,
        with_z=False,
    )
    known = {
        (each.pair, each.planted): float(values.logp.sum())
        for each, values in zip(every, scores, strict=True)
    }
    return [
        CanaryScores(
            tier=each.tier, planted=known[each.pair, True], control=known[each.pair, False]
        )
        for each in canaries.planted
    ]
