"""Planted models on SmolLM2-135M, in the demo's world, each judged by a whole audit.

    python benchmarks/cheats.py --base FOLDER [--only NAME] [--work FOLDER]

Each model is one audit against the demo's request: 20 facts about one person, level quick, two
golds. `planted.py` holds the models. What original and golds say is asked once, and from it one of
the golds is judged, too. A model that is there is not made again, and a finished audit is not
repeated: a killed run goes on. Prints the ruling and the failed gates beside what should be, and
writes `benchmarks/results/cheats.json` after each.
"""

import argparse
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from expunge.benchmarking.evaluate import copy_evidence, store_evidence
from expunge.config.request import Goal
from expunge.config.settings import Settings
from expunge.data.readers import read
from expunge.data.tokenization import Encoder
from expunge.demo.run import demo_settings, write_register
from expunge.evals.assess import assess
from expunge.evals.results import Results
from expunge.evidence.store import EvidenceStore, Unit
from expunge.metrics.key_facts import key_fact
from expunge.metrics.outcomes import Status
from expunge.models.loading import load
from expunge.pipeline.forget import audit
from expunge.preparation.prepare import source_of
from expunge.utils.console import Console, Screen
from expunge.utils.io import read_json, write_json
from planted import CHEATS, Cheat, rewriting, swapped
from planted_models import Forger, folder_of, save

RESULT = Path(__file__).parent / "results" / "cheats.json"
GOLD = "gold dressed as unlearned"
FIRST = "original renamed"
FILTER = "output filter"
KEPT = ("retain", "neighbours", "control", "generic")
"""Sets that tell of damage, and that which no model saw."""


def filtered(run: Path, copy: Path) -> Results:
    """Return the results of the original with a filter on key facts before its user.

    From what was said in its own audit: nothing is asked again.
    """
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(run / "evidence", copy)
    store = EvidenceStore(copy)
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
    shutil.rmtree(copy / "attacks", ignore_errors=True)
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
    shutil.rmtree(folder / "attacks", ignore_errors=True)
    store = EvidenceStore(folder)
    # The judged gold is no anchor: held against itself, any model passes.
    context = store.context()
    models = {role: digest for role, digest in context.models.items() if role != "gold-1"}
    store.write_context(replace(context, golds=("gold-0",), models=models))
    return assess(store)


class _Lending(Screen):
    """Shows a line of what happens, and lends evidence to an audit that has its folder."""

    def __init__(self, lend: Callable[[], None]) -> None:
        self._lend = lend

    def line(self, label: str, text: str) -> None:
        """Show the line; the line about the model is the last before the first question."""
        print(f"{label:11}{text}", flush=True)
        if label == "model":
            self._lend()


def lend_kept(shared: Path, evidence: Path) -> None:
    """Let the judged model keep what is to be kept as the original does, and ask it nothing there.

    A model that must fail for what it holds fails for that before damage counts.
    """
    for path in shared.glob("*.jsonl"):
        unit = Unit.parse(path.name)
        if unit is None or unit.split not in KEPT or unit.role not in ("original", "gold-0"):
            continue
        # How far predictions moved is measured of a gold alone; it is shown and never judged.
        own = replace(unit, role="unlearned").filename
        if (unit.role == "original") == (unit.kind != "layers") and not (evidence / own).exists():
            shutil.copy(path, evidence / own)


def planted(cheat: Cheat, forger: Forger, folder: Path) -> str:
    """Return the reference of a planted model, and make it if it is not there."""
    if not (folder / "model").is_dir():
        made = cheat.make(forger)
        if isinstance(made, str):
            return made
        # Its last step: a model that was killed before is made anew.
        half = folder.with_name(folder.name + "-half")
        shutil.rmtree(half, ignore_errors=True)
        rows = made.network.model
        if cheat.swaps is not None:
            save(made, half)
            swapped(half / "model", made, cheat.swaps)
            table = (half / "model" / "tokenizer.json").read_bytes()
            rows.tie_weights()
            shutil.rmtree(half)
            save(made, half)
            (half / "model" / "tokenizer.json").write_bytes(table)
        else:
            save(made, half, dtype=torch.float32 if cheat.wide else torch.bfloat16)
        if cheat.rewrites is not None:
            rewriting(half / "model", cheat.rewrites)
        folder.mkdir(parents=True, exist_ok=True)
        (half / "model").rename(folder / "model")
        shutil.rmtree(half)
    return str(folder / "model")


def judge(name: str, cheat: Cheat, forger: Forger) -> dict[str, object]:
    """Plant a model, audit it, and say how it was judged."""
    folder = folder_of(forger.work, name)
    began = time.process_time()
    model = planted(cheat, forger, folder)
    made = time.process_time()
    residual = cheat.ruling == "FAIL-RESIDUAL" and cheat.golds is None and not cheat.other_tokens
    results = _audited(cheat, forger, model, folder / "run", kept=not residual)
    whole = not residual or results.verdict.ruling != cheat.ruling
    if residual and whole:
        results = _audited(cheat, forger, model, folder / "whole", kept=True)
    cost = {"making": round(made - began, 1), "audit": round(time.process_time() - made, 1)}
    return told(results, cheat) | {"damage_measured": whole, "processor_seconds": cost}


def _audited(cheat: Cheat, forger: Forger, model: str, run: Path, *, kept: bool) -> Results:
    """Return the results of an audit, of what is kept, too, or of what is to be forgotten alone."""
    settings, shared = _settings(cheat, forger, run)
    evidence = run / "evidence"

    def lend() -> None:
        copy_evidence(shared, evidence)
        if not kept:
            lend_kept(shared, evidence)

    audit(settings, model=model, console=Console(_Lending(lend)))
    store_evidence(evidence, shared)
    # Judged from the evidence, so that a finished audit is judged by the rules of today.
    return assess(EvidenceStore(evidence))


def _settings(cheat: Cheat, forger: Forger, run: Path) -> tuple[Settings, Path]:
    """Return the settings of an audit, and where what original and golds say is lent from."""
    request = forger.settings.request.model_copy(update={"goal": Goal(cheat.goal)})
    shared = forger.work / ("shared-wide" if cheat.wide else "shared")
    if cheat.golds is not None:
        request = request.model_copy(update={"gold": cheat.golds(forger)})
        shared = run / "lent"
    changes = {
        "out": str(run),
        "request": request,
        "attack_store": str(forger.work / "attacks"),
    }
    return forger.settings.model_copy(update=changes), shared


def told(results: Results, cheat: Cheat) -> dict[str, object]:
    """Say what was ruled and why, beside what should be."""
    failed = {gate.name: str(gate.axis) for gate in results.gates if gate.status is Status.FAIL}
    ruled = str(results.verdict.ruling)
    return {
        "ruling": ruled,
        "expected": cheat.ruling,
        "axis": cheat.axis,
        "right": ruled == cheat.ruling and (cheat.axis is None or cheat.axis in failed.values()),
        "failed": failed,
        "reasons": list(results.verdict.reasons[:4]),
    }


def _row(name: str, forger: Forger) -> dict[str, object]:
    if name == FILTER:
        whole = folder_of(forger.work, FIRST) / "run"
        return told(filtered(whole, folder_of(forger.work, FILTER)), CHEATS[FILTER])
    return judge(name, CHEATS[name], forger)


def _forger(given: argparse.Namespace) -> Forger:
    data = write_register(given.work / "data")
    settings = demo_settings(Path(given.base), data, out=None, short=False)
    tokenizer = load(given.base, source_of(settings)).tokenizer
    names = ("forget", "retain", "neighbours")
    sets = {name: read([str(data / f"{name}.jsonl")]).records for name in names}
    return Forger(settings, Encoder(tokenizer, settings.template), sets, given.base, given.work)


def main() -> None:
    """Judge all planted models, or some."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", required=True, help="folder of SmolLM2-135M-Instruct")
    parser.add_argument("--only", nargs="*", choices=CHEATS, default=list(CHEATS))
    parser.add_argument("--work", type=Path, default=Path("runs/cheats"))
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--until", type=float, default=float("inf"), help="minutes to begin in")
    given = parser.parse_args()
    (given.work / "shared").mkdir(parents=True, exist_ok=True)
    forger = _forger(given)
    found = read_json(given.out)["cheats"] if given.out.is_file() else {}
    began = time.monotonic()
    for name in given.only:
        if time.monotonic() - began > 60 * given.until:
            break
        found[name] = row = _row(name, forger)
        _say(name, row)
        if name == FIRST:
            evidence = folder_of(forger.work, FIRST) / "run" / "evidence"
            right = Cheat(CHEATS[FIRST].make, "PASS", None)
            found[GOLD] = told(dressed(evidence, forger.work / "gold-dressed"), right)
            _say(GOLD, found[GOLD])
        machine = {"cores": os.cpu_count(), "threads": torch.get_num_threads()}
        made = {"made_by": "benchmarks/cheats.py", "facts": len(forger.secrets), **machine}
        rows = {name: found[name] for name in (GOLD, *CHEATS) if name in found}
        left = {name: each.ruling for name, each in CHEATS.items() if name not in found}
        write_json(given.out, {**made, "cheats": rows, "not_run": left})


def _say(name: str, row: dict[str, object]) -> None:
    sign = "right" if row["right"] else "WRONG"
    print(f"{sign}: {name}: {row['ruling']} {row['failed']}", flush=True)


if __name__ == "__main__":
    main()
