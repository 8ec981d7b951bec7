"""Starting a benchmark: from the words of a command to a protocol, a matrix and its pages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from expunge.attacks.runner import require_attacks
from expunge.benchmarking.leaderboard_pages import write_pages
from expunge.benchmarking.lm_eval_tasks import NAME as HARNESS
from expunge.benchmarking.lm_eval_tasks import check, split_tasks
from expunge.benchmarking.protocol import (
    SETS,
    Protocol,
    contents_of,
    open_protocol,
    read_protocol,
    require_one_method,
    require_own_code,
    require_read_parameters,
    set_file,
    shared_tree,
    write_sets,
)
from expunge.benchmarking.result import Cell
from expunge.benchmarking.search_space import Chosen, chosen_for, read_chosen
from expunge.benchmarking.suites import SUITES, load_suite
from expunge.benchmarking.suites.base import Spec, Suite
from expunge.benchmarking.sweep import Runner, Shard, SweepProgress, run_matrix
from expunge.config.settings import LARGEST_SEED, Settings
from expunge.errors import UsageError
from expunge.methods import EVERY
from expunge.preparation.prepare import require_weights
from expunge.utils.console import Console
from expunge.utils.io import AnyPath


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchArguments:
    """Arguments of a benchmark.

    Example:
        >>> ask = BenchArguments(what="tofu", methods=("npo", "rmu"), seeds=(0, 1))
        >>> ask.trials
        1
    """

    what: str
    """Name of a suite, or a request file."""
    data: str | None = None
    part: str = ""
    records: int | None = None
    corpus: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    """`NAME=FOLDER` of suites that only evaluate, and `lm-eval=TASK,TASK`."""
    methods: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    """Of training; empty: that of the settings."""
    trials: int = 1
    chosen: Path | None = None
    """File of the settings that an earlier matrix chose."""
    offline: bool = False


def spec_of(ask: BenchArguments) -> Spec | None:
    """Return which suite is meant; None for a request file.

    Raises:
        UsageError: No such suite, or it has no place on the Hub and none was given.
    """
    if ask.what.endswith(".toml"):
        return None
    entry = SUITES.get(ask.what)
    data = ask.data or (entry and entry.hub)
    if entry is not None and data is None:
        raise UsageError(
            "no-data",
            what=f"no data are given for {ask.what}",
            why="this suite is read from a folder of the files that its authors published",
            fix=f"expunge bench {ask.what} MODEL --data FOLDER",
        )
    return Spec(
        name=ask.what,
        data=data or "",
        part=ask.part,
        records=ask.records,
        corpus=ask.corpus,
        retain=ask.keep,
        offline=ask.offline,
    )


def begin(ask: BenchArguments, matrix: Path, settings: Settings) -> Protocol:
    """Read and check the data, fix the protocol, and write the sets into the matrix.

    Args:
        ask: The arguments.
        matrix: Folder of the matrix.
        settings: The settings of every run; for a suite, without the sets of its request.

    Raises:
        ExpungeError: Data are missing or not the published ones; the folder holds another matrix;
            the settings are a chain; a flag, a hyperparameter or a key of the request would not be
            read.
    """
    _require_some(ask)
    _require_read(ask)
    chosen = _chosen(ask)
    require_one_method(settings)
    require_read_parameters(settings, ask.methods or tuple(chosen or EVERY))
    require_attacks(settings)
    require_own_code(matrix, named=(*ask.methods, settings.method.name))
    spec = spec_of(ask)
    beside = tuple(_beside(text, ask) for text in ask.beside)
    if len({each.name for each in beside}) < len(beside):
        raise UsageError(
            "twice-beside",
            what="--beside names a suite twice",
            why="two sets of numbers would have one name in the table",
            fix="name each once; tasks of lm-eval go into one lm-eval=TASK,TASK",
        )
    others = [load_suite(each) for each in beside if each.name != HARNESS]
    for each in beside:
        if each.name == HARNESS:
            check(split_tasks(each.data), offline=each.offline)
    tree = shared_tree(settings)
    if spec is not None:
        suite = load_suite(spec)
        if not suite.forget:
            raise UsageError(
                "nothing-to-forget-in-suite",
                what=f"{spec.name} only evaluates; it has nothing to forget",
                why="it is run beside a suite that has a forget set",
                fix=f"expunge bench tofu MODEL --beside {spec.name}=FOLDER",
            )
        if suite.series is not None and suite.series.sequential:
            require_weights(settings)
        named = _request(suite, spec, matrix)
        _require_own(named, settings, spec)
        tree["request"] |= named
        protocol = _protocol(tree, spec, beside, ask, chosen)
        contents = contents_of(protocol.shared, suite, others)
        found = open_protocol(matrix, replace(protocol, contents=contents))
        write_sets(matrix, suite)
        return found
    protocol = _protocol(tree, None, beside, ask, chosen)
    contents = contents_of(protocol.shared, beside=others)
    return open_protocol(matrix, replace(protocol, contents=contents))


def _request(suite: Suite, spec: Spec, matrix: Path) -> dict[str, Any]:
    """Return the keys of `[request]` that a suite sets."""
    sets = {name: [str(set_file(matrix, name))] for name in SETS}
    there = {"forget": suite.forget, "retain": suite.retain}
    there |= {"neighbours": suite.neighbours, "holdout": suite.holdout}
    request = {name: sets[name] for name in SETS if there[name]}
    audit_only = {"rehearse": False} if suite.neighbours else {}
    entry = SUITES.get(spec.name)
    by_probes = {"assume_known": True} if entry and entry.known else {}
    return {**request, **audit_only, **by_probes, "id": suite.name}


def _require_own(named: Mapping[str, Any], settings: Settings, spec: Spec) -> None:
    """Refuse keys of `[request]` that were given and that a suite sets to something else."""
    given = settings.request.model_dump(mode="json", include=settings.request.model_fields_set)
    other = [key for key, value in given.items() if key in named and value != named[key]]
    if not other:
        return
    instead = {"forget": "corpus", "retain": "keep"}
    flags = [instead[key] for key in other if instead.get(key) in _own_text(spec.name)]
    out = f"leave {'it' if len(other) == 1 else 'them'} out, of expunge.toml and variables, too"
    raise UsageError(
        "set-by-the-suite",
        what=f"{' and '.join(f'request.{key}' for key in other)} cannot be set for {spec.name}",
        why="the suite fixes what is forgotten, kept and evaluated, so that numbers compare",
        fix=f"{out}; text of your own goes by {_flags(flags)}" if flags else out,
    )


def bench(
    ask: BenchArguments,
    matrix: AnyPath,
    settings: Settings,
    *,
    shard: Shard,
    console: Console,
    runner: Runner | None = None,
) -> SweepProgress:
    """Run a benchmark's matrix as far as this process can, and write its pages.

    With a runner of `benchmarking.cluster`, every run is a task of Ray or a job of SLURM.

    Raises:
        ExpungeError: What was finished stays; the same call goes on.

    Example:
        >>> from expunge import Request, Settings
        >>> request = Request(goal="removal", forget=("forget.jsonl",))
        >>> settings = Settings(model="org/original", request=request)
        >>> from expunge.utils.console import SilentConsole
        >>> ask = BenchArguments(what="request.toml", methods=("npo", "rmu"))
        >>> console = SilentConsole()
        >>> bench(ask, Path("bench"), settings, shard=Shard(), console=console)  # doctest: +SKIP
    """
    matrix = Path(matrix)
    protocol = begin(ask, matrix, settings)
    methods = ask.methods or tuple(protocol.chosen or EVERY)
    done = run_matrix(
        matrix,
        protocol,
        methods=methods,
        seeds=ask.seeds or (settings.train.seed,),
        shard=shard,
        console=console,
        runner=runner,
    )
    for path in write_pages(matrix):
        console.line("wrote", str(path))
    return done


def report(matrix: Path, *, methods: Sequence[str] = (), console: Console) -> None:
    """Write the pages of a matrix again.

    Args:
        matrix: Folder of the matrix.
        methods: Methods from elsewhere (`package.module:Class`) that may be imported.
        console: Where to say what was written.

    Raises:
        InputError: There is no matrix, or a row of another version.
        UsageError: A row names code to import that `methods` does not name.
    """
    read_protocol(matrix)
    require_own_code(matrix, named=methods)
    for path in write_pages(matrix):
        console.line("wrote", str(path))


def _require_some(ask: BenchArguments) -> None:
    for name, value in (("--trials", ask.trials), ("--records", ask.records)):
        if value is not None and value < 1:
            raise UsageError(
                "none-of-it",
                what=f"{name} {value} leaves nothing to do",
                why="a method needs at least one setting and one record",
                fix=f"set {name} to 1 or more, or leave it out",
            )
    for seed in ask.seeds:
        if not 0 <= seed <= LARGEST_SEED:
            raise UsageError(
                "invalid-value",
                what=f"--seeds {seed} is no seed",
                why=f"a seed is a whole number from 0 to {LARGEST_SEED}",
                fix="name such numbers with --seeds, for example --seeds 0 1 2",
            )


def _require_read(ask: BenchArguments) -> None:
    """Refuse flags about data that this benchmark does not read."""
    texts = {"corpus": ask.corpus, "keep": ask.keep}
    if ask.what.endswith(".toml"):
        # Suites beside the request are limited by --records, too.
        few = None if ask.beside else ask.records
        given = {"data": ask.data, "part": ask.part, "records": few, **texts}
        why = "the file itself names what is forgotten and kept"
        fix = "set forget and retain in [request] of the file"
    else:
        read = _own_text(ask.what)
        given = {name: value for name, value in texts.items() if name not in read}
        why = "its data come with their own text"
        fix = f"leave it out; {ask.what} reads {_flags(read)}"
    unread = [name for name, value in given.items() if value]
    if unread:
        raise UsageError(
            "unread-flag",
            what=f"expunge bench {ask.what} does not read {_flags(unread)}",
            why=why,
            fix=fix,
        )


def _own_text(suite: str) -> tuple[str, ...]:
    """Return the flags by which a suite takes text of the user's own."""
    entry = SUITES.get(suite)
    return entry.own_text if entry and entry.forgets else ("corpus", "keep")


def _flags(names: Sequence[str]) -> str:
    return " and ".join(f"--{name}" for name in names) or "neither --corpus nor --keep"


def _beside(text: str, ask: BenchArguments) -> Spec:
    name, equals, data = text.partition("=")
    if not equals or not data or name not in (*SUITES, HARNESS):
        raise UsageError(
            "bad-beside",
            what=f"--beside {text!r} is neither NAME=FOLDER nor {HARNESS}=TASK,TASK",
            why=f"NAME is one of {', '.join(SUITES)}",
            fix=f"write for example --beside utility=data/utility {HARNESS}=arc_easy,gsm8k",
        )
    return Spec(name=name, data=data, records=ask.records, offline=ask.offline)


def _protocol(
    tree: Mapping[str, Any],
    spec: Spec | None,
    beside: Sequence[Spec],
    ask: BenchArguments,
    chosen: Chosen | None,
) -> Protocol:
    found = Protocol(
        settings=shared_tree(Settings.model_validate(tree)),
        suite=spec,
        beside=tuple(beside),
        trials=ask.trials,
        chosen=chosen,
    )
    for name, values in (chosen or {}).items():
        found.of(Cell(kind="method", name=name, values=values))  # now, not in each run's log
    return found


def _chosen(ask: BenchArguments) -> Chosen | None:
    """Read what an earlier matrix chose for each method of this one."""
    if ask.chosen is None:
        return None
    if ask.trials != 1:
        raise UsageError(
            "chosen-and-tried",
            what=f"--chosen and --trials {ask.trials} were given",
            why="settings that were chosen before are not searched again",
            fix="leave one of them out",
        )
    found = read_chosen(ask.chosen, named=ask.methods)
    for name in ask.methods:
        chosen_for(name, found)
    return found
