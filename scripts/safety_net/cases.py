"""The cases: command lines on that world."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

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
