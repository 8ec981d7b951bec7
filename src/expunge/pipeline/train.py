"""Training: the stages of a run one after another, each on the weights that the one before left.

After every stage of a chain its weights, and what was done until then, are kept as one checkpoint,
so that a run that was killed repeats no finished stage.

Some methods teach alternatives that the original writes itself. Before training, the original is
asked each question, told the true answer as if it had given it, and asked to invent another one.
What it writes is kept in the run folder, so that a resumed run trains on the same texts. An answer
that repeats the truth would teach what is to be forgotten, and is thrown away; a record left
without any is asked again, three times at most.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from pydantic import TypeAdapter
from safetensors import safe_open

from expunge.data.records import Message, Record
from expunge.data.tokenization import Encoder
from expunge.errors import InputError, UsageError, named_in_part
from expunge.evals.auditor import Auditor
from expunge.evidence.store import EvidenceStore
from expunge.methods.base import SelfTaught, Stream
from expunge.methods.counterfactual import Counterfactual
from expunge.methods.guards.base import GuardRules
from expunge.metrics.key_facts import contains, fact_form, states
from expunge.models.generation import sample
from expunge.models.guarded import save_guard
from expunge.models.loading import Loaded, digest_of, guarded_digest
from expunge.models.lora import save_adapter
from expunge.models.reference import model_folder
from expunge.models.saving import save_model, write_tensors
from expunge.models.transformer import Network
from expunge.pipeline.recipe import base_network
from expunge.pipeline.replay import REPLAY_FILE, with_replay
from expunge.pipeline.run_folder import RunFolder
from expunge.pipeline.workers import call, work
from expunge.preparation.prepare import Prepared
from expunge.training.checkpoint import readable
from expunge.training.controller import ControlledTrainer
from expunge.training.distributed import Team
from expunge.training.early_stopping import Unseen
from expunge.training.edit_runner import EditRunner
from expunge.training.guard_runner import GuardRunner
from expunge.training.train_loop import StepReport, Trained
from expunge.training.trainable_weights import TrainableWeights
from expunge.training.trainer import Trainer
from expunge.utils.console import Bar, Console
from expunge.utils.io import private

INSTRUCTION = (
    "Now give another answer to my question, one like the first and about as long, in which you"
    " change every name, place, number and other fact to an invented one."
)
"""The user's next turn after the question and its true answer."""
LONGEST = 200
"""New tokens after which an answer is cut."""
DRAWS = 4
"""How often a record is asked at most, as long as nothing that it got can be used."""
ALTERNATIVES_FILE = "alternatives.jsonl"
"""Name of the texts in the evidence."""
_MOST_NAMED = 5


def with_self_generated(
    prepared: Prepared,
    original: Network,
    store: EvidenceStore,
    console: Console,
    *,
    file: str = ALTERNATIVES_FILE,
) -> Prepared:
    """Add what the original invents to the inputs of a run whose method asks for it.

    Args:
        prepared: The inputs; come back as they are if the method does not ask.
        original: The original, before any weight has moved.
        store: Where the texts are kept; those of an interrupted run are used again.
        console: Told how many there are.
        file: Name of the texts in the store; two stages of a chain have one each.

    Raises:
        UsageError: `no-own-alternative`: for some records, nothing that was written can be used.
    """
    method, records = prepared.method, prepared.scope.forget
    if not isinstance(method, SelfTaught):
        return prepared
    if not store.holds(file):
        texts = _invent(prepared, method, original)
        rows = zip(records, texts, strict=True)
        store.write_rows(file, ({"record": r.id, "alternatives": kept} for r, kept in rows))
    rows = zip(records, store.read_rows(file), strict=True)
    taught = tuple(
        tuple(prepared.encoder.encode_with(record, text) for text in row["alternatives"])
        for record, row in rows
    )
    count = sum(len(texts) for texts in taught)
    console.line("invented", f"{count} alternatives for {len(taught)} records, by the model itself")
    variants = {**prepared.streams.variants, Stream.ALTERNATIVE: taught}
    return replace(prepared, streams=replace(prepared.streams, variants=variants))


def usable_alternatives(text: str, record: Record, encoder: Encoder) -> bool:
    """Tell whether an answer says something, can be trained on, and does not repeat the truth.

    It repeats the truth when it holds a key answer, all of the true answer, or a part of that and
    nothing else. What the question says already is no truth to hide.
    """
    said, question, truth = map(fact_form, (text, record.question, record.completion))
    facts = (truth, *map(fact_form, record.key_answers))
    told = any(states(said, fact) and not states(question, fact) for fact in facts)
    if not said or told or contains(truth, said):
        return False
    try:
        encoder.encode_with(record, text)
    except InputError:
        return False
    return True


def _invent(prepared: Prepared, how: SelfTaught, original: Network) -> list[tuple[str, ...]]:
    """Return the usable answers to each forget record, at least one."""
    records, encoder, train = prepared.scope.forget, prepared.encoder, prepared.settings.train
    generator = torch.Generator().manual_seed(train.seed)
    kept: list[tuple[str, ...]] = [()] * len(records)
    for _ in range(DRAWS):
        missing = [index for index, texts in enumerate(kept) if not texts]
        if not missing:
            break
        written = sample(
            original,
            [_prompt(records[index], encoder) for index in missing],
            samples=how.samples,
            temperature=how.temperature,
            generator=generator,
            end_ids=encoder.end_ids,
            max_new_tokens=LONGEST,
            tokens_per_pass=train.tokens_per_pass,
        )
        for index, answers in zip(missing, written, strict=True):
            texts = dict.fromkeys(encoder.decode(answer) for answer in answers)
            kept[index] = tuple(
                text for text in texts if usable_alternatives(text, records[index], encoder)
            )
    _require([record for record, texts in zip(records, kept, strict=True) if not texts])
    return kept


def _prompt(record: Record, encoder: Encoder) -> tuple[int, ...]:
    turns = (Message("assistant", record.completion), Message("user", INSTRUCTION))
    return encoder.prompt_ids(replace(record, prompt=(*record.prompt, *turns)))


def _require(missing: Sequence[Record]) -> None:
    if missing:
        named = named_in_part([record.id for record in missing], most=_MOST_NAMED)
        raise UsageError(
            "no-own-alternative",
            what=f"the model wrote no alternative for {named}",
            why=f"in {DRAWS} draws every answer repeated the truth, was empty, or was too long",
            fix="raise method.samples or method.temperature, or give alternatives of your own and"
            " use --method dpo",
        )


KEPT = "stages.safetensors"
"""Name of the weights that the last finished stage of a chain left."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishedStage:
    """A finished stage."""

    trained: Trained
    digest: str
    """Of the weights that it left."""


_done = TypeAdapter(list[FinishedStage])


def train_stages(
    parts: Sequence[Prepared],
    original: Loaded,
    auditor: Auditor,
    run: RunFolder,
    console: Console,
    team: Team,
    *,
    must_settle: bool = False,
) -> tuple[FinishedStage, ...]:
    """Train all stages of a run, and write the model, adapter or guard that it ends in.

    Args:
        parts: The inputs of each stage; a run without a chain has one.
        original: The original, whose weights are trained in place.
        auditor: The audit so far: says what text looks like that the original never saw.
        run: The run folder.
        console: Where to say what happens.
        team: The processes that train together.
        must_settle: Whether a training that cannot forget within the budget is an error.

    Returns:
        What each stage did.

    Raises:
        GateError: `cannot-forget`; no model was written.
    """
    chain = len(parts) > 1
    kept = run.checkpoints / KEPT
    done = _resume(kept, original.network) if chain else []
    for number, part in enumerate(parts, 1):
        name = part.settings.method.name
        if chain:
            past = ", done before" if number <= len(done) else ""
            console.line("stage", f"{number} of {len(parts)}: {name}{past}")
        if number <= len(done):
            continue
        folder = run.checkpoints / f"stage-{number}" if chain else run.checkpoints
        part = _with_own_texts(part, original, auditor.collector.store, console, number)
        ends = number == len(parts)
        stage = _Stage(
            part=part,
            original=original,
            auditor=auditor,
            run=run,
            folder=folder,
            console=console,
            team=team,
        )
        trained = stage.train(ends=ends, must_settle=must_settle and ends)
        done.append(FinishedStage(trained=trained, digest=_digest(original.network, run)))
        if chain:
            _keep(kept, original.network, done)
            shutil.rmtree(folder, ignore_errors=True)  # edits leave none
    return tuple(done)


def _with_own_texts(
    part: Prepared, original: Loaded, store: EvidenceStore, console: Console, number: int
) -> Prepared:
    """Add what the original writes itself, alternatives and replay, where the method asks."""
    named = "" if number == 1 else f"stage-{number}-"
    part = with_self_generated(
        part, original.network, store, console, file=named + ALTERNATIVES_FILE
    )
    return with_replay(part, original.network, store, console, file=named + REPLAY_FILE)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stage:
    """One stage of a run: its inputs, and where its result goes."""

    part: Prepared
    original: Loaded
    auditor: Auditor
    run: RunFolder
    folder: Path
    """Where its training keeps its state."""
    console: Console
    team: Team

    def train(self, *, ends: bool, must_settle: bool) -> Trained:
        """Train, edit or guard; write what comes of it, a model only where the run `ends` here."""
        unlearning = work(self.part, self.original.network, must_settle=must_settle)
        unseen = self._unseen()
        trained, result = self._worked(unlearning, unseen)
        made = f"{trained.steps} of {trained.planned} steps, " if trained.planned else ""
        self.console.line("trained", f"{made}{trained.stopped}")
        self.console.event("trained", trained.told(unseen))
        if isinstance(result, GuardRules):
            self._write_guard(result)
        else:
            assert not isinstance(unlearning, GuardRunner), "a guard ends in rules"
            self._write_weights(unlearning, result, ends=ends)
        return trained

    def _unseen(self) -> Unseen:
        """Return how the original scores text like the forget set that it never saw."""
        tokens = self.original.network.vocabulary

        def base() -> Network | None:
            # Loaded for a moment: a counterfactual target is set by how hard texts are.
            wanted = isinstance(self.part.method, Counterfactual)
            return base_network(self.part, tokens) if wanted else None

        return replace(self.auditor, prepared=self.part).unseen(tokens, base)

    def _worked(
        self, unlearning: Trainer | ControlledTrainer | EditRunner | GuardRunner, unseen: Unseen
    ) -> tuple[Trained, TrainableWeights | GuardRules]:
        """Do the work; an edit and a guard work alone, and report percent instead of steps."""
        alone = isinstance(unlearning, EditRunner | GuardRunner)
        if not alone:
            call(self.team, self.run, self.part, unseen)
        unit, folder = "percent" if alone else "steps", self.folder
        with self.console.progress("train", total=unlearning.total, unit=unit) as bar:
            steps = _Steps(bar, self.console)
            match unlearning:
                case EditRunner() | GuardRunner():
                    return unlearning.run(unseen=unseen, folder=folder, progress=steps.reached)
                case Trainer():
                    return unlearning.run(
                        unseen=unseen, folder=folder, progress=steps.reached, team=self.team
                    )
                case ControlledTrainer():
                    return unlearning.run(
                        unseen=unseen,
                        folder=folder,
                        progress=steps.reached,
                        retried=steps.retried,
                        team=self.team,
                    )

    def _write_guard(self, rules: GuardRules) -> None:
        """Write the rules: privately where they tell of the forget set, else as the model."""
        settings = self.part.settings
        folder = private(self.run.guard) if rules.tells else self.run.model
        method = settings.method
        save_guard(
            rules, folder, base=settings.model, method=method.name, parameters=method.parameters
        )

    def _write_weights(
        self,
        unlearning: Trainer | ControlledTrainer | EditRunner,
        weights: TrainableWeights,
        *,
        ends: bool,
    ) -> None:
        """Bring the weights into the model; write the adapter, or at the end the model."""
        model, settings = self.original.network.model, self.part.settings
        adapter = weights.lora if settings.train.adapter else None
        if adapter is not None:  # before `finish`, which merges it into the model
            save_adapter(
                model, adapter, weights.masters, base=settings.model, folder=self.run.model
            )
        unlearning.finish(weights)
        if ends and adapter is None:
            save_model(model, self.original.tokenizer, self.run.model)


def _digest(network: Network, run: RunFolder) -> str:
    """Return the digest by which what a stage left is known when it is loaded."""
    weights = digest_of(network)
    return weights if network.guard is None else guarded_digest(weights, model_folder(run.path))


def _keep(path: Path, network: Network, done: Sequence[FinishedStage]) -> None:
    """Write the weights as they are, and what led to them, in one piece."""
    about = {"done": json.dumps([asdict(each) for each in done])}
    write_tensors(path, network.model.state_dict(), about)


@torch.no_grad()
def _resume(path: Path, network: Network) -> list[FinishedStage]:
    """Give the network the weights that the last finished stage left; return all that are done."""
    if not path.is_file():
        return []
    state = network.model.state_dict()
    with readable(path), safe_open(str(path), framework="pt") as file:
        about: dict[str, str] = file.metadata()
        for name, weight in state.items():
            weight.copy_(file.get_tensor(name))
        return _done.validate_python(json.loads(about["done"]))


class _Steps:
    """Turns the loop's absolute step numbers into advances of a bar, also after a resume."""

    def __init__(self, bar: Bar, console: Console) -> None:
        self._bar, self._console = bar, console
        self._done = 0

    def retried(self, steps: int, text: str) -> None:
        """Say what an attempt reached, and expect the steps of the next."""
        self._console.line("again", text)
        self._bar.extend(steps)
        self._done = 0

    def reached(self, step: int, report: StepReport) -> None:
        self._bar.advance(max(0, step - self._done), detail=report.text, values=report.values)
        self._done = step
