"""One run by several processes: what the first one says, and what the others do.

The first process prepares, audits and writes. When it is time to train it calls the others; they
load the same model and data and train with it. In the end it tells them where the results lie.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from expunge import __version__
from expunge.config.settings import Settings
from expunge.data.tokenization import Encoded
from expunge.errors import InputError, UsageError
from expunge.methods.base import Controlled, Stream
from expunge.methods.counterfactual import Counterfactual
from expunge.methods.edits.base import Edit
from expunge.methods.guards.base import Frame, Guard
from expunge.models.loading import files_digest, load
from expunge.models.transformer import Network
from expunge.pipeline.plan import load_of
from expunge.pipeline.recipe import base_weights
from expunge.pipeline.run_folder import RunFolder, run_id
from expunge.planning.cost import PlannedCost, layout_of, peak_gib
from expunge.planning.memory import measure
from expunge.preparation.prepare import Prepared, prepare
from expunge.training.controller import ControlledTrainer
from expunge.training.distributed import Team
from expunge.training.early_stopping import Unseen
from expunge.training.edit_runner import EditRunner
from expunge.training.guard_runner import GuardRunner
from expunge.training.trainer import Trainer
from expunge.utils.file_names import CHECKPOINTS
from expunge.utils.io import sha256_file, sha256_json

_OWN = (Stream.ALTERNATIVE, Stream.OTHERS)
"""Streams that the original may have written itself."""
_SILENCE: dict[str, Any] = {}
"""What a process says that has nothing to tell."""


def cost_together(prepared: Prepared, cost: PlannedCost, team: Team) -> PlannedCost:
    """Return the cost of a run with the memory that its device must have for these processes.

    Processes that compute on the CPU share its memory.
    """
    if team.size == 1 or isinstance(prepared.method, Edit | Guard):  # these work alone
        return cost
    peak, settings = cost.peak_gib, prepared.settings
    if settings.train.full and prepared.options.only is None:  # chosen weights are copied
        size = measure(prepared.config)
        load = load_of(prepared, size)
        load = replace(load, step=load.step.times(_share(prepared, team)))
        layout = layout_of(load, prepared.source.dtype)
        peak = peak_gib(size, replace(layout, processes=team.size, spread=True))
    return replace(cost, peak_gib=peak * (team.size if prepared.source.device.type == "cpu" else 1))


def _share(prepared: Prepared, team: Team) -> float:
    """Return the share of a step that the process with the most records takes."""
    options = prepared.options
    records = min(options.batch, len(prepared.streams.forget)) + options.retained
    return -(-records // team.size) / records


def call(team: Team, run: RunFolder, prepared: Prepared, unseen: Unseen) -> None:
    """Tell the other processes to train, and what only the first one knows."""
    streams = prepared.streams
    own = {
        stream: [_rows(records) for records in streams.variants[stream]]
        for stream in _OWN
        if stream in streams.variants
    }
    replay = _rows(streams.replay)
    told = {"train": True, "unseen": asdict(unseen), "own": own, "replay": replay}
    team.told({**_place(run), **told})


def dismiss(team: Team, run: RunFolder) -> None:
    """Tell the other processes that the run has ended well."""
    team.told({**_place(run), "train": False})


def follow(settings: Settings, team: Team) -> Path:
    """Do what the first process says, until the run has ended well; return its folder.

    Raises:
        UsageError: This process was given another model, data, settings or version.
    """
    word = team.told(_SILENCE)
    if word["train"]:
        prepared = prepare(settings)
        original = load(settings.model, prepared.source)
        _require_same(word["run"], identity(prepared, original.digest))
        prepared = _with_own_texts(prepared, word)
        unlearning_of(prepared, original.network).run(
            unseen=Unseen(**word["unseen"]),
            folder=Path(word["folder"]) / CHECKPOINTS,
            progress=lambda step, report: None,
            team=team,
        )
        word = team.told(_SILENCE)
    return Path(word["folder"])


def require_spreadable(settings: Settings, team: Team) -> None:
    """Refuse what cannot be done with weights that are spread over processes.

    Raises:
        UsageError: A mask chooses among all weights, or there are several stages.
    """
    if team.size > 1 and settings.stage is not None:
        raise UsageError(
            "chain-on-processes",
            what=f"a chain of stages does not run on {team.size} processes",
            why="the others would have to take over the weights of every finished stage",
            fix="run one process, or one command a stage, each on the folder of the one before",
        )
    if team.size > 1 and settings.train.full and settings.mask.name != "none":
        raise UsageError(
            "mask-on-spread-weights",
            what=f"mask {settings.mask.name} does not work with --full on {team.size} processes",
            why="it ranks all weights against each other, and each process holds a part of them",
            fix="leave --full out, use mask memflex on an adapter, or run one process",
        )


def identity(prepared: Prepared, model_digest: str) -> str:
    """Return the id of the run that these inputs make.

    Golds, sibling and first original count by their files: they are loaded when they are needed.

    Raises:
        InputError: A gold, or the sibling, is not there.
    """
    settings = prepared.settings
    data, prompts = prepared.data_digest, settings.audit.prompts
    named = (*settings.request.gold, settings.audit.sibling, settings.first_original)
    references = filter(None, named)
    others = [files_digest(reference, prepared.source) for reference in references]
    return run_id(
        settings,
        data_digest=sha256_json([data, sha256_file(Path(prompts))]) if prompts else data,
        model_digest=sha256_json([model_digest, *others]) if others else model_digest,
        code_version=__version__,
    )


def unlearning_of(
    prepared: Prepared, network: Network, *, must_settle: bool = False
) -> Trainer | ControlledTrainer:
    """Return the training that the settings describe; the method must be one that trains."""
    assert not isinstance(prepared.method, Edit | Guard), "edits and guards do not train"
    store = prepared.settings.reference_store
    trainer = Trainer(
        method=prepared.method,
        network=network,
        streams=prepared.streams,
        options=prepared.options,
        pad_id=prepared.encoder.pad_id,
        wraps=prepared.wraps,
        first=_first_original(prepared, network),
        store=None if store is None else Path(store),
    )
    if isinstance(prepared.method, Controlled):
        numbers = prepared.encoder.number_ids
        return ControlledTrainer(trainer=trainer, must_settle=must_settle, numbers=numbers)
    return trainer


def _first_original(prepared: Prepared, network: Network) -> Callable[[], Network] | None:
    """Return what loads the first original of a chain; None where the settings name none."""
    reference = prepared.settings.first_original
    if reference is None:
        return None
    shapes = {name: value.shape for name, value in network.model.state_dict().items()}

    def loaded() -> Network:
        first = load(reference, prepared.source).network
        first.model.to(network.device)  # type: ignore[arg-type]
        if {n: value.shape for n, value in first.model.state_dict().items()} != shapes:
            raise InputError(
                "another-architecture",
                what=f"{reference} cannot be the first original of {prepared.settings.model}",
                why="its tensors have other names or shapes",
                fix="name the model that the first request of the chain started from",
            )
        return first

    return loaded


def _rows(records: Sequence[Encoded]) -> list[dict[str, object]]:
    return [asdict(record) for record in records]


def _encoded(rows: Sequence[Mapping[str, Any]]) -> tuple[Encoded, ...]:
    return tuple(
        Encoded(
            record=row["record"],
            ids=tuple(row["ids"]),
            start=row["start"],
            ends=row["ends"],
            focus=row["focus"],
        )
        for row in rows
    )


def _with_own_texts(prepared: Prepared, told: Mapping[str, Any]) -> Prepared:
    """Train on the first process's texts: the original may have written them itself."""
    own = {Stream(name): tuple(map(_encoded, each)) for name, each in told["own"].items()}
    variants = {**prepared.streams.variants, **own}
    streams = replace(prepared.streams, variants=variants, replay=_encoded(told["replay"]))
    method = prepared.method
    if isinstance(method, Counterfactual) and Stream.OTHERS not in own:
        method = replace(method, others=0.0)
    return replace(prepared, streams=streams, method=method)


def _place(run: RunFolder) -> dict[str, object]:
    return {"run": run.run_id, "folder": str(run.path.absolute())}


def _require_same(first: str, own: str) -> None:
    if first != own:
        raise UsageError(
            "processes-differ",
            what=f"this process would do run {own}, the first one does {first}",
            why="model, data, settings or version of expunge are not the same on all machines",
            fix="give every process the same command and the same files",
        )


def work(
    prepared: Prepared, network: Network, *, must_settle: bool = False
) -> Trainer | ControlledTrainer | EditRunner | GuardRunner:
    """Return the training, the edit or the guard that the settings ask for, ready to run.

    Args:
        prepared: The inputs.
        network: The original.
        must_settle: Whether a controlled training that does not settle is an error.
    """
    if isinstance(prepared.method, Guard):
        return GuardRunner(
            guard=prepared.method,
            network=network,
            streams=prepared.streams,
            options=prepared.options,
            frame=Frame(*prepared.encoder.frame),
            pad_id=prepared.encoder.pad_id,
        )
    if isinstance(prepared.method, Edit):
        return EditRunner(
            edit=prepared.method,
            network=network,
            streams=prepared.streams,
            options=prepared.options,
            pad_id=prepared.encoder.pad_id,
            base_weights=base_weights(prepared, network),
        )
    return unlearning_of(prepared, network, must_settle=must_settle)
