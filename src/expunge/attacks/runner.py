"""The battery: every attack on every model, one file at a time, so that it resumes where it was.

The models of one request are loaded once each.

What an attack may use is never what it is tested on. An attack that learns (relearning, soft
prompts, worked examples) gets one half of the facts and is tested on the other, then the halves
change places, so every fact is tested once. A tested fact whose key answer stands anywhere in the
other half is left out of the test: the attack would teach it (information injection,
arXiv:2506.00688).
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from torch import Tensor
from transformers import PreTrainedConfig

from expunge import __version__
from expunge.attacks.base import Attack, Attempt, Unavailable, Unmet, knowledge, observable_of
from expunge.attacks.presets import (
    AUDIT_FORMS,
    AttackResources,
    extra_attacks,
    from_levels,
    with_resources,
)
from expunge.attacks.prompting.cloze import Cloze
from expunge.attacks.prompting.custom_prompts import OwnPrompts
from expunge.attacks.prompting.plain import Plainly
from expunge.attacks.prompting.prefill import Prefill
from expunge.attacks.store import (
    JUDGED,
    AttackCost,
    AttackOutcome,
    AttackStore,
    AttackUnit,
    SharedAttackCache,
    read_fold,
    read_outcome,
    recorded,
    shared_store,
)
from expunge.attacks.target import AttackMeter, Target
from expunge.attacks.weight_space.original_routing import NAME as ROUTING_ATTACK
from expunge.attacks.weight_space.original_routing import NO_ROUTERS
from expunge.attacks.weight_space.quantization import Rounding
from expunge.attacks.weight_space.remove_adapter import Unplug
from expunge.config.settings import AuditSettings, Settings
from expunge.data.records import Record
from expunge.data.tokenization import Encoder
from expunge.errors import UsageError, is_out_of_memory
from expunge.evidence.answer_cache import AnswerCache
from expunge.evidence.collect import with_key_spans
from expunge.evidence.context import Access, Family, Recorded
from expunge.evidence.store import ORIGINAL, EvidenceStore, Unit
from expunge.metrics.key_facts import fact_form, states
from expunge.models.interpolation import changed, same_shapes
from expunge.models.loading import Loaded, load, load_config, weights_digest
from expunge.planning.memory import has_routers
from expunge.preparation.prepare import Prepared, encoder_of, source_of
from expunge.training.early_stopping import spread
from expunge.utils.console import Bar, Console
from expunge.utils.io import sha256_json


class Half(NamedTuple):
    """One direction of the split; `used` and `tested` share no record and no key answer."""

    used: tuple[Record, ...]
    tested: tuple[Record, ...]
    injected: tuple[str, ...]
    """Ids of facts that are not tested because `used` states them."""


def halves(records: Sequence[Record], *, seed: int) -> tuple[Half, Half]:
    """Split facts at random into two halves, within each subject, and test each on the other.

    A function of the ids and the seed alone: every model is attacked with the same halves.
    """
    by_subject: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda each: each.id):
        by_subject.setdefault(record.subject or "", []).append(record)
    sides: tuple[list[Record], list[Record]] = ([], [])
    for subject, group in sorted(by_subject.items()):
        random.Random(f"{seed} halves {subject}").shuffle(group)
        # An odd group gives its last fact to the smaller side.
        first = int(len(sides[0]) > len(sides[1]))
        for index, record in enumerate(group):
            sides[(index + first) % 2].append(record)
    return _half(sides[0], sides[1]), _half(sides[1], sides[0])


def _half(used: Sequence[Record], tested: Sequence[Record]) -> Half:
    texts = [fact_form(text) for record in used for text in _texts(record)]
    kept: list[Record] = []
    injected: list[str] = []
    for record in tested:
        facts = [fact_form(fact) for fact in record.key_answers]
        taught = any(states(text, fact) for text in texts for fact in facts if fact)
        if taught:
            injected.append(record.id)
        else:
            kept.append(record)
    return Half(tuple(used), tuple(kept), tuple(injected))


def _texts(record: Record) -> list[str]:
    return [record.completion, *(turn.content for turn in record.prompt)]


_FULL = (
    "memory ran out; the same command tries it again: with a smaller train.tokens_per_pass, in "
    "fewer bits (precision), or on a larger machine"
)
_THROUGH_A_GUARD: tuple[Family, ...] = ("asking", "sampling", "compression")
"""What meets a guard on its way; everything else reaches for the weights or states behind it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackBattery:
    """A list of attacks, the facts, and where the evidence goes."""

    store: AttackStore
    evidence: EvidenceStore
    """The whole of it: an audit has asked in some of these forms already."""
    attacks: tuple[Attack, ...]
    records: Mapping[str, Sequence[Record]]
    """`forget`, and `control` where control items stand for gold."""
    seed: int
    access: Access = "T3"
    """What the attacker has; attacks that take more are not made."""

    def run(
        self, target: Target, role: str, *, bar: Bar, lending: SharedAttackCache | None = None
    ) -> None:
        """Attack one model with everything that is not in the store yet.

        What could not be done to the judged model is not done to the others, and what brought
        nothing out of it is not done to the golds: nothing is no more than any gold says.

        Args:
            target: The model.
            role: `unlearned` first, then `original` and the golds.
            bar: Advanced by one an attack.
            lending: What other runs know of this model, where they share it.
        """
        for attack in self.attacks:
            if self._is_due(attack, role):
                for split, records in self.records.items():
                    self._split(attack, target, role, split, records, lending)
            bar.advance(1, detail=f"{role} {attack.name}")

    def repeat(self, role: str) -> bool:
        """Take what the audit has asked itself; return whether more is to be asked of a model.

        Args:
            role: A gold, whose weights need not be loaded where nothing more is to be asked.
        """
        due = [attack for attack in self.attacks if self._is_due(attack, role)]
        known = self.evidence.context().models.get(role) if self.evidence.begun() else None
        if known is None:
            return bool(due)
        left = False
        for attack in due:
            for split, records in self.records.items():
                found = self._asked_before(attack, role, split, records, digest=known)
                if found is None:
                    left = True
                else:
                    unit = AttackUnit(attack=attack.name, role=role, split=split)
                    self.store.write(unit, found, self._known(attack).made)
        return left

    def _is_due(self, attack: Attack, role: str) -> bool:
        """Tell whether an attack is made on a model, by what it brought out of the judged one."""
        if attack.meta.access > self.access:
            return False
        if role == JUDGED:
            return True
        judged = self.outcome(attack, JUDGED, "forget")
        if judged.missing:
            return False
        # Where something else than facts stated is measured, gold and original are the scale.
        needed = attack.meta.own_scale or role == ORIGINAL or "control" in self.records
        return needed or isinstance(attack, Plainly) or self._came_back(judged)

    def _came_back(self, judged: AttackOutcome) -> bool:
        items = {item.record: item for item in self.evidence.items_with_facts("forget")}
        observable = observable_of(list(items.values()))
        return any(knowledge(each, items[each.record], observable) for each in judged.attempts)

    def _asked_before(
        self, attack: Attack, role: str, split: str, records: Sequence[Record], *, digest: str
    ) -> AttackOutcome | None:
        """Return the answers that the audit has to the same questions of the same weights."""
        if attack not in _AS_ASKED or not self.evidence.begun():
            return None
        unit = Unit.under(attack.name, role=role, split=split, kind="answers")
        if self.evidence.context().models.get(role) != digest or not self.evidence.has(unit):
            return None
        said = {answer.record: answer for answer in self.evidence.answers(unit)}
        attempts = tuple(
            Attempt(
                record=record.id,
                told=record.question,
                given=said[record.id].given,
                text=said[record.id].text,
            )
            for record in records
            if record.id in said
        )
        return AttackOutcome(attempts=attempts, weights=digest) if attempts else None

    def outcome(self, attack: Attack, role: str, split: str) -> AttackOutcome:
        """Return what an attack brought out of a model, both halves together; empty if nothing."""
        return read_outcome(self.store, self._known(attack), role, split, access=self.access)

    def _known(self, attack: Attack) -> Recorded:
        return recorded(attack, seed=self.seed)

    def _split(
        self,
        attack: Attack,
        target: Target,
        role: str,
        split: str,
        records: Sequence[Record],
        lending: SharedAttackCache | None,
    ) -> None:
        for fold, half in enumerate(self._halves(attack, records)):
            known = read_fold(self.store, self._known(attack), role, split, fold)
            # What was missing may be there now, and a gold may have been trained anew.
            if known is not None and not known.missing and known.weights == target.digest:
                continue
            lent = self._asked_before(attack, role, split, records, digest=target.digest)
            if lent is None and lending is not None:
                lent = lending.find(attack, split, fold)
            outcome = self._attacked(attack, target, half) if lent is None else lent
            unit = AttackUnit(attack=attack.name, role=role, split=split, fold=fold)
            self.store.write(unit, outcome, self._known(attack).made)
            if lending is not None and lent is None:
                lending.keep(attack, split, fold, outcome)

    def _halves(self, attack: Attack, records: Sequence[Record]) -> tuple[Half, ...]:
        if attack.meta.learns:
            return halves(records, seed=self.seed)
        return (Half((), tuple(records), ()),)

    def _attacked(self, attack: Attack, target: Target, half: Half) -> AttackOutcome:
        started, worked = time.monotonic(), time.process_time()
        with TemporaryDirectory(dir=_there(target.scratch)) as scratch:
            metered = replace(target, meter=AttackMeter(), scratch=Path(scratch))
            try:
                _refuse_past_a_guard(attack, target)
                attempts = tuple(attack.run(metered, half.used, half.tested))
            except Unmet as reason:
                return AttackOutcome(
                    missing=str(reason),
                    applies=isinstance(reason, Unavailable),
                    injected=half.injected,
                    weights=target.digest,
                )
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                return AttackOutcome(missing=_FULL, injected=half.injected, weights=target.digest)
        return AttackOutcome(
            weights=target.digest,
            attempts=attempts,
            injected=half.injected,
            cost=AttackCost(
                tokens=metered.meter.tokens,
                steps=metered.meter.steps,
                seconds=round(time.monotonic() - started, 2),
                cpu=round(time.process_time() - worked, 2),
            ),
        )


def _refuse_past_a_guard(attack: Attack, target: Target) -> None:
    """Refuse what would attack the unchanged weights and call it an attack on the guard."""
    if target.network.guard is None or attack.meta.family in _THROUGH_A_GUARD:
        return
    if not isinstance(attack, Unplug):
        raise Unmet(
            "it takes the weights, and those behind this guard are the original's, unchanged; "
            "see what unplug brings out, or attack the model behind the guard by its own name"
        )


def _there(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


_AS_ASKED = (
    Plainly(),
    *(attack for attack in AUDIT_FORMS if isinstance(attack, Prefill | Rounding)),
)
"""Attacks whose questions are, word for word, those that an audit asks itself."""

_BEYOND_PLAIN = (Cloze, OwnPrompts, Prefill)
"""Attacks that reach what plain questions may not: passages, and the end of long answers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackRun:
    """The battery of one run folder while it is carried out."""

    prepared: Prepared
    battery: AttackBattery
    scratch: Path
    shared: EvidenceStore | None = None
    """Where attacks on original and golds are kept for other runs."""

    @classmethod
    def open(
        cls,
        prepared: Prepared,
        evidence: EvidenceStore,
        attacks: Sequence[Attack],
        *,
        scratch: Path,
        access: Access = "T3",
        cache: AnswerCache | None = None,
    ) -> "AttackRun":
        """Start or go on with a battery.

        Args:
            prepared: The inputs of the run; without gold its control items are attacked as well.
            evidence: Where the evidence goes.
            attacks: The battery; the plain question is among them.
            scratch: Folder for files of activations.
            access: What the attacker has.
            cache: Where attacks on original and golds are kept, if the settings name no folder.
        """
        scope, most = prepared.scope, prepared.settings.audit.attack_records
        records = {"forget": with_key_spans(scope.forget, evidence)}
        if not prepared.settings.request.gold and scope.control:
            records["control"] = scope.control
        battery = AttackBattery(
            store=AttackStore(evidence),
            evidence=evidence,
            attacks=tuple(attacks),
            records={split: spread(every, most) for split, every in records.items()},
            seed=prepared.settings.train.seed,
            access=access,
        )
        folder = prepared.settings.attack_store
        if folder is not None:
            expires = prepared.settings.audit.expires(datetime.now(UTC).date())
            shared = shared_store(Path(folder), evidence, expires=expires)
        else:
            shared = None if cache is None else cache.attacks(evidence)
        return cls(prepared=prepared, battery=battery, scratch=scratch, shared=shared)

    @property
    def total(self) -> int:
        """Units of progress: attacks times models."""
        golds = len(self.prepared.settings.request.gold)
        return (1 + golds) * len(self.battery.attacks) + len(self._scaled().attacks)

    def judged(self, loaded: Loaded, original: Mapping[str, Tensor], bar: Bar) -> None:
        """Attack the model under judgement with everything.

        Args:
            loaded: The model.
            original: All tensors of the original, or those that differ.
            bar: Advanced by one an attack.
        """
        # It may be a gold, which other runs have attacked.
        lending = self._lending(loaded, original, keeps=False)
        self._attack(self.battery, loaded, original, JUDGED, bar, lending)

    def gold(self, index: int, loaded: Loaded, original: Mapping[str, Tensor], bar: Bar) -> None:
        """Attack a gold in the same way."""
        lending = self._lending(loaded, original)
        self._attack(self.battery, loaded, original, f"gold-{index}", bar, lending)

    def original(self, loaded: Loaded, bar: Bar) -> None:
        """Ask the original plainly, and under the attacks whose scale may be their own."""
        self._attack(self._scaled(), loaded, {}, ORIGINAL, bar, self._lending(loaded, {}))

    def _lending(
        self, loaded: Loaded, original: Mapping[str, Tensor], *, keeps: bool = True
    ) -> SharedAttackCache | None:
        """Return what other runs share about a model without a guard, whose rules have no digest.

        Args:
            loaded: The model.
            original: The original's tensors, where attacks are lent them.
            keeps: Whether this run leaves there what it learns.
        """
        if self.shared is None or loaded.network.guard is not None:
            return None
        prepared, settings = self.prepared, self.prepared.settings
        train = settings.train
        lent = weights_digest(original) if original else ""
        world = [
            (loaded.digest, lent, prepared.data_digest, str(prepared.source.dtype)),
            (settings.template, settings.audit.max_new_tokens, settings.audit.attack_records),
            (train.max_length, train.tokens_per_pass),
            __version__,
        ]
        return SharedAttackCache(
            store=AttackStore(self.shared),
            world=sha256_json(world),
            seed=self.battery.seed,
            keeps=keeps,
        )

    def _scaled(self) -> AttackBattery:
        asked = (Plainly, *_BEYOND_PLAIN)
        chosen = (a for a in self.battery.attacks if a.meta.own_scale or isinstance(a, asked))
        return replace(self.battery, attacks=tuple(chosen))

    def _attack(
        self,
        battery: AttackBattery,
        loaded: Loaded,
        original: Mapping[str, Tensor],
        role: str,
        bar: Bar,
        lending: SharedAttackCache | None,
    ) -> None:
        scope, settings = self.prepared.scope, self.prepared.settings
        # Another architecture has nothing on the way to the original, and perhaps other tokens.
        base = changed(loaded.network, original) if same_shapes(loaded.network, original) else {}
        target = Target(
            reference=loaded.name,
            digest=loaded.digest,
            judged=role == JUDGED,
            network=loaded.network,
            encoder=self._encoder(loaded),
            source=self.prepared.source,
            original=base,
            retain=scope.retain,
            neighbours=scope.neighbours,
            strangers=(*scope.holdout, *scope.control),
            max_new_tokens=settings.audit.max_new_tokens,
            tokens_per_pass=settings.train.tokens_per_pass,
            seed=settings.train.seed,
            scratch=self.scratch,
        )
        battery.run(target, role, bar=bar, lending=lending)

    def _encoder(self, loaded: Loaded) -> Encoder:
        """Return the original's encoder where a model's tokenizer writes records alike.

        Else its own: the audit's own questions are put in the same way.
        """
        own = encoder_of(self.prepared.settings, loaded.tokenizer)
        records = [record for group in self.battery.records.values() for record in group]
        return self.prepared.encoder if own.writes_as(self.prepared.encoder, records) else own


def gather_attacks(stress: AttackRun, original: Loaded, judged: Loaded, console: Console) -> None:
    """Attack the judged model, then the original and the golds with what it is held to.

    Args:
        stress: The battery.
        original: The model before forgetting.
        judged: The model after it.
        console: Where to say what happens.
    """
    prepared = stress.prepared
    names = ", ".join(attack.name for attack in stress.battery.attacks)
    console.line("attacks", f"{len(stress.battery.attacks)}: {names}")
    known, attacked = len(prepared.scope.forget), len(stress.battery.records["forget"])
    if attacked < known:
        console.note(f"on {attacked} of the {known} forget records, evenly spaced")
    base = {name: w.cpu() for name, w in original.network.model.state_dict().items()}
    with console.progress("attack", total=stress.total, unit="attacks") as bar:
        stress.judged(judged, base, bar)
        stress.original(original, bar)
        for index, reference in enumerate(prepared.settings.request.gold):
            if stress.battery.repeat(f"gold-{index}"):
                stress.gold(index, load(reference, prepared.source), base, bar)
            else:
                bar.advance(len(stress.battery.attacks), detail=f"gold-{index}")


def battery_of(settings: AuditSettings) -> tuple[Attack, ...]:
    """Return what an audit attacks with, beside its own questions.

    Raises:
        UsageError: There is no attack of that name, or a tool that none of them uses.
        InputError: The file of prompts is missing or malformed.
    """
    tools = tools_of(settings)
    return with_resources(
        extra_attacks(settings.level, from_levels(settings.attacks, tools)), tools
    )


def tools_of(settings: AuditSettings) -> AttackResources:
    """Return what the settings hand to the attacks."""
    return AttackResources(
        prompts=settings.prompts, translator=settings.translator, sibling=settings.sibling
    )


def require_attacks(settings: Settings) -> None:
    """Check that what an audit is to attack with is there, before hours of training.

    Raises:
        ExpungeError: As `battery_of`; there is no model of the sibling's name; or an attack is
            named that the model rules out.
    """
    battery_of(settings.audit)
    require_fitting(
        settings.audit.attacks, lambda: load_config(settings.model, source_of(settings))
    )
    if settings.audit.sibling:
        load_config(settings.audit.sibling, source_of(settings))


def require_fitting(named: Sequence[str], config: Callable[[], PreTrainedConfig]) -> None:
    """Refuse attacks that were named and that the original's architecture rules out.

    A level has such attacks, too; there their outcome is `not applicable`.

    Args:
        named: Names that the user gave.
        config: Returns the configuration of the original; called where it matters.

    Raises:
        UsageError: `original-routing` is named, and the model has no routers.
    """
    if ROUTING_ATTACK in named and not has_routers(config()):
        raise UsageError(
            "attack-not-applicable",
            what=f"attack {ROUTING_ATTACK} does not apply",
            why=NO_ROUTERS,
            fix="leave it out, or attack a mixture of experts",
        )


def attack_at_level(
    prepared: Prepared,
    evidence: EvidenceStore,
    judged: Loaded,
    *,
    scratch: Path,
    console: Console,
    cache: AnswerCache | None = None,
) -> None:
    """Carry out what an audit's settings ask for beside the questions of the audit itself.

    Args:
        prepared: The inputs of the run.
        evidence: The evidence of the audit.
        judged: The model under judgement.
        scratch: Folder for files of activations.
        console: Where to say what happens.
        cache: Where attacks on original and golds are kept for other runs.
    """
    attacks = battery_of(prepared.settings.audit)
    if attacks:
        stress = AttackRun.open(prepared, evidence, attacks, scratch=scratch, cache=cache)
        original = load(prepared.settings.model, prepared.source)
        gather_attacks(stress, original, judged, console)
