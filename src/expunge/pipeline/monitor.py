"""Monitoring: a model, or the server that answers for it, is asked the facts of a run again.

    FOLDER/monitor.json     rounds: when, how many facts were stated, the e-value; no text

The probes are the questions of the run's forget records, from its evidence: those whose fact
neither the audited model nor a gold states. Earlier turns of a conversation, such as the system's,
come from the data of the request, where they are still there. Answers are matched and dropped. Of a
fact that is stated, its keyed hash is kept. The alarm is that of `evals.statement_monitor`, so it
may be asked as often as one likes.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from expunge.config.settings import Settings
from expunge.data.records import Message, Record
from expunge.data.splits import gather
from expunge.errors import ExpungeError, GateError, InputError, UsageError, named_in_part
from expunge.evals.statement_monitor import RoundCounts, e_process, guess_chance
from expunge.evidence.collect import item
from expunge.evidence.store import UNLEARNED, Answer, EvidenceStore, Item, Unit
from expunge.metrics.e_values import LEVEL, e_value, is_decided
from expunge.metrics.key_facts import key_fact
from expunge.models.endpoint import Endpoint, is_endpoint
from expunge.models.loading import load
from expunge.models.number_formats import in_stored_format
from expunge.pipeline.chain_probes import Asker
from expunge.pipeline.run_folder import evidence_of
from expunge.preparation.prepare import source_of
from expunge.provenance.keys import key_path, operator_key, record_fingerprint
from expunge.utils.console import Console, SilentConsole
from expunge.utils.io import read_table, sha256_json, write_json

STATE = "monitor.json"
_SCHEMA = "expunge.monitor/1"
_MOST_NAMED = 5

Respondent = Callable[[Sequence[Record]], list[str]]
"""Answers the questions of records."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MonitorRound:
    """One round of questions.

    Example:
        >>> MonitorRound(when="2026-01-31T00:00:00+00:00", at_risk=20, fresh=0, stated=0).digest
        ''
    """

    when: str
    """ISO 8601, UTC."""
    at_risk: int
    """Facts that were not stated in an earlier round."""
    fresh: int
    """How many of these are stated now."""
    stated: int
    """How many facts are stated now."""
    digest: str = ""
    """Of the weights; empty where a server answered."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MonitorState:
    """All that a monitor keeps.

    Example:
        >>> MonitorState(target="org/model", probes="ab" * 32, facts=20, chance=0.05).alarms
        False
    """

    target: str
    """The model or the address that is asked."""
    probes: str
    """Digest of the keyed hashes of the facts."""
    facts: int
    """How many are asked in every round."""
    chance: float
    """Granted to a fact to be guessed in a round."""
    rounds: tuple[MonitorRound, ...] = ()
    said: tuple[str, ...] = ()
    """Keyed hashes of the facts that were stated in some round."""

    @property
    def evidence(self) -> tuple[float, ...]:
        """The e-process after each round."""
        counts = [RoundCounts(at_risk=each.at_risk, fresh=each.fresh) for each in self.rounds]
        return tuple(e_process(counts, chance=self.chance))

    @property
    def alarms(self) -> bool:
        """Whether it ever reached 1 / `LEVEL`; a monitor that has alarmed stays so."""
        return is_decided(max(self.evidence, default=0.0))


_adapter = TypeAdapter(MonitorState)


@dataclass(frozen=True, kw_only=True, slots=True)
class MonitorSchedule:
    """How often is asked.

    Example:
        >>> MonitorSchedule(times=3, every=86_400.0).times
        3
    """

    times: int | None = 1
    """Rounds of this call; None: until it is stopped."""
    every: float = 0.0
    """Seconds from the beginning of one round to that of the next."""


def monitor(
    settings: Settings,
    *,
    target: str,
    run: Path,
    served: str = "",
    schedule: MonitorSchedule | None = None,
    out: Path | None = None,
    console: Console | None = None,
) -> MonitorState:
    """Ask a model, or a server, whether it states what a run made it forget.

    Args:
        settings: Those of the run.
        target: Reference of a model, or the address of an API like OpenAI's.
        run: The run folder; its evidence holds the questions.
        served: Name of the model at the address; default: the only one that is served.
        schedule: How often is asked; default: once.
        out: Folder of the monitor; default: beside the run. The next call goes on there.
        console: Where to say what happens; silent by default.

    Raises:
        GateError: `facts-are-back`: the model states more than chance explains.
        InputError: The evidence or the target cannot be asked; earlier rounds are kept.
        UsageError: The folder is that of another monitor.

    Example:
        >>> monitor(settings, target="http://localhost:8000/v1", run=Path("run"))  # doctest: +SKIP
    """
    console, schedule = console or SilentConsole(), schedule or MonitorSchedule()
    key = operator_key(key_path(), run=run)
    records, chance = monitor_probes(run)
    records = _whole(settings, records, console)
    probes = {record_fingerprint(each.question, each.completion, key): each for each in records}
    folder = out or monitor_folder(run, target)
    fresh = MonitorState(
        target=target, probes=sha256_json(sorted(probes)), facts=len(probes), chance=chance
    )
    state = read_monitor(folder)
    _require_same(state, fresh, folder)
    state = state or fresh
    number = 0
    while True:
        began, number = time.monotonic(), number + 1
        last = number == schedule.times
        try:
            state = _asked(state, settings, probes, served, console)
        except ExpungeError as error:
            if last:
                raise
            console.warn(f"no round: {error.what}: {error.why}")
        else:
            _write(folder, state)
            _say(state, console)
            if state.alarms:
                raise _back(state, probes, folder)
        if last:
            return state
        time.sleep(max(0.0, schedule.every - (time.monotonic() - began)))


def monitor_folder(run: Path, target: str) -> Path:
    """Return where a monitor keeps its state, unless told otherwise: beside the run.

    Example:
        >>> monitor_folder(Path("runs/1"), "org/model").name
        '1-monitor-d1e29ac0'
    """
    return run.with_name(f"{run.name}-monitor-{sha256_json(target)[:8]}")


def monitor_probes(run: Path) -> tuple[tuple[Record, ...], float]:
    """Return what a run can be asked again with, from its evidence alone.

    Args:
        run: The run folder.

    Returns:
        The records whose fact neither the audited model nor a gold stated, and the chance that is
        granted to a guess.

    Raises:
        InputError: `no-probes`: the evidence is gone, or no record names a fact that was forgotten.
    """
    store = evidence_of(run)
    if not store.begun() or not store.has(_answers(UNLEARNED)):
        raise _no_probes(run, "its evidence is not there; it may have been destroyed")
    known = {each.record: each for each in store.items_with_facts("forget") if each.question}
    facts = {
        name: each
        for name, each in known.items()
        if key_fact(Answer(record=name, text=""), each) is not None
    }
    golds = [
        _stated(store, unit.role, facts)
        for unit in store.units()
        if unit.role.startswith("gold-") and unit == _answers(unit.role)
    ]
    silent = frozenset(facts) - _stated(store, UNLEARNED, facts)
    asked = silent.difference(*golds)
    if not asked:
        raise _no_probes(run, "no record names a fact that the model knew and states no more")
    records = tuple(_record(each) for name, each in facts.items() if name in asked)
    return records, guess_chance(golds, silent)


def _whole(settings: Settings, records: Sequence[Record], console: Console) -> tuple[Record, ...]:
    """Return records with all turns of their conversations, which the data of the request have."""
    try:
        given = {each.id: each for each in gather(settings.request, offline=True).forget}
    except ExpungeError:
        console.note("the data of the request are not here: the last turn is asked alone")
        return tuple(records)
    return tuple(
        replace(each, prompt=given[each.id].prompt)
        if each.id in given and given[each.id].question == each.question
        else each
        for each in records
    )


def facts_back(run: Path, audit: Path) -> tuple[int, int, bool]:
    """Return how many facts a later model states that a run's model and its golds did not.

    Args:
        run: The run folder.
        audit: Folder of an audit of the later model, on the same request.

    Returns:
        Facts that are stated when asked plainly, facts that were asked, and whether these are more
        than chance explains.

    Raises:
        InputError: As `monitor_probes`.
    """
    records, chance = monitor_probes(run)
    facts = {record.id: item(record, "forget") for record in records}
    stated = len(_stated(evidence_of(audit), UNLEARNED, facts))
    return stated, len(facts), is_decided(e_value(stated, len(facts), chance))


def _answers(role: str) -> Unit:
    return Unit(role=role, split="forget", kind="answers")


def _stated(store: EvidenceStore, role: str, facts: Mapping[str, Item]) -> frozenset[str]:
    rows = store.answers(_answers(role))
    return frozenset(r.record for r in rows if r.record in facts and key_fact(r, facts[r.record]))


def _record(found: Item) -> Record:
    return Record(
        id=found.record,
        prompt=(Message("user", found.question),),
        completion=found.answer,
        key_answers=found.key_answers,
    )


def _no_probes(run: Path, why: str) -> InputError:
    return InputError(
        "no-probes",
        what=f"{run} has nothing to ask again",
        why=why,
        fix="name a run whose forget records have key_answers, before its evidence is destroyed",
    )


def _asked(
    state: MonitorState,
    settings: Settings,
    probes: Mapping[str, Record],
    served: str,
    console: Console,
) -> MonitorState:
    """Ask every question once, and return the state with one more round."""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    if state.rounds and when < state.rounds[-1].when:
        console.warn(f"the clock went back: the last round was at {state.rounds[-1].when}")
    respond, digest = _respondent(settings, state.target, served)
    texts = respond(tuple(probes.values()))
    stated = {
        mark
        for (mark, record), text in zip(probes.items(), texts, strict=True)
        if key_fact(Answer(record=record.id, text=text), item(record, "forget"))
    }
    fresh = stated - set(state.said)
    counts = MonitorRound(
        when=when,
        at_risk=state.facts - len(state.said),
        fresh=len(fresh),
        stated=len(stated),
        digest=digest,
    )
    return replace(
        state, rounds=(*state.rounds, counts), said=tuple(sorted({*state.said, *stated}))
    )


def _respondent(settings: Settings, target: str, served: str) -> tuple[Respondent, str]:
    """Return what answers questions, and the digest of its weights where these are at hand."""
    limit = settings.audit.max_new_tokens
    if is_endpoint(target):
        server = Endpoint.at(target, served)
        return (lambda asked: [server.answer(r.prompt, max_new_tokens=limit) for r in asked]), ""
    loaded = load(target, in_stored_format(source_of(settings), target))
    return Asker.of(loaded, settings).answers, loaded.digest


def read_monitor(folder: Path) -> MonitorState | None:
    """Read the state of a monitor; None where none has begun in the folder.

    Raises:
        InputError: `monitor-changed`: the file is not what a monitor wrote.
        UsageError: `folder-in-use`: the folder holds something else.
    """
    path = folder / STATE
    if not path.is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(
                "folder-in-use",
                what=f"{folder} cannot be the folder of this monitor; nothing was changed there",
                why="it holds something else",
                fix="choose another folder with --out",
            )
        return None
    row = read_table(path)
    digest = row.pop("sha256", "")
    if row.get("schema") == _SCHEMA and digest == sha256_json(row):
        try:
            fields = {k: v for k, v in row.items() if k not in ("schema", "e_values")}
            return _adapter.validate_python(fields)
        except ValidationError:
            pass
    raise InputError(
        "monitor-changed",
        what=f"{path} is not what a monitor wrote",
        why="a round that is missing or changed would change when the alarm rings",
        fix="restore it from a copy, or begin anew with another --out",
    )


def _write(folder: Path, state: MonitorState) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    values = [float(f"{value:.4g}") for value in state.evidence]
    row = {"schema": _SCHEMA, **_adapter.dump_python(state, mode="json"), "e_values": values}
    write_json(folder / STATE, {**row, "sha256": sha256_json(row)})


def _require_same(state: MonitorState | None, now: MonitorState, folder: Path) -> None:
    if state is not None and (state.target, state.probes) != (now.target, now.probes):
        differs = "another model" if state.target != now.target else "other facts"
        raise UsageError(
            "another-monitor",
            what=f"{folder} is the folder of a monitor that asks {differs}",
            why="the false-alarm rate holds for one model and one set of questions",
            fix="choose another folder with --out",
        )


def _say(state: MonitorState, console: Console) -> None:
    last = state.rounds[-1]
    console.line(
        "asked",
        f"round {len(state.rounds)}: {last.stated} of {state.facts} facts stated, {last.fresh} for"
        f" the first time; e-process {state.evidence[-1]:.3g}, alarm at {1 / LEVEL:.0f}",
    )
    console.event("round", {**asdict(last), "e_process": state.evidence[-1]})


def _back(state: MonitorState, probes: Mapping[str, Record], folder: Path) -> GateError:
    names = named_in_part(sorted(probes[each].id for each in state.said), most=_MOST_NAMED)
    return GateError(
        "facts-are-back",
        what=f"{state.target} stated {len(state.said)} of {state.facts} facts that were forgotten:"
        f" records {names}",
        why=f"the e-process reached {max(state.evidence):.3g}; chance takes it to"
        f" {1 / LEVEL:.0f} in at most {LEVEL:.0%} of monitors",
        fix=f"take the model out of use; begin anew with another --out than {folder}",
    )
