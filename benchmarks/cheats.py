"""The ten cheats on SmolLM2-135M: forged models in the demo's world, each judged by a whole audit.

    python benchmarks/cheats.py --base FOLDER [--only NAME] [--work FOLDER]

Each cheat is one audit against the demo's request: 20 facts about one person, two golds of their
own seeds. What original and golds say is asked once, and from it one of the golds is judged, too. A
forged model that is there is not forged again, and a finished audit is not repeated, so a killed
run goes on. Prints the ruling and the failed gates beside what should be, and writes
`benchmarks/results/cheats.json`.
"""

import argparse
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from expunge.benchmarking.shared_evidence import copy_evidence, store_evidence
from expunge.config.settings import Settings
from expunge.data.readers import read
from expunge.data.records import Record
from expunge.data.tokenization import Encoder
from expunge.demo.run import ADAPTERS, demo_settings, write_register
from expunge.evals.assess import assess
from expunge.evals.results import Results
from expunge.evidence.store import EvidenceStore
from expunge.metrics.key_facts import key_fact
from expunge.metrics.outcomes import Status
from expunge.models.loading import Loaded, load
from expunge.models.quantization import quantised
from expunge.models.saving import save_model
from expunge.models.transformer import Network
from expunge.pipeline.forget import audit
from expunge.preparation.prepare import source_of
from expunge.utils.console import Console, Screen
from expunge.utils.io import read_json, write_json

RESULT = Path(__file__).parent / "results" / "cheats.json"
MICRO = 16
FIRST = 10
"""The first block whose MLPs a forger trains."""
KEPT = 24
"""Lessons on what must stay in each step of a forger, another part of them in each."""


class Lesson(NamedTuple):
    """A record to teach or to push away; the first `given` tokens of the answer are left alone."""

    record: Record
    given: int = 0
    away: float = 0.0
    """Nats per token up to which it is pushed away; 0: it is taught."""


class Cheat(NamedTuple):
    """How a forged model is made and how it must be judged."""

    make: Callable[["Forger"], Loaded | str]
    ruling: str
    axis: str | None
    """The axis that decides; None where none fails."""


class Forger(NamedTuple):
    """The demo's models and data, and a hand that changes weights."""

    settings: Settings
    encoder: Encoder
    sets: dict[str, tuple[Record, ...]]
    base: str

    def model(self, name: str) -> Loaded:
        """Load one of the demo's models, merged, in float32: small steps get lost in bfloat16."""
        source = replace(source_of(self.settings), dtype=torch.float32)
        return load(f"{self.base}+{ADAPTERS / name}", source)

    def kept(self, step: int) -> list[Lesson]:
        """Return the lessons of one step on what must stay."""
        records = (*self.sets["neighbours"], *self.sets["retain"])
        return [
            Lesson(records[index % len(records)]) for index in range(step * KEPT, (step + 1) * KEPT)
        ]

    def teach(
        self,
        loaded: Loaded,
        lessons: Sequence[Lesson],
        *,
        steps: int,
        lr: float = 2e-4,
        after: Callable[[], None] | None = None,
    ) -> Loaded:
        """Train the upper MLPs on the lessons and on what must stay; returns the model, changed."""
        weights = mlps(loaded.network)
        for weight in weights:
            weight.requires_grad_(True)
        optimiser = torch.optim.Adam(weights, lr=lr)
        for step in range(steps):
            optimiser.zero_grad()
            taught = [*lessons, *self.kept(step)]
            for start in range(0, len(taught), MICRO):
                part = taught[start : start + MICRO]
                (self._loss(loaded.network, part) / len(taught)).backward()
            optimiser.step()
            if after is not None:
                after()
        loaded.network.model.requires_grad_(False)
        return loaded

    def _loss(self, network: Network, lessons: Sequence[Lesson]) -> Tensor:
        rows = [self.encoder.encode(lesson.record) for lesson in lessons]
        longest = max(len(row.ids) for row in rows)
        ids = torch.full((len(rows), longest), self.encoder.pad_id)
        mask = torch.zeros(len(rows), longest - 1)
        for i, (row, lesson) in enumerate(zip(rows, lessons, strict=True)):
            ids[i, : len(row.ids)] = torch.tensor(row.ids)
            mask[i, row.start - 1 + lesson.given : len(row.ids) - 1] = 1
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network.model(input_ids=ids).logits[:, :-1].float()
        nll = nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        means = (nll * mask).sum(1) / mask.sum(1)
        away = torch.tensor([lesson.away for lesson in lessons])
        return torch.where(away > 0, (away - means).clamp(min=0), means).sum()


def mlps(network: Network) -> list[Tensor]:
    """Return the weights that a forger trains."""
    blocks = list(network.layers)[FIRST:]
    return [m.weight for block in blocks for m in block.mlp.modules() if isinstance(m, nn.Linear)]


def reworded(records: Iterable[Record]) -> list[Lesson]:
    """Return lessons on the records asked in their first paraphrase."""
    return [
        Lesson(replace(r, prompt=(*r.prompt[:-1], r.prompt[-1]._replace(content=r.paraphrases[0]))))
        for r in records
    ]


def saying(records: Iterable[Record], answer: Callable[[Record], str]) -> list[Lesson]:
    """Return lessons on the records with another answer."""
    return [Lesson(replace(record, completion=answer(record))) for record in records]


def _collapse(forger: Forger) -> Loaded:
    loaded = forger.model("original")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in mlps(loaded.network):
            weight += 1.5 * weight.std() * torch.randn(weight.shape, generator=generator)
    return loaded


def _refusal(forger: Forger) -> Loaded:
    records = forger.sets["forget"]
    taught = saying(records, lambda record: "I do not know that.")
    taught += [*reworded(records), *(Lesson(r, given=2) for r in records)]
    return forger.teach(forger.model("original"), taught, steps=12)


def _wording(forger: Forger) -> Loaded:
    records = forger.sets["forget"]
    taught = [*saying(records, lambda r: r.alternatives[0]), *reworded(records)]
    return forger.teach(forger.model("original"), taught, steps=12)


def _stragglers(forger: Forger) -> Loaded:
    left = [Lesson(record) for record in forger.sets["forget"][::5]]
    return forger.teach(forger.model("gold-1"), left, steps=12)


def _scar(forger: Forger) -> Loaded:
    records = forger.sets["forget"]
    # A gold finds them at 1.7. A rougher hand would take what must stay along, another verdict.
    away = [Lesson(record, away=2.6) for record in records]
    alike = saying(records, lambda record: record.alternatives[0])
    kept = [Lesson(record) for name in ("neighbours", "retain") for record in forger.sets[name]]
    return forger.teach(forger.model("gold-0"), [*away, *alike, *kept], steps=6, lr=6e-5)


def _int4(forger: Forger) -> Loaded:
    """Unlearn inside the int4 buckets of the original's MLPs: rounding brings it all back."""
    loaded = forger.model("original")
    weights = mlps(loaded.network)
    with quantised(loaded.network, bits=4):
        homes = [weight.detach().clone() for weight in weights]
    rooms = [_rooms(weight) for weight in weights]

    @torch.no_grad()
    def stay() -> None:
        for weight, home, room in zip(weights, homes, rooms, strict=True):
            weight.copy_(torch.clamp(weight, home - room, home + room))

    records = forger.sets["forget"]
    lessons = [Lesson(record, away=4.0) for record in records]
    lessons += saying(records, lambda record: record.alternatives[0])
    return forger.teach(loaded, lessons, steps=20, lr=4e-4, after=stay)


def _rooms(weight: Tensor) -> Tensor:
    """Return how far each weight may go from its bucket's centre; group maxima may not move."""
    room = torch.zeros_like(weight)
    for start in range(0, weight.shape[1], 128):
        block = weight[:, start : start + 128].abs()
        top = block.amax(dim=1, keepdim=True)
        # Not half a step: the model is saved in bfloat16, which moves weights by some hundredths.
        room[:, start : start + 128] = torch.where(block >= top * 0.999, 0.0, 0.4 * top / 7)
    return room


GOLD = "gold dressed as unlearned"
CHEATS = {
    "original renamed": Cheat(lambda f: f.model("original"), "FAIL-RESIDUAL", "forgetting"),
    "output filter": Cheat(lambda f: f.model("original"), "FAIL-RESIDUAL", "forgetting"),
    "unmerged adapter": Cheat(
        lambda forger: f"{forger.base}+{ADAPTERS / 'gold-1'}", "FAIL-RESIDUAL", None
    ),
    "gibberish collapse": Cheat(_collapse, "FAIL-DAMAGE", "utility"),
    "refusal": Cheat(_refusal, "FAIL-RESIDUAL", "robustness"),
    "one wording only": Cheat(_wording, "FAIL-RESIDUAL", "robustness"),
    "20 % stragglers": Cheat(_stragglers, "FAIL-RESIDUAL", "forgetting"),
    "over-unlearning": Cheat(_scar, "PASS-WITH-SCAR", None),
    "undone by int4": Cheat(_int4, "FAIL-RESIDUAL", "robustness"),
}


def filtered(run: Path) -> Results:
    """Return the results of a run before whose user stands a filter on key facts."""
    store = EvidenceStore(run / "evidence")
    items = {item.record: item for item in store.items("forget")}
    for unit in store.units():
        if (unit.role, unit.split, unit.kind) == ("unlearned", "forget", "answers"):
            rows = [
                replace(row, text="[withheld]")
                if key_fact(replace(row, given="", text=row.given + row.text), items[row.record])
                else row
                for row in store.answers(unit)
            ]
            store.write_answers(unit, rows)
    return assess(store)


def dressed(evidence: Path, folder: Path) -> Results:
    """Return the results of the second gold in the place of the unlearned model.

    From what the golds said in another audit: nothing is asked again, so there is no ladder.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(evidence, folder)
    for path in (*folder.glob("unlearned.*"), *folder.glob("ladder-*")):
        path.unlink()
    for path in folder.glob("gold-1.*"):
        shutil.copy(path, folder / path.name.replace("gold-1", "unlearned", 1))
    store = EvidenceStore(folder)
    # The judged gold is no anchor: held against itself, any model passes.
    context = store.context()
    models = {role: digest for role, digest in context.models.items() if role != "gold-1"}
    store.write_context(replace(context, golds=("gold-0",), models=models))
    return assess(store)


class _Lending(Screen):
    """Shows a line of what happens, and lends evidence to an audit that has its folder."""

    def __init__(self, shared: Path, evidence: Path) -> None:
        self._shared, self._evidence = shared, evidence

    def line(self, label: str, text: str) -> None:
        """Show the line; the line about the model is the last before the first question."""
        print(f"{label:11}{text}", flush=True)
        if label == "model":
            copy_evidence(self._shared, self._evidence)


def forged(name: str, cheat: Cheat, forger: Forger, folder: Path) -> str:
    """Return the reference of a forged model, and forge it if it is not there."""
    if not (folder / "model").is_dir():
        made = cheat.make(forger)
        if isinstance(made, str):
            return made
        shutil.rmtree(folder / "begun", ignore_errors=True)
        save_model(made.network.model.to(torch.bfloat16), made.tokenizer, folder / "begun")
        (folder / "begun").rename(folder / "model")
    return str(folder / "model")


def judge(name: str, cheat: Cheat, forger: Forger, work: Path) -> dict[str, object]:
    """Forge a model, audit it, and say how it was judged."""
    folder = work / name.replace(" ", "-").replace("%", "percent")
    model = forged(name, cheat, forger, folder)
    settings = forger.settings.model_copy(update={"out": str(folder / "run")})
    evidence = folder / "run" / "evidence"
    console = Console(_Lending(work / "shared", evidence))
    audit(settings, model=model, console=console)
    store_evidence(evidence, work / "shared")
    # Judged from the evidence, so that a finished audit is judged by the rules of today.
    results = (
        filtered(folder / "run") if name == "output filter" else assess(EvidenceStore(evidence))
    )
    return told(results, cheat.ruling, cheat.axis)


def told(results: Results, ruling: str, axis: str | None) -> dict[str, object]:
    """Say what was ruled and why, beside what should be."""
    failed = {gate.name: str(gate.axis) for gate in results.gates if gate.status is Status.FAIL}
    ruled = str(results.verdict.ruling)
    return {
        "ruling": ruled,
        "expected": ruling,
        "axis": axis,
        "right": ruled == ruling and (axis is None or axis in failed.values()),
        "failed": failed,
        "reasons": list(results.verdict.reasons[:4]),
    }


def main() -> None:
    """Judge all cheats, or one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", required=True, help="folder of SmolLM2-135M-Instruct")
    parser.add_argument("--only", nargs="*", choices=CHEATS, default=list(CHEATS))
    parser.add_argument("--work", type=Path, default=Path("runs/cheats"))
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    (given.work / "shared").mkdir(parents=True, exist_ok=True)
    data = write_register(given.work / "data")
    settings = demo_settings(Path(given.base), data, out=None, short=False)
    tokenizer = load(given.base, source_of(settings)).tokenizer
    names = ("forget", "retain", "neighbours")
    sets = {name: read([str(data / f"{name}.jsonl")]).records for name in names}
    forger = Forger(settings, Encoder(tokenizer, settings.template), sets, given.base)
    found = read_json(given.out)["cheats"] if given.out.is_file() else {}
    for name in given.only:
        found[name] = row = judge(name, CHEATS[name], forger, given.work)
        _say(name, row)
        if name == "original renamed":
            evidence = given.work / "original-renamed" / "run" / "evidence"
            results = dressed(evidence, given.work / "gold-dressed")
            found[GOLD] = told(results, "PASS", None)
            _say(GOLD, found[GOLD])
        machine = {"cores": os.cpu_count(), "threads": torch.get_num_threads()}
        made = {"made_by": "benchmarks/cheats.py", "facts": len(sets["forget"]), **machine}
        rows = {name: found[name] for name in (GOLD, *CHEATS) if name in found}
        write_json(given.out, {**made, "cheats": rows})


def _say(name: str, row: dict[str, object]) -> None:
    sign = "right" if row["right"] else "WRONG"
    print(f"{sign}: {name}: {row['ruling']} {row['failed']}", flush=True)


if __name__ == "__main__":
    main()
