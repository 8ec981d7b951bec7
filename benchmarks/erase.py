"""The route `erase` on sets with golds: what is left, what is kept, and how long it takes.

    python benchmarks/erase.py demo
    python benchmarks/erase.py demo --plain
    python benchmarks/erase.py tofu01
    python benchmarks/erase.py WORLD_FOLDER

`--plain` takes every field but question and answer from the records, as a file from a database
would have them. A world folder is one that `benchmarks/worlds.py make` wrote. One line of Markdown
for each model comes out: facts stated, residual memory against the mean gold, its largest value of
a record, mean probability of records that training rehearsed and of those it did not.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from expunge.config.request import Goal, Request
from expunge.config.settings import MethodSettings, Settings
from expunge.data.readers import read
from expunge.data.records import Record
from expunge.data.secret_tokens import same_question, with_secrets
from expunge.data.splits import Scope
from expunge.data.tokenization import Encoder
from expunge.demo.run import ADAPTERS, base_model, write_register
from expunge.metrics.key_facts import fact_form, states
from expunge.models.generation import greedy
from expunge.models.loading import Loaded, Source, load
from expunge.models.reference import split_reference
from expunge.models.scoring import score
from expunge.pipeline.workers import work
from expunge.preparation.prepare import Prepared, prepare
from expunge.training.controller import ControlledTrainer
from expunge.training.counterfactual_levels import MarkedScores, as_hard, token_levels
from expunge.training.early_stopping import Unseen, unseen_level
from expunge.utils.console import SilentConsole
from expunge.utils.io import read_jsonl, write_jsonl
from expunge.utils.system import cache_folder
from world_models import Made, opened

SOURCE = Source(device=torch.device("cpu"), dtype=torch.bfloat16, offline=True)
PLAIN = ("prompt", "completion", "text", "messages")
MOST = 60
"""Kept records that are scored of each set."""
TOFU = {"forget": "forget01", "retain": "retain99", "holdout": "holdout01"}
TOFU_RETAIN = 400
"""Every so many-th record of TOFU's retain set is taken, to this number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A model, what it has to forget, and models that never saw it."""

    original: str
    golds: tuple[str, ...]
    request: Request
    keys: dict[str, tuple[str, ...]]
    """Question to the key answers, which the request may not have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What one model does on a case."""

    stated: int
    """Facts that its greedy answers state."""
    forget: list[float]
    """Mean log-probability per token of each forget record."""
    rehearsed: float
    """Mean probability of kept records that training saw."""
    unrehearsed: float
    """The same of those that it did not."""


def demo_case(base: Path, folder: Path, *, plain: bool) -> Case:
    """Return the register of the demo."""
    data = write_register(folder / "register")
    sets = {name: str(data / f"{name}.jsonl") for name in ("forget", "retain", "neighbours")}
    keys = _keys(read([sets["forget"]]).records)
    control = str(data / "control.jsonl")
    if plain:
        for path in data.glob("*.jsonl"):
            rows = list(read_jsonl(path))
            write_jsonl(path, [{k: v for k, v in row.items() if k in PLAIN} for row in rows])
    return Case(
        original=f"{base}+{ADAPTERS / 'original'}",
        golds=tuple(f"{base}+{ADAPTERS / name}" for name in ("gold-0", "gold-1")),
        request=_request(sets, control=(control,)),
        keys=keys,
    )


def tofu_case(base: Path, folder: Path, shared: Path) -> Case:
    """Return two of TOFU's authors, forty records without subject or key answers."""
    sets: dict[str, str] = {}
    for name, part in TOFU.items():
        records = read([str(shared / "data" / "tofu" / f"{part}.json")]).records
        step = max(1, len(records) // TOFU_RETAIN)
        chosen = [{"prompt": r.question, "completion": r.completion} for r in records[::step]]
        path = folder / f"{name}.jsonl"
        write_jsonl(path, chosen)
        sets[name] = str(path)
    models = shared / "models" / "smollm2-tofu"
    return Case(
        original=f"{base}+{models / 'full-s0'}",
        golds=(f"{base}+{models / 'retain99-s0'}",),
        request=_request(sets),
        keys={},
    )


def world_case(made: Made) -> Case:
    """Return a world that `worlds.py` made; nothing of its neighbours is rehearsed."""
    names = ("forget", "retain", "neighbours", "holdout")
    sets = {name: str(made.data(name)) for name in names}
    golds = sorted(path.parent.name for path in made.folder.glob("gold-?/made.json"))
    return Case(
        original=made.model("original"),
        golds=tuple(made.model(name) for name in golds),
        request=_request(sets, rehearse=False),
        keys=_keys(read([sets["forget"]]).records),
    )


def _request(
    sets: dict[str, str], *, control: tuple[str, ...] = (), rehearse: bool = True
) -> Request:
    return Request(
        goal=Goal.REMOVAL,
        forget=(sets["forget"],),
        retain=(sets["retain"],),
        neighbours=tuple(sets[name] for name in ("neighbours",) if name in sets),
        holdout=tuple(sets[name] for name in ("holdout",) if name in sets),
        control=control or "none",
        rehearse=rehearse,
    )


def _keys(records: Sequence[Record]) -> dict[str, tuple[str, ...]]:
    return {record.question: record.key_answers for record in records}


def measure(case: Case, loaded: Loaded, scope: Scope) -> Measured:
    """Ask a model its facts, and score what it had to forget and to keep."""
    encoder = Encoder(loaded.tokenizer)
    answers = greedy(
        loaded.network,
        [encoder.prompt_ids(record) for record in scope.forget],
        end_ids=encoder.end_ids,
        max_new_tokens=40,
        tokens_per_pass=4096,
    )
    said = [fact_form(encoder.decode(answer)) for answer in answers]
    keys = [case.keys.get(record.question, ()) for record in scope.forget]
    kept = (*scope.retain, *scope.neighbours)
    parts = [[r for r in kept if (r.id in scope.held_out) is held][:MOST] for held in (False, True)]
    inside, outside = (_means(loaded, encoder, part) for part in parts)
    return Measured(
        stated=sum(
            any(states(text, fact_form(key)) for key in own)
            for text, own in zip(said, keys, strict=True)
        ),
        forget=_means(loaded, encoder, scope.forget),
        rehearsed=_probability(inside),
        unrehearsed=_probability(outside),
    )


def _means(loaded: Loaded, encoder: Encoder, records: Sequence[Record]) -> list[float]:
    """Return the mean log-probability per token of each record."""
    scores = score(
        loaded.network,
        [encoder.encode(record) for record in records],
        pad_id=encoder.pad_id,
        tokens_per_pass=2048,
    )
    return [float(each.logp.mean()) for each in scores]


def _probability(means: Sequence[float]) -> float:
    return sum(map(math.exp, means)) / max(1, len(means))


def erase(case: Case, prepared: Prepared) -> tuple[Loaded, str, float]:
    """Erase, and return the model, how it ended, and processor-seconds."""
    loaded, started = load(case.original, SOURCE), time.process_time()
    trainer = work(prepared, loaded.network)
    assert isinstance(trainer, ControlledTrainer)
    with tempfile.TemporaryDirectory() as folder:
        trained, weights = trainer.run(
            unseen=_unseen(case, loaded, prepared.scope),
            folder=Path(folder),
            progress=lambda step, text: None,
            retried=lambda steps, text: print(f"{text}; again with {steps} steps", flush=True),
        )
    trainer.finish(weights)
    return loaded, trained.stopped, time.process_time() - started


def _unseen(case: Case, loaded: Loaded, scope: Scope) -> Unseen:
    """Return how the original scores what no model saw, as a run reads it from its audit."""
    others = scope.levels or (*scope.holdout, *scope.control)
    encoder = Encoder(loaded.tokenizer)
    alike = same_question(scope.forget, others)
    rows = _logps(loaded, encoder, others)
    marks = _marks(others, scope, encoder)
    tokens = token_levels(scope.forget, rows, marks, alike)
    reference, adapter = split_reference(case.original)
    plain: list[list[float]] = []
    if adapter is not None:
        base = load(reference, SOURCE)
        plain = _logps(base, encoder, scope.forget)
        own = MarkedScores(plain, _marks(scope.forget, scope, encoder))
        unseen = MarkedScores(_logps(base, encoder, others), marks)
        tokens = as_hard(tokens, scope.forget, alike, unseen=unseen, own=own)
    return unseen_level(
        [-sum(logp) / len(logp) for logp in rows],
        loaded.network.vocabulary,
        alike=alike,
        real=bool(others),
        tokens=tokens,
        base={record.id: row for record, row in zip(scope.forget, plain, strict=False)},
    )


def _logps(loaded: Loaded, encoder: Encoder, records: Sequence[Record]) -> list[list[float]]:
    encoded = [encoder.encode(record) for record in records]
    rows = score(loaded.network, encoded, pad_id=encoder.pad_id, tokens_per_pass=4096)
    return [row.logp.tolist() for row in rows]


def _marks(records: Sequence[Record], scope: Scope, encoder: Encoder) -> list[tuple[int, ...]]:
    encoded = [encoder.encode(record) for record in records]
    return [each.secret for each in with_secrets(records, encoded, scope.keep, encoder)]


def line(name: str, measured: Measured, original: Measured, golds: Sequence[Measured]) -> str:
    """Return a row of the table; residual memory against the mean of the golds."""
    gold = [sum(each) / len(each) for each in zip(*(g.forget for g in golds), strict=True)]
    left = [m - g for m, g in zip(measured.forget, gold, strict=True)]
    way = [o - g for o, g in zip(original.forget, gold, strict=True)]
    worst = max(rest / whole for rest, whole in zip(left, way, strict=True) if whole > 0)
    cells = (
        name,
        f"{measured.stated}",
        f"{sum(left) / sum(way):.3f}",
        f"{worst:.2f}",
        f"{measured.rehearsed:.3f}",
        f"{measured.unrehearsed:.3f}",
    )
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("case", help="demo, tofu01 or the folder of a world")
    parser.add_argument("--plain", action="store_true", help="take all fields but the texts away")
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="for tofu01")
    given = parser.parse_args()
    base = base_model(cache_folder(), offline=False, console=SilentConsole())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.case == "demo":
            case = demo_case(base, folder, plain=given.plain)
        elif given.case == "tofu01":
            case = tofu_case(base, folder, given.shared.resolve())
        else:
            case = world_case(opened(Path(given.case).resolve(), base))
        settings = Settings(
            model=case.original,
            offline=True,
            precision="bf16",
            request=case.request.model_copy(update={"gold": case.golds}),
            method=MethodSettings(name="counterfactual"),
        )
        prepared = prepare(settings)
        golds = [measure(case, load(gold, SOURCE), prepared.scope) for gold in case.golds]
        original = measure(case, load(case.original, SOURCE), prepared.scope)
        print("| model | stated | residual | largest | rehearsed p | unrehearsed p |")
        print("|---|---|---|---|---|---|")
        print(line("original", original, original, golds))
        for index, gold in enumerate(golds):
            print(line(f"gold {index}", gold, original, golds), flush=True)
        loaded, ended, seconds = erase(case, prepared)
        print(line("erased", measure(case, loaded, prepared.scope), original, golds))
        print(f"\n{ended}; {seconds:.0f} processor-seconds")


if __name__ == "__main__":
    main()
