"""The main job: plan, forget, audit, report; and the audit alone.

Each function is what the command of the same name calls. Data flows one way; everything that has
been written to the run folder is not computed again, so the same command resumes at any point.
"""

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from expunge.attacks.runner import attack_at_level, require_attacks
from expunge.config.resolve import to_toml
from expunge.config.settings import Settings
from expunge.errors import named_in_part
from expunge.evals.auditor import Auditor
from expunge.evals.results import Results, Verdict
from expunge.evidence.store import EvidenceStore
from expunge.methods.guards.base import Guard
from expunge.models.interpolation import changed, snapshot
from expunge.models.loading import Loaded, choose_device, load
from expunge.models.reference import beneath, is_adapter, is_laid_over
from expunge.models.transformer import Network
from expunge.pipeline.exact import retrain
from expunge.pipeline.gold import halves_beside, over_clean_base, replaced
from expunge.pipeline.plan import Plan, plan_stages
from expunge.pipeline.publish import masker, publish, traces_in_model
from expunge.pipeline.routes import Chosen, choose_route, with_golds, without_routes
from expunge.pipeline.run_folder import AUDITED, RunFolder, interrupted, mark_latest, open_run
from expunge.pipeline.tracking import run_to_track, summary_of, tracked
from expunge.pipeline.train import FinishedStage, train_stages
from expunge.pipeline.workers import cost_together, dismiss, follow, identity, require_spreadable
from expunge.planning.cost import require_memory
from expunge.preparation.prepare import Prepared, as_stored, encoder_of, prepare, stage_names
from expunge.provenance.keys import key_path, operator_key
from expunge.provenance.lineage import (
    answer_cache,
    earlier_runs,
    require_not_forgotten,
    require_same_request,
)
from expunge.provenance.training_facts import claim_in
from expunge.reporting.notebook import Rows, results_html, results_table
from expunge.reporting.schema import read_facts, read_results, write_results
from expunge.reporting.wording import headline, lines, notices
from expunge.training.distributed import Team, joined
from expunge.utils.console import Console, SilentConsole
from expunge.utils.file_names import MODEL
from expunge.utils.io import AnyPath, sha256_json, write_text
from expunge.utils.system import available_gib

if TYPE_CHECKING:
    from pandas import DataFrame

RUNS = Path("runs")
_MOST_NAMED = 10


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class RunOutcome:
    """A finished run folder and what its audit concluded; a notebook shows it as a table.

    Example:
        >>> from expunge import Request, Settings
        >>> request = Request(goal="removal", forget=("forget.jsonl",))
        >>> settings = Settings(model="org/model", request=request)
        >>> print(forget(settings).verdict.sentence)  # doctest: +SKIP
    """

    folder: Path
    results: Results

    @classmethod
    def read(cls, folder: AnyPath) -> "RunOutcome":
        """Return what a finished run folder holds.

        Raises:
            InputError: It holds no results, or they cannot be read.
        """
        return cls(folder=Path(folder), results=read_results(Path(folder)))

    @property
    def verdict(self) -> Verdict:
        """The ruling, with the sentence and the reasons behind it."""
        return self.results.verdict

    @property
    def model(self) -> Path:
        """Folder of the unlearned model, for `AutoModelForCausalLM.from_pretrained`.

        An audit leaves none: it judges a model that lies elsewhere.
        """
        return self.folder / MODEL

    @property
    def steps(self) -> int:
        """Steps that were trained; 0 of an edit, a guard or an audit."""
        return read_facts(self.folder).steps

    def table(self, rows: Rows = "gates") -> "DataFrame":
        """Return the gates, or with `scores` the numbers behind them, as a pandas data frame.

        Raises:
            UsageError: pandas is not installed, or there is no table of that name.
        """
        return results_table(self.results, rows)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the verdict, and the gates by axis."""
        return results_html(self.results, folder=str(self.folder))

    def __repr__(self) -> str:
        """Return folder and ruling: the results are long."""
        return f"RunOutcome(folder={str(self.folder)!r}, verdict={self.verdict.ruling.value!r})"


def plan(settings: Settings, *, console: Console | None = None) -> Plan:
    """Say what a run will compute and cost; no weight is loaded.

    Args:
        settings: What to do.
        console: Where to say what was taken; silent by default.

    Raises:
        ExpungeError: An input is missing or malformed, or the run cannot fit on this machine.

    Example:
        >>> from expunge import Request, Settings
        >>> from expunge.config.settings import AuditSettings
        >>> request = Request(goal="removal", forget=("forget.jsonl",))
        >>> audit = AuditSettings(attacks=("prefil",))
        >>> plan(Settings(model="org/model", request=request, audit=audit))
        Traceback (most recent call last):
            ...
        expunge.errors.UsageError: error[unknown-attack]: there is no attack prefil...
    """
    console = console or SilentConsole()
    require_attacks(settings)
    chosen = _in_order(settings)
    first = chosen.parts[0]
    for note in first.scope.notes:
        console.note(note)
    planned = replace(plan_stages(chosen.parts), routes=chosen.routes)
    require_memory(planned.cost, available_gib(first.source.device), planned.ways)
    return planned


def forget(settings: Settings, *, console: Console | None = None) -> RunOutcome:
    """Make a model forget, audit it, and write the run folder.

    Where torchrun has started several processes, all of them train; the first one does the rest,
    and the others wait for it and return what it found.

    Args:
        settings: What to do.
        console: Where to say what happens; silent by default.

    Returns:
        The run folder: a loadable model (or adapter) with its evidence, and the verdict.

    Raises:
        ExpungeError: What was written stays; the same call resumes.

    Example:
        >>> from expunge import Request, Settings
        >>> request = Request(goal="removal", forget=("forget.jsonl",))
        >>> outcome = forget(Settings(model="org/model", request=request))  # doctest: +SKIP
    """
    console = console or SilentConsole()
    with joined(choose_device(settings.device)) as team:
        if team.size > 1:  # a training that is repeated bit for bit is that of one process
            settings = without_routes(settings)
        if team.leads:
            return _lead(settings, team, console)
        folder = follow(settings, team)
        return RunOutcome(folder=folder, results=read_results(folder))


def _lead(settings: Settings, team: Team, console: Console) -> RunOutcome:
    require_spreadable(settings, team)
    require_attacks(settings)
    chosen = _in_order(settings)
    settings = chosen.settings
    prepared = replace(chosen.parts[-1], settings=settings)
    free = available_gib(prepared.source.device)  # the plan counts the model that is loaded next
    original = load(settings.model, prepared.source)
    method = "-".join(stage_names(settings))
    with _open(prepared, identity(prepared, original.digest), method=method) as run:
        if run.finished:
            console.line("done", f"{run.path} is finished; nothing to do")
            outcome = _finished(prepared, run, console)
        else:
            told = run_to_track(settings, run.run_id, kind="forget")
            try:
                with tracked(settings.tracker, told, console) as conclude:
                    outcome = _forget(prepared, chosen, original, run, console, team, free)
                    conclude(summary_of(outcome.results), outcome.verdict.ruling.value)
            except KeyboardInterrupt as interrupt:
                raise interrupted(run) from interrupt
    _recall(settings.model, run, console)
    dismiss(team, run)
    return outcome


def audit(
    settings: Settings,
    *,
    model: str,
    gold: bool = False,
    against: Path | None = None,
    console: Console | None = None,
) -> RunOutcome:
    """Judge any model in the place of the unlearned one.

    Args:
        settings: The request, and the original under `model`.
        model: Reference of the model to judge.
        gold: Whether it is known that the model never saw what is to be forgotten: then there is
            nothing that an adapter of it could cover.
        against: The run folder that the settings come from; the records and the original must be
            those of that run.
        console: Where to say what happens; silent by default.

    Raises:
        ExpungeError: What was written stays; the same call resumes.

    Example:
        >>> from expunge import Request, Settings
        >>> request = Request(goal="removal", forget=("forget.jsonl",), gold=("org/retrained",))
        >>> settings = Settings(model="org/original", request=request)
        >>> outcome = audit(settings, model="org/unlearned")  # doctest: +SKIP
    """
    console = console or SilentConsole()
    settings = with_golds(settings)
    with joined(choose_device(settings.device)) as team:
        if team.leads:
            return _judge(settings, model, team, console, gold=gold, against=against)
        folder = follow(settings, team)
        return RunOutcome(folder=folder, results=read_results(folder))


def _judge(
    settings: Settings,
    model: str,
    team: Team,
    console: Console,
    *,
    gold: bool,
    against: Path | None,
) -> RunOutcome:
    require_attacks(settings)
    prepared = as_stored(prepare(settings), model, console)
    original = load(settings.model, prepared.source)
    if against is not None:
        require_same_request(against, prepared, original=original.digest)
    judged = load(model, prepared.source)
    # Another original is another audit; the audit of a model is not the run that starts from it.
    covers = (
        not gold
        and is_adapter(model)
        and not replaced(model, prepared.scope.forget)
        and not over_clean_base(
            model,
            original=settings.model,
            golds=settings.request.gold,
            source=prepared.source,
        )
    )
    known = ["gold"] if gold else []
    known += _other_tokens(prepared, judged)
    both = sha256_json(["audit", original.digest, judged.digest, is_laid_over(model), *known])
    with _open(prepared, identity(prepared, both), method=AUDITED) as run:
        if run.finished:
            console.line("done", f"{run.path} is finished; nothing to do")
            outcome = _finished(prepared, run, console)
        else:
            told = run_to_track(settings, run.run_id, kind="audit")
            try:
                with tracked(settings.tracker, told, console) as conclude:
                    outcome = _audit(prepared, original, judged, run, console, covers=covers)
                    conclude(summary_of(outcome.results), outcome.verdict.ruling.value)
            except KeyboardInterrupt as interrupt:
                raise interrupted(run) from interrupt
    dismiss(team, run)
    return outcome


def _other_tokens(prepared: Prepared, judged: Loaded) -> list[str]:
    """Return what tells the same weights with another tokenizer apart; nothing if it is alike."""
    own = encoder_of(prepared.settings, judged.tokenizer)
    records = [record for group in prepared.audited().values() for record in group]
    if own.writes_as(prepared.encoder, records):
        return []
    return [sha256_json([own.encode(record).ids for record in records])]


def _forget(
    prepared: Prepared,
    chosen: Chosen,
    original: Loaded,
    run: RunFolder,
    console: Console,
    team: Team,
    free: float,
) -> RunOutcome:
    settings, each, removal = prepared.settings, chosen.parts, chosen.removal
    _begin(prepared, run, console)
    planned = replace(plan_stages(each), routes=chosen.routes)
    _introduce(prepared, planned, console)
    cost = cost_together(prepared, planned.cost, team)
    require_memory(cost, free, planned.ways)
    key = operator_key(key_path(), run=run.path)
    auditor = Auditor.open(
        prepared,
        run.evidence,
        key=key,
        adapter=settings.train.adapter and removal is None,
        guard=isinstance(prepared.method, Guard),
        trained=True,
        halves=halves_beside(prepared.settings.model, prepared.scope),
    )
    auditor = replace(auditor, cache=answer_cache(prepared, key, console.warn))
    watch = _Stopwatch()
    _before(auditor, original, console)
    auditor.require_known()
    _name_unknown(auditor, console)
    watch.pause()
    store = auditor.collector.store
    base = snapshot(original.network)
    if removal is None:
        done = train_stages(
            each, original, auditor, run, console, team, must_settle=bool(chosen.routes)
        )
    else:
        done = (retrain(prepared, removal, original, run, console),)
    watch.go_on()
    digest = done[-1].digest
    _after(auditor, original.network, digest, base, console)
    unlearned = replace(original, name=str(run.path), digest=digest)
    _attack(auditor, unlearned, run, console)
    stages = tuple(zip(each, done, strict=True))
    results = _publish(auditor, run, console, key, watch, planned=planned, stages=stages)
    _warn_of_traces(run, store, console)
    return _conclude(run, results, console)


def _audit(
    prepared: Prepared,
    original: Loaded,
    judged: Loaded,
    run: RunFolder,
    console: Console,
    *,
    covers: bool,
) -> RunOutcome:
    _begin(prepared, run, console)
    console.line("model", f"{judged.name}, held against {prepared.settings.model}")
    console.event("audit", {"model": judged.name, "original": prepared.settings.model})
    key = operator_key(key_path(), run=run.path)
    auditor = Auditor.open(
        prepared,
        run.evidence,
        key=key,
        adapter=covers,
        guard=judged.network.guard is not None,
        halves=halves_beside(prepared.settings.model, prepared.scope),
    )
    auditor = replace(auditor, cache=answer_cache(prepared, key, console.warn))
    watch = _Stopwatch()
    _before(auditor, original, console)
    _name_unknown(auditor, console)
    with console.progress("after", total=auditor.units_after(), unit="tests") as bar:
        auditor.judged(judged, original, bar)
    console.line("after", auditor.sentence("unlearned"))
    _attack(auditor, judged, run, console)
    results = _publish(auditor, run, console, key, watch)
    return _conclude(run, results, console)


def _publish(
    auditor: Auditor,
    run: RunFolder,
    console: Console,
    key: bytes,
    watch: "_Stopwatch",
    *,
    planned: Plan | None = None,
    stages: Sequence[tuple[Prepared, FinishedStage]] = (),
) -> Results:
    """Judge by all evidence, and write the results, the report, the card and the manifest."""
    results = auditor.judge()
    write_results(run.path, results)
    _say(auditor.prepared, run, results, console)
    console.end_log()
    publish(
        auditor.prepared,
        run,
        planned=planned,
        stages=stages,
        store=auditor.collector.store,
        key=key,
        audit_seconds=watch.seconds(),
        command=_command(),
    )
    return results


def _in_order(settings: Settings) -> Chosen:
    """Prepare what a run does, unless what is to be kept was to be forgotten by an earlier run."""
    chosen = choose_route(settings)
    scope = chosen.parts[0].scope
    require_not_forgotten(settings.model, scope.retain + scope.neighbours)
    return chosen


class _Stopwatch:
    """Adds up the time of the audit, which the training interrupts."""

    def __init__(self) -> None:
        self._total = 0.0
        self._since: float | None = time.monotonic()

    def pause(self) -> None:
        self._total, self._since = self.seconds(), None

    def go_on(self) -> None:
        self._since = time.monotonic()

    def seconds(self) -> float:
        running = 0.0 if self._since is None else time.monotonic() - self._since
        return self._total + running


def _begin(prepared: Prepared, run: RunFolder, console: Console) -> None:
    console.log_to(run.log, mask=masker(prepared).label)
    write_text(run.config, to_toml(prepared.settings))


def _before(auditor: Auditor, original: Loaded, console: Console) -> None:
    with console.progress("before", total=auditor.units_before(), unit="tests") as bar:
        recalled = auditor.before(original, bar)
    if recalled:
        console.note(f"{recalled} tests of original and golds are known from earlier runs")
    console.line("before", auditor.sentence("original"))


def _name_unknown(auditor: Auditor, console: Console) -> None:
    unknown = auditor.left_out()
    if unknown:
        named = named_in_part(unknown, most=_MOST_NAMED)
        console.warn(f"not known to the original, so nothing is claimed about it: {named}")


def _after(
    auditor: Auditor, judged: Network, digest: str, base: dict[str, Tensor], console: Console
) -> None:
    with console.progress("after", total=auditor.units_after(), unit="tests") as bar:
        auditor.after(judged, digest, changed(judged, base), bar)
    console.line("after", auditor.sentence("unlearned"))


def _attack(auditor: Auditor, judged: Loaded, run: RunFolder, console: Console) -> None:
    store, cache = auditor.collector.store, auditor.cache
    attack_at_level(
        auditor.prepared, store, judged, scratch=run.checkpoints, console=console, cache=cache
    )


def _open(prepared: Prepared, run_id: str, *, method: str) -> RunFolder:
    out = prepared.settings.out
    return open_run(
        None if out is None else Path(out),
        root=RUNS,
        run_id=run_id,
        method=method,
        now=datetime.now(UTC),
    )


def _introduce(prepared: Prepared, planned: Plan, console: Console) -> None:
    for label, text in planned.lines():
        console.line(label, text)
        if label == "retain":
            for note in prepared.scope.notes:
                console.note(note)
    console.event("plan", planned.to_dict())


def _warn_of_traces(run: RunFolder, store: EvidenceStore, console: Console) -> None:
    """Say which files of the model folder name a subject, or a place on this machine.

    An adapter and a guard must name their base, as a path where it is on this machine alone.
    """
    if found := traces_in_model(run, store):
        console.warn(
            f"before you publish {run.model}: {named_in_part(found, most=_MOST_NAMED)} names a"
            " subject or a fact, as paths and names of yours may"
        )
    base = beneath(str(run.model)) if run.model.is_dir() else None
    if base is not None and Path(base).is_absolute():
        console.warn(
            f"before you publish {run.model}: it names its base by a path of this machine; name a"
            " model of the Hub there, which others can load as well"
        )


def _conclude(run: RunFolder, results: Results, console: Console) -> RunOutcome:
    run.prune()
    mark_latest(run.path, root=RUNS)
    return _written(run, results, console)


def _finished(prepared: Prepared, run: RunFolder, console: Console) -> RunOutcome:
    run.prune()  # of a process that was killed after its manifest was written
    results = read_results(run.path)
    _say(prepared, run, results, console)
    return _written(run, results, console)


def _say(prepared: Prepared, run: RunFolder, results: Results, console: Console) -> None:
    verdict, goal = results.verdict, prepared.settings.request.goal
    first = " ".join((*notices(verdict), headline(verdict, goal=goal)))
    console.line("verdict", f"{verdict.ruling}: {first}")
    for line in lines(verdict, exact=claim_in(run.path)):
        console.note(line)


def _written(run: RunFolder, results: Results, console: Console) -> RunOutcome:
    console.line("wrote", f"{run.path}/   report.html, results, evidence, manifest")
    if run.model.is_dir():
        console.line("publish", f"{run.model}/   model, card, masked report: nothing else")
    return RunOutcome(folder=run.path, results=results)


def _recall(reference: str, run: RunFolder, console: Console) -> None:
    for earlier in earlier_runs(reference):
        ask = f"expunge audit {run.path} --against {earlier}"
        console.line("earlier", f"{earlier} erased other records; whether they stay erased: {ask}")


def _command() -> str:
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
