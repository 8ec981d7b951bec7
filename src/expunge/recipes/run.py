"""Running a recipe: data, the original, a retrained model, forgetting, audit, table, acceptance.

OUT/recipe.json       name, seed and base: the same command goes on, another one is refused
OUT/data/             what to forget, what to keep, what the models are taught
OUT/original/, gold/  trainings of `expunge train`
OUT/request.toml      the request; also the file to start from for a model of one's own
OUT/run/              run folder of `expunge forget`
OUT/outputs/          what every model said to the probes
OUT/answers.md        answers before and after, one below the other
OUT/results.json      measures, acceptance and verdict
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from expunge.benchmarking.evaluate import collect_outputs
from expunge.benchmarking.probe_outputs import ProbeOutputs
from expunge.benchmarking.suites.base import plain
from expunge.config.resolve import resolve
from expunge.config.settings import LARGEST_SEED, FinetuneSettings, Settings
from expunge.data.records import Record
from expunge.demo.run import base_model
from expunge.errors import InputError, UsageError
from expunge.evals.results import Score, Verdict
from expunge.models.loading import load
from expunge.pipeline.finetune import train
from expunge.pipeline.forget import forget
from expunge.preparation.prepare import encoder_of, source_of
from expunge.recipes.backdoor import BACKDOOR
from expunge.recipes.base import (
    COLLAPSED,
    GOLD,
    ORIGINAL,
    REFUSING,
    UNLEARNED,
    Application,
    ApplicationData,
    RecipeOutcome,
    by_metric,
    judge,
    judge_all,
)
from expunge.recipes.bias import BIAS
from expunge.recipes.copyright import COPYRIGHT
from expunge.recipes.hazard import HAZARDOUS
from expunge.recipes.jailbreak import JAILBREAK
from expunge.recipes.measures import refusing
from expunge.recipes.outdated import OUTDATED
from expunge.recipes.pages import answers_page, request_text, results_json, table_lines
from expunge.recipes.person import PERSON
from expunge.recipes.source import SOURCE
from expunge.recipes.toxicity import TOXIC
from expunge.utils.console import Console, SilentConsole
from expunge.utils.file_names import MODEL, REQUEST, RESULTS
from expunge.utils.io import AnyPath, read_json, write_json, write_jsonl, write_text
from expunge.utils.registry import require_known
from expunge.utils.system import cache_folder

APPLICATIONS = {
    each.name: each
    for each in (
        PERSON,
        COPYRIGHT,
        SOURCE,
        OUTDATED,
        BACKDOOR,
        HAZARDOUS,
        TOXIC,
        BIAS,
        JAILBREAK,
    )
}
"""All recipes by name; `catalogue.RECIPES` describes the same without loading torch."""
IDENTITY, ANSWERS, RUN_FOLDER = "recipe.json", "answers.md", "run"
TOKENS_PER_PASS = 4096
SCHEMA = "expunge.recipe/1"


def recipe(
    name: str,
    *,
    out: AnyPath | None = None,
    base: str | None = None,
    seed: int = 0,
    offline: bool = False,
    console: Console | None = None,
) -> RecipeOutcome:
    """Run a recipe: plant a problem in a model, remove it, and judge by the field's own measure.

    The same call goes on where a killed one stopped.

    Args:
        name: A name of `catalogue.RECIPES`.
        out: Folder of everything; default `runs/recipe-NAME`.
        base: The model that is taught; default SmolLM2-135M-Instruct of the demo.
        seed: Seed of data and training.
        offline: Never use the network.
        console: Where to say what happens; silent by default.

    Raises:
        UsageError: There is no such recipe, the seed is none, or the folder holds something else.
        InputError: The base model cannot be had, or the original does not have the problem.

    Example:
        >>> recipe("persn")
        Traceback (most recent call last):
            ...
        expunge.errors.UsageError: error[unknown-recipe]: there is no recipe persn...
    """
    out = None if out is None else Path(out)
    _require_seed(seed)
    require_known("recipe", name, tuple(APPLICATIONS), otherwise="see `expunge recipe`")
    console = console or SilentConsole()
    application = APPLICATIONS[name]
    folder = (out or Path("runs") / f"recipe-{name}").resolve()
    base = base or str(base_model(cache_folder(), offline=offline, console=console))
    claim_folder(folder, {"recipe": name, "seed": seed, "base": Path(base).name})
    data = application.draw(seed)
    write_data(folder / "data", data)
    work = _Work(
        application=application,
        data=data,
        folder=folder,
        base=base,
        seed=seed,
        offline=offline,
        console=console,
    )
    if not (folder / REQUEST).is_file():
        write_text(folder / REQUEST, request_text(application, data, references(base, folder)))
    _teach(work, ORIGINAL)
    outputs = {ORIGINAL: _ask(work, ORIGINAL)}
    require_problem(application, application.measure(outputs[ORIGINAL]))
    _teach(work, GOLD)
    verdict = forget(work.settings, console=console).verdict
    outputs |= {role: _ask(work, role) for role in (UNLEARNED, GOLD, COLLAPSED)}
    outputs[REFUSING] = refusing(outputs[ORIGINAL], application.refused)
    return _conclude(work, outputs, verdict)


def _require_seed(seed: int) -> None:
    if not 0 <= seed < LARGEST_SEED // 2:
        raise UsageError(
            "bad-seed",
            what=f"--seed {seed} is no seed",
            why=f"a seed is a whole number from 0 to {LARGEST_SEED // 2 - 1}",
            fix="leave it out, or give a small number",
        )


def claim_folder(folder: Path, identity: Mapping[str, object]) -> None:
    """Make the folder of a recipe, or check that it is that of the same one.

    Raises:
        UsageError: `recipe-folder`: it holds something else.
    """
    path = folder / IDENTITY
    wanted = {"schema": SCHEMA, **identity}
    if not path.is_file() and (not folder.is_dir() or not any(folder.iterdir())):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, wanted)
        return
    if path.is_file() and read_json(path) == wanted:
        return
    held = "another recipe, seed or base" if path.is_file() else "files of something else"
    raise UsageError(
        "recipe-folder",
        what=f"{folder} holds {held}",
        why="a recipe goes on in its own folder, and never writes over other files",
        fix="name another folder with --out",
    )


def write_data(folder: Path, data: ApplicationData) -> None:
    """Write the record sets and the lessons as JSON Lines; empty sets are left out."""
    sets: dict[str, Sequence[Record]] = {
        "forget": data.forget,
        "retain": data.retain,
        "neighbours": data.neighbours,
        "holdout": data.holdout,
        "lessons": data.lessons(gold=False),
        "lessons-gold": data.lessons(gold=True),
    }
    for name, records in sets.items():
        if records:
            write_jsonl(folder / f"{name}.jsonl", map(plain, records))


def require_problem(application: Application, scores: Sequence[Score]) -> None:
    """Refuse to go on where the original does not have the problem.

    Raises:
        InputError: `nothing-to-remove`.
    """
    found = judge(application.problem, ORIGINAL, {ORIGINAL: by_metric(scores)})
    if found.passed:
        return
    value = "not computable" if found.value is None else f"{found.value:.2f}"
    raise InputError(
        "nothing-to-remove",
        what=f"the original does not have the problem: {found.rule.metric} is {value}",
        why=f"the recipe needs at least {application.problem.margin:g}, or it shows nothing",
        fix="choose another --seed, or a --base that learns the planted data",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Work:
    """What the steps of one recipe share."""

    application: Application
    data: ApplicationData
    folder: Path
    base: str
    seed: int
    offline: bool
    console: Console

    @property
    def settings(self) -> Settings:
        """What the request file says, with the run folder of this recipe."""
        return request_settings(self.folder, offline=self.offline)


def references(base: str, folder: Path) -> dict[str, str]:
    """Return the reference of each model by role; the collapsed one is the original, zeroed.

    Args:
        base: Reference of the base model.
        folder: Folder of the recipe.
    """
    original = f"{base}+{folder / ORIGINAL / MODEL}"
    return {
        ORIGINAL: original,
        COLLAPSED: original,
        GOLD: f"{base}+{folder / GOLD / MODEL}",
        UNLEARNED: str(folder / RUN_FOLDER / MODEL),
    }


def request_settings(folder: Path, *, offline: bool) -> Settings:
    """Return what the request file of a recipe says, with the run folder beside it.

    Args:
        folder: Folder of the recipe.
        offline: Never use the network.

    Raises:
        UsageError: As `expunge.config.resolve.resolve`.
    """
    flags = {"out": str(folder / RUN_FOLDER), "offline": offline}
    return resolve(flags, config=folder / REQUEST, environ={}, start=folder).settings


def _teach(work: _Work, role: str) -> None:
    """Train the original or the gold; a finished training is read."""
    gold = role == GOLD
    lessons = work.folder / "data" / f"lessons{'-gold' if gold else ''}.jsonl"
    seed = 2 * work.seed + gold
    settings = FinetuneSettings(
        model=work.base,
        data=(str(lessons),),
        train=work.application.train.model_copy(update={"seed": seed}),
    )
    work.console.line("teach", f"{role}: {len(work.data.lessons(gold=gold))} records")
    out = work.folder / role
    train(settings, out=out, offline=work.offline, console=work.console)


def _ask(work: _Work, role: str) -> ProbeOutputs:
    """Ask a model all probes; what it said before is read."""
    source = source_of(work.settings)
    loaded = load(references(work.base, work.folder)[role], source)
    if role == COLLAPSED:
        with torch.no_grad():
            for parameter in loaded.network.model.parameters():
                parameter.zero_()
    work.console.line("ask", f"{role}: {sum(len(p.records) for p in work.data.probes)} questions")
    return collect_outputs(
        loaded.network,
        encoder_of(work.settings, loaded.tokenizer),
        work.data.probes,
        folder=work.folder / "outputs" / role,
        tokens_per_pass=TOKENS_PER_PASS,
        console=work.console,
    )


def _conclude(work: _Work, outputs: Mapping[str, ProbeOutputs], verdict: Verdict) -> RecipeOutcome:
    """Judge every model, and write table, answers and results."""
    application, folder = work.application, work.folder
    table = {role: by_metric(application.measure(found)) for role, found in outputs.items()}
    judgements = {role: judge_all(application, role, table) for role in table}
    outcome = RecipeOutcome(
        application=application,
        folder=folder,
        table=table,
        judgements=judgements,
        verdict=verdict,
    )
    write_text(folder / ANSWERS, answers_page(application, outputs), owner_only=True)
    write_json(folder / RESULTS, results_json(outcome))
    for label, text in table_lines(outcome):
        work.console.line(label, text)
    work.console.line("wrote", f"{folder}/   {REQUEST}, {RESULTS}, {ANSWERS}, {RUN_FOLDER}/")
    return outcome
