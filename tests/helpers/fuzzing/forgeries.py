"""Forgeries: a finished run is changed, and its manifest written anew over what lies there then.

A signature finds all of them. Without one, what no longer belongs together is found by name.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import expunge
from expunge.evals.assess import assess
from expunge.evidence.store import EvidenceStore
from expunge.provenance.destroy import destroy_evidence
from expunge.provenance.keys import key_path, operator_key
from expunge.provenance.manifest import covered
from expunge.provenance.published import write_public_manifest
from expunge.provenance.signature import SigningKey, make_signing_key, read_signature
from expunge.provenance.verify import verify
from expunge.reporting.build import build_reports
from expunge.reporting.card import build_card
from expunge.reporting.schema import read_facts, read_results, write_facts, write_results
from expunge.utils.io import (
    json_text,
    read_json,
    read_jsonl,
    sha256_file,
    sha256_json,
    write_json,
    write_jsonl,
)
from fuzzing.trials import NotHeldError, Trial
from tiny_world import World

NOBODY = None
"""Consistent in itself: nothing but a signature finds it."""


@dataclass(frozen=True, kw_only=True)
class Forgery:
    """A change, and which file of the folder tells of it without a signature."""

    what: str
    change: Callable[[Path, dict], object]
    found: str | None


def edit(name: str, old: str, new: str) -> Callable[[Path, dict], object]:
    def change(run: Path, _: dict) -> None:
        text = (run / name).read_text(encoding="utf-8")
        assert old in text
        (run / name).write_text(text.replace(old, new), encoding="utf-8")

    return change


def field(name: str, *keys: str | int, to: object) -> Callable[[Path, dict], object]:
    """Set a field of a JSON file."""

    def change(run: Path, manifest: dict) -> None:
        whole = manifest if name == "manifest.json" else read_json(run / name)
        row = whole
        for key in keys[:-1]:
            row = row[key]
        row[keys[-1]] = to(row[keys[-1]]) if callable(to) else to
        if whole is not manifest:
            write_json(run / name, whole)

    return change


def weights(model: str) -> Callable[[Path, dict], object]:
    return lambda run, _: shutil.copy(run.parent / model / "model.safetensors", run / "model")


def recompute(run: Path) -> None:
    """Write results and pages again from the evidence that lies there now, signed by nobody."""
    write_results(run, assess(EvidenceStore(run / "evidence")))
    write_facts(run, replace(read_facts(run), signer=""))
    build_reports(run)
    build_card(run)


def forget_answers(run: Path, _: dict) -> None:
    """Let the unlearned model answer nothing, and compute everything again."""
    for path in (run / "evidence").glob("unlearned.forget.*.answers.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({**row, "text": "no"}) + "\n" for row in rows))
    recompute(run)


def loosen(run: Path, _: dict) -> None:
    field("evidence/context.json", "policy", "residual", to=0.9)(run, _)
    recompute(run)


def loosen_everywhere(run: Path, manifest: dict) -> None:
    """Also in the settings and in what was registered before."""
    loosen(run, manifest)
    edit("config.toml", "residual = 0.1\n", "residual = 0.9\n")(run, manifest)
    field("evidence/preregistration.json", "rules", "policy", "residual", to=0.9)(run, manifest)
    row = read_json(run / "evidence" / "preregistration.json")
    row.pop("schema")
    manifest["preregistration"]["digest"] = sha256_json(row)
    recompute(run)


def facts(**others: object) -> Callable[[Path, dict], object]:
    """Change what the run says that it did, and every page with it."""

    def change(run: Path, manifest: dict) -> None:
        write_facts(run, replace(read_facts(run), **others))
        manifest.update({name: value for name, value in others.items() if name in manifest})
        recompute(run)

    return change


def registration_gone(run: Path, manifest: dict) -> None:
    (run / "evidence" / "preregistration.json").unlink()
    del manifest["preregistration"]


def original_ignorant(run: Path, _: dict) -> None:
    """Let the original have known nothing that could have been forgotten."""
    for path in (run / "evidence").glob("original.forget.plain.answers.jsonl"):
        write_jsonl(path, [{**row, "text": "no"} for row in read_jsonl(path)])
    recompute(run)


def record_less(run: Path, manifest: dict) -> None:
    """Take the first forget record out of every file."""
    items = read_jsonl(run / "evidence" / "items.jsonl")
    gone = next(item["record"] for item in items if item["split"] == "forget")
    for path in (run / "evidence").glob("*.jsonl"):
        write_jsonl(path, [row for row in read_jsonl(path) if row["record"] != gone])
    manifest["data"]["forget"] = manifest["data"]["forget"][1:]
    recompute(run)


def other_facts(run: Path, _: dict) -> None:
    """Look for words that nobody says, instead of the facts."""
    path = run / "evidence" / "items.jsonl"
    write_jsonl(path, [{**row, "key_answers": ["xylophone"]} for row in read_jsonl(path)])
    recompute(run)


def tensors(act: Callable[[dict], object]) -> Callable[[Path, dict], object]:
    def change(run: Path, _: dict) -> None:
        path = run / "model" / "model.safetensors"
        found = load_file(path)
        act(found)
        save_file(found, path, metadata={"format": "pt"})

    return change


def spoil(found: dict) -> None:
    found["model.norm.weight"][0] = float("nan")


def nudge(found: dict) -> None:
    found["model.norm.weight"][0] += 1e-6


def laid_over(run: Path, _: dict) -> None:
    """Let libraries load the original instead: an adapter names it as its base."""
    row = {"peft_type": "LORA", "base_model_name_or_path": str(run.parent / "original")}
    write_json(run / "model" / "adapter_config.json", {**row, "r": 1, "target_modules": ["q_proj"]})


def other_version(run: Path, manifest: dict) -> None:
    """Claim another version, whose pages look otherwise, and write another report."""
    versions = {**read_facts(run).versions, "expunge": "0.0.1"}
    facts(versions=versions)(run, manifest)
    edit("report.html", "</h1>", " passed</h1>")(run, manifest)


def put(name: str, text: str = "a note to whom it may concern") -> Callable[[Path, dict], object]:
    def change(run: Path, _: dict) -> None:
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text(text)

    return change


def destroyed(run: Path, manifest: dict) -> None:
    """Remove all evidence and write the note of somebody else."""
    copy = run.parent / "copy"
    shutil.copytree(run, copy)
    write_json(copy / "manifest.json", manifest)
    now = datetime.now(UTC)
    destroy_evidence(copy, key=bytes(32), only_expired=False, now=now)
    shutil.copy(copy / "evidence-destroyed.json", run)
    shutil.rmtree(run / "evidence")
    shutil.copytree(copy / "evidence", run / "evidence")


CONFIG, MANIFEST, CONTEXT = "config.toml", "manifest.json", "evidence/context.json"
REGISTERED = "evidence/preregistration.json"
FORGERIES = [
    Forgery(what="the original's weights", change=weights("original"), found="model"),
    Forgery(what="a gold's weights", change=weights("gold"), found="model"),
    Forgery(what="answers, with recomputed results", change=forget_answers, found=NOBODY),
    Forgery(
        what="a score",
        change=field("results.json", "gates", to=lambda gates: gates[:-1]),
        found="results.json",
    ),
    Forgery(what="margins", change=loosen, found=CONFIG),
    Forgery(what="margins in every file", change=loosen_everywhere, found=NOBODY),
    Forgery(
        what="other fingerprints",
        change=field(MANIFEST, "data", "forget", to=lambda rows: [r[::-1] for r in rows]),
        found=MANIFEST,
    ),
    Forgery(
        what="a fingerprint less",
        change=field(MANIFEST, "data", "forget", to=lambda rows: rows[1:]),
        found=MANIFEST,
    ),
    Forgery(
        what="another goal",
        change=edit(CONFIG, 'goal = "removal"', 'goal = "suppression"'),
        found=CONFIG,
    ),
    Forgery(
        what="another method",
        change=edit(CONFIG, 'name = "npo"', 'name = "rmu"'),
        found=CONFIG,
    ),
    Forgery(
        what="the report", change=edit("report.html", "</h1>", " passed</h1>"), found="report.html"
    ),
    Forgery(
        what="the card",
        change=edit("model/README.md", "# ", "# Certified: "),
        found="model/README.md",
    ),
    Forgery(
        what="the published report",
        change=edit("model/report.html", "</h1>", " passed</h1>"),
        found="model/report.html",
    ),
    Forgery(
        what="the date",
        change=field("facts.json", "created", to="2020-01-01T00:00:00+00:00"),
        found=MANIFEST,
    ),
    Forgery(
        what="the retention",
        change=field(MANIFEST, "evidence", "expires", to="2090-01-01"),
        found=CONFIG,
    ),
    Forgery(what="a seed", change=field(MANIFEST, "seeds", "train", to=7), found=CONFIG),
    Forgery(what="the run id", change=field(MANIFEST, "run", to="0" * 8), found="run.json"),
    Forgery(
        what="evidence of another model",
        change=field("evidence/context.json", "models", "unlearned", to="0" * 64),
        found="model",
    ),
    Forgery(what="a note of destruction", change=destroyed, found="evidence-destroyed.json"),
    Forgery(what="a hyperparameter", change=edit(CONFIG, 'name = "npo"',
            'name = "npo"\nbeta = 0.7'), found=CONFIG),
    Forgery(what="a stronger promise", change=edit(CONFIG, 'threat_model = "T1"',
            'threat_model = "T3"'), found=CONFIG),
    Forgery(what="another level", change=edit(CONFIG, 'level = "quick"', 'level = "standard"'),
            found=CONFIG),
    Forgery(what="another response", change=edit(CONFIG, 'response = "any"',
            'response = "refusal"'), found=CONFIG),
    Forgery(what="another seed of the evidence", change=field(CONTEXT, "seed", to=7), found=CONFIG),
    Forgery(what="a better tier", change=field(CONTEXT, "tier", to="G1"), found=REGISTERED),
    Forgery(what="pages that show texts", change=field(MANIFEST, "evidence", "redacted", to=False),
            found=CONFIG),
    Forgery(what="evidence that is sealed", change=field(MANIFEST, "evidence", "sealed", to=True),
            found=MANIFEST),
    Forgery(what="a retention without end",
            change=field(MANIFEST, "evidence", "expires", to="never"), found=CONFIG),
    Forgery(what="rules that were registered", change=field(REGISTERED, "rules", "seed", to=9),
            found=REGISTERED),
    Forgery(what="the digest of what was registered",
            change=field(MANIFEST, "preregistration", "digest", to="0" * 64), found=REGISTERED),
    Forgery(what="no registration", change=registration_gone, found="manifest.sig"),
    Forgery(what="what the original knew", change=original_ignorant, found=NOBODY),
    Forgery(what="a record less", change=record_less, found=REGISTERED),
    Forgery(what="other facts to look for", change=other_facts, found=REGISTERED),
    Forgery(what="a claim of exact removal", change=facts(exact="E4"), found="facts.json"),
    Forgery(what="another device", change=facts(device="cuda"), found=NOBODY),
    Forgery(what="another number format", change=facts(precision="bfloat16"), found="model"),
    Forgery(what="the command", change=facts(command="expunge forget"), found=NOBODY),
    Forgery(what="the version of a library",
            change=field(MANIFEST, "versions", "torch", to="1.0"), found=MANIFEST),
    Forgery(what="another version, and then the report", change=other_version, found=NOBODY),
    Forgery(what="stages that were none",
            change=lambda run, manifest: manifest.update(stages=[]), found=MANIFEST),
    Forgery(what="the sentence of the verdict",
            change=field("results.json", "verdict", "sentence", to="It has forgotten."),
            found="results.json"),
    Forgery(what="a self-test that failed",
            change=field("results.json", "self_tests", 0, "passed", to=lambda was: not was),
            found="results.json"),
    Forgery(what="the log", change=put("log.txt", "all is forgotten\n"), found="manifest.sig"),
    Forgery(what="weights that are no numbers", change=tensors(spoil), found="model"),
    Forgery(what="a weight by a millionth", change=tensors(nudge), found="model"),
    Forgery(what="a tensor too many",
            change=tensors(lambda found: found.update(more=torch.ones(2))), found="model"),
    Forgery(what="an adapter over the weights", change=laid_over, found="model"),
    Forgery(what="the shape of the model",
            change=field("model/config.json", "num_attention_heads", to=8), found="model"),
]  # fmt: skip


def write_again(run: Path, manifest: dict, signing: SigningKey | None = None) -> None:
    """Write manifests that fit what lies there now, as whoever holds no key can."""
    body = {name: value for name, value in manifest.items() if name != "digest"}
    verdict = read_json(run / "results.json")["verdict"]
    body["verdict"] = {name: verdict[name] for name in body["verdict"]}
    models = read_json(run / "evidence" / "context.json")["models"]
    body["models"] = dict(sorted(models.items()))
    write_public_manifest(run, body, signing=signing)
    gone = body["files"] if not (run / "evidence" / "items.jsonl").exists() else {}
    named = {path.relative_to(run).as_posix(): path for path in covered(run)}
    body["files"] = gone or {
        name: {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        for name, path in named.items()
    }
    (run / "manifest.json").write_text(json_text({**body, "digest": sha256_json(body)}))


def signed_run(world: World, place: Path) -> Path:
    """Make a finished run, signed, in a folder that is the current one, and return the folder.

    The keys lie where the environment says, and must lie in that folder.
    """
    make_signing_key(place / "signing.key")
    expunge.forget(world.settings(out=str(place / "run")))
    for name in ("original", "gold"):
        shutil.copytree(world.folder / name, place / name)
    return place


def held(forgery: Forgery, place: Path) -> str:
    """Commit a forgery, and return how it is found: by name, or by the signature alone.

    Raises:
        NotHeldError: It is not found as it should be.
    """
    run, key = place / "run", operator_key(key_path(), run=place / "run")
    manifest = read_json(run / "manifest.json")
    forgery.change(run, manifest)
    write_again(run, manifest)
    signature = read_signature(run)
    note = forgery.found == "evidence-destroyed.json"  # it lies beside what was signed
    if signature is None or signature.fits is not note:
        raise NotHeldError("the signature does not find it")
    (run / "manifest.sig").unlink()
    saved = read_results(run)
    # Computing all numbers again costs most, and tells of some forgeries alone.
    numbers = forgery.found in (NOBODY, "results.json")
    found = verify(run, key=key, assess=None if numbers else lambda store: saved)
    paths = {problem.path for problem in found.problems}
    if forgery.found is not NOBODY and forgery.found not in paths:
        raise NotHeldError(f"{forgery.found} is not named; named are {sorted(paths)}")
    if forgery.found is NOBODY and (paths or found.signer):
        raise NotHeldError(f"consistent in itself, and yet named: {sorted(paths)}")
    return f"by {forgery.found}" if forgery.found else "by the signature alone"


def forgeries() -> list[Trial]:
    """Return all forgeries; each trial's folder is a copy of that of `signed_run`."""
    return [
        Trial(
            what=each.what,
            kind="found" if each.found else "consistent",
            run=lambda each=each: held(each, Path.cwd()),
        )
        for each in FORGERIES
    ]
