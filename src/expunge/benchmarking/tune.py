"""Tuning: which method with which settings, by the audit itself, under a floor and a time budget.

Each method's defaults come first; then Optuna proposes (multi-objective TPE). Every proposal is a
cell of a matrix, so finished ones are never repeated, original and golds are evaluated once, and a
run whose training looks hopeless is pruned before its audit. Maximised are two numbers that the
gates give, and so only validated metrics:

    erased = the weakest of forgetting, privacy, robustness
    kept   = the weaker of utility, locality

The result is the Pareto set; chosen is what erased most among those that keep the floor. Runs that
are INVALID are in neither.
"""

import json
import math
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, cast

from expunge.benchmarking.leaderboard import ParetoPoint, best, front_of, invalid, point
from expunge.benchmarking.leaderboard_pages import write_pages
from expunge.benchmarking.method_spec import require_named_code
from expunge.benchmarking.protocol import (
    Protocol,
    contents_of,
    open_protocol,
    require_one_method,
    require_own_code,
    require_read_parameters,
    shared_tree,
)
from expunge.benchmarking.result import AT_MARGIN, BenchResult, Cell, rows_of
from expunge.benchmarking.search_space import (
    Categorical,
    MethodParameters,
    Range,
    Space,
    accepted,
    method_parameters,
    space,
)
from expunge.benchmarking.sweep import InTurn, Runner, references, run_cells
from expunge.config.settings import MethodSettings, Settings
from expunge.errors import InputError, UsageError
from expunge.methods import build
from expunge.preparation.prepare import prepare
from expunge.utils.console import Console
from expunge.utils.io import AnyPath

AUTO = "auto"
FOR_QUESTIONS = (
    "counterfactual",
    "npo",
    "simnpo",
    "tnpo",
    "kto",
    "level",
    "influence",
    "repselect",
    "altpo",
    "undial",
)
"""What `auto` searches when the forget set is questions and answers."""
FOR_TEXT = ("counterfactual", "npo", "simnpo", "tnpo", "wga", "rmu", "adaptive_rmu")
"""What `auto` searches when it is running text."""
STUDY = "expunge"
JOURNAL = "study.journal"
"""File of the study, below the matrix."""
CELL, DEFAULTS = "cell", "defaults"
"""Notes kept with a trial: its cell as JSON, and the method whose defaults it tries."""
METHODS = "methods"
"""Note kept with a study: what it searches."""
AT_ONCE = 8
"""Trials that run at the same time, at most: none of them learns from the others."""


class OptunaTrial(typing.Protocol):
    """What is used of a trial of Optuna, an extra that need not be installed."""

    number: int
    user_attrs: dict[str, Any]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        """Propose a number."""
        ...

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str:
        """Propose one of several."""
        ...

    def set_user_attr(self, key: str, value: str) -> None:
        """Keep a note with the trial."""
        ...


class Study(typing.Protocol):
    """What is used of a study of Optuna."""

    sampler: object
    """What proposes values."""

    @property
    def user_attrs(self) -> dict[str, Any]:
        """Notes kept with the study."""
        ...

    def set_user_attr(self, key: str, value: object) -> None:
        """Keep a note with the study."""
        ...

    def ask(self) -> OptunaTrial:
        """Begin a trial."""
        ...

    def enqueue_trial(
        self, params: dict[str, Any], user_attrs: dict[str, Any] | None = None
    ) -> None:
        """Fix the values of the next trial."""
        ...

    def tell(
        self,
        trial: int,
        values: Sequence[float] | None = None,
        state: object = None,
        skip_if_finished: bool = False,
    ) -> object:
        """End a trial."""
        ...

    def get_trials(self, deepcopy: bool = True, states: object = None) -> Sequence[OptunaTrial]:
        """List the trials."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """The limits of a search: trials, time, and the utility that must remain.

    Example:
        >>> Budget(trials=8, minutes=30).floor
        0.75
    """

    trials: int = 16
    """Settings tried in all."""
    minutes: float = math.inf
    """Computing time of all runs; none is begun after it."""
    floor: float = AT_MARGIN
    """Least axis score of utility and locality; 0.75 = every preservation gate at its margin."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuned:
    """The result of a search.

    Example:
        >>> from expunge import Request
        >>> from expunge.benchmarking.result import Machine, RunCost
        >>> row = BenchResult(
        ...     cell=Cell(kind="method", name="npo"),
        ...     suite="",
        ...     status="done",
        ...     cost=RunCost(seconds=60.0),
        ...     machine=Machine(device="cpu", cpu="x86_64", threads=2, versions={}),
        ... )
        >>> request = Request(goal="removal", forget=("forget.jsonl",))
        >>> settings = Settings(model="org/model", request=request)
        >>> Tuned(pareto=(row,), chosen=row, settings=settings).chosen.cell.name
        'npo'
    """

    pareto: tuple[BenchResult, ...]
    """Judged rows that no other one beats on both numbers, the most erased first."""
    chosen: BenchResult
    settings: Settings
    """What `expunge forget` runs with the chosen settings; among how many they were chosen."""


def tune(
    settings: Settings,
    matrix: AnyPath,
    *,
    methods: Sequence[str] = (),
    budget: Budget,
    console: Console,
    runner: Runner | None = None,
) -> Tuned:
    """Search settings, or go on with a search that was stopped.

    Several processes may search in one folder.

    Args:
        settings: The request and what all runs share; its method is searched, or with `auto` those
            that suit the data.
        matrix: Folder of the search.
        methods: Search these instead.
        budget: When to end.
        console: Where to say how far it is.
        runner: What runs the trials, of which it may run several at once; None: this machine, one
            after the other.

    Raises:
        UsageError: Optuna is not installed, the budget is none, the folder holds another search,
            the settings are a chain, or no such method.
        InputError: No run could be finished.

    Example:
        >>> from expunge import Request, Settings
        >>> from expunge.utils.console import SilentConsole
        >>> settings = Settings(model="m", request=Request(goal="removal", forget=("f.jsonl",)))
        >>> budget, console = Budget(trials=8, minutes=30), SilentConsole()
        >>> tuned = tune(settings, Path("search"), budget=budget, console=console)  # doctest: +SKIP
    """
    matrix = Path(matrix)
    _require_optuna()
    _require_possible(budget)
    require_one_method(settings)
    name = settings.method.name
    named = tuple(dict.fromkeys(methods)) or (_suited(settings) if name == AUTO else (name,))
    for method in named:
        build(method, {})
    require_read_parameters(settings, named)
    require_own_code(matrix, named=named)
    wanted = _protocol(settings, named, budget.floor)
    protocol = open_protocol(matrix, replace(wanted, contents=contents_of(wanted.shared)))
    study = _study(matrix)
    named = _fixed(study, named, matrix)
    run_cells(matrix, protocol, references(protocol), console=console, runner=runner)
    search = _Search(
        matrix=matrix,
        protocol=protocol,
        methods=named,
        study=study,
        method_parameters=method_parameters(protocol.shared),
    )
    search.run(budget, runner or InTurn(), console)
    write_pages(matrix)
    return _result(matrix, protocol)


def _require_possible(budget: Budget) -> None:
    """Refuse limits that no search can keep; those that are no numbers would never end it."""
    allowed = {
        "trials": (budget.trials >= 1, "1 or more"),
        "minutes": (budget.minutes > 0, "above 0"),
        "floor": (0 <= budget.floor <= 1, "from 0 to 1"),
    }
    for name, (kept, what) in allowed.items():
        if not kept:
            raise UsageError(
                "invalid-value",
                what=f"--{name} {getattr(budget, name)} is no limit of a search",
                why=f"it must be {what}",
                fix=f"set --{name} so, or leave it out",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Search:
    """One study on one matrix."""

    matrix: Path
    protocol: Protocol
    methods: tuple[str, ...]
    study: Study
    method_parameters: MethodParameters

    def run(self, budget: Budget, runner: Runner, console: Console) -> None:
        """Finish what was begun, then try settings until trials or time are used up."""
        numbers: dict[str, list[int]] = {}
        cells = self._cells(budget, numbers, console)
        for cell, row in runner.run(self.matrix, self.protocol, cells, at_once=AT_ONCE):
            for number in numbers.pop(cell.id):
                if row is not None:
                    self._tell(number, row, console)

    def _cells(
        self, budget: Budget, numbers: dict[str, list[int]], console: Console
    ) -> Iterator[Cell]:
        """Yield what to run, and note which trials wait for it: several may propose the same."""
        for number, cell in chain(self._begun_before(), self._new(budget, console)):
            numbers.setdefault(cell.id, []).append(number)
            if len(numbers[cell.id]) == 1:
                yield cell

    def _begun_before(self) -> Iterator[tuple[int, Cell]]:
        """Yield the trials of processes that were stopped; those of living ones are theirs.

        A trial whose run was killed alone is open, too.
        """
        for trial in self.study.get_trials(states=(_state("RUNNING"),)):
            cell = self._begun(trial)
            if cell is None:
                self.study.tell(trial.number, state=_state("FAIL"))
            else:
                yield trial.number, cell

    def over(self, budget: Budget) -> bool:
        """Tell whether the trials or the time are used up."""
        begun = len(self.study.get_trials(deepcopy=False))
        seconds = sum(row.cost.seconds for row in rows_of(self.matrix))
        return begun >= budget.trials or seconds >= 60 * budget.minutes

    def _new(self, budget: Budget, console: Console) -> Iterator[tuple[int, Cell]]:
        """Yield one more setting after the other; each learns from what has ended before it."""
        while not self.over(budget):
            self._offer_defaults()
            trial = self.study.ask()
            _reseed(self.study, self.protocol.shared.train.seed, trial)
            try:
                cell = self._proposed(trial)
            except UsageError as refused:
                self.study.tell(trial.number, state=_state("FAIL"))
                console.note(f"{trial.number}: {refused.what}")
                continue
            trial.set_user_attr(CELL, json.dumps([cell.name, dict(cell.values), cell.seed]))
            yield trial.number, cell

    def _offer_defaults(self) -> None:
        """Make the next trial the defaults of a method of which they were not tried yet.

        They are offered by their values, so that the study never books their score on other values.
        """
        if self.study.get_trials(states=(_state("WAITING"),)):
            return  # a process was stopped before it could ask for what it had offered
        notes = [trial.user_attrs for trial in self.study.get_trials()]
        begun = {each[DEFAULTS] for each in notes if each.keys() >= {CELL, DEFAULTS}}
        method = next((name for name in self.methods if name not in begun), None)
        if method is None:
            return
        params: dict[str, Any] = {"method": method} if len(self.methods) > 1 else {}
        for path, kind in self._space(method).items():
            value = kind.default if isinstance(kind, Range) else json.dumps(kind.default)
            params[f"{method}:{path}"] = value
        self.study.enqueue_trial(params, user_attrs={DEFAULTS: method})

    def _space(self, method: str) -> Space:
        return space(method, self.protocol.shared, self.method_parameters)

    def _proposed(self, trial: OptunaTrial) -> Cell:
        method = self.methods[0]
        if len(self.methods) > 1:
            method = trial.suggest_categorical("method", self.methods)
        searched = self._space(method)
        values = {path: _suggested(trial, method, path, kind) for path, kind in searched.items()}
        values = {path: value for path, value in values.items() if value not in (None, [])}
        if DEFAULTS in trial.user_attrs:
            values = {}  # said by leaving them out, as in every matrix
        taken = accepted(method, lambda: values)
        seed = self.protocol.shared.train.seed
        return Cell(kind="method", name=method, values=taken, seed=seed)

    def _begun(self, trial: OptunaTrial) -> Cell | None:
        if CELL not in trial.user_attrs:
            return None
        name, values, seed = json.loads(trial.user_attrs[CELL])
        origin = str(self.matrix / JOURNAL)
        require_named_code(name, values, origin=origin, named=self.methods)
        return Cell(kind="method", name=name, values=values, seed=seed)

    def _tell(self, number: int, row: BenchResult, console: Console) -> None:
        if row.killed:  # the trial stays open: the next command resumes it
            console.note(f"{number}: {row.cell.name} {row.status}: {row.why}")
            return
        at = point(row) if row.status == "done" and not invalid(row) else None
        if at is None:
            state = _state("PRUNED" if row.status == "pruned" else "FAIL")
            self.study.tell(number, state=state, skip_if_finished=True)
            said = f"{number}: {row.cell.name} {row.ruling if invalid(row) else row.status}"
            console.note(f"{said}: {row.why}" if row.why else said)
            return
        values = (at.erased.value, at.kept.value)
        self.study.tell(number, values=values, skip_if_finished=True)
        console.note(f"{number}: {row.cell.name} erased {values[0]:.2f}, kept {values[1]:.2f}")


def _suggested(trial: OptunaTrial, method: str, path: str, kind: Range | Categorical) -> Any:  # noqa: ANN401
    """Let the study propose one value; choices go by their JSON text, which Optuna can keep."""
    name = f"{method}:{path}"
    if isinstance(kind, Range):
        return float(f"{trial.suggest_float(name, kind.low, kind.high, log=True):.3g}")
    texts = tuple(json.dumps(value) for value in kind.among)
    return json.loads(trial.suggest_categorical(name, texts))


def _result(matrix: Path, protocol: Protocol) -> Tuned:
    rows = [row for row in rows_of(matrix) if row.cell.kind == "method"]
    chosen = best(rows, protocol=protocol)
    if chosen is None:
        reasons = [row.why for row in rows if row.why]
        failed = "is INVALID: its auditor failed its own test"
        reasons += [f"{row.cell.id} {failed}" for row in rows if invalid(row)]
        raise InputError(
            "nothing-tuned",
            what=f"none of {len(rows)} runs could be finished and judged",
            why=reasons[0] if reasons else "no run was begun within the budget",
            fix=f"read the rows in {matrix / 'cells'}; give gold or control records, or more time",
        )
    judged = sum(row.status == "done" and not invalid(row) for row in rows)
    among = {"chosen_among": judged if judged > 1 else None}
    return Tuned(
        pareto=front_of(rows, protocol=protocol),
        chosen=chosen,
        settings=protocol.of(chosen.cell).model_copy(update=among),
    )


def keeps_floor(row: BenchResult, budget: Budget) -> bool:
    """Tell whether a row keeps what the budget demands."""
    at: ParetoPoint | None = point(row)
    return at is not None and at.kept.value >= budget.floor


def _protocol(settings: Settings, methods: tuple[str, ...], floor: float) -> Protocol:
    tree = shared_tree(settings)
    if settings.method.name == AUTO:
        tree["method"] = {"name": methods[0]}
    return Protocol(settings=tree, prunes=True, trials=0, floor=floor)


def _suited(settings: Settings) -> tuple[str, ...]:
    """Return what `auto` searches: by whether the forget set is questions or running text."""
    plainly = settings.model_copy(update={"method": MethodSettings()})
    forget = prepare(plainly).scope.forget
    return FOR_QUESTIONS if all(record.prompt for record in forget) else FOR_TEXT


def _study(matrix: Path) -> Study:
    import optuna  # type: ignore[reportMissingImports]
    from optuna.storages import JournalStorage  # type: ignore[reportMissingImports]
    from optuna.storages.journal import JournalFileBackend  # type: ignore[reportMissingImports]

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(matrix / JOURNAL))),
        study_name=STUDY,
        load_if_exists=True,
        directions=["maximize", "maximize"],
    )
    return cast("Study", study)


def _reseed(study: Study, seed: int, trial: OptunaTrial) -> None:
    """Let the study propose the values of a trial, of which there is one over all processes.

    A sampler that began anew with the same seed, after a stop or in a process beside this one,
    would propose what was tried before.
    """
    import optuna  # type: ignore[reportMissingImports]

    study.sampler = optuna.samplers.TPESampler(seed=seed + 1009 * trial.number)


def _fixed(study: Study, wanted: tuple[str, ...], matrix: Path) -> tuple[str, ...]:
    """Return the methods of a study in its own order; its first command fixes them."""
    found: tuple[str, ...] = tuple(study.user_attrs.get(METHODS, ()))
    if not found:
        study.set_user_attr(METHODS, wanted)
        return wanted
    if set(found) != set(wanted):
        raise UsageError(
            "another-search",
            what=f"the search in {matrix} is one of {', '.join(found)}; now {', '.join(wanted)}",
            why="a search learns from its trials, so its methods cannot change midway",
            fix="name the methods of the first command, or another folder with --out",
        )
    return found


def _state(name: str) -> object:
    """Return a state of trials by its name: RUNNING, PRUNED, FAIL."""
    from optuna.trial import TrialState  # type: ignore[reportMissingImports]

    return TrialState[name]


def _require_optuna() -> None:
    from importlib.util import find_spec

    if find_spec("optuna") is None:
        raise UsageError(
            "no-optuna",
            what="tuning needs Optuna, which is not installed",
            why="it is an extra: most runs do not need it",
            fix="pip install 'expunge[tune]'",
        )
