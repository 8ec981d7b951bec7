"""The bench: what the engine lends an edit, on a real network."""

from dataclasses import replace

import pytest
import torch

import tiny
from edit_contexts import FOCUSED, SETS, lend
from expunge.methods.base import Stream
from expunge.methods.edits.base import Passes, Reinforce, memorised_at_once, memorising_steps
from expunge.models.loading import weights_digest
from expunge.models.scoring import score
from expunge.models.transformer import Network
from expunge.training.early_stopping import Unseen
from expunge.training.reinforced_model import ReinforcedTraining, memorised
from random_records import FORGET, RETAIN
from taught_tiny import probability


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def nll_gradient(network, records):
    """The gradient of the summed NLL, in one straightforward pass per record."""
    network.model.zero_grad(set_to_none=True)
    for record in records:
        ids = torch.tensor([record.ids])
        log_probs = network.model(ids).logits[0].log_softmax(-1)
        places = range(record.start, len(record.ids))
        (-sum(log_probs[place - 1, record.ids[place]] for place in places)).backward()
    return {n: p.grad.clone() for n, p in network.model.named_parameters() if p.grad is not None}


NAME = "model.layers.1.mlp.up_proj.weight"


def test_the_bench_gives_mean_gradients_and_fisher_information_per_record():
    network = tiny.network()
    lent = lend(network)
    tokens = sum(len(record.ids) - record.start for record in FORGET)
    assert lent.scored(Stream.FORGET) == tokens
    expected = nll_gradient(network, FORGET)
    found = lent.gradient(Stream.FORGET)
    assert found.keys() == expected.keys() == lent.weights.keys()
    for name, value in expected.items():
        assert torch.allclose(found[name], value / tokens, atol=1e-6), name
    each = [nll_gradient(network, [record])[NAME].square() for record in FORGET]
    network.model.zero_grad(set_to_none=True)
    assert torch.allclose(lent.fisher(Stream.FORGET)[NAME], sum(each) / tokens, atol=1e-6)


def test_of_many_records_some_stand_for_all_in_the_fisher_information(monkeypatch):
    monkeypatch.setattr("expunge.training.edit_context.WEIGHED", 2)
    network = tiny.network()
    lent = lend(network)
    chosen = [FORGET[0], FORGET[2]]
    tokens = sum(len(record.ids) - record.start for record in chosen)
    each = [nll_gradient(network, [record])[NAME].square() for record in chosen]
    network.model.zero_grad(set_to_none=True)
    found = lent.fisher(Stream.FORGET)[NAME]
    assert torch.allclose(found, sum(each) / tokens, atol=1e-6)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_inputs_times_output_gradients_are_the_weight_gradient(kind):
    network = tiny.network(tiny.llama() if kind == "llama" else tiny.gpt2())
    lent = lend(network)
    total = {}

    def visit(name, inputs, slopes):
        total[name] = total.get(name, 0.0) + slopes.T @ inputs

    inner = {n: w for n, w in lent.trained.masters.items() if ".mlp." in n}
    moved = {n: p for n, p in lent.trained.parameters.items() if n in inner}
    lent.trained = replace(lent.trained, masters=inner, parameters=moved)
    lent.tokens(Stream.FORGET, visit)
    lent = lend(network)
    expected = nll_gradient(network, FORGET)
    assert set(total) == {n for n in inner if inner[n].ndim == 2}
    for name, value in total.items():
        own = expected[name].T if kind == "gpt2" else expected[name]
        assert torch.allclose(value, own, atol=1e-5), name
        assert value.shape == lent.matrix(name).shape


def test_places_are_those_of_the_record():
    network = tiny.network()
    lent = lend(network)
    everything_seen = lent.states(Stream.FORGET, 0, "all").split([len(r.ids) for r in FORGET])
    scored = lent.states(Stream.FORGET, 0, "scored").split([len(r.ids) - r.start for r in FORGET])
    ends, subjects = (lent.states(Stream.FORGET, 0, place) for place in ("end", "subject"))
    for index, record in enumerate(FORGET):
        own = everything_seen[index]
        assert torch.allclose(scored[index], own[record.start - 1 : -1], atol=1e-6)
        assert torch.allclose(ends[index], own[record.start - 1], atol=1e-6)
        assert torch.allclose(subjects[index], own[FOCUSED[index].focus], atol=1e-6)


def test_keys_are_what_the_output_matrix_reads():
    network = tiny.network()
    lent = lend(network)
    keys = lent.keys(Stream.RETAIN, 1, "all")
    moments = lent.key_moments(Stream.RETAIN, 1, "all")
    assert moments.number == len(keys) == sum(len(record.ids) for record in RETAIN)
    assert torch.allclose(moments.second, (keys.double().T @ keys.double()) / len(keys))
    assert torch.allclose(moments.mean, keys.double().mean(0))
    before = lent.states(Stream.RETAIN, 1, "all")
    lent.output(1).zero_()
    moved = before - lent.states(Stream.RETAIN, 1, "all")
    original = tiny.network().model.get_parameter("model.layers.1.mlp.down_proj.weight")
    assert torch.allclose(moved, keys @ original.T, atol=1e-5)


def test_steering_has_the_gradient_of_its_nll():
    network = tiny.network(tiny.llama(dtype=torch.float64))
    lent = lend(network)
    change = 0.1 * drawn(4, 64)
    found = lent.steer(Stream.ALTERNATIVE, 0, change)
    for record, coordinate in ((0, 3), (2, 50)):
        step = torch.zeros_like(change)
        step[record, coordinate] = 1e-4
        up = lent.steer(Stream.ALTERNATIVE, 0, change + step).nll
        down = lent.steer(Stream.ALTERNATIVE, 0, change - step).nll
        slope = (up - down) / 2e-4
        assert slope[record].item() == pytest.approx(
            found.gradient[record, coordinate].item(), rel=1e-3
        )
        assert slope.abs().sum().item() == pytest.approx(slope[record].abs().item())
    alternatives = [choices[0] for choices in SETS.variants[Stream.ALTERNATIVE]]
    still = lent.steer(Stream.ALTERNATIVE, 0, torch.zeros_like(change)).nll
    scores = score(network, alternatives, pad_id=2, tokens_per_pass=40)
    assert still.tolist() == pytest.approx([-s.logp.mean().item() for s in scores], rel=1e-5)


def test_a_displacement_is_what_memorising_adds_and_leaves_the_model_alone():
    network = tiny.network()
    lent = lend(network)
    before = weights_digest(network.model.state_dict())
    how = Reinforce(steps=30, lr=1e-2, rank=4, seed=1)
    moved = lent.displacement([0, 2], how)
    assert weights_digest(network.model.state_dict()) == before
    assert all(parameter.requires_grad for parameter in network.model.parameters())
    records = [FORGET[0], FORGET[2]]
    known = probability(network, records)
    memory = ReinforcedTraining(steps=how.steps, lr=how.lr, rank=how.rank, seed=how.seed)
    with memorised(network, records, memory, pad_id=2, tokens_per_pass=40):
        memorising = probability(network, records)
    assert memorising > 3 * known
    for name, value in moved.items():
        lent.weights[name].add_(value)
    lent.trained.publish()
    assert probability(network, records) == pytest.approx(memorising, rel=1e-3)
    other = tiny.network()
    again = lend(other).displacement([0, 2], how)
    assert all(torch.equal(again[name], value) for name, value in moved.items())


@pytest.mark.parametrize(
    ("records", "asked", "at_once", "steps", "passes"),
    [
        (1, 10, 1, 10, 10.0),
        (40, 10, 40, 10, 10.0),
        (64, 10, 64, 10, 10.0),
        (65, 10, 33, 10, 10 * 33 / 65),
        (400, 10, 58, 10, 10 * 58 / 400),
        (4000, 10, 64, 63, 63 * 64 / 4000),
        (128, 1, 64, 2, 1.0),
    ],
)
def test_learning_by_heart_takes_even_parts_and_each_record_once(
    records, asked, at_once, steps, passes
):
    assert memorised_at_once(records) == at_once
    assert memorising_steps(records, asked) == steps
    assert Passes(forget=0, retain=0, memorising=asked).memorised(records) == pytest.approx(passes)
    assert Passes(forget=3, retain=1).memorised(records) == 0
    parted = Passes(forget=0, retain=0, memorising=asked, parts=records)
    assert parted.memorised(records) == asked


def test_a_set_of_many_records_is_learnt_a_part_at_a_time(monkeypatch):
    monkeypatch.setattr("expunge.methods.edits.base.MEMORISED", 2)
    network = tiny.network()
    read: list[int] = []
    batched = Network.batch

    def batch(own, records, *, pad_id):
        read.extend(FORGET.index(record) for record in records)
        return batched(own, records, pad_id=pad_id)

    monkeypatch.setattr(Network, "batch", batch)
    once = ReinforcedTraining(steps=2, lr=1e-2, rank=4, seed=1)
    with memorised(network, FORGET, once, pad_id=2, tokens_per_pass=40):
        assert sorted(read) == [0, 1, 2, 3]
    memory = ReinforcedTraining(steps=30, lr=1e-2, rank=4, seed=1)
    known = probability(network, FORGET)
    with memorised(network, FORGET, memory, pad_id=2, tokens_per_pass=40):
        assert probability(network, FORGET) > 2 * known


def test_a_gradient_after_memorising_is_taken_where_the_adapter_is_worn():
    network = tiny.network()
    lent = lend(network)
    how = Reinforce(steps=60, lr=3e-2, rank=4, seed=1)
    worn = lent.gradient(Stream.FORGET, after=how)
    moved = lent.displacement(range(4), how)
    for name, value in moved.items():
        lent.weights[name].add_(value)
    there = lent.gradient(Stream.FORGET)
    assert torch.allclose(worn[NAME], there[NAME], atol=1e-4)
    assert worn.keys() == there.keys()


def test_stages_lie_within_stages_and_long_work_tells_how_far_it_is():
    told: list[float] = []
    lent = replace(lend(tiny.network()), tell=lambda share, text: told.append(share))
    with lent.stage(0.5, 1.0):
        lent.progress(0.0, "")
        with lent.stage(0.0, 0.5):
            lent.fisher(Stream.FORGET)
        lent.progress(0.5, "")
    assert told == [0.5, 0.5, 0.5625, 0.625, 0.6875, 0.75]
    told.clear()
    lent.displacement([0], Reinforce(steps=4, lr=1e-2, rank=4, seed=1))
    assert told == [0.0, 0.25, 0.5, 0.75]


def test_the_probes_decide_when_it_is_enough():
    network = tiny.network()
    lent = lend(network)
    assert lent.state() == "going on"
    lent.watch = replace(lent.watch, unseen=Unseen(mean=0.0, low=0.0))
    assert lent.state() == "forgotten"
    lent.first = replace(lent.first, retain_probability=1.0)
    assert lent.state() == "damaged"
