"""What each attack of a level costs on SmolLM2-135M, and what a level takes for 100 facts.

    python benchmarks/attack_speed.py --base FOLDER --shared ../shared --level standard

Attacks `retain90-s1` as the judged model (original: `full-s0`) on some facts of TOFU and takes the
processor time of each attack, user and system, all threads: on a machine that others use as well,
wall time says nothing. Extrapolated to `--to` facts: answers and scores by the number of facts;
training, whose steps are fixed, not at all. A level attacks the model and every gold with all, and
the original with what has a scale of its own; so a level is added up from its parts, not run whole.
Loading models comes on top. Resumable by attack, each of which remembers how many facts it was
measured with; `--taken RUN` takes over what attacks cost in a folder of `expunge attack`. Prints a
table and writes `benchmarks/results/attack_speed.json` (or `--out`).
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from attacks_tofu import RETAIN, facts, settings, write_retain
from tofu import GOLDS, model
from torch import Tensor

from expunge.attack import Choice
from expunge.audit.attacks.battery import JUDGED
from expunge.audit.attacks.plainly import Plainly
from expunge.audit.attacks.protocol import Attack
from expunge.audit.attacks.stress import Stress
from expunge.audit.evidence import EvidenceStore
from expunge.console import SilentConsole
from expunge.files import read_json, write_json, write_jsonl
from expunge.model.load import Loaded, load
from expunge.prepare import Prepared, prepare

RESULT = Path(__file__).parent / "results" / "attack_speed.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """What one attack took on the judged model."""

    facts: int
    cpu: float
    """Seconds of processor time."""
    tokens: int
    steps: int
    attempts: int
    own_scale: bool
    """Whether the original is attacked as well."""
    missing: str = ""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", required=True, help="folder of SmolLM2-135M-Instruct")
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/ and models/")
    parser.add_argument("--work", type=Path, default=Path("runs/attack-speed"))
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--level", default="quick", choices=("quick", "standard", "paranoid"))
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--facts", type=int, default=20)
    parser.add_argument("--to", type=int, default=100)
    parser.add_argument("--taken", type=Path, default=None)
    return parser.parse_args()


def measure(
    prepared: Prepared, judged: Loaded, base: dict[str, Tensor], attack: Attack, folder: Path
) -> Spent:
    """Attack the judged model with one attack, in an evidence folder of its own."""
    stress = Stress.open(
        prepared, EvidenceStore(folder / attack.name), (attack,), scratch=folder / "scratch"
    )
    with SilentConsole().progress("attack", total=stress.total, unit="attacks") as bar:
        stress.judged(judged, base, bar)
    found = stress.battery.outcome(attack, JUDGED, "forget")
    return Spent(
        facts=len(prepared.scope.forget),
        cpu=found.cost.cpu,
        tokens=found.cost.tokens,
        steps=found.cost.steps,
        attempts=len(found.attempts),
        own_scale=attack.own_scale or attack == Plainly(),
        missing=found.missing,
    )


def taken(run: Path, attacks: Sequence[Attack]) -> dict[str, Spent]:
    """Return what attacks that train cost in another run, where they were made."""
    rungs = {rung["attack"]: rung for rung in read_json(run / "attack.json")["rungs"]}
    facts = len(EvidenceStore(run / "evidence").items("forget"))
    return {
        attack.name: Spent(
            facts=facts,
            cpu=rung["cost"]["cpu"],
            tokens=rung["cost"]["tokens"],
            steps=rung["cost"]["steps"],
            attempts=sum(test["n"] for test in rung["tests"]),
            own_scale=attack.own_scale,
        )
        for attack in attacks
        if (rung := rungs.get(attack.name)) is not None and rung["cost"]["steps"]
    }


def scaled(spent: Spent, plain: Spent, to: int) -> float:
    """Return the processor time for `to` facts, seconds.

    Of an attack that trains, what asking takes is told from its number of answers and the time of
    a plain one; the rest stays.
    """
    times = to / spent.facts
    if not spent.steps:
        return spent.cpu * times
    asking = min(spent.cpu, spent.attempts * plain.cpu / plain.attempts)
    return spent.cpu - asking + asking * times


def main() -> None:
    """Measure every attack of the level that is not measured yet, and add up."""
    given = arguments()
    data = given.work / "data"
    write_jsonl(data / "facts.jsonl", facts(given.shared)[: given.facts])
    write_retain(given, RETAIN["stated"])
    prepared = prepare(settings(given))
    results = read_json(given.out) if given.out.is_file() else {}
    known = results.setdefault(given.level, {"attacks": {}})
    attacks = Choice(level=given.level, only=tuple(given.only)).attacks()
    if given.taken is not None:
        known["attacks"] |= {n: asdict(s) for n, s in taken(given.taken, attacks).items()}
    original = load(prepared.settings.model, prepared.source).network.model
    base = {name: weight.cpu().clone() for name, weight in original.state_dict().items()}
    del original
    judged = load(model(given.base, given.shared, GOLDS[1]), prepared.source)
    for attack in attacks:
        if attack.name not in known["attacks"]:
            spent = measure(prepared, judged, base, attack, given.work / given.level)
            known["attacks"][attack.name] = asdict(spent)
            write_json(given.out, results)
            print(attack.name, spent, flush=True)
    spent = {name: Spent(**row) for name, row in known["attacks"].items()}
    costs = {name: scaled(each, spent["plain"], given.to) for name, each in spent.items()}
    once = sum(costs.values())
    original_too = sum(costs[name] for name, each in spent.items() if each.own_scale)
    whole = Choice(level=given.level).attacks()
    absent = [attack.name for attack in whole if attack.name not in spent]
    known |= {"to": given.to, "cpu_seconds": round(2 * once + original_too), "unmeasured": absent}
    write_json(given.out, results)
    print(f"| attack | facts | tokens | steps | cpu s | cpu s, {given.to} facts |")
    print("|---|---|---|---|---|---|")
    for name in sorted(costs, key=lambda name: -costs[name]):
        each = spent[name]
        row = f"{name} | {each.facts} | {each.tokens} | {each.steps} | {each.cpu:.1f}"
        print(f"| {row} | {costs[name]:.0f} |")
    print(f"{given.level}, {given.to} facts, one gold: {known['cpu_seconds']} s of processor time")


if __name__ == "__main__":
    main()
