"""The first checks of a command: paths, names and folders, before any library is loaded.

What is asked again where it is used; here it costs a second instead of ten. Nothing imports torch
or asks the Hub.
"""

from collections.abc import Sequence
from pathlib import Path

from expunge.config.catalogue import catalogue
from expunge.config.request import RECORD_SETS
from expunge.config.resolve import WORDS, parsed
from expunge.config.settings import Settings, Stage
from expunge.data.readers import is_hub_id, require_prompts, require_source
from expunge.errors import InputError
from expunge.models.reference import require_model
from expunge.trackers import require_tracker
from expunge.utils.io import did_you_mean, expanded
from expunge.utils.registry import OR_OWN, require_known

_ROUTES = ("auto", "retrain")
"""Words that stand where a method does."""
_ONE = "choose one of these"


def check_settings(settings: Settings, *, weights: bool = True, data: bool = True) -> None:
    """Check all names, files and folders that the settings of a run name.

    Args:
        settings: What to do.
        weights: Whether the weights of the original will be read.
        data: Whether the record sets are there already; those of a suite are written later.

    Raises:
        ExpungeError: One of them does not exist; the message has the nearest that does.
    """
    offline, request, audit = settings.offline, settings.request, settings.audit
    for stage in settings.stage or (settings,):
        _check_choices(stage)
    check_attacks(audit.attacks)
    require_model(settings.model, offline=offline, weights=weights)
    for model in filter(
        None, (*request.gold, audit.sibling, settings.first_original, settings.base)
    ):
        require_model(model, offline=offline)
    if data:
        for name in RECORD_SETS:
            check_data(getattr(request, name), offline=offline)
    if settings.recipe is not None and not Path(settings.recipe).is_dir():
        parsed(Path(settings.recipe))
    if data:
        check_data(settings.trained_on, offline=offline)
    check_prompts(audit.prompts)
    require_tracker(settings.tracker)


def check_data(sources: Sequence[str], *, offline: bool = False) -> None:
    """Check that every source is a file, a folder or an id of the Hub; words such as `auto` pass.

    Args:
        sources: The sources of one record set.
        offline: Whether the Hub may not be asked.

    Raises:
        InputError: As `expunge.data.readers.require_source`.
    """
    if isinstance(sources, str):
        return
    for source in sources:
        if source not in WORDS:
            require_source(source, offline=offline)


def check_methods(names: Sequence[str]) -> None:
    """Check names of methods, with wrappers as in `npo+sam`.

    Raises:
        UsageError: There is no such method or wrapper.
    """
    known = catalogue()
    for name in names:
        method, *wrappers = name.split("+")
        _check_method(method, routes=())
        for wrapper in wrappers:
            every = [each.name for each in known.wrappers]
            require_known("wrapper", wrapper, every, otherwise="name one of these after a +")


def check_attacks(names: Sequence[str]) -> None:
    """Check names of attacks, but not those of the user's own: `package.module:Class`.

    Raises:
        UsageError: There is no such attack.
    """
    for name in (each for each in names if ":" not in each):
        require_known("attack", name, catalogue().attacks, otherwise=_ONE)


def check_prompts(path: str) -> None:
    """Check that a file of own prompts is there; an empty path stands for none.

    Raises:
        InputError: It is not.
    """
    if path:
        require_prompts(Path(path))


def check_suite(name: str, data: str | None) -> None:
    """Check the name of a suite and the place of its data.

    Raises:
        UsageError: There is no such suite.
        InputError: The data lie neither in a folder nor on the Hub.
    """
    otherwise = "name one of these, or a request file ending in .toml"
    require_known("suite", name, catalogue().suites, otherwise=otherwise)
    if data is None or expanded(data).is_dir() or is_hub_id(data):
        return
    raise no_benchmark_folder(data)


def no_benchmark_folder(data: str, *, on_hub: bool = True) -> InputError:
    """Return the error for data of a benchmark that lie nowhere.

    Args:
        data: What was given as their folder.
        on_hub: Whether the suite can be read from the Hub.
    """
    return InputError(
        "no-benchmark-folder",
        what=f"there is no folder {data}",
        why="nor is that the id of a data set on the Hub"
        if on_hub
        else "this suite is read from a folder of the files that its authors published, not from"
        " the Hub",
        fix=did_you_mean(data, "check the folder given by --data or --beside"),
    )


def check_matrix(folder: Path) -> None:
    """Check that the folder of a matrix is there.

    Raises:
        InputError: It is not.
    """
    if not folder.is_dir():
        raise no_matrix(folder)


def no_matrix(folder: Path) -> InputError:
    """Return the error of a folder that holds no matrix, or of none."""
    return InputError(
        "no-matrix",
        what=f"{folder} holds no matrix",
        why="a matrix is what `expunge bench` or `expunge tune` wrote",
        fix=did_you_mean(str(folder), "give the folder that --out named"),
    )


def _check_choices(stage: Settings | Stage) -> None:
    _check_method(stage.method.name, routes=_ROUTES)
    tables = {
        "robust": stage.robust,
        "combine": stage.combine,
        "mask": stage.mask,
        "optimiser": stage.optimiser,
    }
    for table, choice in tables.items():
        words = ("none", "auto") if table == "robust" else ("none",)
        if choice.name not in words and ":" not in choice.name:
            known = [each.name for each in catalogue().wrappers if each.table == table]
            require_known(table, choice.name, known, otherwise=OR_OWN)


def _check_method(name: str, *, routes: Sequence[str]) -> None:
    if name not in routes and ":" not in name:
        known = [each.name for each in catalogue().methods]
        require_known("method", name, known, otherwise=OR_OWN)
