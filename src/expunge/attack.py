"""The stress protocol: every attack on one model, held against gold, and what came back.

What has been attacked is in the folder and is not attacked again, so the same command resumes, and
another choice of attacks adds to it.
"""

import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from torch import Tensor

from expunge import __version__
from expunge.audit.attacks.asking.own_prompts import read_prompts
from expunge.audit.attacks.asking.translation import Translation, Translator
from expunge.audit.attacks.attempt import Attempt, observable_of
from expunge.audit.attacks.battery import JUDGED, Battery
from expunge.audit.attacks.ladder import Ground, Rung, Trial, ladder
from expunge.audit.attacks.levels import Level, chosen
from expunge.audit.attacks.plainly import Plainly
from expunge.audit.attacks.protocol import Access, Attack
from expunge.audit.attacks.store import NOTHING, AttackStore
from expunge.audit.attacks.target import Target
from expunge.audit.attacks.weights.mixing import Merge
from expunge.audit.collect import item
from expunge.audit.evidence import EvidenceStore, Item
from expunge.console import Bar, Console, SilentConsole
from expunge.errors import InputError, Interrupted, UsageError
from expunge.files import sha256_json, write_text
from expunge.model.interpolate import changed
from expunge.model.load import Loaded, load
from expunge.prepare import Prepared, prepare
from expunge.report.ladder import Summary, summarise, write_ladder
from expunge.report.redact import OpenText, Redactor
from expunge.resolve import to_toml
from expunge.run import RunFolder, open_run, run_id
from expunge.settings import Settings

RUNS = Path("runs")
ORIGINAL = "original"


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Which attacks, with which budget, by whom."""

    level: Level = "quick"
    only: tuple[str, ...] = ()
    """Names of attacks; empty: all of the level."""
    access: Access = "T3"
    """What the attacker has: queries (T1), a fine-tuning service (T2), the weights (T3)."""
    prompts: Path | None = None
    """A file of the user's own prompts."""
    translator: str = ""
    """`module:function`, called with a text and a language code."""
    sibling: str = ""
    """Reference of a model to merge with."""

    def attacks(self) -> tuple[Attack, ...]:
        """Return the attacks, the user's own prompts last.

        Raises:
            UsageError: No such attack, or no such translator.
            InputError: The file of prompts is missing or malformed.
        """
        found = list(chosen(self.level, self.only))
        if self.translator:
            translator = _imported(self.translator)
            found = [
                replace(each, translator=translator) if isinstance(each, Translation) else each
                for each in found
            ]
        if self.sibling:
            found = [
                replace(each, sibling=self.sibling) if isinstance(each, Merge) else each
                for each in found
            ]
        if self.prompts is not None:
            found.append(read_prompts(self.prompts))
        return tuple(found)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stressed:
    """A folder with a finished battery, and its ladder."""

    folder: Path
    rungs: tuple[Rung, ...]
    summary: Summary


def attack(
    settings: Settings, *, model: str, choice: Choice, console: Console | None = None
) -> Stressed:
    """Attack a model and score what came back against gold, or against control items.

    Args:
        settings: The request, and the original under `model`.
        model: Reference of the model to attack.
        choice: Which attacks.
        console: Where to say what happens; silent by default.

    Raises:
        ExpungeError: What was written stays; the same call resumes.
    """
    console = console or SilentConsole()
    attacks = choice.attacks()
    prepared = prepare(settings)
    original = load(settings.model, prepared.source)
    judged = load(model, prepared.source)
    identity = sha256_json(["attack", original.digest, judged.digest])
    with _open(prepared, identity) as run:
        console.log_to(run.log)
        write_text(run.config, to_toml(settings))
        work = _Work(prepared=prepared, run=run, battery=_battery(prepared, run, attacks, choice))
        try:
            work.gather(original, judged, console)
        except KeyboardInterrupt as interrupt:
            raise _interrupted(run) from interrupt
        return work.conclude(console, choice)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Work:
    """One battery on one run folder."""

    prepared: Prepared
    run: RunFolder
    battery: Battery

    @property
    def golds(self) -> tuple[str, ...]:
        return self.prepared.settings.request.gold

    def gather(self, original: Loaded, judged: Loaded, console: Console) -> None:
        """Attack the judged model, then the original and the golds with what they are held to."""
        base = {name: w.cpu() for name, w in original.network.model.state_dict().items()}
        console.line("model", f"{judged.name}, held against {self.prepared.settings.model}")
        names = ", ".join(attack.name for attack in self.battery.attacks)
        console.line("attacks", f"{len(self.battery.attacks)}: {names}")
        scaled = replace(
            self.battery,
            attacks=tuple(a for a in self.battery.attacks if a.own_scale or a == Plainly()),
        )
        total = (1 + len(self.golds)) * len(self.battery.attacks) + len(scaled.attacks)
        with console.progress("attack", total=total, unit="attacks") as bar:
            self._attack(self.battery, judged, base, JUDGED, bar)
            self._attack(scaled, original, {}, ORIGINAL, bar)
            for index, reference in enumerate(self.golds):
                gold = load(reference, self.prepared.source)
                self._attack(self.battery, gold, base, f"gold-{index}", bar)

    def _attack(
        self, battery: Battery, loaded: Loaded, base: Mapping[str, Tensor], role: str, bar: Bar
    ) -> None:
        scope, settings = self.prepared.scope, self.prepared.settings
        target = Target(
            reference=loaded.name,
            judged=role == JUDGED,
            network=loaded.network,
            encoder=self.prepared.encoder,
            source=self.prepared.source,
            original=changed(loaded.network, base),
            retain=scope.retain,
            neighbours=scope.neighbours,
            strangers=(*scope.holdout, *scope.control),
            max_new_tokens=settings.audit.max_new_tokens,
            tokens_per_pass=settings.train.tokens_per_pass,
            seed=settings.train.seed,
            scratch=self.run.checkpoints,
        )
        battery.run(target, role, bar=bar)

    def conclude(self, console: Console, choice: Choice) -> Stressed:
        """Score the evidence, write and say the ladder."""
        items = self._items()
        EvidenceStore(self.run.evidence).write_items(items)
        rungs = ladder([self._trial(attack) for attack in self._tried()], self._ground(items))
        redact = self.prepared.settings.report.redact
        redactor = Redactor(items) if redact else OpenText()
        summary = summarise(rungs, observable=observable_of(items), access=choice.access)
        console.line("verdict", summary.sentence)
        for line in summary.lines:
            console.note(line)
        worst = self._worst(rungs)
        write_ladder(
            self.run.path,
            rungs,
            summary,
            attempts=worst,
            items=items,
            redactor=redactor,
        )
        self.run.prune()
        console.line("wrote", f"{self.run.path}/   attack.md, attack.json, evidence")
        return Stressed(folder=self.run.path, rungs=rungs, summary=summary)

    def _tried(self) -> list[Attack]:
        return [attack for attack in self.battery.attacks if attack != Plainly()]

    def _worst(self, rungs: tuple[Rung, ...]) -> dict[str, tuple[Attempt, ...]]:
        by_name = {attack.name: attack for attack in self.battery.attacks}
        return {
            rung.attack: self.battery.outcome(by_name[rung.attack], JUDGED, "forget").attempts
            for rung in rungs
            if rung.worst is not None
        }

    def _items(self) -> list[Item]:
        return [
            item(record, split)
            for split, records in self.battery.records.items()
            for record in records
        ]

    def _trial(self, attack: Attack) -> Trial:
        outcome = self.battery.outcome
        alone = "control" in self.battery.records
        return Trial(
            name=attack.name,
            family=attack.family,
            access=attack.access,
            union=attack.union,
            own_scale=attack.own_scale,
            judged=outcome(attack, JUDGED, "forget"),
            golds=tuple(outcome(attack, f"gold-{i}", "forget") for i in range(len(self.golds))),
            original=outcome(attack, ORIGINAL, "forget"),
            control=outcome(attack, JUDGED, "control") if alone else NOTHING,
            original_control=outcome(attack, ORIGINAL, "control") if alone else NOTHING,
        )

    def _ground(self, items: list[Item]) -> Ground:
        plain = self._trial(Plainly())
        return Ground(
            items=tuple(items),
            observable=observable_of(items),
            original=plain.original,
            golds=plain.golds,
            original_control=plain.original_control,
            margin=self.prepared.settings.request.margins.residual,
            seed=self.prepared.settings.train.seed,
        )


def _battery(
    prepared: Prepared, run: RunFolder, attacks: tuple[Attack, ...], choice: Choice
) -> Battery:
    scope = prepared.scope
    records = {"forget": scope.forget}
    if not prepared.settings.request.gold and scope.control:
        records["control"] = scope.control
    return Battery(
        store=AttackStore(run.evidence / "attacks"),
        attacks=attacks,
        records=records,
        seed=prepared.settings.train.seed,
        access=choice.access,
    )


def _open(prepared: Prepared, identity: str) -> RunFolder:
    out = prepared.settings.out
    return open_run(
        None if out is None else Path(out),
        root=RUNS,
        run_id=run_id(
            prepared.settings,
            data_digest=prepared.data_digest,
            model_digest=identity,
            code_version=__version__,
        ),
        method="attack",
        now=datetime.now(UTC),
    )


def _imported(reference: str) -> Translator:
    module, colon, name = reference.partition(":")
    here = str(Path.cwd())  # a console script does not look there by itself
    sys.path.append(here)
    try:
        found = vars(importlib.import_module(module))[name]
    except (ImportError, KeyError, ValueError) as error:
        raise UsageError(
            "no-translator",
            what=f"cannot import {reference}" if colon else f"{reference!r} is not MODULE:FUNCTION",
            why=str(error),
            fix="give module:function; it is called with a text and a language code",
        ) from error
    finally:
        sys.path.remove(here)
    if not callable(found):
        raise InputError(
            "no-translator",
            what=f"{reference} is not a function",
            why="it is called with a text and a language code, and returns the translation",
            fix="name a function",
        )
    return cast("Translator", found)


def _interrupted(run: RunFolder) -> Interrupted:
    return Interrupted(
        "interrupted",
        what="stopped on request",
        why=f"every attack finished so far is kept in {run.path}",
        fix="run the same command again: it goes on from there",
    )
