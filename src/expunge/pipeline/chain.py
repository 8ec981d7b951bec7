"""A chain of requests: each run starts from the last model, and earlier requests are asked again.

    CHAIN/chain.json     what was done, signed
    CHAIN/runs/NNNN-ID/  one run folder for each request, as `forget` writes it
    CHAIN/evidence/      the probes, sealed: records, control records, retained text

After each request the model is asked its own facts, and those of earlier requests that were asked
longest ago, within the budget. Every number is judged against the first original and against the
model right after the request (`evals.rebound`). A chain that alarms stops. It can be rolled back.

What a killed chain finished is not done again: runs resume by themselves, and the state is written
whole after each request.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path

from expunge.config.queue import ChainSettings, Queue, no_queue
from expunge.config.settings import Settings
from expunge.data.records import Record
from expunge.data.splits import Scope, gather, overlaps
from expunge.errors import GateError, InputError, UsageError, named_in_part
from expunge.evals.rebound import Controls, Drift, FactReading, Rebound, drift, rebounds
from expunge.evals.results import PASSES
from expunge.models.derivation import Change, Derivation, derivation
from expunge.models.loading import Loaded, Source, load
from expunge.pipeline.chain_probes import Asker, ProbeSet, copied, still_kept, whole_records
from expunge.pipeline.chain_state import (
    RUNS,
    STATE,
    ChainOutcome,
    ChainState,
    ChainStep,
    StepCost,
    StepKind,
    is_expired,
    model_of,
    read_state,
    require_digest,
    require_state,
    write_state,
)
from expunge.pipeline.forget import forget
from expunge.pipeline.run_folder import LOCK, claim
from expunge.preparation.prepare import prepare, require_weights, source_of
from expunge.provenance.keys import key_path, operator_key, record_fingerprint
from expunge.provenance.signature import signing_key
from expunge.reporting.schema import read_facts, read_results
from expunge.utils.console import Console, SilentConsole
from expunge.utils.file_names import EVIDENCE
from expunge.utils.io import AnyPath, is_part, sha256_json

RED = "chain-red"
"""Code of the error of a chain that alarms."""
_NOTHING = "nothing-to-forget"
"""Code of the error of a run on what its model does not know."""
_MOST_NAMED = 5
_NOT_IDENTITY = {
    "model",
    "first_original",
    "out",
    "attack_store",
    "reference_store",
    "offline",
    "tracker",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainFindings:
    """What was found when earlier requests were asked again."""

    requests: tuple[str, ...]
    """Ids of the requests, by number."""
    rebounds: tuple[Rebound, ...]
    drift: Drift | None
    facts: tuple[FactReading, ...] = ()
    """What was said, where a model was checked."""
    made: Derivation | None = None
    """How a model that was checked came from the last one; None where it is that one."""

    @property
    def alarms(self) -> tuple[str, ...]:
        """One sentence for each alarm: request, fact, numbers."""
        found = [self._rebound(each) for each in self.rebounds if each.alarms]
        if self.made is not None and self.made.change is Change.MERGED:
            found.append(f"all requests are undone in part: the model is {self.made.text()}")
        if self.drift is not None and self.drift.alarms:
            found.append(f"kept text was lost: {self.drift.text()}")
        return tuple(found)

    def _rebound(self, found: Rebound) -> str:
        name = self.requests[found.request - 1]
        records = named_in_part(found.back, most=_MOST_NAMED)
        how = "states" if found.stated else "is likely again:"
        return (
            f"request {found.request} ({name}) is back: the model {how} record {records};"
            f" probability {found.rise:+.0%}, adjusted p {found.adjusted:.2g}"
        )


def chain(queue: Queue, *, out: AnyPath, console: Console | None = None) -> ChainOutcome:
    """Work on the requests of a queue in order; the same call goes on where a killed one stopped.

    Args:
        queue: The requests.
        out: The folder of the chain, new or begun before.
        console: Where to say what happens; silent by default.

    Raises:
        GateError: `chain-red`: an earlier request came back, or too much was lost.
        ExpungeError: An input is missing or malformed; nothing was trained. Or as `forget`, for
            the request that is named; what was done before stays.

    Example:
        >>> chain(Queue(path=Path("q"), chain=ChainSettings(), requests=()), out=Path("chain"))
        Traceback (most recent call last):
            ...
        expunge.errors.UsageError: error[no-queue]: q queues no request...
    """
    out = Path(out)
    console = console or SilentConsole()
    if not queue.requests:
        raise no_queue(queue.path)
    scopes = [gather(each.request, offline=each.offline) for each in queue.requests]
    _require_fit(queue, scopes)
    _require_folder(out)
    out.mkdir(parents=True, exist_ok=True)
    lock = claim(out)
    try:
        return _Chain.open(queue, scopes, out, console).run()
    finally:
        (out / LOCK).unlink(missing_ok=True)
        lock.close()


def check_chain(
    queue: Queue, *, out: Path, model: str, console: Console | None = None
) -> ChainFindings:
    """Ask any model about all requests of a chain, within no budget; nothing is written.

    Args:
        queue: The requests.
        out: The folder of the chain.
        model: Reference of the model: one that was made from the last model of the chain.
        console: Where to say what happens; silent by default.

    Raises:
        UsageError: No request of the chain is finished.
        InputError: The model cannot be loaded.
    """
    console = console or SilentConsole()
    require_state(out)
    scopes = [gather(each.request, offline=each.offline) for each in queue.requests]
    opened = _Chain.open(queue, scopes, out, console)
    return opened.check(model)


def _require_folder(folder: Path) -> None:
    """Refuse a folder that holds something else than a chain."""
    if folder.exists() and not folder.is_dir():
        why = "it is a file"
    elif folder.is_dir() and not (folder / STATE).is_file():
        own = {LOCK, EVIDENCE}
        if all(path.name in own or is_part(path) for path in folder.iterdir()):
            return
        why = "it holds files that are not of a chain"
    else:
        return
    raise UsageError(
        "folder-in-use",
        what=f"{folder} cannot be the folder of this chain; nothing was changed there",
        why=why,
        fix="choose another folder with --out",
    )


def _require_fit(queue: Queue, scopes: Sequence[Scope]) -> None:
    """Refuse requests that leave no weights, and data to keep that an earlier request forgets."""
    for settings in queue.requests:
        require_weights(settings)
    for later, scope in enumerate(scopes):
        for earlier in range(later):
            pairs = overlaps(scopes[earlier].forget, (*scope.retain, *scope.neighbours))
            if pairs:
                names = [queue.requests[index].request.id for index in (earlier, later)]
                places = [pair.other.source or pair.other.id for pair in pairs]
                raise InputError(
                    "forgotten-before",
                    what=f"request {names[1]} keeps {len(pairs)} records that request {names[0]}"
                    f" forgets: {named_in_part(places, most=_MOST_NAMED)}",
                    why="training would teach the model again what it was made to forget",
                    fix="leave them out of retain and neighbours",
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Chain:
    """A chain while it is worked on."""

    queue: Queue
    scopes: Sequence[Scope]
    folder: Path
    console: Console
    key: bytes
    source: Source
    probes: ProbeSet
    state: ChainState
    first: tuple[tuple[FactReading, ...], ...]
    """What the first original says of the facts of each request of the queue."""
    records: tuple[tuple[Record, ...], ...]
    """The forget records of each request."""

    @classmethod
    def open(
        cls, queue: Queue, scopes: Sequence[Scope], folder: Path, console: Console
    ) -> "_Chain":
        """Open a chain, new or begun before; asks the first original."""
        settings = queue.requests[0]
        prepare(settings)  # says what does not fit before anything is trained
        key = operator_key(key_path(), run=folder)
        source = source_of(settings)
        original = load(settings.model, source)
        records = [tuple(whole_records(settings, original, scope.forget)) for scope in scopes]
        state = read_state(folder)
        if state is not None:
            _require_same(state, queue, original, _marks(records, key))
        probes = ProbeSet(folder / EVIDENCE, key=key)
        probes.begin(scopes)
        asker = Asker.of(original, settings)
        if state is None:
            state = ChainState(
                original=settings.model,
                digest=original.digest,
                precision=source.precision,
                controls=asker.controls(probes.controls),
                kept=asker.nlls(probes.kept),
            )
            write_state(folder, state, signing_key(folder))
        done = len(state.steps)
        first = [step.first for step in state.steps]
        first += [
            asker.facts(number, records[number - 1]) for number in range(done + 1, len(records) + 1)
        ]
        return cls(
            queue=queue,
            scopes=scopes,
            folder=folder,
            console=console,
            key=key,
            source=source,
            probes=probes,
            state=state,
            first=tuple(first),
            records=tuple(records),
        )

    def run(self) -> ChainOutcome:
        """Work on every request that is open."""
        state, total = self.state, len(self.queue.requests)
        if state.steps:
            self._require_green(state)
            require_digest(
                model_of(self.folder, state), self._load(model_of(self.folder, state)), state.model
            )
        for number in range(len(state.steps) + 1, total + 1):
            name = self.queue.requests[number - 1].request.id
            self.console.line("request", f"{number} of {total}: {name}")
            step = self._step(state, number)
            state = replace(state, steps=(*state.steps, step))
            write_state(self.folder, state, signing_key(self.folder))
            self._say(step)
            self._require_green(state)
        model = model_of(self.folder, state)
        self.console.line("chain", f"{self.folder}/   {len(state.steps)} requests, none came back")
        judged = [step for step in state.steps if step.verdict]
        if failed := [f"{s.request} ({s.verdict})" for s in judged if s.verdict not in PASSES]:
            self.console.line("not passed", f"{', '.join(failed)}: see the report of each run")
        self.console.line("model", model)
        return ChainOutcome(folder=self.folder, state=state, model=model)

    def check(self, model: str) -> ChainFindings:
        """Ask a model about all that was done."""
        state, today = self.state, _today()
        judged = self._load(model)
        made = None if judged.digest == state.model else self._derivation(judged)
        if made is not None:
            self.console.line("model", f"{model}: {made.text()}")
        asker = Asker.of(judged, self.queue.requests[0])
        facts = [
            reading
            for step in state.steps
            if not is_expired(step, today)
            for reading in asker.facts(step.number, self.probes.of(step.number))
        ]
        found = self._findings(
            state,
            facts,
            controls=asker.controls(self.probes.controls),
            kept=asker.nlls(self.probes.kept),
        )
        found = replace(found, facts=tuple(facts), made=made)
        self.console.line("asked", f"{len(facts)} facts of {len(found.rebounds)} requests")
        for each in found.alarms:
            self.console.line("alarm", each)
        if not found.alarms:
            self.console.line("holds", "no request came back")
        return found

    def _derivation(self, judged: Loaded) -> Derivation:
        """Say how a model came from the last one; the first original may have been merged in."""
        last, original = model_of(self.folder, self.state), self.state.original
        return derivation(
            judged.network.model.state_dict(),
            self._load(last).network.model.state_dict(),
            {} if last == original else {original: self._load(original).network.model.state_dict()},
        )

    def _load(self, model: str) -> Loaded:
        return load(model, self.source)

    def _step(self, state: ChainState, number: int) -> ChainStep:
        """Work on one request, and ask again."""
        settings, records = self.queue.requests[number - 1], self.records[number - 1]
        today = _today()
        self._destroy_expired(state, today)
        start = model_of(self.folder, state)
        copies = self._copies(state, records, start, number)
        kind: StepKind = "re-verified"
        run, verdict, cost = "", "", StepCost(asked_seconds=0.0)
        batch = None if copies else self._batch_of(state, number)
        if batch is not None:
            kind, verdict = "batched", batch.verdict
            self.console.line("batch", f"trained with request {batch.request}")
        elif not copies:
            kind, run = self._train(settings, state, number, start)
        if run:
            verdict, cost = _of_run(self.folder / RUNS / run)
        began = time.monotonic()
        model = self._load(str(self.folder / RUNS / run) if run else start)
        asker = Asker.of(model, settings)
        self.probes.add(number, records)
        own = asker.facts(number, records)
        chosen, within = self._chosen(state, copies, today)
        again = [
            reading
            for earlier, wanted in chosen.items()
            for reading in asker.facts(
                earlier, [each for each in self.probes.of(earlier) if each.id in wanted]
            )
        ]
        controls, kept = asker.controls(self.probes.controls), asker.nlls(self.probes.kept)
        found = self._findings(state, again, controls=controls, kept=kept, upto=number)
        return ChainStep(
            number=number,
            request=settings.request.id,
            kind=kind,
            run=run,
            model=model.digest,
            verdict=verdict,
            records=_marks([records], self.key)[0],
            expires=str(settings.audit.expires(today)),
            cost=replace(cost, asked_seconds=round(time.monotonic() - began, 2)),
            together=self._together(number) if run else (),
            copies=copies,
            first=self.first[number - 1],
            facts=(*own, *again),
            controls=controls,
            kept=kept,
            rebounds=found.rebounds,
            drift=found.drift,
            within=within,
        )

    def _train(
        self, settings: Settings, state: ChainState, number: int, start: str
    ) -> tuple[StepKind, str]:
        """Run one request from the last model; return the name of its run folder."""
        places = self.queue.together(number - 1)
        marks = self._together(number) or _marks([self.records[number - 1]], self.key)[0]
        if len(places) > 1:
            forget_all = [each for p in places for each in self.queue.requests[p].request.forget]
            whole = {"id": self.queue.batches[number - 1], "forget": tuple(forget_all)}
            settings = settings.model_copy(
                update={"request": settings.request.model_copy(update=whole)}
            )
        tree = settings.model_dump(mode="json", exclude=_NOT_IDENTITY)
        name = f"{number:04}-{sha256_json([tree, marks, state.model])[:8]}"
        changes: dict[str, object] = {"model": start, "out": str(self.folder / RUNS / name)}
        if start != state.original:
            changes["first_original"] = state.original
        try:
            forget(settings.model_copy(update=changes), console=self.console)
        except InputError as error:
            if error.code != _NOTHING:
                raise
            self.console.note("the model does not know these records: nothing was trained")
            return "not-known", ""
        return "trained", name

    def _together(self, number: int) -> tuple[str, ...]:
        """Return the fingerprints of what a request is trained with; none outside of a batch."""
        places = self.queue.together(number - 1)
        if len(places) == 1:
            return ()
        marks = _marks([self.records[place] for place in places], self.key)
        return tuple(each for group in marks for each in group)

    def _batch_of(self, state: ChainState, number: int) -> ChainStep | None:
        """Return the step of the same batch whose run trained this request, too."""
        marks = set(_marks([self.records[number - 1]], self.key)[0])
        for step in reversed(state.steps):
            if number - 1 not in self.queue.together(step.number - 1):
                return None
            if step.kind == "trained":
                return step if marks <= set(step.together) else None
        return None

    def _copies(
        self, state: ChainState, records: Sequence[Record], start: str, number: int
    ) -> tuple[int, ...]:
        """Return the earlier requests that these records repeat, where their facts stay erased."""
        marks = set(_marks([records], self.key)[0])
        found = {step.number for step in state.steps if marks <= set(step.records)} | set(
            copied(records, [(s.number, self.probes.of(s.number)) for s in state.steps])
        )
        if not found:
            return ()
        asker = Asker.of(self._load(start), self.queue.requests[number - 1])
        said = [*asker.facts(number, records)]
        said += [each for twin in found for each in asker.facts(twin, self.probes.of(twin))]
        if any(each.states for each in said):
            self.console.note("near copies of an earlier request, and not forgotten: trained again")
            return ()
        named = ", ".join(state.steps[each - 1].request for each in sorted(found))
        self.console.line("known", f"near copies of request {named}: asked again, not trained")
        return tuple(sorted(found))

    def _chosen(
        self, state: ChainState, copies: Sequence[int], today: date
    ) -> tuple[dict[int, set[str]], int]:
        """Return which facts of earlier requests are asked, and in how many requests all are."""
        living = {step.number for step in state.steps if not is_expired(step, today)}
        asked = state.last_asked()
        every = [key for key in state.erased() if key.request in living]
        budget = self.queue.chain.facts
        order = sorted(every, key=lambda key: (asked[key], key.request))
        chosen = {*order[:budget], *(key for key in every if key.request in copies)}
        found: dict[int, set[str]] = {}
        for key in sorted(chosen):
            found.setdefault(key.request, set()).add(key.record)
        return found, -(-len(every) // budget)

    def _findings(
        self,
        state: ChainState,
        asked: Sequence[FactReading],
        *,
        controls: tuple[float, ...],
        kept: tuple[float, ...],
        upto: int = 0,
    ) -> ChainFindings:
        """Judge what a model said.

        Args:
            state: What was done before.
            asked: What it said of facts of earlier requests.
            controls: Of control records.
            kept: Of retained probes.
            upto: Number of the request that it was made by; 0: the last one of the chain.
        """
        upto = upto or len(state.steps)
        then = {step.number: step.controls for step in state.steps}
        return ChainFindings(
            requests=tuple(each.request.id for each in self.queue.requests),
            rebounds=rebounds(
                asked,
                erased=state.erased(),
                first=state.first(),
                controls=Controls(now=controls, then=then),
            ),
            drift=self._drift(state, kept, upto),
        )

    def _drift(self, state: ChainState, kept: Sequence[float], upto: int) -> Drift | None:
        """Judge the kept probes that no request up to this one was to forget."""
        forgotten = [record for records in self.records[:upto] for record in records]
        places = still_kept(self.probes.kept, forgotten)
        if not places:
            return None
        limits: ChainSettings = self.queue.chain
        rows = (state.kept, *(step.kept for step in state.steps), kept)
        return drift(
            [[row[place] for place in places] for row in rows],
            per_request=limits.loss_per_request,
            whole=limits.loss,
        )

    def _destroy_expired(self, state: ChainState, today: date) -> None:
        for step in state.steps:
            if is_expired(step, today) and self.probes.destroy(step.number):
                self.console.note(
                    f"request {step.number} ({step.request}): its retention ended on"
                    f" {step.expires}; it can no longer be asked again"
                )

    def _say(self, step: ChainStep) -> None:
        again = len(step.facts) - len(step.first)
        if again:
            self.console.line(
                "asked",
                f"{again} facts of {len(step.rebounds)} earlier requests again; every one at least"
                f" once in {step.within} requests",
            )
        if step.drift is not None:
            self.console.line("drift", step.drift.text())
        cost = step.cost
        self.console.line(
            "cost",
            f"{cost.seconds:.0f} s: training {cost.train_seconds:.0f}, audit"
            f" {cost.audit_seconds:.0f}, asking again {cost.asked_seconds:.0f}",
        )

    def _require_green(self, state: ChainState) -> None:
        """Stop where the last request brought something back.

        The drift is judged by the limits of the queue as it is now.
        """
        last = state.steps[-1]
        before = replace(state, steps=state.steps[:-1])
        found = ChainFindings(
            requests=tuple(step.request for step in state.steps),
            rebounds=last.rebounds,
            drift=self._drift(before, last.kept, last.number),
        )
        if not found.alarms:
            return
        for each in found.alarms:
            self.console.line("alarm", each)
        raise GateError(
            RED,
            what=f"after request {last.number} ({last.request}): {found.alarms[0]}",
            why=f"{len(found.alarms)} alarms; a later request must not undo an earlier one",
            fix=f"expunge rollback {self.folder} --to {last.number - 1}, then change request"
            f" {last.request}",
        )


def _today() -> date:
    return datetime.now(UTC).date()


def _marks(groups: Sequence[Sequence[Record]], key: bytes) -> list[tuple[str, ...]]:
    """Return the keyed fingerprints of the records of each request."""
    return [
        tuple(record_fingerprint(each.question, each.completion, key) for each in records)
        for records in groups
    ]


def _require_same(
    state: ChainState, queue: Queue, original: Loaded, marks: Sequence[tuple[str, ...]]
) -> None:
    """Refuse a queue that is not the one that the chain has worked on so far."""
    if state.digest != original.digest:
        raise InputError(
            "another-original",
            what=f"{original.name} is not the model that the chain began with",
            why=f"its digest is {original.digest[:16]}, and was {state.digest[:16]}",
            fix="restore the first original; all requests are held against it",
        )
    for step in state.steps:
        place = step.number - 1
        here = place < len(marks) and queue.requests[place].request.id == step.request
        if not here or sorted(marks[place]) != sorted(step.records):
            raise UsageError(
                "queue-changed",
                what=f"request {step.number} of the chain was {step.request}; the queue has"
                f" {'other records' if here else 'another one'} there",
                why="finished requests stay where they are in the queue, new ones are added below",
                fix="restore the queue, or roll the chain back to before that request",
            )


def _of_run(run: Path) -> tuple[str, StepCost]:
    """Return the ruling of a finished run, and what it cost."""
    facts = read_facts(run)
    train = facts.train
    cost = StepCost(
        train_seconds=round(train.seconds, 1) if train else 0.0,
        audit_seconds=round(facts.audit_seconds, 1),
        asked_seconds=0.0,
        tokens=train.tokens if train else 0,
    )
    return str(read_results(run).verdict.ruling), cost
