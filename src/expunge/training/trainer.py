"""Training: a method, a model and two streams of records become new weights.

    L(step) = sum over terms   coef(progress) (1/N_term) sum over the step's records of loss_term

N_term counts the scored tokens or the sequences of the whole step, not of one micro-batch. A run
has four parts, in this order:

    1. which records each step draws, and the learning rate of each step    `Sampler`, `Schedule`
    2. what the original says of those records, while it is unchanged       `precompute`
    3. a forward pass of each step for all terms at once                    `TermEvaluator`
    4. the loop: gradient, transforms of it, optimiser, checkpoints         `train`

Weights are trained as float32 masters. The model holds copies of them in its own number format.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from torch import Tensor

from expunge.config.request import UTILITY_BUDGET
from expunge.config.settings import Hyperparameters
from expunge.data.tokenization import Encoded
from expunge.methods.base import Distribution, Method, Shape, Stream, Term, Trains
from expunge.models.lora import LoraShape, merge
from expunge.models.transformer import Network
from expunge.training.activation_cache import (
    DiskCache,
    Key,
    LowerStates,
    compute_lower,
    shared_lower,
)
from expunge.training.activation_checkpointing import recomputed, selectively_recomputed
from expunge.training.distributed import SOLO, Team
from expunge.training.early_stopping import EarlyStopping, Unseen, spread
from expunge.training.forward import TermEvaluator
from expunge.training.localization import Localiser
from expunge.training.reference_model import precompute
from expunge.training.reinforced_model import reinforced_states
from expunge.training.sampler import ContentSampler, Sampler, Streams
from expunge.training.step_gradient import GradientTransforms
from expunge.training.train_loop import Progress, Schedule, Trained, train
from expunge.training.trainable_weights import (
    TrainableWeights,
    adapter,
    as_they_are,
    chosen,
    everything,
    shape_of,
)


class TrainingArgs(Hyperparameters):
    """How to train, whatever the method: the hyperparameters, and which weights."""

    lora: LoraShape | None
    """None: the weights themselves."""
    only: Trains | None = None
    """Without `lora`: the weights to train; None: all."""
    utility_budget: float = UTILITY_BUDGET


def trained_weights(method: Method, options: TrainingArgs, shape: Shape) -> Trains | None:
    """Return which weights are trained themselves; None for an adapter, or for all.

    With `lora` a method's own choice goes before an adapter; without, the user's choice goes before
    the method's.
    """
    return options.only if options.lora is None else method.trains(shape)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trainer:
    """A run that is ready to train."""

    method: Method
    network: Network
    streams: Streams
    options: TrainingArgs
    pad_id: int
    wraps: GradientTransforms = field(default_factory=GradientTransforms)
    weights: TrainableWeights | None = None
    """What to train; None: what the options and the method say."""
    before: Callable[[], None] | None = None
    """Changes the masters once the references are known, before the first step."""
    start: Mapping[str, Tensor] | None = None
    """What the masters begin with, once the references are known; None: a fresh start."""
    content_order: ContentSampler | None = None
    """Order and rates that go by what the records say; None: by their number."""
    watched: bool = True
    """Whether the watchdogs look; false: training goes on to its last step."""
    save_at: frozenset[int] = frozenset()
    """Further steps after which a checkpoint is written."""
    first: Callable[[], Network] | None = None
    """Loads the model that retained answers keep to; None: that which is trained."""
    store: Path | None = None
    """Where runs share what their originals say of records; None: nowhere."""

    def trains(self) -> Trains | None:
        """Return which weights are trained themselves; None for an adapter, or for all."""
        return trained_weights(self.method, self.options, self.shape())

    def order(self) -> Sampler | ContentSampler:
        """Return the order of records."""
        if self.content_order is not None:
            return self.content_order
        return Sampler(
            forget=len(self.streams.forget),
            retain=len(self.streams.retain),
            forget_batch=min(self.options.batch, len(self.streams.forget)),
            retain_batch=self.options.retained,
            seed=self.options.seed,
        )

    def schedule(self) -> Schedule:
        """Return the schedule: exactly the steps or epochs that were asked for."""
        options, recipe = self.options, self.method.recipe
        peak = options.lr or (recipe.lr if self._full() else recipe.lr_lora)
        epochs = options.epochs or recipe.epochs
        ordered = self.content_order
        rates = () if ordered is None else ordered.rates(peak, options.warmup)
        return Schedule(
            steps=len(rates) or options.steps or epochs * self.order().steps_per_epoch,
            lr=peak,
            args=options,
            rates=rates,
            save_at=self.save_at,
        )

    @property
    def total(self) -> int:
        """Units of progress: steps."""
        return self.schedule().steps

    def shape(self) -> Shape:
        """Return what a method may know of the model."""
        return shape_of(self.network)

    def run(
        self, *, unseen: Unseen, folder: Path, progress: Progress, team: Team = SOLO
    ) -> tuple[Trained, TrainableWeights]:
        """Train, or go on where `folder` says that an interrupted run stopped.

        Args:
            unseen: How the original scores records like the forget set that it never saw.
            folder: Where checkpoints go; all processes of the team can read and write it.
            progress: Told of every step.
            team: The processes that train together; each must call this with the same run.

        Returns:
            What training did, and the trained weights; the model still carries its adapter.
        """
        options = self.options
        terms = self.method.terms(self.shape())
        order, schedule = self.order(), self.schedule()
        pools = self._pools(terms, order, schedule.steps)
        cache = self._cache()
        reinforced = self._reinforced(terms, pools)
        spreads = self._spreads(team)
        weights = as_they_are(self.network) if spreads else self.weights or self._weights(folder)
        wraps = self._wraps(weights, folder)
        lower = self._lower(pools, folder / f"lower.{team.rank}.bin", cache)
        references = precompute(
            self.network,
            terms,
            pools,
            pad_id=self.pad_id,
            tokens_per_pass=options.tokens_per_pass,
            reinforced=reinforced,
            cache=cache,
            lower=lower,
            first=self.first,
        )
        observer = TermEvaluator(
            network=self.network,
            terms=terms,
            streams=self.streams,
            references=references,
            pad_id=self.pad_id,
            lower=lower,
            share=team.share,
            unseen=unseen,
        )
        self._begin(weights)
        run = partial(
            train,
            order=order,
            schedule=schedule,
            watch=self._watch(unseen, lower) if self.watched else None,
            wraps=wraps,
            folder=folder,
            progress=progress,
        )
        again = recomputed if options.checkpointing else selectively_recomputed
        with again(self.network):
            return (_spread_run if spreads else _plain_run)(run, observer, weights, team), weights

    def finish(self, weights: TrainableWeights) -> None:
        """Merge the adapter into the model, from its float32 masters."""
        weights.release()
        if weights.lora is not None:
            merge(self.network.model, weights.masters)
        self.network.model.requires_grad_(False)

    def _begin(self, weights: TrainableWeights) -> None:
        """Change the masters, now that the references are known."""
        if self.before is not None:
            self.before()
            weights.publish()
        if self.start is not None:
            weights.restore(self.start)

    def _watch(self, unseen: Unseen, lower: LowerStates | None) -> EarlyStopping:
        return EarlyStopping(
            forget=spread(self.streams.forget),
            retain=spread(self.streams.retain),
            unseen=unseen,
            utility_budget=self.options.utility_budget,
            pad_id=self.pad_id,
            tokens_per_pass=self.options.tokens_per_pass,
            known=None if lower is None else lower.find,
        )

    def _pools(
        self, terms: Sequence[Term], order: Sampler | ContentSampler, steps: int
    ) -> dict[Stream, list[Encoded]]:
        """Return the records that the run will draw, by stream."""
        draws = [order.draw(step) for step in range(steps)]
        used = {stream for term in terms for stream in term.streams}
        used |= {s for term in terms if isinstance(term, Distribution) for s in term.references}
        used |= self.wraps.streams
        return {
            stream: list(
                dict.fromkeys(record for d in draws for record in self.streams.drawn(stream, d))
            )
            for stream in sorted(used)  # a set's order differs between processes
        }

    def _reinforced(
        self, terms: Sequence[Term], pools: Mapping[Stream, Sequence[Encoded]]
    ) -> dict[Key, Tensor]:
        wanted = [term for term in terms if isinstance(term, Distribution) and term.reinforced]
        if not wanted:
            return {}
        return reinforced_states(
            self.network,
            self.streams.forget,
            [record for term in wanted for record in pools[term.streams[0]]],
            seed=self.options.seed,
            pad_id=self.pad_id,
            tokens_per_pass=self.options.tokens_per_pass,
        )

    def _cache(self) -> DiskCache | None:
        """Return where the original's values are shared; must be asked before weights change."""
        if self.store is None or self.network.guard is not None:
            return None
        return DiskCache.of(self.store, self.network)

    def _lower(
        self, pools: Mapping[Stream, Sequence[Encoded]], file: Path, cache: DiskCache | None
    ) -> LowerStates | None:
        first = self._first_trained()
        if first == 0:
            return None
        probes = spread(self.streams.forget), spread(self.streams.retain)
        records = [record for some in (*pools.values(), *probes) for record in some]
        pad_id, tokens = self.pad_id, self.options.tokens_per_pass
        if cache is None:
            return compute_lower(
                self.network,
                records,
                layer=first,
                file=file,
                pad_id=pad_id,
                tokens_per_pass=tokens,
            )
        return shared_lower(
            self.network, records, layer=first, cache=cache, pad_id=pad_id, tokens_per_pass=tokens
        )

    def _first_trained(self) -> int:
        """The lowest block with a trained weight; 0 where embeddings may train too."""
        trains, lora = self.trains(), self.options.lora
        if trains is not None:
            return trains.first_layer
        return 0 if lora is None else lora.first_layer

    def _spreads(self, team: Team) -> bool:
        """Whether the weights are spread over the processes, not copied by each."""
        everything = self.options.lora is None and self.options.only is None
        return team.size > 1 and everything and self.weights is None

    def _full(self) -> bool:
        return self.options.lora is None or self.trains() is not None

    def _weights(self, folder: Path) -> TrainableWeights:
        options, wanted = self.options, self.trains()
        if wanted is not None:
            return chosen(self.network, wanted)
        if options.lora is not None:
            importance = None
            if options.init == "fila":
                importance = self._localiser(folder).importance(options.lora)
            return adapter(self.network, options.lora, seed=options.seed, importance=importance)
        return everything(self.network)

    def _wraps(self, weights: TrainableWeights, folder: Path) -> GradientTransforms:
        if self.wraps.choose is None:
            return self.wraps
        mask = self._localiser(folder).mask(self.wraps.choose, weights, seed=self.options.seed)
        return replace(self.wraps, mask=mask)

    def _localiser(self, folder: Path) -> Localiser:
        return Localiser(
            network=self.network,
            streams=self.streams,
            pad_id=self.pad_id,
            tokens_per_pass=self.options.tokens_per_pass,
            folder=folder,
        )


def _plain_run(
    run: Callable[..., Trained], observer: TermEvaluator, weights: TrainableWeights, team: Team
) -> Trained:
    if team.size > 1:
        team.align(weights.masters.values())
        weights.publish()
    return run(observer, weights, team=team)


def _spread_run(
    run: Callable[..., Trained], observer: TermEvaluator, weights: TrainableWeights, team: Team
) -> Trained:
    """Train a spread copy of the model and bring the result back into the model itself."""
    from expunge.training.fsdp import spread_out  # only here: FSDP takes long to import

    whole = observer.network
    device = whole.device
    spread = spread_out(whole, team, device=device)
    observer = replace(
        observer,
        network=spread.network,
        references=replace(observer.references, network=spread.network),
        share=spread.team.share,
    )
    trained = run(observer, spread.weights, team=spread.team)
    spread.collect(whole.model)
    whole.model.to(device)  # type: ignore[arg-type]
    return trained
