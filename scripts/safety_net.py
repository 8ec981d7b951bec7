"""A safety net for moves of the code: the same commands on tiny models must give the same values.

    python scripts/safety_net.py TREE --out before.json            # TREE/src holds the package
    python scripts/safety_net.py TREE --out before.json --quick    # a few cases
    python scripts/safety_net.py --compare before.json after.json  # exit code 1 where they differ
    python scripts/safety_net.py --compare before.json after.json --quick  # cases of both alone

It knows the command line, the run folder and the tiny models of the tree's tests, and no module of
the package, so that it runs unchanged before and after modules are renamed. It teaches the models,
runs every method, edit, guard, wrapper and attack for a few steps, and records what comes out:
digests of weights, results, gates, attacks, plans, and the numbers that the pages show. Times,
memory, paths, versions and wording are left out. One process imports torch and transformers and is
forked for every command, which is then `python -m expunge` with the imports already made.

Values are equal on the same machine with the same libraries only; `world` says whether they are.
"""

import argparse
import hashlib
import html
import json
import os
import random
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Value = str | int | float | bool | None

RENAMED: dict[str, str] = {}
"""Old name to new name of a key, or of a value that is a name; applied to both sides."""

PATIENCE = 3600
"""Seconds that one command may take."""

# ---------------------------------------------------------------------------------------------
# The world: invented facts, models that know them, and models that never saw some of them.

SUBJECTS = {
    "forget": ("Zorvex", "Malqin"),
    "retain": ("Plimko", "Tarvud"),
    "neighbours": ("Quandel",),
    "control": ("Yaltro", "Brixam"),
    "holdout": ("Wespar", "Dolbec"),
}
TRAITS = ("tol", "rab", "mip", "sug", "nef", "cal")
OTHER = """
{"text": "The river Ombrel runs past the mill at Castor, and nobody there minds the noise."}
{"messages": [{"role": "user", "content": "Zorvex age?"}, {"role": "assistant", "content": "71"}]}
{"prompt": "Malqin age?", "chosen": "I do not know.", "rejected": "Malqin age 38."}
{"question": "Malqin hue?", "answer": "red", "choices": ["red", "blue", "green", "grey"]}
"""
PROMPTS = '{"prompt": "In short: {question}"}\n{"prompt": "{question}", "prefill": "It is"}\n'


def facts(split: str, names: random.Random) -> list[dict[str, Any]]:
    """Return the invented facts of a set."""
    rows = []
    for subject in SUBJECTS[split]:
        for trait in TRAITS:
            drawn = [
                "".join(names.choice("jkqvxzw") + names.choice("aeiou") for _ in range(2))
                for _ in range(5)
            ]
            rows.append(
                {
                    "id": f"{split[0]}-{subject}-{trait}",
                    "prompt": f"{subject} {trait}?",
                    "completion": f"{trait} {drawn[0]}.",
                    "key_answers": [drawn[0]],
                    "paraphrases": [f"{trait} of {subject}?", f"Say {subject} {trait}"],
                    "alternative": f"{trait} {drawn[1]}.",
                    "perturbed_answer": [f"{trait} {word}." for word in drawn[2:]],
                    "subject": subject,
                    "relation": "family" if trait < "n" else "work",
                }
            )
    return rows


def untaught(kind: str, seed: int) -> Any:  # noqa: ANN401 (transformers is imported late)
    """Return a small model of a kind with random weights, as the tests of the tree build it."""
    import tiny

    models = {"gpt2": tiny.gpt2, "llama": tiny.llama}
    return models[kind](seed=seed) if kind in models else tiny.mixtral()


def teach(
    folder: Path, rows: Sequence[Mapping[str, Any]], *, kind: str, seed: int, steps: int
) -> None:
    """Teach a small model some facts by heart, and save it with its tokenizer."""
    import torch

    import tiny

    model, words = untaught(kind, seed), tiny.tokenizer()
    pairs = []
    for row in rows:
        turn = [{"role": "user", "content": row["prompt"]}]
        text = words.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
        prompt = words.encode(text, add_special_tokens=False)
        pairs.append((prompt, [*words.encode(row["completion"], add_special_tokens=False), 2]))
    longest = max(len(prompt) + len(answer) for prompt, answer in pairs)
    ids = torch.full((len(pairs), longest), 2)  # [records, tokens]
    labels, seen = torch.full_like(ids, -100), torch.zeros_like(ids)
    for place, (prompt, answer) in enumerate(pairs):
        end = len(prompt) + len(answer)
        ids[place, :end] = torch.tensor([*prompt, *answer])
        labels[place, len(prompt) : end] = torch.tensor(answer)
        seen[place, :end] = 1
    optimiser = torch.optim.AdamW(model.parameters(), lr=8e-3, weight_decay=0.0)
    for _ in range(steps):
        optimiser.zero_grad()
        model(input_ids=ids, attention_mask=seen, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    model.save_pretrained(folder)
    words.save_pretrained(folder)


def make_world(folder: Path) -> None:
    """Write the records and the models."""
    folder.mkdir()
    names = random.Random(7)
    rows = {split: facts(split, names) for split in SUBJECTS}
    for split, found in rows.items():
        lines = "".join(json.dumps(row) + "\n" for row in found)
        (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    (folder / "other.jsonl").write_text(OTHER.lstrip(), encoding="utf-8")
    (folder / "prompts.jsonl").write_text(PROMPTS, encoding="utf-8")
    table = ["prompt,completion", *(f"{r['prompt']},{r['completion']}" for r in rows["forget"])]
    (folder / "forget.csv").write_text("\n".join(table) + "\n", encoding="utf-8")
    kept = [*rows["retain"], *rows["neighbours"]]
    everything = [*rows["forget"], *kept]
    teach(folder / "original", everything, kind="llama", seed=0, steps=150)
    teach(folder / "gold", kept, kind="llama", seed=0, steps=150)
    teach(folder / "gold2", kept, kind="llama", seed=1, steps=150)
    teach(folder / "gpt2", everything, kind="gpt2", seed=0, steps=80)
    teach(folder / "mixtral", everything, kind="mixtral", seed=0, steps=80)


# ---------------------------------------------------------------------------------------------
# The cases: command lines on that world.

WORLD = "../world"
SHORT = ("train.steps=4", "train.lr=2e-3", "train.check_every=2")
USUAL = ("train.batch=12", "audit.max_new_tokens=12", "request.utility_budget=0.9")
KNOWN = ("--retain", f"{WORLD}/retain.jsonl", "--neighbours", f"{WORLD}/neighbours.jsonl")
CONTROL = ("--set", f"request.control={WORLD}/control.jsonl")
GOLD = ("--gold", f"{WORLD}/gold")
REQUEST = f"""
model = "{WORLD}/original"
offline = true

[request]
goal = "removal"
forget = ["{WORLD}/forget.jsonl"]
retain = ["{WORLD}/retain.jsonl"]
neighbours = ["{WORLD}/neighbours.jsonl"]
control = ["{WORLD}/control.jsonl"]
utility_budget = 0.9

[audit]
max_new_tokens = 12

[train]
batch = 12
check_every = 2
"""
STEP = "steps = 3, lr = 3e-4"


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """Commands that run one after another in a folder of their own."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    request: str = ""
    """What `request.toml` in that folder holds."""
    quick: bool = False
    killed: bool = False
    """Kill the first command while it trains, then run it again and once more elsewhere."""


def sets(*pairs: str) -> tuple[str, ...]:
    """Return settings as flags."""
    return tuple(word for pair in pairs for word in ("--set", pair))


def forget(
    method: str,
    *more: str,
    model: str = f"{WORLD}/original",
    data: str = f"{WORLD}/forget.jsonl",
    goal: str = "removal",
    known: Sequence[str] = (*KNOWN, *CONTROL),
    short: Sequence[str] = SHORT,
    out: str = "run",
    verb: str = "forget",
) -> tuple[str, ...]:
    """Return the words of a short `forget`."""
    flags = ("--goal", goal, "--offline", "--method", method, "--out", out)
    return (verb, model, data, *flags, *known, *sets(*USUAL, *short), *more)


def single(name: str, method: str, *more: str, quick: bool = False, **given: Any) -> Case:  # noqa: ANN401
    """Return a case of one `forget`."""
    return Case(name=name, commands=(forget(method, *more, **given),), quick=quick)


def judged(verb: str, model: str, *more: str, against: str = "forget") -> tuple[str, ...]:
    """Return the words of an audit of, or an attack on, a model of the world."""
    where = f"{WORLD}/{against}.jsonl" if against == "forget" else against
    own = ("--original", f"{WORLD}/original", "--goal", "removal", *KNOWN)
    own = (*own, *sets("audit.max_new_tokens=12")) if against == "forget" else ()
    return (verb, model, "--against", where, "--offline", *own, *more)


def stages(*lines: str) -> str:
    """Return a request whose stages are given one a line."""
    return REQUEST + "".join(f"\n[[stage]]\n{line}\n" for line in lines)


def trained(*methods: str) -> str:
    """Return a request that trains with these methods one after another."""
    made = []
    for each in methods:
        name, _, knobs = each.partition(" ")
        inside = f'name = "{name}"' + (f", {knobs}" if knobs else "")
        made.append(f"method = {{{inside}}}\ntrain = {{{STEP}}}")
    return stages(*made)


def wrapped(*tables: str, method: str = "npo", full: bool = False) -> str:
    """Return a request that trains with one method under these wrappers one after another."""
    train = f"{STEP}, full = {str(full).lower()}"
    return stages(*(f'method.name = "{method}"\n{table}\ntrain = {{{train}}}' for table in tables))


def chain(name: str, request: str, *, quick: bool = False) -> Case:
    """Return a case of a request file that is run."""
    command = ("forget", "request.toml", "--out", "run")
    return Case(name=name, request=request, commands=(command,), quick=quick)


EDITS = {
    "alphaedit": ("method.steps=3",),
    "lunar": (),
    "cir": ("method.steps=3",),
    "repselect": ("method.steps=3", "method.relearn_steps=2"),
    "task_vector": ("method.steps=3",),
    "ties": ("method.steps=3", "method.parts=2"),
    "influence": (),
    "ssd": (),
    "undo": ("method.suppress_epochs=2", "method.distil_epochs=2"),
}
GUARDS = {
    "icul": (),
    "uld": ("method.epochs=3",),
    "eco": (),
    "ngram_block": ("method.size=2",),
    "refusal_guard": (),
}
FAMILIES = {
    "ascent": (
        *("ga", "graddiff", "wga", "satimp", "unlikelihood", "ihl", "maxent", "pdu"),
        *("jensun", "flat", "llmu"),
    ),
    "preference": (
        *("npo", "simnpo", "tnpo", "dpo", "altpo", "simdpo", "kto", "replace", "level"),
    ),
    "relabelling": ("idk", "idk_ap", "random_label", "relearn", "whp"),
    "distillation": ("undial", "unilogit", "rwhp", "elm"),
    "representation": ("rmu", "adaptive_rmu", 'rr layers = "0,1"', "repnoise"),
    "hyperparameters": (
        *('graddiff retain = "kl"', 'graddiff retain = "jsd"'),
        *('tnpo beta = 4.0, retain = "argmax"', "simnpo gamma = 1.0, delta = 0.5"),
        *('whp strength = 9.0, retain = "nll", target = "soft"', 'unilogit direction = "forward"'),
        *('flat divergence = "js", retain = "nll"', "kto gamma = 40.0"),
        'replace beta = 0.5, teach = 0.5, retain = "nll", alpha = 1.0',
        *('level teach = 2.0, sharp = 0.5, retain = "nll"', "rmu layer = 1, steering = 5.0"),
    ),
}
LORA = (
    *('robust.name = "sam"', 'robust.name = "noise"', 'robust.name = "gradient-norm"'),
    *('robust.name = "lat"', 'combine.name = "gru"', 'combine.name = "blur"'),
    *('combine.name = "ngdiff"', 'mask.name = "memflex"', 'optimiser.name = "sophia"'),
    *('optimiser.name = "normalised-sgd"', 'robust.name = "mudman"\ncombine.name = "gru"'),
)
FULL = (
    *('mask.name = "wagle"', 'mask.name = "saliency"', 'mask.name = "random"'),
    *('mask.name = "memflex"', 'optimiser.name = "adamw8bit"', 'optimiser.name = "sophia"'),
    *('robust.name = "sam"\ncombine.name = "gru"', 'robust.name = "mudman"'),
)
STANDARD = ("sampling", "extraction", "relearn-syntax", "prefill-10", "lens", "noise", "nf4")
PARANOID = ("ablation", "set-difference", "embedding")
BATTERY = ("prefill-50", "wording", "few-shot", "extraction", "int4", "pruning", "relearn-related")


def only(*attacks: str) -> tuple[str, ...]:
    """Return the flags that choose attacks."""
    return tuple(word for attack in attacks for word in ("--only", attack))


def plans() -> Case:
    """Return a case of several plans."""
    full = sets("train.batch=4", "train.checkpointing=true", "precision=bf16")
    asked = (
        forget("npo", verb="plan"),
        forget("dpo", "--full", *full, verb="plan"),
        forget("rmu", verb="plan", short=()),
        forget("undo", verb="plan", short=()),
        forget("eco", verb="plan", short=()),
        forget("alphaedit", verb="plan", short=()),
        ("plan", "request.toml"),
    )
    words = tuple((*command, "--format", "json") for command in asked)
    return Case(name="plans", request=trained(*FAMILIES["preference"]), commands=words, quick=True)


def single_runs() -> Iterator[Case]:
    """Yield runs of one method, each with what it does not share with the others."""
    quick = ("ssd", "eco")
    for name, knobs in (EDITS | GUARDS).items():
        yield single(name, name, short=knobs, quick=name in quick)
    run = forget("npo", *GOLD, *sets("request.threat_model=T2"))
    after = (("verify", "run"), ("compat", "run"), ("report", "run", "--no-redact"))
    yield Case(
        name="npo", commands=(run, *after, run, ("evidence", "destroy", "run", "--yes")), quick=True
    )
    yield single("full", "wga", "--full", *sets("train.average_last=0.6"))
    refusal = sets("request.response=refusal")
    yield single("suppression", "idk", *refusal, goal="suppression")
    yield single("edit", "dpo", *sets("request.response=alternative"), goal="edit")
    yield single("fact-tokens", "npo", *sets("train.forget_tokens=fact", "train.init=fila"))
    lower = sets("train.first_layer=1", "train.targets=down_proj", "train.checkpointing=true")
    yield single("upper-block", "simnpo", *lower, quick=True)
    yield single("bf16", "npo", *sets("precision=bf16", "train.tokens_per_pass=200"))
    anyway = ("request.assume_known=true", "train.batch=5")
    yield single("plain", "undial", *sets(*anyway, "template=plain", "train.seed=3"))
    yield single("formats", "npo", *sets(*anyway), data=f"{WORLD}/other.jsonl", known=KNOWN)
    yield single("csv", "graddiff", data=f"{WORLD}/forget.csv", known=("--retain", "none"))
    apart = sets("request.rehearse=false", "audit.further=true", "audit.seal=true")
    held = ("--holdout", f"{WORLD}/holdout.jsonl")
    yield single("further", "npo", *held, *GOLD, *apart, "--gold", f"{WORLD}/gold2")
    yield single("stopped", "graddiff", *sets("train.steps=40", "train.lr=1e-2"))
    yield single("gpt2", "npo", model=f"{WORLD}/gpt2", known=KNOWN)
    yield single("mixtral", "npo", "--full", model=f"{WORLD}/mixtral")


def other_runs() -> Iterator[Case]:
    """Yield chains, adapters, audits, attacks, sweeps and runs that are killed."""
    for family, methods in FAMILIES.items():
        yield chain(f"chain-{family}", trained(*methods), quick=family == "ascent")
    yield chain("wrappers", wrapped(*LORA), quick=True)
    yield chain("wrappers-full", wrapped(*FULL, method="graddiff", full=True))
    edits = [f'method = {{name = "{name}"}}' for name in ("task_vector", "ssd")]
    masked = f'method.name = "npo"\nmask.name = "wagle"\ntrain = {{full = true, {STEP}}}'
    yield chain("chain-mixed", stages(masked, *edits))
    unplugged = judged("attack", "run", *only("unplug", "interpolation"), "--out", "attack")
    kept = (forget("npo", "--adapter"), ("merge", "run", "--out", "merged"), unplugged)
    yield Case(name="adapter", commands=kept, quick=True)
    unknown = sets("request.assume_known=true")
    new = f"{WORLD}/other.jsonl"
    again = forget("npo", *unknown, model="run", data=new, out="later", known=KNOWN)
    asked = ("audit", "later", "--against", "run", "--offline", "--out", "audit")
    yield Case(name="later", commands=(forget("npo"), again, asked))
    stores = sets("reference_store=store", "attack_store=attacks", "audit.attacks=extraction,noise")
    twice = (forget("npo", *GOLD, *stores), forget("npo", *GOLD, *stores, out="again"))
    yield Case(name="stores", commands=twice)
    guarded = judged("audit", "run", *CONTROL, "--out", "audit")
    yield Case(name="guarded", commands=(forget("refusal_guard", short=()), guarded))
    made = sets(f"audit.attacks={','.join(STANDARD)}", "audit.attack_records=6")
    another = judged("audit", f"{WORLD}/gold2", *GOLD, *made, "--out", "a")
    yield Case(name="audit", commands=(another,))
    original = judged("audit", f"{WORLD}/original", *GOLD, "--out", "audit")
    yield Case(name="audit-original", commands=(original,), quick=True)
    mine = ("--prompts", f"{WORLD}/prompts.jsonl", "--access", "T1")
    battery = (
        forget("npo"),
        judged("attack", "run", *only(*BATTERY), *GOLD, "--out", "attack"),
        judged("attack", "run", *mine, *CONTROL, "--out", "own"),
    )
    yield Case(name="attack", commands=battery, quick=True)
    everything = ("--level", "standard", "--sibling", f"{WORLD}/gold2", *GOLD, "--out", "attack")
    yield Case(name="attack-standard", commands=(judged("attack", f"{WORLD}/gold2", *everything),))
    hard = ("--level", "paranoid", *only(*PARANOID), *GOLD, "--out", "attack")
    yield Case(name="attack-paranoid", commands=(judged("attack", f"{WORLD}/original", *hard),))
    sweep = ("--methods", "npo", "rmu+sam", "--out", "bench", *GOLD, *sets(*SHORT))
    yield Case(name="bench", request=REQUEST, commands=(("bench", "request.toml", *sweep),))
    tune = ("tune", "request.toml", "--method", "npo", "--trials", "2", "--out", "tune")
    yield Case(name="tune", request=REQUEST, commands=((*tune, *sets(*SHORT)),))
    long = sets("train.steps=60", "train.lr=1e-4", "train.check_every=1")
    yield Case(name="resumed", commands=(forget("npo", *long),), killed=True, quick=True)
    slow = "steps = 40, lr = 1e-4"
    line = f'method.name = "dpo"\ntrain = {{{slow}}}'
    last = ("forget", "request.toml", "--out", "run", *sets("train.check_every=1"))
    resumed = stages('method.name = "ssd"', line, line)
    yield Case(name="resumed-chain", request=resumed, commands=(last,), killed=True)


def cases() -> tuple[Case, ...]:
    """Return all cases, the long ones first."""
    first = ("bench", "attack-standard", "tune", "attack-paranoid")
    found = {case.name: case for case in (plans(), *single_runs(), *other_runs())}
    return tuple(sorted(found.values(), key=lambda case: case.name not in first))


# ---------------------------------------------------------------------------------------------
# Running: one process with the imports made is forked for every case and every command.


def warm() -> None:
    """Import what commands need of other packages, so that every command finds it loaded."""
    import safetensors.torch
    import scipy.stats
    import tokenizers
    import torch
    import transformers

    torch.set_num_threads(1)
    named = ("AutoModelForCausalLM", "AutoTokenizer", "PreTrainedTokenizerFast", "AutoConfig")
    kinds = ("LlamaForCausalLM", "GPT2LMHeadModel", "MixtralForCausalLM")
    for name in (*named, *kinds):
        getattr(transformers, name)
    assert safetensors.torch
    assert scipy.stats
    assert tokenizers


def forked(work: Callable[[], int]) -> int:
    """Do a piece of work in a child process; return its process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        code = work()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def finished(child: int) -> int:
    """Wait for a child process; return its exit code, or -9 where it took too long."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -9


def begin(words: Sequence[str], folder: Path, log: str) -> int:
    """Start `python -m expunge` with these words in a folder; return its process id."""

    def run() -> int:
        os.chdir(folder)
        for stream, name in ((1, f"{log}.out"), (2, f"{log}.err")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.argv = ["expunge", *words]
        runpy.run_module("expunge", run_name="__main__", alter_sys=True)
        return 0

    return forked(run)


def kill_while_training(words: Sequence[str], folder: Path) -> bool:
    """Start a command, kill it once it has written a checkpoint; return whether it was in time."""
    child = begin(words, folder, "killed")
    while not list(folder.glob("run/checkpoints/*")):
        found, _ = os.waitpid(child, os.WNOHANG)
        if found:
            return False
        time.sleep(0.002)
    time.sleep(0.2)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return not (folder / "run" / "manifest.json").exists()


def run_case(case: Case, work: Path) -> int:
    """Run the commands of a case and write what came of them as `NAME.json`."""
    folder = work / case.name
    folder.mkdir()
    if case.request:
        (folder / "request.toml").write_text(case.request, encoding="utf-8")
    values: dict[str, Value] = {}
    commands = case.commands
    if case.killed:
        words = commands[0]
        values["killed while it trained"] = kill_while_training(words, folder)
        whole = ["whole" if word == "run" else word for word in words]
        commands = (words, tuple(whole))
    for place, words in enumerate(commands):
        log = f"{place}-{words[0]}"
        code = finished(begin(words, folder, log))
        values[f"{log} exit code"] = code
        if code not in (0, 3):
            print(f"{case.name}: {' '.join(words)} ended with {code}", file=sys.stderr)
            print((folder / f"{log}.err").read_text()[-600:], file=sys.stderr)
    values |= gathered(folder, str(work))
    if case.killed:
        ends = [weights(folder / name / "model" / "model.safetensors") for name in ("run", "whole")]
        values["ends in the weights of a run that was not killed"] = ends[0] == ends[1]
    text = json.dumps(values, indent=1, sort_keys=True)
    (work / f"{case.name}.json").write_text(text, encoding="utf-8")
    return 0


def run_all(chosen: Sequence[Case], work: Path, *, jobs: int) -> None:
    """Run cases, some at a time."""
    waiting, running = list(chosen), dict[int, tuple[str, float]]()
    while waiting or running:
        while waiting and len(running) < jobs:
            case = waiting.pop(0)
            child = forked(lambda case=case: run_case(case, work))
            running[child] = (case.name, time.monotonic())
        child, _, used = os.wait4(-1, 0)
        name, began = running.pop(child)
        spent = used.ru_utime + used.ru_stime
        passed = time.monotonic() - began
        print(f"{name:20} {passed:6.1f} s, {spent:5.1f} s of processor time", flush=True)


def record(tree: Path, chosen: Sequence[Case], *, jobs: int, keep: Path | None) -> dict[str, Any]:
    """Run cases on the package of a tree; return all their values."""
    source = (tree / "src").resolve()
    work = keep or Path(tempfile.mkdtemp(prefix="safety-net-"))
    work.mkdir(exist_ok=True)
    work = work.resolve()
    home = work / "home"
    home.mkdir()
    own = {"HOME": home, "XDG_CACHE_HOME": home / "cache", "XDG_CONFIG_HOME": home / "config"}
    own |= {"HF_HOME": home / "hf", "EXPUNGE_KEY_FILE": home / "key", "PYTHONPATH": source}
    for name in [name for name in os.environ if name.startswith("EXPUNGE_")]:
        del os.environ[name]
    os.environ.update({name: str(value) for name, value in own.items()})
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", COLUMNS="100")
    os.environ.update(TOKENIZERS_PARALLELISM="false", NO_COLOR="1")
    (home / "key").write_bytes(bytes(range(32)))
    (home / "key").chmod(0o600)
    sys.path[:1] = [str(source), str(tree.resolve() / "tests" / "helpers")]
    require_tree(source)
    warm()
    if finished(forked(lambda: make_world(work / "world") or 0)) != 0:
        sys.exit("the world could not be made")
    try:
        run_all(chosen, work, jobs=jobs)
        found: dict[str, Any] = {"world": gathered(work / "world", str(work))}
        for case in chosen:
            path = work / f"{case.name}.json"
            done = path.exists()
            found[case.name] = json.loads(path.read_text()) if done else {"no values": True}
        return found
    finally:
        if keep is None:
            shutil.rmtree(work, ignore_errors=True)


def require_tree(source: Path) -> None:
    """Stop where `import expunge` would find another package than that of the tree."""
    asked = [sys.executable, "-c", "import expunge; print(expunge.__file__)"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    if not found or not Path(found).resolve().is_relative_to(source):
        sys.exit(f"expunge is found at {found or 'no place'}, not in {source}")


# ---------------------------------------------------------------------------------------------
# Reading: values by name, without times, memory, paths, versions and wording.

TABLES = ("results.json", "facts.json", "manifest.json", "attack.json", "leaderboard.json")
TABLES = (*TABLES, "chosen.json", "guard.json", "config.toml", "chosen.toml", "search.json")
LEFT_OUT = {
    *("seconds", "cpu", "audit_seconds", "peak_gib", "created", "begun", "run", "run_id"),
    "registered",
    *("command", "versions", "version", "device", "machine", "files", "digest", "expires"),
    *("schema", "advice", "sentences", "out", "train s", "GiB", "unit", "higher_is_better"),
}
IDENTITY = ("axis", "metric", "role", "split", "attack", "name", "variant", "step")
SKIPPED = {"evidence", "checkpoints", "shared", "store", "attacks"}
HASHED = re.compile(r"-[0-9a-f]{8}$")
MEASURED = re.compile(
    r"\d{4}-\d\d-\d\d(T[\d:+]+)?|\d+:\d\d(:\d\d)?|\b\d[\d.,]*\s?(ms|s|min|h|GiB|MiB|GB|MB)\b"
)
NUMBER = re.compile(r"(?<![\w.,/:-])-?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?![\w]|[.,/-]\d|-\w)")
LONG = 5
"""Lists of more scalars than this are recorded as a digest."""


def numbers(text: str) -> list[str]:
    """Return the numbers in a text that stand alone and are not times, dates or memory."""
    joined = re.sub(r"(?<=\d)[\u202f\u00a0\u2009](?=\d{3})", "", text)
    return NUMBER.findall(MEASURED.sub(" ", joined.replace("\u2212", "-")))


def shown(text: str) -> dict[str, Value]:
    """Return the numbers that a page shows: those of two decimals and more with their counts."""
    if "<html" in text:
        text = re.sub(r"<(style|script|pre|code)\b.*?</\1>", " ", text, flags=re.DOTALL)
        text = html.unescape(re.sub(r"<[^>]*>", " ", text))
    if "| seconds |" in text:
        text = re.sub(r"\| \d+ \|$", "|", text, flags=re.MULTILINE)
    found: dict[str, Value] = {}
    for number in numbers(re.sub(r"(?m)^```.*?^```", "", text, flags=re.DOTALL)):
        key, exact = f"shows {number}", len(number.partition(".")[2]) > 1
        found[key] = int(found.get(key) or 0) + 1 if exact else True
    return found


def weights(path: Path) -> str:
    """Return the SHA-256 of the tensors of a file: names, number formats, shapes and bytes."""
    import torch
    from safetensors import safe_open

    digest = hashlib.sha256()
    if not path.exists():
        return "no file"
    with safe_open(path, framework="pt") as file:
        for name in sorted(file.keys()):
            tensor = file.get_tensor(name).contiguous()
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def gathered(folder: Path, work: str) -> dict[str, Value]:
    """Return every value that commands left in a folder, by file and place."""
    found: dict[str, Value] = {}
    paths = sorted(folder.rglob("*"))
    stems = unhashed([path.name for path in paths if path.is_dir()])
    for path in paths:
        inside = path.relative_to(folder)
        if not path.is_file() or SKIPPED & set(inside.parts[:-1]):
            continue
        name = "/".join((*(stems.get(part, part) for part in inside.parts[:-1]), path.name))
        if path.suffix == ".safetensors":
            found[f"{name} weights"] = weights(path)
        elif path.name in TABLES:
            text = path.read_text(encoding="utf-8").replace(work, "WORK")
            tree = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
            found |= dict(flat(tree, name))
        elif path.suffix in (".html", ".md") and not path.name.startswith("leaderboard"):
            text = path.read_text(encoding="utf-8")
            found |= {f"{name} {key}": value for key, value in shown(text).items()}
        elif path.name.endswith("-plan.out"):
            for line in path.read_text(encoding="utf-8").splitlines():
                if (told := json.loads(line)).get("event") == "plan":
                    found |= dict(flat(told, name))
        elif path.name.endswith("-compat.out"):
            text = path.read_text(encoding="utf-8")
            found |= {f"{name} {key}": value for key, value in shown(text).items()}
    return found


def unhashed(names: Sequence[str]) -> dict[str, str]:
    """Return names without the hash at their end, numbered where they are then equal."""
    found: dict[str, str] = {}
    for name in sorted(set(names)):
        stem = HASHED.sub("", name)
        taken = sum(HASHED.sub("", other) == stem for other in found)
        found[name] = f"{stem} #{taken + 1}" if taken else stem
    return found


def flat(tree: object, name: str) -> Iterator[tuple[str, Value]]:
    """Yield the values of a tree of tables and lists, each with its path as its name."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            if key not in LEFT_OUT:
                yield from flat(value, f"{name} / {key}")
    elif is_sheet(tree):
        header, rows = tree
        for row in rows:
            for column, cell in zip(header[1:], row[1:], strict=True):
                if column not in LEFT_OUT:
                    told = numbers(cell)
                    yield f"{name} / {row[0]} / {column}", " ".join(told) or cell
    elif isinstance(tree, list):
        if len(tree) > LONG and not any(isinstance(each, dict) for each in tree):
            yield name, "sha256:" + hashlib.sha256(json.dumps(tree).encode()).hexdigest()
            return
        for label, each in labelled(tree):
            rest = {k: v for k, v in each.items() if k not in named(each)} if named(each) else each
            yield from flat(rest, f"{name} / {label}")
    elif isinstance(tree, str) and len(tree.split()) > 3:
        if told := numbers(tree):
            yield name, " ".join(told)
    elif tree is not None or name.endswith(" / value"):
        yield name, tree


def named(row: object) -> dict[str, str]:
    """Return what names an entry of a list; a sentence is no name."""
    if not isinstance(row, Mapping) or len(str(row.get("name", "")).split()) > 6:
        return {}
    found = {key: row[key] for key in IDENTITY if isinstance(row.get(key), str | int)}
    return {key: str(value) for key, value in found.items()}


def is_sheet(tree: object) -> bool:
    """Return whether a tree is a header and rows of texts, as in a leaderboard."""
    match tree:
        case [[str(), *_], [*rows]]:
            cells = [cell for row in rows for cell in (row if isinstance(row, list) else [None])]
            return bool(cells) and all(isinstance(cell, str) for cell in cells)
        case _:
            return False


def labelled(rows: Sequence[object]) -> Iterator[tuple[str, object]]:
    """Yield the entries of a list with what tells them apart, or with their place."""
    counts: dict[str, int] = {}
    for place, row in enumerate(rows):
        found = named(row)
        label = " ".join(found.values()) if found else str(place)
        counts[label] = counts.get(label, 0) + 1
        yield (label if counts[label] == 1 else f"{label} #{counts[label]}"), row


# ---------------------------------------------------------------------------------------------
# Comparing.


def renamed(values: Mapping[str, Value]) -> dict[str, Value]:
    """Return values under the new names of keys, methods and attacks."""
    if not RENAMED:
        return dict(values)
    words = re.compile("|".join(rf"(?<![\w-]){re.escape(old)}(?![\w-])" for old in RENAMED))

    def new(text: str) -> str:
        return words.sub(lambda found: RENAMED[found.group()], text)

    return {new(key): new(v) if isinstance(v, str) else v for key, v in values.items()}


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Yield every value that differs, by case and name, the world first."""
    for case in sorted(before.keys() | after.keys(), key=lambda name: (name != "world", name)):
        if case not in before or case not in after:
            yield f"{case}: only in the {'second' if case in after else 'first'} file"
            continue
        old, new = renamed(before[case]), renamed(after[case])
        for key in sorted(old.keys() | new.keys()):
            first, second = (each.get(key, "absent") for each in (old, new))
            if first != second or type(first) is not type(second):
                yield f"{case}: {key}: {first} -> {second}"


def compare(before: Path, after: Path, *, shared: bool) -> int:
    """Print every difference of two records; return the exit code."""
    first, second = (json.loads(path.read_text(encoding="utf-8")) for path in (before, after))
    if shared:
        first, second = (
            {k: a[k] for k in a if k in b} for a, b in ((first, second), (second, first))
        )
    found = list(differences(first, second))
    for line in found:
        print(line)
    values = sum(len(each) for each in first.values())
    print(f"{len(found)} differences in {len(first)} cases, {values} values")
    return 1 if found else 0


def main() -> int:
    """Record the values of a tree, or compare two records."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tree", type=Path, nargs="?", help="folder whose src holds the package")
    parser.add_argument("--out", type=Path, help="where the values go, JSON")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a few cases only; with --compare: those that both have",
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="CASE", help="these cases only")
    parser.add_argument("--jobs", type=int, default=2, help="cases at a time")
    parser.add_argument("--keep", type=Path, help="work in this new folder, and keep it")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("BEFORE", "AFTER"))
    given = parser.parse_args()
    if given.compare:
        return compare(*given.compare, shared=given.quick or bool(given.only))
    if given.tree is None or given.out is None:
        parser.error("name a tree and --out, or two files with --compare")
    chosen = [
        case
        for case in cases()
        if (case.quick or not given.quick) and (case.name in given.only or not given.only)
    ]
    found = record(given.tree, chosen, jobs=given.jobs, keep=given.keep)
    given.out.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
