"""Wrappers in whole runs: exact restoration, resumption, and behaviour."""

import re

import pytest
import torch

import tiny
from expunge.methods.base import Shape, Stream
from expunge.methods.graddiff import GradDiff
from expunge.methods.npo import NPO
from expunge.methods.rmu import RMU
from expunge.models.lora import LoraShape
from expunge.models.number_formats import quantised
from expunge.optim import COMBINE, ROBUST
from expunge.optim.base import norm
from expunge.optim.combine.gru import GRU
from expunge.optim.masks.wagle import Wagle
from expunge.optim.optimizers.normalized_sgd import NormalisedSGD
from expunge.optim.optimizers.sophia import Sophia
from expunge.optim.robust.mudman import Mudman
from expunge.optim.robust.randomized_smoothing import RandomizedSmoothing
from expunge.optim.robust.rounded_weights import RoundedWeights
from expunge.optim.robust.sam import SAM
from expunge.training.early_stopping import EarlyStopping, Unseen
from expunge.training.forward import TermEvaluator
from expunge.training.reference_model import precompute
from expunge.training.step_gradient import GradientTransforms, StepGradient
from expunge.training.trainable_weights import TrainableWeights, everything
from random_records import DRAW, FORGET, RETAIN, STREAMS
from short_runs import MADE, quiet, state, unlearning
from taught_tiny import NEVER, probability, taught

SHAPE = Shape(layers=2, width=64)
LORA = LoraShape(rank=2, alpha=4.0)
FILA = {"lora": LORA, "init": "fila"}


def pull(network, weights, method) -> StepGradient:
    terms = method.terms(SHAPE)
    pools = {Stream.FORGET: FORGET, Stream.RETAIN: RETAIN}
    references = precompute(network, terms, pools, pad_id=2, tokens_per_pass=99)
    watcher = TermEvaluator(
        network=network, terms=terms, streams=STREAMS, references=references, pad_id=2
    )
    coefs = {term.name: term.coef for term in terms}
    return StepGradient(watcher, weights, DRAW, coefs=coefs, tokens_per_pass=99)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ROBUST)
def test_weights_come_back_bit_for_bit(name, dtype):
    """Oracle 12."""
    network = tiny.network(tiny.llama(dtype=dtype))
    weights = everything(network)
    with torch.no_grad():
        for master in weights.masters.values():
            master.add_(
                1e-4 * torch.randn(master.shape, generator=torch.Generator().manual_seed(1))
            )
    weights.publish()
    masters = {name: master.detach().clone() for name, master in weights.masters.items()}
    before, pulled = state(network), pull(network, weights, NPO())
    wraps = GradientTransforms(robust=ROBUST[name]())
    memory: dict[str, torch.Tensor] = {}
    for step in range(2):
        found = wraps.gradient(pulled, memory, torch.Generator().manual_seed(step))
        assert all(bool(torch.isfinite(value).all()) for value in found.values())
    assert all(torch.equal(weights.masters[n].detach(), value) for n, value in masters.items())
    assert all(torch.equal(network.model.state_dict()[n], value) for n, value in before.items())
    assert all(master.grad is None for master in weights.masters.values())


def test_sam_on_a_network_is_the_gradient_of_the_moved_network():
    network = tiny.network()
    weights = everything(network)
    pulled = pull(network, weights, NPO())
    plain = pulled("forget")
    found = SAM(rho=0.1).forget(pulled, {}, {}, torch.Generator())
    with torch.no_grad():
        for name, master in weights.masters.items():
            master.add_(plain[name], alpha=0.1 / float(norm(plain)))
    moved = pulled("forget")
    assert max(float((found[n] - moved[n]).abs().max()) for n in moved) < 1e-6
    assert max(float((found[n] - plain[n]).abs().max()) for n in moved) > 1e-4


@pytest.mark.parametrize("method", [NPO(), RMU(layer=0)])
def test_relearning_is_the_nll_of_the_forget_records_whatever_the_method(method):
    network = tiny.network()
    pulled = pull(network, everything(network), method)
    expected = pull(network, everything(network), GradDiff(gamma=-1.0))("forget")
    found = pulled.relearn()
    assert found.keys() == expected.keys()
    assert max(float((found[name] - expected[name]).abs().max()) for name in found) < 1e-6
    assert pulled.values == {}


def test_a_rounded_pull_is_the_gradient_of_a_model_of_4_bits_and_leaves_the_weights_alone():
    network = tiny.network()
    before = state(network)
    pulled = pull(network, everything(network), NPO())
    found = pulled.rounded()
    assert all(torch.equal(value, before[name]) for name, value in state(network).items())
    with quantised(network, bits=4):
        expected = pulled("forget")
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not all(torch.equal(found[name], own) for name, own in pulled("forget").items())


class _Killed(BaseException):
    pass


KEEPING = {
    "mudman": {"wraps": GradientTransforms(robust=Mudman(refork=3, lr=0.1))},
    "noise": {"wraps": GradientTransforms(robust=RandomizedSmoothing(sigma=1e-2))},
    "rounding": {"wraps": GradientTransforms(robust=RoundedWeights()), "lora": LORA},
    "gru": {"wraps": GradientTransforms(combine=GRU())},
    "sophia": {"wraps": GradientTransforms(optimiser=Sophia(every=3))},
    "average": {"wraps": GradientTransforms(average_last=0.6)},
    "wagle": {"wraps": GradientTransforms(choose=Wagle(share=0.3))},
    "fila": FILA,
    "all": {
        "wraps": GradientTransforms(robust=Mudman(), combine=GRU(), optimiser=Sophia()),
        "lora": LORA,
    },
}


@pytest.mark.parametrize("name", KEEPING)
def test_a_run_cut_at_any_step_ends_in_the_same_bits(name, tmp_path):
    def run(folder, progress=quiet):
        network = tiny.network()
        made = unlearning(network, steps=7, **KEEPING[name])
        trained, _weights = made.run(unseen=NEVER, folder=folder, progress=progress)
        assert trained.steps == 7
        return state(network)

    whole = run(tmp_path / "whole")
    adapter_moved = any("lora_B" in key and bool(value.any()) for key, value in whole.items())
    start = state(tiny.network())
    assert adapter_moved or not all(torch.equal(whole[key], start[key]) for key in start)
    for cut in (1, 5):

        def stop(step, text, cut=cut):
            if step == cut:
                raise _Killed

        with pytest.raises(_Killed):
            run(tmp_path / f"cut-{cut}", stop)
        resumed = run(tmp_path / f"cut-{cut}")
        assert all(torch.equal(resumed[key], expected) for key, expected in whole.items())


UNSEEN = Unseen(mean=3.0, low=2.0)


def stopping(folder, *, average_last=0.0, unseen=UNSEEN, progress=quiet, **options):
    """A run that ends before its last step, and the weights that it leaves."""
    network = taught()
    usual = {"lr": 3e-3, "steps": 60, "check_every": 3, "utility_budget": 0.99}
    run = unlearning(
        network, wraps=GradientTransforms(average_last=average_last), **{**usual, **options}
    )
    trained, _weights = run.run(
        unseen=unseen, folder=folder, progress=lambda step, text: progress(step, state(network))
    )
    assert trained.steps < 60
    return trained, state(network)


def test_a_run_that_ends_early_leaves_the_mean_of_the_weights_that_count(tmp_path):
    path: list[dict[str, torch.Tensor]] = []
    plain, last = stopping(tmp_path / "plain", progress=lambda _, now: path.append(now))
    assert plain.stopped == "forget set looks unseen"
    share = 1 - (plain.steps - 2) / 60  # the last two steps and those that are not taken
    trained, found = stopping(tmp_path / "mean", average_last=share)
    assert (trained.stopped, trained.steps) == (plain.stopped, plain.steps)
    for name, value in found.items():
        assert torch.allclose(value, (path[-2][name] + last[name]) / 2, atol=1e-6), name
    assert trained.readings[:-1] == plain.readings[:-1]
    assert trained.readings[-1] != plain.readings[-1], "what is told is told of the mean"

    def killed(step, _now):
        if step == plain.steps - 1:
            raise _Killed

    with pytest.raises(_Killed):
        stopping(tmp_path / "cut", average_last=share, progress=killed)
    for _ in range(2):  # the second time it finds a run that has ended
        resumed, again = stopping(tmp_path / "cut", average_last=share)
        assert resumed.stopped == trained.stopped
        assert all(torch.equal(again[name], value) for name, value in found.items())


@pytest.mark.parametrize(
    ("share", "steps", "averaged"),
    [(0.0, 9, 1), (0.01, 9, 2), (0.1, 9, 2), (0.25, 9, 2), (1 / 3, 9, 3), (1.0, 9, 9), (0.5, 1, 1)],
)
def test_a_share_of_the_steps_is_averaged_and_at_least_two(share, steps, averaged):
    """That of one step would be no mean: what is asked for is never nothing."""
    name, memory = "w", {}
    weights = TrainableWeights(parameters={}, masters={name: torch.zeros(1)}, lora=None)
    wraps = GradientTransforms(average_last=share)
    for step in range(1, steps + 1):
        weights.masters[name].fill_(step)
        wraps.average(weights, memory, step=step, steps=steps)
    assert wraps.settle(weights, memory) is (share > 0)
    mean = sum(range(steps - averaged + 1, steps + 1)) / averaged
    assert float(weights.masters[name]) == pytest.approx(mean)


def test_a_mean_over_the_utility_budget_is_not_taken(tmp_path, monkeypatch):
    plain, last = stopping(tmp_path / "plain")
    within = [reading for _, reading in plain.readings]
    monkeypatch.setattr(
        EarlyStopping, "over_budget", lambda self, reading, first: reading not in within
    )
    trained, found = stopping(tmp_path / "mean", average_last=1.0)
    assert trained.stopped.endswith("; not averaged: the mean is over the utility budget")
    assert trained.readings == plain.readings
    assert all(torch.equal(found[name], value) for name, value in last.items())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"average_last": 1 / 60}, "forget set looks unseen; no weights averaged yet"),
        (
            {"method": GradDiff(retain="none"), "utility_budget": 0.1, "unseen": NEVER},
            "utility budget spent; kept step [0-9]+, not averaged",
        ),
    ],
)
def test_a_run_that_ends_before_weights_were_averaged_says_so(options, told, tmp_path):
    trained, _weights = stopping(tmp_path, **{"average_last": 1.0, **options})
    assert re.fullmatch(told, trained.stopped)


BEHAVIOUR = {
    "nothing": {},
    **{name: {"wraps": GradientTransforms(robust=kind())} for name, kind in ROBUST.items()},
    **{name: {"wraps": GradientTransforms(combine=kind())} for name, kind in COMBINE.items()},
    **{name: {"wraps": GradientTransforms(choose=made), "lr": 1e-2} for name, made in MADE.items()},
    "memflex-lora": {"wraps": GradientTransforms(choose=MADE["memflex"]), "lora": LORA, "lr": 3e-2},
    "sophia": {"wraps": GradientTransforms(optimiser=Sophia())},
    "normalised-sgd": {"wraps": GradientTransforms(optimiser=NormalisedSGD()), "lr": 0.3},
    "average": {"wraps": GradientTransforms(average_last=0.2)},
    "lora": {"lora": LORA, "lr": 3e-2},
    "fila": {**FILA, "lr": 1e-2},
}


@pytest.mark.parametrize("name", BEHAVIOUR)
def test_npo_still_forgets_and_retains_under_every_wrapper(name, tmp_path):
    network = taught()
    forget, retain = probability(network, FORGET), probability(network, RETAIN)
    assert min(forget, retain) > 0.5
    options = {"lr": 3e-3, "steps": 25, "batch": 4, "retain_batch": 6, "check_every": 25}
    run = unlearning(network, **{**options, "utility_budget": 0.99, **BEHAVIOUR[name]})
    run.run(unseen=NEVER, folder=tmp_path, progress=quiet)
    assert probability(network, FORGET) < 0.5 * forget
    assert probability(network, RETAIN) > 0.5 * retain
