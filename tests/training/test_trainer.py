import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tiny
from expunge.errors import ResourceError, UsageError
from expunge.methods.base import Distribution, Stream
from expunge.methods.counterfactual import Counterfactual
from expunge.methods.graddiff import GradDiff
from expunge.methods.npo import NPO
from expunge.methods.retain_losses import kl
from expunge.models.lora import LoraShape
from expunge.training import trainer
from expunge.training.early_stopping import Unseen
from expunge.training.forward import TermEvaluator
from expunge.training.reference_model import precompute
from expunge.training.sampler import BatchIndices, Sampler, Streams
from expunge.training.trainable_weights import adapter, everything
from method_cases import CASES, Case
from random_records import DRAW, FORGET, RETAIN
from taught_tiny import NEVER, coefs, gradient, observer, probability, taught, unlearning


def moved(network, seed=3):
    """Move the weights away from the original, so that no difference is zero by accident."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))


def value(watcher: TermEvaluator, draw: BatchIndices, tokens_per_pass: int = 4096) -> float:
    parts = watcher.step_loss(draw, coefs=coefs(watcher), tokens_per_pass=tokens_per_pass)
    return sum(part.loss.item() for part in parts)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_loss_and_gradient_do_not_depend_on_the_cut_into_micro_batches(case):
    network = tiny.network()
    watcher = observer(case, network)
    moved(network)
    whole = gradient(watcher, DRAW, 4096)
    for tokens_per_pass in (1, 30, 60):
        cut = gradient(watcher, DRAW, tokens_per_pass)
        assert cut.keys() == whole.keys()
        for name, expected in whole.items():
            scale = expected.abs().max().clamp(min=1e-8)
            assert ((cut[name] - expected).abs().max() / scale).item() < 1e-4, name


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_loss_does_not_depend_on_the_order_of_records(case):
    network = tiny.network()
    watcher = observer(case, network)
    moved(network)
    turned = BatchIndices(forget=(2, 0, 3, 1), retain=(5, 3, 1, 0, 2, 4))
    assert value(watcher, turned) == pytest.approx(value(watcher, DRAW), rel=1e-5)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_gradient_agrees_with_finite_differences(case):
    if case.constant:
        pytest.skip(f"the loss holds constant: {case.constant}")
    network = tiny.network(tiny.llama(dtype=torch.float64))
    watcher = observer(case, network)
    moved(network)
    analytic = gradient(watcher, DRAW, 4096)
    name = "model.layers.0.mlp.down_proj.weight"
    weight = network.model.get_parameter(name)
    for place in ((0, 0), (5, 17)):
        step = 1e-3
        with torch.no_grad():
            weight[place] += step
            up = value(watcher, DRAW)
            weight[place] -= 2 * step
            down = value(watcher, DRAW)
            weight[place] += step
        slope = (up - down) / (2 * step)
        assert analytic[name][place].item() == pytest.approx(slope, rel=2e-2, abs=2e-4)


def test_npo_at_step_zero_is_exact_on_a_real_network():
    network = tiny.network()
    watcher = observer(Case(name="npo"), network)
    parts = list(watcher.step_loss(DRAW, coefs=coefs(watcher), tokens_per_pass=40))
    forget = sum(part.values.get("forget", 0.0) for part in parts)
    assert forget == pytest.approx(20 * math.log(2), rel=1e-5)


def test_unscored_tokens_and_other_records_have_no_gradient():
    network = tiny.network()
    watcher = observer(Case(name="npo"), network)
    moved(network)
    embedding = network.model.get_input_embeddings().weight
    head = torch.nn.Linear(64, tiny.VOCABULARY, bias=False)
    head.weight = torch.nn.Parameter(embedding.detach().clone())
    network.model.set_output_embeddings(head)
    network.head = head
    found = gradient(watcher, BatchIndices(forget=(0,), retain=()), 4096)[
        "model.embed_tokens.weight"
    ]
    read = set(FORGET[0].ids[:-1])  # the last token predicts nothing
    touched = set(found.abs().sum(1).nonzero().flatten().tolist())
    assert touched == read


def test_training_an_adapter_leaves_every_other_weight_alone(tmp_path):
    network = tiny.network()
    before = {name: value.clone() for name, value in network.model.state_dict().items()}
    run = unlearning(network, NPO(), lora=LoraShape(rank=2, alpha=4.0), steps=3)
    run.run(unseen=NEVER, folder=tmp_path, progress=lambda step, text: None)
    after = network.model.state_dict()
    for name, value_before in before.items():
        base = name.replace("_proj.weight", "_proj.base.weight")
        assert torch.equal(after[name if name in after else base], value_before)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_every_method_lowers_what_it_says_it_lowers(case, tmp_path):
    network = taught()
    forget, retain = probability(network, FORGET), probability(network, RETAIN)
    assert forget > 0.5
    assert retain > 0.5
    run = unlearning(
        network,
        case.build(),
        lr=case.lr,
        steps=25,
        batch=4,
        retain_batch=6,
        utility_budget=0.99,
    )
    run.run(unseen=NEVER, folder=tmp_path / "run", progress=lambda step, text: None)
    assert probability(network, FORGET) < 0.5 * forget
    if not case.loses:
        assert probability(network, RETAIN) > 0.5 * retain


@given(
    st.integers(1, 20), st.integers(0, 9), st.integers(1, 8), st.integers(0, 4), st.integers(0, 3)
)
def test_epochs_visit_every_forget_record_once_and_retain_laps_do_not_repeat(
    forget, retain, batch, retain_batch, seed
):
    order = Sampler(
        forget=forget, retain=retain, forget_batch=batch, retain_batch=retain_batch, seed=seed
    )
    for epoch in range(2):
        steps = range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch)
        seen = [index for step in steps for index in order.draw(step).forget]
        assert sorted(seen) == list(range(forget))
    drawn = [index for step in range(30) for index in order.draw(step).retain]
    for start in range(0, len(drawn), max(1, retain)):
        lap = drawn[start : start + retain]
        assert len(set(lap)) == len(lap)
    assert order.draw(3) == order.draw(3)


@pytest.mark.parametrize(
    ("options", "steps"),
    [({"epochs": 3}, 6), ({"steps": 5}, 5), ({"steps": 1, "epochs": 9}, 1), ({}, 20)],
)
def test_exactly_the_steps_asked_for_are_planned(options, steps):
    run = unlearning(tiny.network(), NPO(), **options)
    assert run.schedule().steps == steps


def test_learning_rate_rises_then_falls_to_zero_after_the_last_step():
    schedule = unlearning(tiny.network(), NPO(), steps=10, lr=1.0, warmup=0.2).schedule()
    rates = [schedule.rate(step) for step in range(10)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125])


def test_small_updates_are_not_lost_to_bf16():
    """At learning rate 1e-5 a plain bf16 step leaves most weights where they are."""

    def step(weights, optimiser):
        for parameter in weights.parameters.values():
            loss = parameter.float().sum()
            loss.backward()
        optimiser.step()

    network = tiny.network(tiny.llama(dtype=torch.bfloat16))
    plain = {n: p.clone() for n, p in network.model.named_parameters()}
    network.model.requires_grad_(True)
    naive = torch.optim.AdamW(network.model.parameters(), lr=1e-5, weight_decay=0.0)
    sum(p.float().sum() for p in network.model.parameters()).backward()
    naive.step()
    matrices = [n for n, p in plain.items() if p.ndim == 2]
    lost = [(network.model.get_parameter(n) == plain[n]).float().mean().item() for n in matrices]
    assert min(lost) > 0.5  # the fault that the masters repair

    network = tiny.network(tiny.llama(dtype=torch.bfloat16))
    weights = everything(network)
    start = {name: master.detach().clone() for name, master in weights.masters.items()}
    assert all(master.dtype == torch.float32 for master in weights.masters.values())
    optimiser = torch.optim.AdamW(list(weights.masters.values()), lr=1e-5, weight_decay=0.0)
    step(weights, optimiser)
    for name in matrices:
        moved_by = start[name] - weights.masters[name].detach()
        assert torch.allclose(moved_by, torch.full_like(moved_by, 1e-5), rtol=2e-2)
    for _ in range(300):
        step(weights, optimiser)
    weights.publish()
    for name in matrices:
        rounded = weights.masters[name].detach().bfloat16()
        assert torch.equal(network.model.get_parameter(name), rounded)
        assert (rounded != plain[name]).float().mean().item() > 0.99


def test_gradients_add_up_in_float32():
    network = tiny.network(tiny.llama(dtype=torch.bfloat16))
    weights = adapter(network, LoraShape(rank=2, alpha=4.0), seed=0)
    name, parameter = next(iter(weights.parameters.items()))
    for _ in range(512):
        (parameter.float().sum() * 1.0).backward()
    assert parameter.grad is None
    assert weights.masters[name].grad.unique().tolist() == [512.0]
    (parameter.float().sum() * 2**-10).backward()
    assert weights.masters[name].grad.unique().tolist() == [512.0 + 2**-10]


def card_full():
    raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize("full", [card_full, lambda: torch.empty(2**60)], ids=["card", "processor"])
def test_full_memory_halves_the_batch_and_then_says_so(full, tmp_path, monkeypatch):
    network = tiny.network()
    run = unlearning(network, NPO(), steps=2, tokens_per_pass=64)
    real = TermEvaluator.step_loss
    sizes = []

    def tight(self, draw, *, coefs, tokens_per_pass, side=None):
        sizes.append(tokens_per_pass)
        if tokens_per_pass > limit:
            full()
        yield from real(self, draw, coefs=coefs, tokens_per_pass=tokens_per_pass, side=side)

    monkeypatch.setattr(TermEvaluator, "step_loss", tight)
    limit = 20
    trained, _ = run.run(unseen=NEVER, folder=tmp_path / "a", progress=lambda step, text: None)
    assert trained.steps == 2
    assert sizes == [64, 32, 16, 16]
    limit = 0
    with pytest.raises(ResourceError, match="one record of 16 tokens does not fit in memory"):
        run.run(unseen=NEVER, folder=tmp_path / "b", progress=lambda step, text: None)


def test_a_loss_that_is_not_a_number_stops_at_the_last_good_state(tmp_path, monkeypatch):
    network = tiny.network()
    run = unlearning(network, NPO(), lora=LoraShape(rank=2, alpha=4.0), steps=8)
    real = TermEvaluator.step_loss
    calls = itertools.count()

    def breaks(self, draw, *, coefs, tokens_per_pass, side=None):
        bad = next(calls) >= 5
        for part in real(self, draw, coefs=coefs, tokens_per_pass=tokens_per_pass, side=side):
            yield part._replace(loss=part.loss * (math.nan if bad else 1.0))

    monkeypatch.setattr(TermEvaluator, "step_loss", breaks)
    trained, weights = run.run(unseen=NEVER, folder=tmp_path, progress=lambda step, text: None)
    assert trained.stopped == "not a number at step 6; kept step 4"
    assert trained.steps == 4
    assert all(bool(torch.isfinite(master).all()) for master in weights.masters.values())


def test_a_loss_that_never_was_a_number_is_an_error(tmp_path):
    network = tiny.network()
    with torch.no_grad():
        network.model.get_parameter("model.norm.weight").fill_(math.nan)
    run = unlearning(network, GradDiff(), steps=4)
    with pytest.raises(UsageError, match="the loss was not a number at the first steps"):
        run.run(unseen=NEVER, folder=tmp_path, progress=lambda step, text: None)


def test_the_utility_watchdog_keeps_the_last_state_within_budget(tmp_path):
    network = taught()
    before = probability(network, RETAIN)
    run = unlearning(
        network, GradDiff(retain="none"), lr=1e-2, steps=40, check_every=1, utility_budget=0.1
    )
    trained, _ = run.run(unseen=NEVER, folder=tmp_path / "run", progress=lambda step, text: None)
    assert trained.stopped.startswith("utility budget spent; kept step")
    assert trained.steps < min(40, trained.readings[-1][0])
    assert probability(network, RETAIN) >= 0.9 * before
    resumed, _ = run.run(unseen=NEVER, folder=tmp_path / "run", progress=print)
    assert resumed.seconds == trained.seconds > 0


def test_training_stops_when_the_forget_set_looks_unseen(tmp_path):
    network = taught()
    run = unlearning(network, NPO(), lr=3e-3, steps=60, utility_budget=0.99)
    trained, _ = run.run(
        unseen=Unseen(mean=3.0, low=2.0), folder=tmp_path / "run", progress=lambda s, t: None
    )
    assert (trained.stopped, trained.steps < 60) == ("forget set looks unseen", True)
    assert trained.readings[-1][1].forget_nll >= 3.0


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("lora", [None, LoraShape(rank=2, alpha=4.0)], ids=["full", "lora"])
def test_a_run_cut_at_any_step_ends_in_the_same_bits(lora, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cut")
    whole = tiny.network()
    unlearning(whole, NPO(), lora=lora, steps=9).run(
        unseen=NEVER, folder=folder / "whole", progress=lambda step, text: None
    )
    for cut in (1, 2, 5, 8):

        def stop(step, text, cut=cut):
            if step == cut:
                raise _Killed

        place = folder / f"cut-{cut}"
        with pytest.raises(_Killed):
            unlearning(tiny.network(), NPO(), lora=lora, steps=9).run(
                unseen=NEVER, folder=place, progress=stop
            )
        resumed = tiny.network()
        trained, _weights = unlearning(resumed, NPO(), lora=lora, steps=9).run(
            unseen=NEVER, folder=place, progress=lambda step, text: None
        )
        assert (trained.steps, len(trained.curve)) == (9, 9)
        for name, expected in whole.model.state_dict().items():
            assert torch.equal(resumed.model.state_dict()[name], expected), name


def test_the_original_is_asked_stream_by_stream_in_the_same_order(tmp_path, monkeypatch):
    """The order of a set differs between processes, and with it the batches and the last digits."""
    asked: list[Stream] = []

    def recorded(network, terms, pools, **how):
        asked.extend(pools)
        return precompute(network, terms, pools, **how)

    monkeypatch.setattr(trainer, "precompute", recorded)
    unlearning(tiny.network(), Counterfactual(), steps=1).run(
        unseen=NEVER, folder=tmp_path / "run", progress=lambda step, text: None
    )
    assert len(asked) >= 5
    assert asked == sorted(asked)


@pytest.mark.parametrize("same_head", [True, False])
def test_retained_answers_keep_to_the_first_original_and_forget_records_to_their_own(same_head):
    first, now = tiny.network(), tiny.network(tiny.llama(seed=3))
    if same_head:
        now.head.load_state_dict(first.head.state_dict())
    retain = Distribution(
        name="retain",
        streams=(Stream.RETAIN,),
        coef=1.0,
        loss=lambda seen: kl(seen.logits, seen.references[0]),
        references=(Stream.RETAIN,),
    )
    own = replace(retain, name="own", streams=(Stream.FORGET,), references=(Stream.FORGET,))
    how = {"pad_id": 2, "tokens_per_pass": 4096}
    streams = Streams(forget=FORGET[:1], retain=RETAIN[:1])
    pools = {Stream.FORGET: FORGET[:1], Stream.RETAIN: RETAIN[:1]}
    known = precompute(now, (retain, own), pools, **how, first=lambda: first)
    watcher = TermEvaluator(
        network=now, terms=(retain, own), streams=streams, references=known, pad_id=2, unseen=NEVER
    )
    draw = BatchIndices(forget=(0,), retain=(0,))
    parts = watcher.step_loss(draw, coefs={"retain": 1.0, "own": 1.0}, tokens_per_pass=4096)
    found = sum(float(part.loss) for part in parts)
    record = RETAIN[0]
    ids = torch.tensor([record.ids])
    places = slice(record.start - 1, len(record.ids) - 1)
    logits = [network.model(ids).logits[0, places] for network in (now, first)]
    assert found == pytest.approx(float(kl(*logits).mean()), rel=1e-4)
