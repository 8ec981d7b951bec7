"""`expunge bench`: many methods on one benchmark, and the leaderboard."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from expunge.cli.cluster import ClusterFlags, runner_of
from expunge.cli.options import RequestFlags, TrainFlags
from expunge.cli.session import Given, Session
from expunge.cli.settings import folder_of, resolve_settings
from expunge.errors import InputError, UsageError

if TYPE_CHECKING:
    from expunge.benchmarking.run import BenchArguments
    from expunge.config.settings import Settings
    from expunge.utils.console import Console

REPORT = "report"


def _words(variable: str, text: str) -> Parameter:
    return Parameter(
        negative="",
        show_default=False,
        consume_multiple=True,
        env_var=f"EXPUNGE_{variable}",
        help=text,
    )


def _one(variable: str, text: str) -> Parameter:
    return Parameter(show_default=False, env_var=f"EXPUNGE_{variable}", help=text)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, slots=True)
class BenchFlags:
    """Which data, methods, seeds and budget."""

    data: Annotated[
        str | None, _one("DATA", "folder of the suite's published files, or its Hub id")
    ] = None
    part: Annotated[
        str, _one("PART", "forget10, sust, scal, bio, 001_Stephen_King, ...; default the usual one")
    ] = ""
    records: Annotated[
        int | None, _one("RECORDS", "use only so many records of each set and probe")
    ] = None
    corpus: Annotated[
        tuple[str, ...], _words("CORPUS", "text to forget, for suites that have questions only")
    ] = ()
    keep: Annotated[
        tuple[str, ...], _words("KEEP", "text to keep, where it does not come with the suite")
    ] = ()
    beside: Annotated[
        tuple[str, ...],
        _words(
            "BESIDE", "SUITE=FOLDER as in utility=FOLDER, lm-eval=TASK,TASK: asked, not forgotten"
        ),
    ] = ()
    methods: Annotated[
        tuple[str, ...],
        _words("METHODS", "methods to compare, with wrappers as in npo+sam+gru; default all"),
    ] = ()
    seeds: Annotated[
        tuple[int, ...],
        _words("SEEDS", "seeds of training, the first that of the trials; default train.seed"),
    ] = ()
    trials: Annotated[
        int, _one("TRIALS", "settings tried for every method, its defaults first; default 1")
    ] = 1
    chosen: Annotated[
        Path | None,
        _one("CHOSEN", "chosen.json of an earlier matrix: run each method with what it chose"),
    ] = None
    shard: Annotated[
        str, _one("SHARD", "i/n: take every n-th cell, from the i-th; default 1/1")
    ] = "1/1"


def bench(
    what: Annotated[str, Parameter(help="a suite such as tofu, a request file, or report")],
    model: Annotated[
        str | None, Parameter(help="the original: Hub id or folder; for report: the matrix")
    ] = None,
    /,
    *,
    given: BenchFlags | None = None,
    cluster: ClusterFlags | None = None,
    request: RequestFlags | None = None,
    session: Given,
) -> int:
    """Compare methods on one benchmark: a matrix of runs that resumes, and a leaderboard.

    Each run has a folder of its own below --out and is never repeated once it has a row; failures
    are rows. `expunge bench report FOLDER` writes the leaderboard again. When every run of a method
    has failed, the exit code is 4.
    """
    console = session.begin()
    if what == REPORT:
        return _report(model, console, methods=given.methods if given else ())
    given, request = given or BenchFlags(), request or RequestFlags()
    name = "-".join(filter(None, (Path(what).stem, given.part)))
    matrix = folder_of(request) or Path("bench") / name
    # Before the libraries are imported: they read then whether they may ask the Hub.
    settings = _settings(session, what, model, matrix=matrix, request=request)
    _check(what, given, settings)

    from expunge.benchmarking.run import bench as run
    from expunge.benchmarking.sweep import parse_shard

    shard = parse_shard(given.shard)
    _require_one_way(shard.of, cluster)
    with runner_of(cluster) as runner:
        done = run(
            _ask(what, given, offline=settings.offline),
            matrix,
            settings,
            shard=shard,
            console=console,
            runner=runner,
        )
    console.line("done", f"{done.rows} rows, {done.failed} failed, {done.waiting} still to come")
    code = InputError.exit_code if done.fruitless else 0
    console.event("done", {"folder": matrix, **done._asdict(), "exit": code})
    if done.fruitless:
        raise InputError(
            "nothing-finished",
            what="every run of a method has failed",
            why=done.fruitless,
            fix=f"mend that, delete the folders of the runs in {matrix / 'cells'} and repeat the"
            " command",
        )
    return 0


def _require_one_way(shards: int, cluster: ClusterFlags | None) -> None:
    if shards > 1 and cluster is not None and (cluster.ray or cluster.slurm):
        raise UsageError(
            "shard-on-a-cluster",
            what="--shard was given with --ray or --slurm",
            why="the cluster deals the runs itself",
            fix="leave --shard out",
        )


def _report(place: str | None, console: "Console", *, methods: tuple[str, ...]) -> int:
    from expunge.pipeline.early_checks import check_matrix

    matrix = _matrix(place)
    check_matrix(matrix)

    from expunge.benchmarking.run import report

    report(matrix, methods=methods, console=console)
    return 0


def _check(what: str, given: BenchFlags, settings: "Settings") -> None:
    from expunge.pipeline.early_checks import (
        check_data,
        check_methods,
        check_settings,
        check_suite,
    )

    own = what.endswith(".toml")
    if not own:
        check_suite(what, given.data)
    check_methods(given.methods)
    check_data(given.corpus)
    check_data(given.keep)
    check_settings(settings, data=own)


def _ask(what: str, given: BenchFlags, *, offline: bool) -> "BenchArguments":
    from expunge.benchmarking.run import BenchArguments

    return BenchArguments(
        what=what,
        data=given.data,
        part=given.part,
        records=given.records,
        corpus=given.corpus,
        keep=given.keep,
        beside=given.beside,
        methods=given.methods,
        seeds=given.seeds,
        trials=given.trials,
        chosen=given.chosen,
        offline=offline,
    )


def _matrix(place: str | None) -> Path:
    if place is None:
        raise UsageError(
            "no-matrix-named",
            what="no matrix to report on is given",
            why="a matrix is the folder that `expunge bench` wrote",
            fix="expunge bench report FOLDER",
        )
    return Path(place)


def _settings(
    session: Session, what: str, model: str | None, *, matrix: Path, request: RequestFlags
) -> "Settings":
    own = what.endswith(".toml")
    if not own and model is None:
        raise UsageError(
            "no-original",
            what=f"no model to run {what} on is given",
            why="a benchmark compares methods on one original",
            fix=f"expunge bench {what} MODEL --data FOLDER",
        )
    if own and model is not None:
        raise UsageError(
            "two-models",
            what=f"both {what} and the model {model} were given",
            why="a request file names its model",
            fix="leave the model away, or name it in the file",
        )
    flags = TrainFlags()
    if own:
        return resolve_settings(what, (), request=request, train=flags, offline=session.offline)
    # What a suite forgets and keeps is put in its place once its data are read and checked; what
    # is given for it is refused there.
    suite = {"request.goal": "removal", "request.forget": [str(matrix / "data" / "forget.jsonl")]}
    return resolve_settings(
        model, (), request=request, train=flags, offline=session.offline, defaults=suite
    )
