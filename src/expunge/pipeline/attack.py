"""The stress protocol: every attack on one model, held against gold, and what came back.

What has been attacked is in the folder and is not attacked again, so the same command resumes, and
another choice of attacks adds to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from expunge import __version__
from expunge.attacks.base import Attack
from expunge.attacks.presets import (
    LEVELS,
    AttackResources,
    from_levels,
    merge_attacks,
    own_attack,
    with_resources,
)
from expunge.attacks.prompting.plain import Plainly
from expunge.attacks.runner import AttackRun, gather_attacks, require_fitting
from expunge.attacks.store import JUDGED
from expunge.config.catalogue import Level
from expunge.config.resolve import to_toml
from expunge.config.settings import Settings
from expunge.errors import UsageError, named_in_part
from expunge.evals.attack_gates import Scorer, ScoringRules
from expunge.evals.recovery import AttackRecovery
from expunge.evidence.collect import item
from expunge.evidence.context import Access, Policy
from expunge.evidence.store import ORIGINAL, EvidenceStore
from expunge.models.loading import files_digest, load, load_config
from expunge.models.reference import is_laid_over
from expunge.pipeline.publish import masker, retention, versions
from expunge.pipeline.run_folder import RunFolder, interrupted, open_run, run_id
from expunge.preparation.prepare import Prepared, as_stored, prepare
from expunge.provenance.attack_manifest import BATTERY, Attacked, write_attack_manifest
from expunge.provenance.keys import key_path, operator_key
from expunge.provenance.lineage import answer_cache, require_same_request
from expunge.provenance.manifest import DESTROYED
from expunge.provenance.signature import key_fingerprint, signing_key
from expunge.reporting.recovery import Summary, summarise, write_ladder
from expunge.reporting.redaction import OpenText, Redactor
from expunge.utils.console import Console, SilentConsole
from expunge.utils.io import AnyPath, private, sha256_json, write_text

RUNS = Path("runs")
_MOST_NAMED = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackOptions:
    """Which attacks, with which budget, by whom.

    Example:
        >>> options = AttackOptions(only=("prefill-25", "cloze"), access="T1")
        >>> [attack.name for attack in options.attacks()]
        ['plain', 'prefill-25', 'cloze']
    """

    level: Level = "quick"
    only: tuple[str, ...] = ()
    """Names of attacks, and `package.module:Class` of your own; empty: all of the level."""
    further: tuple[str, ...] = ()
    """Names of attacks to make beside those of the level; nothing where `only` is given."""
    access: Access = "T3"
    """What the attacker has: queries (T1), a fine-tuning service (T2), the weights (T3)."""
    tools: AttackResources = field(default_factory=AttackResources)
    """What the attacker brings along."""

    def attacks(self) -> tuple[Attack, ...]:
        """Return the attacks, the user's own prompts last.

        Raises:
            UsageError: No such attack or translator, a tool that none uses, no file of prompts.
            InputError: The file of prompts is missing or malformed.
        """
        ours = tuple(name for name in self.only if ":" not in name)
        if self.only:
            named, own = ours or (Plainly().name,), ()
        else:
            named, own = self.further, LEVELS[self.level]
        found = merge_attacks(self.level, from_levels(named, self.tools), own=own)
        theirs = (own_attack(name) for name in self.only if name not in ours)
        return with_resources((*found, *theirs), self.tools)


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackedModel:
    """A folder with a finished battery, and its ladder.

    Example:
        >>> summary = Summary(result="held", sentence="Nothing came back.", lines=(), counted="")
        >>> AttackedModel(folder=Path("runs/attack"), rungs=(), summary=summary).summary.result
        'held'
    """

    folder: Path
    rungs: tuple[AttackRecovery, ...]
    summary: Summary


def attack(
    settings: Settings,
    *,
    model: str,
    choice: AttackOptions,
    against: AnyPath | None = None,
    console: Console | None = None,
) -> AttackedModel:
    """Attack a model and score what came back against gold, or against control items.

    Args:
        settings: The request, and the original under `model`.
        model: Reference of the model to attack.
        choice: Which attacks.
        against: The run folder that the settings come from; the records and the original must be
            those of that run.
        console: Where to say what happens; silent by default.

    Raises:
        ExpungeError: What was written stays; the same call resumes.

    Example:
        >>> from expunge import Request, Settings
        >>> request = Request(goal="removal", forget=("forget.jsonl",))
        >>> settings = Settings(model="org/original", request=request)
        >>> options = AttackOptions(only=("prefill-25",))
        >>> attacked = attack(settings, model="org/unlearned", choice=options)  # doctest: +SKIP
    """
    console, attacks = console or SilentConsole(), choice.attacks()
    prepared = _prepared(settings, model, choice, console)
    others = [each for each in (*settings.request.gold, choice.tools.sibling) if each]
    for reference in others:
        load_config(reference, prepared.source)  # before hours of attacks, not after them
    beside = [files_digest(reference, prepared.source) for reference in others]
    original = load(settings.model, prepared.source)
    if against is not None:
        require_same_request(Path(against), prepared, original=original.digest)
    judged = load(model, prepared.source)
    laid_over = is_laid_over(model)
    # Ladders of attackers with other access are not joined: each has a folder of its own.
    less = [] if choice.access == "T3" else [choice.access]
    identity = sha256_json(["attack", original.digest, judged.digest, laid_over, beside, *less])
    with _open(prepared, identity) as run:
        _begin(run)
        console.log_to(run.log, mask=masker(prepared).label)
        write_text(run.config, to_toml(settings))
        evidence = _evidence(prepared, run)
        key = operator_key(key_path(), run=run.path)
        cache = answer_cache(prepared, key, console.warn)
        stress = AttackRun.open(
            prepared, evidence, attacks, scratch=run.checkpoints, access=choice.access, cache=cache
        )
        try:
            console.line("model", f"{judged.name}, held against {settings.model}")
            gather_attacks(stress, original, judged, console)
        except KeyboardInterrupt as interrupt:
            raise interrupted(run) from interrupt
        models = {ORIGINAL: original.digest, JUDGED: judged.digest}
        return _conclude(stress, evidence, run, models, console)


def _begin(run: RunFolder) -> None:
    """Take the manifest of an earlier battery away: it is true again when this one ends.

    Raises:
        UsageError: The evidence of the folder was destroyed.
    """
    if (run.path / DESTROYED).exists():
        raise UsageError(
            "evidence-destroyed",
            what=f"the evidence of {run.path} was destroyed",
            why="new evidence would make the note on its destruction untrue",
            fix="name another folder with --out",
        )
    run.manifest.unlink(missing_ok=True)


def _conclude(
    stress: AttackRun,
    evidence: EvidenceStore,
    run: RunFolder,
    models: Mapping[str, str],
    console: Console,
) -> AttackedModel:
    """Score the evidence, write and say the ladder."""
    settings = stress.prepared.settings
    rules = _rules(stress, run.path, console)
    made = {each.name: each for each in rules.attacks}
    scorer = Scorer(evidence=evidence, rules=rules)
    rungs, left_out = scorer.rungs(), scorer.left_out()
    every = evidence.items_with_facts()
    items = [item for item in every if item.record not in left_out]
    _name_left_out(left_out, console)
    summary = summarise(rungs, items=items, access=stress.battery.access, left_out=len(left_out))
    console.line("verdict", summary.sentence)
    console.note(summary.counted)
    for line in summary.lines:
        console.note(line)
    write_ladder(
        run.path,
        rungs,
        summary,
        attempts={
            rung.attack: [
                attempt
                for attempt in scorer.outcome(made[rung.attack], JUDGED, "forget").attempts
                if attempt.record not in left_out
            ]
            for rung in rungs
            if rung.worst is not None
        },
        items=items,
        redactor=Redactor(every) if settings.report.redact else OpenText(),
    )
    run.prune()
    signing = signing_key(run.path)
    console.line("wrote", f"{run.path}/   attack.md, attack.json, evidence, manifest.json")
    attacked = Attacked(
        rules=rules,
        models=models,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=versions(),
        precision=stress.prepared.source.precision,
        signer=key_fingerprint(signing.public) if signing else "",
    )
    write_attack_manifest(
        run.path,
        attacked,
        run_id=run.run_id,
        general=[item(each, "generic") for each in stress.prepared.audited()["generic"]],
        key=operator_key(key_path(), run=run.path),
        evidence=retention(settings, evidence),
        signing=signing,
    )
    return AttackedModel(folder=run.path, rungs=rungs, summary=summary)


def _name_left_out(left_out: Sequence[str], console: Console) -> None:
    if left_out:
        named = named_in_part(left_out, most=_MOST_NAMED)
        console.warn(f"not known to the original, so no attack is judged on it: {named}")


def _rules(stress: AttackRun, run: Path, console: Console) -> ScoringRules:
    """Return how the folder is scored, with the attacks that earlier commands made there.

    An attack that was made again, with another budget perhaps, stands in the place of the earlier.
    """
    settings = stress.prepared.settings
    rules = ScoringRules.of(
        stress.battery.attacks,
        golds=len(settings.request.gold),
        policy=Policy(**settings.request.margins.model_dump()),
        seed=settings.train.seed,
        access=stress.battery.access,
    )
    if not (run / BATTERY).is_file():
        return rules
    now = {each.name: each for each in rules.attacks}
    before = [now.pop(each.name, each) for each in Attacked.read(run).rules.attacks]
    joined = replace(rules, attacks=(*before, *now.values()))
    if earlier := len(joined.attacks) - len(rules.attacks):
        console.note(f"joined with {earlier} attacks that were made here before")
    return joined


def _evidence(prepared: Prepared, run: RunFolder) -> EvidenceStore:
    """Open the evidence of the run, sealed where the settings say so, and write its items."""
    evidence = EvidenceStore(private(run.evidence))
    if prepared.settings.audit.seal:
        evidence.seal(operator_key(key_path(), run=run.path))
    scope = prepared.scope
    splits = {"forget": scope.forget}
    if not prepared.settings.request.gold:
        splits["control"] = scope.control
    evidence.write_items([item(r, split) for split, group in splits.items() for r in group])
    return evidence


def _prepared(settings: Settings, model: str, choice: AttackOptions, console: Console) -> Prepared:
    """Return the inputs of the attacks that were named, which the model must not rule out."""
    prepared = as_stored(prepare(settings), model, console)
    require_fitting((*choice.only, *choice.further), lambda: prepared.config)
    return prepared


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
