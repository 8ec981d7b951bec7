"""Preparation: from settings to records, tokens, method and options; no weight is loaded.

A chain of methods is prepared as settings of its own for each stage. Every stage takes the model
that the stage before it left for its original: references are computed on it, and alternatives are
written by it. What is audited is the last model against the first.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from expunge.config.request import Response
from expunge.config.settings import Hyperparameters, MethodSettings, Settings, Stage, TrainSettings
from expunge.data.corpora import general_text
from expunge.data.records import Record
from expunge.data.secret_tokens import with_secrets
from expunge.data.splits import Scope, gather
from expunge.data.tokenization import Encoded, Encoder
from expunge.errors import UsageError
from expunge.methods import AnyMethod, build
from expunge.methods.base import (
    Controlled,
    Distribution,
    SelfTaught,
    Shape,
    Stream,
    Trains,
    last_block,
)
from expunge.methods.counterfactual import Counterfactual
from expunge.methods.edits.base import Edit
from expunge.methods.finetune import Finetune
from expunge.methods.guards.base import Guard
from expunge.models.loading import Source, choose_device, load_config, load_tokenizer
from expunge.models.lora import LoraShape
from expunge.models.number_formats import in_precision, in_stored_format
from expunge.models.reference import base_of, is_guard
from expunge.planning.memory import count_adapter, count_chosen, targets_experts
from expunge.preparation.validate import build_wraps, needs_float32
from expunge.preparation.variants import held_out_text, variants
from expunge.training.early_stopping import spread
from expunge.training.sampler import Streams
from expunge.training.step_gradient import GradientTransforms
from expunge.training.trainer import TrainingArgs
from expunge.utils.console import Console
from expunge.utils.io import sha256_json
from expunge.utils.system import cache_folder

ERASE = "counterfactual"
"""The method that erases where nothing but the original is there."""
TEACH = {Response.ALTERNATIVE: 2.0, Response.REFUSAL: 10.0}
"""Weight of the wanted answers; at 10 an alternative costs more of what is kept."""
AUTO, RETRAIN = "auto", "retrain"
ROUTES = frozenset({AUTO, RETRAIN})
"""Names of routes that may stand for a method; `pipeline.routes` resolves them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """All inputs of a run but the weights."""

    settings: Settings
    source: Source
    config: PreTrainedConfig
    tokenizer: PreTrainedTokenizerBase
    encoder: Encoder
    scope: Scope
    method: AnyMethod
    streams: Streams
    options: TrainingArgs
    wraps: GradientTransforms

    @property
    def shape(self) -> Shape:
        """What a method may know of the model."""
        text = self.config.get_text_config()
        return Shape(layers=text.num_hidden_layers, width=text.hidden_size)

    def worked_on(self, record: Record) -> slice:
        """Return which of a record's scored tokens training works on: all, or those of its fact."""
        if self.settings.train.forget_tokens == "answer":
            return slice(None)
        whole, fact = self.encoder.encode(record), self.encoder.encode_fact(record)
        return slice(fact.start - whole.start, len(fact.ids) - whole.start)

    @property
    def data_digest(self) -> str:
        """Digest over the contents of all record sets, each with its role; not where they lie.

        How texts become tokens is part of it.
        """
        return _digest(self.scope, self.encoder)

    def audited(self) -> dict[str, tuple[Record, ...]]:
        """Return the records of each split that the audit asks about; empty sets are left out."""
        scope, limit = self.scope, self.settings.audit.retain_records
        splits = {
            "forget": scope.forget,
            "unstated": scope.unstated,
            "retain": _kept(scope.retain, scope.held_out, limit),
            "neighbours": _kept(scope.neighbours, scope.held_out, limit),
            "holdout": scope.holdout,
            "control": scope.control,
            "levels": scope.levels,
            "generic": tuple(self.encoder.split_long(general_text())),
        }
        return {split: records for split, records in splits.items() if records}


def _kept(
    records: Sequence[Record], held_out: frozenset[str], limit: int | None
) -> tuple[Record, ...]:
    """Return what the audit asks of a set to keep: two thirds held out where there are so many."""
    if limit is None or len(records) <= limit:
        return tuple(records)
    held = [record for record in records if record.id in held_out]
    rest = [record for record in records if record.id not in held_out]
    most = max(limit - len(rest), 2 * limit // 3)
    chosen = {record.id for record in spread(held, most)}
    chosen |= {record.id for record in spread(rest, limit - len(chosen))}
    return tuple(record for record in records if record.id in chosen)


def source_of(settings: Settings) -> Source:
    """Return how the settings say that models are loaded.

    Raises:
        InputError: The device was asked for and is not there, or the model is not.
        UsageError: No such wrapper.
    """
    settings = stages(settings)[-1]
    source = Source(
        device=choose_device(settings.device),
        dtype=torch.float32,
        offline=settings.offline,
        trust_remote_code=settings.trust_remote_code,
        cache=cache_folder(),
    )
    if settings.precision == "auto" and needs_float32(settings):
        return source
    return in_precision(source, settings.precision, settings.model)


def as_stored(prepared: Prepared, model: str, console: Console) -> Prepared:
    """Return the inputs of an audit that loads a model without rounding any of its weights.

    What is judged is what will run: weights stored in float32 may hold what their bf16 rounding
    does not. Original and golds are loaded in the same format, so that they can be compared.

    Args:
        prepared: The inputs.
        model: Reference of the model to judge.
        console: Told where its files take more bits than the settings.

    Raises:
        InputError: The reference names an adapter or a base that is none.
    """
    source = in_stored_format(prepared.source, model)
    if source.dtype != prepared.source.dtype:
        chosen = prepared.source.precision
        console.note(f"the files hold {source.precision}: judged in that, not in {chosen}")
    return replace(prepared, source=source)


def prepare(settings: Settings) -> Prepared:
    """Read data, configuration and tokenizer, and turn every record into tokens.

    Method, streams and options of a chain are those of its last stage.

    Raises:
        InputError: Data or model are not there or not well formed.
        UsageError: Method, response policy and data do not fit together.
    """
    whole, settings = settings, stages(settings)[-1]
    source = source_of(settings)
    method = _method(settings)
    scope, encoder, tokenizer = _read(settings, source)
    config = load_config(settings.model, source)
    text = config.get_text_config()
    shape = Shape(layers=text.num_hidden_layers, width=text.hidden_size, vocabulary=text.vocab_size)
    streams = _streams(settings, scope, encoder, method, shape)
    wraps = build_wraps(settings, method, shape, streams, source.dtype)
    options = training_options(settings.train, settings.request.utility_budget, shape.layers)
    options = _above_frozen(options, method, shape)
    require_targets(config, options)
    return Prepared(
        settings=whole,
        source=source,
        config=config,
        tokenizer=tokenizer,
        encoder=encoder,
        scope=scope,
        method=method,
        streams=streams,
        options=options,
        wraps=wraps,
    )


def _method(settings: Settings) -> AnyMethod:
    """Return the method; of `auto`, before its route is chosen, that of erasing.

    The method of erasing teaches what the request wants said instead.
    """
    chosen = settings.method
    if chosen.name == RETRAIN:
        return Finetune()
    method = build(ERASE if chosen.name == AUTO else chosen.name, chosen.parameters)
    response = settings.request.response
    if (
        isinstance(method, Counterfactual)
        and response in TEACH
        and "teach" not in chosen.parameters
    ):
        return replace(method, teach=TEACH[response])
    return method


def with_training(prepared: Prepared, train: TrainSettings) -> Prepared:
    """Return the inputs of the same run with other settings of training; records stay as they are.

    Args:
        prepared: The inputs of one method.
        train: Settings that differ in what is trained, not in what is read.

    Raises:
        UsageError: Method, wrappers or model do not take them.
    """
    settings = prepared.settings.model_copy(update={"train": train})
    dtype, shape = prepared.source.dtype, prepared.shape
    wraps = build_wraps(settings, prepared.method, shape, prepared.streams, dtype)
    options = training_options(train, settings.request.utility_budget, shape.layers)
    options = _above_frozen(options, prepared.method, shape)
    require_targets(prepared.config, options)
    return replace(prepared, settings=settings, options=options, wraps=wraps)


def prepare_stages(settings: Settings) -> tuple[Prepared, ...]:
    """Prepare every stage of a run, in order; a run without a chain has one.

    Raises:
        InputError: As `prepare`.
        UsageError: As `prepare`, stages that do not fit together, or a guard to start from.
    """
    _require_no_guard(settings.model)
    return tuple(prepare(stage) for stage in stages(settings))


def require_weights(settings: Settings) -> None:
    """Check that a run leaves a whole model, from which the next one can start.

    Raises:
        UsageError: It keeps an adapter, or is a guard.
    """
    method = settings.method
    named = method.name not in ROUTES  # a route is no guard, whichever the plan chooses
    guard = named and isinstance(build(method.name, method.parameters), Guard)
    if guard or settings.train.adapter:
        raise UsageError(
            "no-weights-in-a-sequence",
            what=f"{method.name} is a guard" if guard else "train.adapter keeps an adapter",
            why="in a sequence each run starts from the weights that the one before left",
            fix="leave the guard out" if guard else "leave --adapter out",
        )


def data_digest(settings: Settings) -> str:
    """Return `Prepared.data_digest` of settings whose method need not fit the data.

    Raises:
        InputError: Data or model are not there or not well formed.
    """
    scope, encoder, _ = _read(settings, source_of(settings))
    return _digest(scope, encoder)


def encoder_of(settings: Settings, tokenizer: PreTrainedTokenizerBase) -> Encoder:
    """Return how records become tokens of a model, the original or another."""
    return Encoder(tokenizer, settings.template, max_length=settings.train.max_length)


def _require_no_guard(original: str) -> None:
    """Refuse a guard to start from: what a run writes are the weights, which it does not guard."""
    if is_guard(original):
        raise UsageError(
            "guard-as-original",
            what=f"{original} holds a guard around a model, and no weights to change",
            why="a run would ask the model through its guard, and then write it without",
            fix=f"name the model behind it: {base_of(Path(original))}",
        )


def _read(settings: Settings, source: Source) -> tuple[Scope, Encoder, PreTrainedTokenizerBase]:
    """Read all records, and how they become tokens; long ones are split."""
    scope = gather(settings.request, offline=settings.offline)
    tokenizer = load_tokenizer(settings.model, source)
    encoder = encoder_of(settings, tokenizer)
    return _split(scope, encoder), encoder, tokenizer


def _digest(scope: Scope, encoder: Encoder) -> str:
    sets = {
        split: [asdict(replace(record, source="")) for record in records]
        for split, records in _sets(scope).items()
    }
    return sha256_json({**sets, "encoder": encoder.identity})


def _split(scope: Scope, encoder: Encoder) -> Scope:
    return replace(
        scope,
        **{split: tuple(encoder.split_long(records)) for split, records in _sets(scope).items()},
    )


def _sets(scope: Scope) -> dict[str, tuple[Record, ...]]:
    return {
        "forget": scope.forget,
        "retain": scope.retain,
        "neighbours": scope.neighbours,
        "holdout": scope.holdout,
        "control": scope.control,
        "levels": scope.levels,
        **({"unstated": scope.unstated} if scope.unstated else {}),
    }


def _streams(
    settings: Settings, scope: Scope, encoder: Encoder, method: AnyMethod, shape: Shape
) -> Streams:
    used = _reads(method, shape)
    response = settings.request.response
    whole = settings.train.forget_tokens == "answer"
    if isinstance(method, SelfTaught):
        used -= {Stream.ALTERNATIVE}  # written by the model itself, once it is loaded
    used -= {Stream.OTHERS}  # what the original answers, once it is loaded
    answers = {Stream.ALTERNATIVE, Stream.UNANSWERABLE}
    if isinstance(method, SelfTaught) or (isinstance(method, Edit) and used & answers):
        _require_questions(settings.method.name, scope.forget)
    elif Stream.ALTERNATIVE in used:
        _require_alternatives(settings.method.name, scope.forget)
    if Stream.ALTERNATIVE not in used and response is not Response.ANY:
        raise UsageError(
            "response-not-taught",
            what=f"method {settings.method.name} cannot teach the response {response.value}",
            why="it does not learn what to say instead of the old answer",
            fix="leave --method out, or use --method dpo or --method idk",
        )
    forget, hides = _forget(settings, scope.forget, encoder, method), _hides(method, shape)
    others = variants(
        scope.forget,
        scope.keep,
        settings.request,
        encoder,
        encode=encoder.encode if whole else encoder.encode_fact,
        streams=used,
        seed=settings.train.seed,
        itself=hides,
    )
    if hides:
        forget = with_secrets(scope.forget, forget, scope.keep, encoder)
        for stream in {Stream.STRANGER, Stream.NAMESAKE} & others.keys():
            others[stream] = tuple(
                tuple(replace(each, secret=each.secret or own.secret) for each in asked)
                for own, asked in zip(forget, others[stream], strict=True)
            )
    retain = tuple(encoder.encode(record) for record in scope.keep)
    watched = held_out_text(scope.forget, scope.keep, encoder) if Stream.GENERAL in used else ()
    return Streams(forget=forget, retain=retain, variants=others, unrehearsed=watched)


def _hides(method: AnyMethod, shape: Shape) -> bool:
    """Tell whether a term of the method takes secret tokens out of its target."""
    if isinstance(method, Edit | Guard):
        return False
    return any(isinstance(term, Distribution) and term.hides for term in method.terms(shape))


def _forget(
    settings: Settings, records: Sequence[Record], encoder: Encoder, method: AnyMethod
) -> tuple[Encoded, ...]:
    if isinstance(method, Edit):
        return tuple(encoder.focused(record) for record in records)
    if settings.train.forget_tokens == "answer":
        return tuple(encoder.encode(record) for record in records)
    if not any(record.key_answers for record in records):
        raise UsageError(
            "no-key-answers",
            what="no forget record names a key answer",
            why='forget_tokens = "fact" works on the tokens of the key answers alone',
            fix='add key_answers to the records, or set train.forget_tokens = "answer"',
        )
    return tuple(encoder.encode_fact(record) for record in records)


def _reads(method: AnyMethod, shape: Shape) -> set[Stream]:
    if isinstance(method, Edit | Guard):
        return {Stream.FORGET, Stream.RETAIN, *method.streams}
    terms = method.terms(shape)
    used = {stream for term in terms for stream in term.streams}
    return used | {s for term in terms if isinstance(term, Distribution) for s in term.references}


def _require_questions(method: str, records: Sequence[Record]) -> None:
    passages = [record for record in records if not record.prompt]
    if passages:
        raise UsageError(
            "no-question",
            what=f"{len(passages)} forget records are passages without a question",
            why=f"method {method} works on what a question leads to",
            fix="give prompt and completion, or choose another method",
        )


def _require_alternatives(method: str, records: Sequence[Record]) -> None:
    """Refuse passages that a refusal would be taught instead of: it would be taught to any text."""
    passages = [record for record in records if not record.prompt and not record.alternatives]
    if passages:
        raise UsageError(
            "no-alternative",
            what=f"{len(passages)} forget records are passages without an alternative",
            why=f"method {method} teaches what to say instead, and a refusal answers no passage",
            fix="give each the text that takes its place as `alternative`, or choose another method"
            + ("; or --set method.fluency=0" if method == "elm" else ""),
        )


def require_targets(config: PreTrainedConfig, options: TrainingArgs) -> None:
    """Refuse targets that the model does not have; where none are named, whole blocks are meant.

    Raises:
        UsageError: A wanted name is that of no layer.
    """
    if options.lora is not None and options.lora.targets:
        count_adapter(config, options.lora)
    if options.only is not None and options.only.modules:
        count_chosen(config, options.only)
        if options.weight_decay and targets_experts(config, options.only):
            raise UsageError(
                "experts-with-decay",
                what="single experts in train.targets and train.weight_decay do not go together",
                why="decay would move the other experts, which lie in the same tensor",
                fix="leave train.weight_decay out, or name the tensor of all experts",
            )


def training_options(train: TrainSettings, utility_budget: float, layers: int) -> TrainingArgs:
    """Return how to train, as the engine takes it; `layers` are the blocks of the model."""
    return TrainingArgs(
        lora=None if train.full else _lora(train),
        only=_only(train, layers) if train.full else None,
        utility_budget=utility_budget,
        **train.model_dump(include=set(Hyperparameters.model_fields)),
    )


def _above_frozen(options: TrainingArgs, method: AnyMethod, shape: Shape) -> TrainingArgs:
    """Leave the lowest blocks as they are where the method wants that and the user names none."""
    lora = options.lora
    if not isinstance(method, Controlled) or lora is None or lora.targets or lora.first_layer:
        return options
    first = round(method.frozen * shape.layers)
    if lora.last_layer is not None and lora.last_layer < first:
        return options
    return options.model_copy(update={"lora": replace(lora, first_layer=first)})


def _only(train: TrainSettings, layers: int) -> Trains | None:
    """Return where training is bounded to, by layers or targets; None where it is not."""
    if not (train.targets or train.first_layer or train.last_layer is not None):
        return None
    last = last_block(train.last_layer, layers)
    return Trains(modules=train.targets, first_layer=train.first_layer, last_layer=last, gaps=True)


def _lora(train: TrainSettings) -> LoraShape:
    return LoraShape(
        rank=train.rank,
        alpha=2.0 * train.rank if train.alpha is None else train.alpha,
        targets=train.targets,
        first_layer=train.first_layer,
        last_layer=train.last_layer,
    )


SHARED = ("adapter", "max_length", "seed")
"""Keys of `[train]` that no stage may change: they belong to the whole run."""


def stages(settings: Settings) -> tuple[Settings, ...]:
    """Return the settings of each stage, in order; of a run without a chain, its own.

    All stages compute in one number format, the widest that one of them needs, and only the last
    one has to teach the response of the request.

    Args:
        settings: The settings of the whole run.

    Raises:
        UsageError: `method-and-stages`, `adapter-of-a-chain`, `stage-differs`, `guard-in-a-chain`,
            or no such method, wrapper or hyperparameter.
    """
    if settings.stage is None:
        return (settings,)
    _check(settings, settings.stage)
    every = [_alone(settings, stage) for stage in settings.stage]
    wide = settings.precision == "auto" and any(needs_float32(each) for each in every)
    precision = "fp32" if wide else settings.precision
    teaches_none = settings.request.model_copy(update={"response": Response.ANY})
    requests = [*(teaches_none for _ in every[1:]), settings.request]
    return tuple(
        each.model_copy(update={"precision": precision, "request": request})
        for each, request in zip(every, requests, strict=True)
    )


def stage_names(settings: Settings) -> tuple[str, ...]:
    """Return the names of the methods that a run goes through."""
    if settings.stage is None:
        return (settings.method.name,)
    return tuple(stage.method.name for stage in settings.stage)


def _alone(settings: Settings, stage: Stage) -> Settings:
    tables = {table: getattr(stage, table) for table in Stage.model_fields}
    return settings.model_copy(update={"stage": None, **tables})


def _check(settings: Settings, chain: tuple[Stage, ...]) -> None:
    if settings.method != MethodSettings():
        raise UsageError(
            "method-and-stages",
            what=f"method {settings.method.name} is named beside [[stage]] tables",
            why="each stage names its own method, and no further one would run",
            fix="leave --method and [method] out, or write it as another [[stage]]",
        )
    if settings.train.adapter:
        raise UsageError(
            "adapter-of-a-chain",
            what="the result of a chain cannot be kept as an adapter",
            why="an adapter lies over the original, and the stages after the first change another"
            " model",
            fix="leave --adapter out: the merged model is written",
        )
    for number, stage in enumerate(chain, 1):
        _check_stage(settings, stage, f"stage {number} of {len(chain)}")


def _check_stage(settings: Settings, stage: Stage, where: str) -> None:
    for key in SHARED:
        own, common = getattr(stage.train, key), getattr(settings.train, key)
        if own != common:
            raise UsageError(
                "stage-differs",
                what=f"{where} sets train.{key} to {own}, the run to {common}",
                why="all stages work on the same records, and the result is audited once",
                fix=f"set train.{key} in [train] alone",
            )
    if isinstance(build(stage.method.name, stage.method.parameters), Guard):
        raise UsageError(
            "guard-in-a-chain",
            what=f"{where} is {stage.method.name}, a guard",
            why="a chain hands weights from stage to stage, and a guard leaves them as they are",
            fix="leave it out of the chain; a guard is a run of its own",
        )
