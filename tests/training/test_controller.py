"""The controller: what counts as settled, what is tried next, and the refusal."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

import tiny
from expunge.data.records import Record
from expunge.errors import GateError
from expunge.methods.base import Stream
from expunge.methods.counterfactual import Counterfactual
from expunge.methods.counterfactual_target import SURER
from expunge.models.lora import LoraShape
from expunge.models.scoring import score
from expunge.models.transformer import Network
from expunge.training import controller
from expunge.training.controller import (
    AIM,
    ATTEMPTS,
    ControlledTrainer,
    ControlReading,
    ErasureAttempt,
    _better,
    _further,
    _Goal,
    _Look,
    _Reached,
    _reading,
    cannot_forget,
    first_steps,
    held_out,
)
from expunge.training.counterfactual_levels import (
    RARE,
    STEEPEST,
    STRONGEST,
    Calibration,
    Likelihoods,
    MarkedScores,
    TargetLevels,
    as_hard,
    beyond_wanted,
    calibrated,
    token_levels,
    with_expected,
)
from expunge.training.early_stopping import Unseen
from expunge.training.sampler import Streams
from expunge.training.train_loop import Trained
from expunge.training.trainable_weights import adapter
from expunge.training.trainer import Trainer, TrainingArgs
from random_records import FORGET, RETAIN, STREAMS, VARIANTS

FIRST = ErasureAttempt(lr=1e-3, keep=1.0, steps=40)
UNSEEN = Unseen(mean=1.0, low=1.0)


@pytest.mark.parametrize(
    ("residual", "worst", "kept", "general", "kind", "settled"),
    [
        (0.0, 0.3, 1.0, 1.0, 1.0, True),
        (0.1, 0.4, 0.95, 0.95, 0.9, True),
        (0.2, 0.3, 1.0, 1.0, 1.0, False),
        (0.0, 0.41, 1.0, 1.0, 1.0, False),
        (0.0, 0.0, 0.94, 1.0, 1.0, False),
        (0.0, 0.0, 1.0, 0.94, 0.94, False),
        (0.0, 0.0, 1.0, 1.0, 0.89, False),
    ],
)
def test_settled_means_forgotten_and_kept(residual, worst, kept, general, kind, settled):
    reading = ControlReading(residual=residual, worst=worst, kept=kept, general=general, kind=kind)
    assert reading.settled(0.05) is settled


def test_a_wanted_answer_that_is_not_learnt_takes_more_steps():
    forgotten = ControlReading(residual=0.0, worst=0.1, kept=1.0, taught=0.5)
    assert not forgotten.settled(0.05)
    assert FIRST.after(forgotten, 0.05) == replace(FIRST, steps=80)
    assert replace(forgotten, taught=0.9).settled(0.05)


def test_the_next_attempt_presses_or_spares():
    left = ControlReading(residual=0.5, worst=0.9, kept=1.0)
    broken = ControlReading(residual=0.0, worst=0.1, kept=0.5)
    both = ControlReading(residual=0.2, worst=0.4, kept=0.94)
    assert FIRST.after(left, 0.05) == replace(FIRST, steps=80)
    assert FIRST.after(both, 0.05) == replace(FIRST, steps=80, keep=2.0)
    assert FIRST.after(broken, 0.05) == replace(FIRST, lr=5e-4, steps=80)


@pytest.mark.parametrize(
    ("options", "batches", "tokens", "steps"),
    [
        ({}, 1, 14, 64),
        ({}, 3, 14, 64),
        ({}, 1, 24, 78),
        ({}, 1, 400, 104),
        ({}, 5, 14, 80),
        ({}, 50, 14, 150),
        ({"epochs": 2}, 5, 14, 10),
        ({"steps": 7}, 5, 400, 7),
    ],
)
def test_small_sets_and_long_answers_get_steps_and_large_sets_few_passes(
    options, batches, tokens, steps
):
    record = replace(FORGET[0], ids=(1,) * (3 + tokens), start=3)
    streams = Streams(forget=(record,), retain=())
    assert first_steps(TrainingArgs(lora=None, **options), 16, batches, streams) == steps


def test_held_out_records_are_trained_on_by_no_stream():
    streams, held = held_out(STREAMS)
    assert held == (RETAIN[0], RETAIN[5])
    assert streams.retain == tuple(RETAIN[1:5])
    assert len(streams.variants[Stream.REFUSED]) == 4
    assert streams.variants[Stream.STRANGER] == STREAMS.variants[Stream.STRANGER]
    few = Streams(forget=tuple(FORGET), retain=tuple(RETAIN[:4]))
    assert held_out(few) == (few, few.retain)


def test_general_text_that_no_step_draws_is_read_kind_by_kind():
    """One of two kinds keeps a quarter of its likelihood, the other all of it."""
    before = _Look([0.0], 1.0, [-2.0, -1.0])
    after = before._replace(general=[-2.0, -1.0 - math.log(4)])
    goal = _Goal(record=FORGET[0], places=(0,), level=-4.0)
    reading = _reading([goal], before, after)
    assert reading.general == pytest.approx(0.5)
    assert reading.kind == pytest.approx(0.25)


def test_the_refusal_says_what_was_tried_and_ends_with_three():
    tried = [(FIRST, ControlReading(residual=0.42, worst=0.9, kept=0.5))]
    error = cannot_forget(tried, 0.05)
    assert error.exit_code == 3
    assert "42% of the memory left" in error.why
    assert "no model is written" in error.what


def trainer(*, lr: float, steps: int | None = None) -> Trainer:
    secret = [replace(r, secret=r.ids[r.start :]) for r in FORGET]
    asked = tuple(
        (replace(r, secret=own.secret),)
        for own, r in zip(secret, VARIANTS[Stream.STRANGER], strict=True)
    )
    streams = Streams(
        forget=tuple(secret),
        retain=tuple(RETAIN),
        variants={**STREAMS.variants, Stream.STRANGER: asked},
    )
    return Trainer(
        method=Counterfactual(others=0.0),
        network=taught(),
        streams=streams,
        options=TrainingArgs(
            lora=LoraShape(rank=4), epochs=1, steps=steps, lr=lr, utility_budget=0.5
        ),
        pad_id=2,
    )


def taught(passes: int = 25) -> Network:
    """A tiny model that knows the forget records by heart."""
    network = tiny.network(tiny.llama())
    network.model.requires_grad_(True)
    optimiser = torch.optim.Adam(network.model.parameters(), lr=3e-3)
    for _ in range(passes):
        optimiser.zero_grad()
        for record in FORGET:
            ids = torch.tensor([record.ids])
            logits = network.model(ids).logits[0, record.start - 1 : -1]
            cross_entropy(logits, ids[0, record.start :]).backward()
        optimiser.step()
    network.model.requires_grad_(False)
    return network


def untold(number: int, text: object) -> None:
    """Take progress, and keep none of it."""


@pytest.mark.parametrize(("steps", "attempts"), [(None, ATTEMPTS), (1, 1)])
def test_what_cannot_settle_is_tried_anew_from_the_original_and_refused(tmp_path, steps, attempts):
    run = ControlledTrainer(trainer=trainer(lr=1e-9, steps=steps), must_settle=True)
    again: list[tuple[int, str]] = []
    with pytest.raises(GateError, match="cannot-forget"):
        run.run(
            unseen=UNSEEN,
            folder=tmp_path,
            progress=untold,
            retried=lambda steps, text: again.append((steps, text)),
        )
    assert len(list(tmp_path.glob("attempt-*"))) == attempts
    assert len(again) == attempts - 1
    assert all("of the memory left" in text for _, text in again)


def test_a_run_that_presses_reaches_the_levels_of_strangers(tmp_path):
    run = ControlledTrainer(trainer=trainer(lr=1e-2, steps=60))
    trained, weights = run.run(unseen=UNSEEN, folder=tmp_path, progress=untold)
    assert trained.stopped.startswith("settled at attempt 1")
    run.finish(weights)


def test_the_level_of_an_old_answer_holds_back_no_word_of_the_wanted_one(tmp_path):
    """Wanted is what another record says; the base gives each token 0.5, so levels are high."""
    plain = replace(trainer(lr=1e-2, steps=60), method=Counterfactual(teach=2.0))
    wanted = [
        replace(own, ids=(*own.ids[: own.start], *other.ids[other.start :]))
        for own, other in zip(FORGET, [*FORGET[1:], FORGET[0]], strict=True)
    ]
    answers = {Stream.ALTERNATIVE: tuple((each,) for each in wanted)}
    streams = replace(plain.streams, variants={**plain.streams.variants, **answers})
    plain = replace(plain, network=taught(200), streams=streams)
    base = {r.record: [math.log(0.5)] * (len(r.ids) - r.start) for r in FORGET}
    trained, weights = ControlledTrainer(trainer=plain).run(
        unseen=replace(UNSEEN, base=base), folder=tmp_path, progress=untold
    )
    assert trained.stopped.startswith("settled at attempt 1")
    weights.publish()
    scores = score(plain.network, wanted, pad_id=2, tokens_per_pass=256)
    assert min(math.exp(float(each.logp[0])) for each in scores) > 0.9


@pytest.fixture
def lagging(monkeypatch):
    """Of every record too much is left, wherever training ends."""
    monkeypatch.setattr(controller, "LAGGING", -math.inf)
    monkeypatch.setattr(controller, "WORST", math.inf)
    monkeypatch.setattr(controller, "RESIDUAL", math.inf)


def test_training_goes_on_from_what_it_reached_for_records_that_lag(tmp_path, lagging):
    again: list[tuple[int, str]] = []
    plain = trainer(lr=1e-2)
    options = plain.options.model_copy(update={"epochs": 4})
    run = ControlledTrainer(trainer=replace(plain, options=options))
    trained, weights = run.run(
        unseen=UNSEEN,
        folder=tmp_path,
        progress=untold,
        retried=lambda steps, text: again.append((steps, text)),
    )
    first = run.total
    assert [steps for steps, _ in again] == [first // 2]
    assert again[0][1].endswith("training goes on")
    assert trained.steps == trained.planned == first + first // 2
    assert [point.step for point in trained.curve] == list(range(trained.steps))
    assert trained.stopped.startswith("settled at attempt 1")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["attempt-1", "attempt-1-on"]
    run.finish(weights)


def test_records_that_lag_are_drawn_twice_and_training_begins_where_it_ended():
    plain = trainer(lr=1e-2, steps=8)
    weights = adapter(plain.network, LoraShape(rank=4), seed=0)
    with torch.no_grad():
        for master in weights.masters.values():
            master.fill_(0.5)
    reached = _Reached(None, weights, ControlReading(residual=0.1, worst=0.3, kept=1.0), [0.3, 0.1])
    plain = replace(plain, streams=plain.streams.with_forget((0, 1)))
    further = _further(plain, reached)
    assert further.streams.forget == tuple(plain.streams.forget[i] for i in (0, 1, 0))
    assert (
        further.streams.variants[Stream.STRANGER][2] == further.streams.variants[Stream.STRANGER][0]
    )
    assert (further.total, further.schedule().lr) == (4, 5e-3)
    assert all(bool((value == 0.5).all()) for value in further.start.values())
    assert not any("lora" in name for name, _ in plain.network.model.named_parameters())


@pytest.mark.parametrize(
    ("before", "after", "taken"),
    [(0.3, 0.1, "after"), (0.3, 0.5, "before"), (0.5, 0.5, "after"), (0.5, 0.3, "after")],
)
def test_where_only_what_it_went_on_from_is_settled_that_is_taken(before, after, taken):
    def reached(worst: float, weights: object) -> _Reached:
        trained = Trained(
            steps=4, planned=4, stopped="", curve=(), readings=(), tokens=9, seconds=1.0
        )
        return _Reached(trained, weights, ControlReading(residual=0.1, worst=worst, kept=1.0), [])

    network = tiny.network(tiny.llama())
    weights = adapter(network, LoraShape(rank=4), seed=0)
    start = {name: torch.full_like(value, 0.5) for name, value in weights.masters.items()}
    found = _better(reached(before, None), reached(after, weights), start, 0.05)
    assert found.reading.worst == {"before": before, "after": after}[taken]
    restored = all(bool((value == 0.5).all()) for value in found.weights.masters.values())
    assert restored is (taken == "before")
    assert found.trained.steps == {"before": 4, "after": 8}[taken]


INF = float("inf")


def levels(own: list[float], up: list[float]) -> TargetLevels:
    """Two strangers that agree."""
    record = replace(FORGET[0], ids=FORGET[0].ids[: FORGET[0].start] + (1,) * len(own))
    parts = Likelihoods(torch.tensor(own), torch.tensor(up))
    return TargetLevels(record=record, same=tuple(range(len(own))), levels=(parts, parts))


def test_a_target_from_two_strangers_has_the_mean_of_their_probabilities():
    record = levels([0.0], [INF])
    sure, unsure = record.levels[0], Likelihoods(torch.tensor([-1000.0]), torch.tensor([INF]))
    assert replace(record, levels=(sure, unsure)).level(0.0, 4.0) == pytest.approx(math.log(0.5))


UNCERTAIN = 1 - math.exp(-2.0)
"""How much of a margin counts at a level of -2 nats."""


@pytest.mark.parametrize(
    ("unseen", "margin", "power"),
    [
        ((3.0, 2.5), 1 / UNCERTAIN, 2.5),
        ((1.0, 0.5), -1 / UNCERTAIN, 1.0),
        ((1000.0, 1000.0), STEEPEST, STRONGEST),
        ((-1.0, -1.0), -STEEPEST, 1.0),
    ],
)
def test_targets_are_as_likely_as_unseen_tokens_of_their_kind(unseen, margin, power):
    # A token of the form at -1, which no margin moves, and a secret with similar ones at -2.
    records = [levels([-1.0, 0.0], [INF, -2.0]), levels([-1.0, 0.0], [INF, -2.0])]
    found = calibrated(records, {FORGET[0].record: unseen}, aim=1.0)
    assert found.margin == pytest.approx(margin, abs=2 * STEEPEST / 2**11)
    assert found.power == pytest.approx(power)
    if abs(margin) < STEEPEST and unseen[1] > 1:
        sums = [each.level(*found) for each in records]
        assert sums == pytest.approx([-sum(unseen)] * 2, abs=5e-3)


def test_strangers_know_what_is_expected_of_the_record_in_whose_place_they_stand():
    own = replace(FORGET[0], ids=(1, 2, 3), start=1, secret=(2, -1))
    same, other = replace(own, record="same"), replace(own, record="other", secret=(-1, 8))
    streams = Streams(forget=(own,), retain=(), variants={Stream.STRANGER: ((same, other),)})
    found = with_expected(streams, {own.record: (-1.0, -2.0)})
    level = tuple(x - SURER * (1 - math.exp(x)) for x in (-1.0, -2.0))
    assert found.forget[0].expected == pytest.approx(level)
    strangers = found.variants[Stream.STRANGER][0]
    assert [each.expected for each in strangers] == [found.forget[0].expected, ()]
    assert with_expected(streams, {}) == streams


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        ([(8, 4, 5, 6)], (4, 5, 6)),
        ([(3, 4, 8)], (6,)),
        ([(8, 4), (3, 8)], (5, 6)),
        ([(3, 4, 5, 8)], (6,)),
        ([(3, 4, 5, 6, 7)], (6,)),
        ([], (3, 4, 5, 6)),
    ],
)
def test_a_wanted_answer_decides_what_follows_as_far_as_it_goes_along(wanted, left):
    """Scored tokens 3 4 5 6; a prompt of another length asks the same of the stranger."""
    own = replace(
        FORGET[0], ids=(1, 2, 3, 4, 5, 6), start=2, secret=(-1, -1, 5, 6), expected=(-1.0,) * 4
    )
    stranger = replace(own, ids=(1, 9, 9, 3, 4, 5, 6), start=3)
    answers = tuple(replace(own, ids=(1, 2, *ids)) for ids in wanted)
    variants = {Stream.STRANGER: ((stranger,),), Stream.NAMESAKE: ((stranger,),)}
    variants |= {Stream.ALTERNATIVE: (answers,)} if answers else {}
    found = beyond_wanted(Streams(forget=(own,), retain=(), variants=variants))
    for each in (found.forget[0], *found.variants[Stream.STRANGER][0]):
        assert each.ids[each.start :] == left
        assert each.secret == own.secret[-len(left) :]
        assert len(each.expected) == len(left)
    assert found.variants[Stream.NAMESAKE] == variants[Stream.NAMESAKE]


@pytest.mark.parametrize(
    ("base", "secret"),
    [
        ((-9.0, -5.0, -9.0, -9.0), (-1, 4, -1, 7)),
        ((-9.0, -3.9, -9.0, -9.0), (-1, -1, -1, 7)),
        ((), (-1, -1, -1, 7)),
    ],
)
def test_a_name_that_the_base_can_hardly_go_on_with_is_a_secret(base, secret):
    """Scored tokens: two of a name, one of the form, one of the fact."""
    own = replace(FORGET[0], ids=(1, 2, 3, 4, 5, 6), start=2, secret=(-1, -1, -1, 7))
    stranger = replace(own, ids=(1, 2, 8, 9, 5, 6))
    streams = Streams(forget=(own,), retain=(), variants={Stream.STRANGER: ((stranger,),)})
    found = with_expected(streams, {own.record: base})
    assert found.forget[0].secret == secret
    assert found.variants[Stream.STRANGER][0][0].secret == secret


@pytest.mark.parametrize(
    ("before", "base", "kept", "hidden"),
    [
        (-1, (-1.0, -9.0), [(3, 5), (7, 8), (7, 9)], True),
        (-1, (-1.0, -2.0), [(3, 5), (7, 8), (7, 9)], False),  # the base foretells it
        (-1, (-1.0, -9.0), [(3, 5, 4), (7, 8), (7, 9)], False),  # a kept answer does
        (-1, (-1.0, -9.0), [(7, 8), (7, 9)], False),  # nothing is known of the word before it
        (-1, (-1.0, -9.0), [(3, 5), (7, 4)], False),  # half of the answers have it
        (3, (-1.0, -9.0), [(3, 5), (7, 8), (7, 9)], False),  # it stands behind a secret
        (-1, (), [(3, 5), (7, 8), (7, 9)], False),
    ],
)
def test_an_ordinary_word_that_follows_from_nothing_is_a_secret(before, base, kept, hidden):
    own = replace(FORGET[0], ids=(1, 2, 3, 4), start=2, secret=(before, -1))
    stays = tuple(replace(own, ids=(1, *ids), start=1, secret=()) for ids in kept)
    found = with_expected(Streams(forget=(own,), retain=stays), {own.record: base})
    assert found.forget[0].secret == (before, 4 if hidden else -1)


@pytest.mark.parametrize("replayed", [False, True])
@pytest.mark.parametrize(
    ("base", "without"),
    [
        ((-5.0, -5.0), -5.0 - SURER * (1 - math.exp(-5.0))),
        ((), RARE),
    ],
)
def test_what_answers_that_stay_say_is_expected(base, without, replayed):
    own = replace(FORGET[0], ids=(1, 3, 9), start=1, secret=(3, 9))
    kept = tuple(replace(own, ids=(1, 3, last), secret=()) for last in (4, 5))
    streams = Streams(forget=(own,), retain=() if replayed else kept, replay=kept * replayed)
    found = with_expected(streams, {own.record: base}).forget[0].expected
    low = math.exp(without)
    # Both answers begin with 3: (2 + low) / (2 + 1). After it come 4 and 5, after the beginning
    # and 3 too, and never 9: 2 / (2 + 2) of what is expected without context, twice.
    assert found[0] == pytest.approx(math.log((2 + low) / 3))
    assert found[1] == pytest.approx(math.log(low / 4) if base else math.nan, nan_ok=True)


def test_a_text_that_is_harder_for_the_base_has_lower_levels():
    unseen, marks = [[-2.0, -1.0], [-4.0, -1.0]], [[7, -1], [7, -1]]
    own = {"a": ([-5.0, -2.0, -4.0], [7, -1, -1]), "b": ([-1.0], [7])}
    records = [Record(id=name, prompt=(), completion="x") for name in own]
    levels = token_levels(records, unseen, marks, {})
    assert levels == {"a": (3.0, 1.0), "b": (3.0, 1.0)}
    of_base = MarkedScores([[-4.0, -2.0]], [[7, -1]])
    logps, places = zip(*own.values(), strict=True)
    harder = as_hard(levels, records, {}, unseen=of_base, own=MarkedScores(logps, places))
    assert harder == {
        "a": (pytest.approx(3 * math.sqrt(5 / 4)), pytest.approx(3 / 2)),
        "b": (pytest.approx(3 * math.sqrt(1 / 4)), 1.0),
    }


@pytest.mark.parametrize("real", [True, False])
def test_only_records_that_people_wrote_set_the_margin(tmp_path, monkeypatch, real):
    seen: list[float] = []

    def spy(records, tokens, *, aim):
        seen.append(aim)
        return Calibration(margin=0.5, power=1.0)

    monkeypatch.setattr("expunge.training.controller.calibrated", spy)
    run = ControlledTrainer(trainer=trainer(lr=1e-9, steps=1))
    unseen = Unseen(mean=3.0, low=1.0, real=real)
    run.run(unseen=unseen, folder=tmp_path, progress=untold)
    assert seen == ([AIM] if real else [])


@pytest.mark.parametrize(
    ("way", "worst"),
    [(1.0, 0.1), (5.0, 0.8)],
    ids=["hardly known before", "known well before"],
)
def test_a_record_that_was_hardly_known_holds_nothing_up(way, worst):
    goals = [_Goal(record=FORGET[0], places=(0,), level=level) for level in (-20.0, -way)]
    before = _Look([0.0, 0.0], 1.0, [])
    after = before._replace(goals=[-18.0, -0.2 * way])
    assert _reading(goals, before, after).worst == pytest.approx(worst)
