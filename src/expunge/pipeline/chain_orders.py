"""The order test: the same requests in three orders, and how far the results lie apart.

    OUT/order-1   as they stand in the queue        OUT/order-2   backwards
    OUT/order-3   in an order drawn once for each number of requests

Requests of one batch stay together. After each chain its last model is asked every fact. A spread
is the largest value less the smallest.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from expunge.config.queue import Queue, no_queue
from expunge.errors import GateError, UsageError
from expunge.pipeline.chain import RED, chain, check_chain
from expunge.pipeline.chain_state import model_of, require_state
from expunge.utils.console import Console, SilentConsole
from expunge.utils.io import write_json

NAME = "orders.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderResult:
    """What one order led to.

    Example:
        >>> OrderResult(
        ...     requests=("b", "a"), done=2, stated=0, probability=0.02, loss=0.01, alarms=(),
        ...     seconds=60.0,
        ... ).is_whole
        True
    """  # fmt: skip

    requests: tuple[str, ...]
    done: int
    """Requests that were worked on before an alarm stopped the chain."""
    stated: int
    """Facts that the last model states."""
    probability: float
    """Mean over the facts of exp(mean log-probability of a token) under the last model."""
    loss: float | None
    """Rise of the perplexity of kept text against the first original."""
    alarms: tuple[str, ...]
    """Of the chain; or, where it ended green, of asking its last model every fact."""
    seconds: float

    @property
    def is_whole(self) -> bool:
        """Whether every request was worked on."""
        return self.done == len(self.requests)


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderTest:
    """The same requests in several orders.

    Example:
        >>> row = OrderResult(
        ...     requests=("a",), done=1, stated=0, probability=0.02, loss=0.01, alarms=(),
        ...     seconds=1.0,
        ... )
        >>> OrderTest(orders=(row, replace(row, loss=0.03))).loss
        0.02
    """  # fmt: skip

    orders: tuple[OrderResult, ...]

    @property
    def whole(self) -> tuple[OrderResult, ...]:
        """The orders that were worked on to the end; only these are compared."""
        return tuple(each for each in self.orders if each.is_whole)

    @property
    def stated(self) -> float | None:
        """Spread of the facts that the last model states."""
        return _spread([each.stated for each in self.whole])

    @property
    def probability(self) -> float | None:
        """Spread of the mean probability of the facts."""
        return _spread([each.probability for each in self.whole])

    @property
    def loss(self) -> float | None:
        """Spread of the loss on kept text."""
        return _spread([each.loss for each in self.whole if each.loss is not None])


def _spread(values: Sequence[float]) -> float | None:
    """Return the largest value less the smallest; None of fewer than two."""
    return round(max(values) - min(values), 6) if len(values) > 1 else None


def compare_orders(queue: Queue, *, out: Path, console: Console | None = None) -> OrderTest:
    """Work on the requests of a queue in three orders; the same call goes on where it was stopped.

    Args:
        queue: The requests; two at least.
        out: Folder of the chains, one for each order.
        console: Where to say what happens; silent by default.

    Raises:
        UsageError: There are not two requests to order.
        ExpungeError: As `chain`; an alarm only ends the order in which it rings.

    Example:
        >>> from expunge.config.queue import ChainSettings
        >>> empty = Queue(path=Path("q"), chain=ChainSettings(), requests=())
        >>> compare_orders(empty, out=Path("orders"))
        Traceback (most recent call last):
            ...
        expunge.errors.UsageError: error[no-queue]: q queues no request...
    """
    console = console or SilentConsole()
    if not queue.requests:
        raise no_queue(queue.path)
    found: list[OrderResult] = []
    for number, order in enumerate(orders(queue), 1):
        names = tuple(each.request.id for each in order.requests)
        console.line("order", f"{number}: {', '.join(names)}")
        found.append(_worked_on(order, names, out / f"order-{number}", console))
    done = OrderTest(orders=tuple(found))
    spread = {"stated": done.stated, "probability": done.probability, "loss": done.loss}
    write_json(out / NAME, {**asdict(done), "spread": spread})
    for number, each in enumerate(found, 1):
        console.line("order", f"{number}: {_words(each)}")
    console.line("spread", _spread_words(done))
    return done


def orders(queue: Queue) -> list[Queue]:
    """Return a queue as it is, backwards, and in a drawn order; each order once.

    Raises:
        UsageError: `one-order`: there is nothing to order.
    """
    units: list[range] = []
    while sum(map(len, units)) < len(queue.requests):
        units.append(queue.together(sum(map(len, units))))
    if len(units) < 2:
        raise UsageError(
            "one-order",
            what=f"{queue.path} has one order only",
            why="an order test needs two requests or more that are not of one batch",
            fix="queue another request",
        )
    drawn = list(units)
    random.Random(len(units)).shuffle(drawn)
    ways = {tuple(way): way for way in (units, units[::-1], drawn)}
    return [_ordered(queue, [place for unit in way for place in unit]) for way in ways.values()]


def _ordered(queue: Queue, places: Sequence[int]) -> Queue:
    return replace(
        queue,
        requests=tuple(queue.requests[place] for place in places),
        batches=tuple(queue.batches[place] for place in places) if queue.batches else (),
    )


def _worked_on(queue: Queue, names: tuple[str, ...], folder: Path, console: Console) -> OrderResult:
    alarms: tuple[str, ...] = ()
    try:
        chain(queue, out=folder, console=console)
    except GateError as error:
        if error.code != RED:
            raise
        alarms = (error.what,)
    state = require_state(folder)
    asked = check_chain(queue, out=folder, model=model_of(folder, state), console=console)
    likely = [math.exp(each.logp) for each in asked.facts]
    return OrderResult(
        requests=names,
        done=len(state.steps),
        stated=sum(each.states for each in asked.facts),
        probability=round(sum(likely) / len(likely), 6) if likely else 0.0,
        loss=None if asked.drift is None else round(asked.drift.loss, 6),
        alarms=alarms or asked.alarms,
        seconds=round(sum(step.cost.seconds for step in state.steps), 1),
    )


def _words(found: OrderResult) -> str:
    lost = "" if found.loss is None else f", perplexity of kept text {found.loss:+.1%}"
    ended = "" if found.is_whole else f"; stopped after {found.done}"
    alarm = f": {found.alarms[0]}" if found.alarms else ""
    return (
        f"{found.stated} facts stated, mean probability {found.probability:.1%}{lost},"
        f" {found.seconds:.0f} s{ended}{alarm}"
    )


def _spread_words(found: OrderTest) -> str:
    if found.stated is None:
        return "not computable: fewer than two orders were worked on to the end"
    lost = "" if found.loss is None else f", perplexity of kept text {found.loss:.1%}"
    return f"{found.stated:.0f} facts stated, mean probability {found.probability:.1%}{lost}"
