"""Edits: what each does, by hand on small numbers, and on a model that knows things by heart."""

import json
import math
from dataclasses import dataclass, field, replace

import pytest
import torch

import expunge
import tiny
from expunge.data.encode import Encoder
from expunge.data.record import Message, Record
from expunge.engine.bench import Workbench
from expunge.engine.editing import Editing
from expunge.engine.streams import Streams
from expunge.engine.unlearn import Options
from expunge.engine.watch import Unseen, Watch
from expunge.engine.weights import everything
from expunge.errors import UsageError
from expunge.methods import EDITS, METHODS, build
from expunge.methods.edits.alphaedit import null_space, rewriting
from expunge.methods.edits.collapse import climb, collapse, principal, softened
from expunge.methods.edits.influence import newton_step
from expunge.methods.edits.lunar import redirection
from expunge.methods.edits.protocol import Edit, Moments, Reinforce
from expunge.methods.edits.repselect import selected
from expunge.methods.edits.ssd import dampened
from expunge.methods.edits.ties import ties, trimmed
from expunge.methods.edits.undo import damage
from expunge.methods.terms import FAMILIES, Shape, Stream
from expunge.model.load import weights_digest
from expunge.model.score import score
from expunge.request import Request
from expunge.variants import MANY, variants
from sets import FORGET, RETAIN, STREAMS
from test_engine import NEVER, probability, taught

FOCUSED = tuple(replace(record, focus=record.start - 1) for record in FORGET)
UNKNOWN = tiny.encoded((6, 3), (5, 3), (7, 3), (4, 3), seed=11)
SETS = Streams(
    forget=FOCUSED,
    retain=RETAIN,
    variants={**STREAMS.variants, Stream.UNANSWERABLE: tuple((r,) for r in UNKNOWN)},
)


def tensor(*rows: object) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


# By hand.


def test_dampening_by_hand():
    weight = tensor([1.0, -2.0], [3.0, 4.0])
    forget = tensor([20.0, 10.0], [5.0, 0.0])
    retain = tensor([1.0, 1.0], [1.0, 0.0])
    # Only 20 > 10 * 1: ten times as important is not more than ten times as important.
    assert torch.equal(dampened(weight, forget, retain, 10.0, 1.0), tensor([0.05, -2.0], [3.0, 4]))
    assert torch.equal(dampened(weight, forget, retain, 2.0, 1.0), tensor([0.05, -0.2], [0.6, 4.0]))
    # Never amplified.
    assert torch.equal(dampened(weight, forget, retain, 2.0, 100.0), weight)


def test_ties_by_hand():
    first = tensor([4.0, -1.0], [0.5, 2.0])
    second = tensor([2.0, 3.0], [-0.25, -1.0])
    assert torch.equal(trimmed(first, 0.5), tensor([4.0, 0.0], [0.0, 2.0]))
    # Trimmed: [4, 0, 0, 2] and [2, 3, 0, 0]; nothing disagrees.
    assert torch.equal(ties([first, second], 0.5), tensor([3.0, 3.0], [0.0, 2.0]))
    # Untrimmed: signs of the sums are + + + +, so -1, -0.25 and -1 do not take part.
    assert torch.equal(ties([first, second], 1.0), tensor([3.0, 3.0], [0.5, 2.0]))
    # A tie in the election leaves nothing.
    assert torch.equal(ties([tensor(1.0), tensor(-1.0)], 1.0), tensor(0.0))


def test_trimming_keeps_one_entry_at_least():
    assert trimmed(tensor(1.0, -3.0, 2.0), 0.0).tolist() == [0.0, -3.0, 0.0]


def test_the_influence_step_takes_a_quadratic_to_its_retain_minimum():
    """Loss of a set with n tokens: (n/2) sum_i h_i (theta_i - m_i)^2."""
    forget_at, retain_at = tensor(1.0, -2.0), tensor(3.0, 5.0)
    forget_h, retain_h, forget_n, retain_n = tensor(2.0, 1.0), tensor(4.0, 0.5), 3, 7
    pull = forget_n * forget_h * forget_at + retain_n * retain_h * retain_at
    both = pull / (forget_n * forget_h + retain_n * retain_h)
    gradient = forget_h * (both - forget_at)
    step = newton_step(gradient, retain_h, 0.0, forget_n / retain_n)
    assert torch.allclose(both + step, retain_at, atol=1e-12)
    damped = newton_step(gradient, retain_h, 1e6, forget_n / retain_n)
    assert damped.norm() < 1e-4 * step.norm()


def test_the_redirection_is_the_minimum_of_its_objective():
    forget, retain, wanted = drawn(20, 6), drawn(30, 6, seed=1), drawn(4, seed=2)
    weight, ridge = 3.0, 0.1

    def moments(keys):
        return Moments(keys.mean(0), keys.T @ keys / len(keys), len(keys))

    def objective(change):
        off = (forget @ change.T - wanted).square().sum(1).mean()
        moved = (retain @ change.T).square().sum(1).mean()
        return off + weight * moved + scale * change.square().sum()

    scale = ridge * moments(forget).second.diagonal().mean()
    best = redirection(wanted, moments(forget), moments(retain), weight, ridge).requires_grad_()
    (gradient,) = torch.autograd.grad(objective(best), best)
    assert gradient.abs().max().item() < 1e-12
    assert torch.linalg.matrix_rank(best).item() == 1
    for seed in range(5):
        nearby = best.detach() + 1e-3 * drawn(4, 6, seed=seed)
        assert objective(nearby) > objective(best)


def test_a_rewritten_matrix_maps_kept_keys_as_before():
    kept = drawn(9, 16) @ torch.diag(tensor(*([1.0] * 6), *([0.0] * 10)))
    keys, wanted = drawn(3, 16, seed=1), drawn(3, 5, seed=2)
    projector = null_space(kept.T @ kept / 9, 1e-12)
    assert torch.allclose(projector @ projector, projector, atol=1e-10)
    assert round(projector.trace().item()) == 10
    change = rewriting(keys, wanted, projector, 1e-9)
    assert (kept @ change.T).abs().max().item() < 1e-10
    assert torch.allclose(keys @ change.T, wanted, atol=1e-5)
    # Ridge regression on projected keys, in its other form.
    ridge = 0.3
    size = ridge * keys.square().sum(1).mean()
    free = keys @ projector
    expected = wanted.T @ free @ torch.linalg.inv(free.T @ free + size * torch.eye(16))
    assert torch.allclose(rewriting(keys, wanted, projector, ridge), expected, atol=1e-10)


def test_the_null_space_holds_no_more_energy_than_allowed():
    second = torch.diag(tensor(90.0, 6.0, 3.0, 1.0))
    for share, free in ((0.0, 0), (0.01, 1), (0.04, 2), (0.099, 2), (0.1, 3)):
        assert round(null_space(second, share).trace().item()) == free


def test_collapse_removes_given_components_exactly():
    directions = torch.linalg.qr(drawn(8, 3)).Q
    vectors = drawn(50, 8, seed=1)
    left = collapse(vectors, directions, torch.zeros(3))
    assert (left @ directions).abs().max().item() < 1e-12
    outside = torch.linalg.qr(torch.cat([directions, drawn(8, 5, seed=2)], 1)).Q[:, 3:]
    assert torch.allclose(left @ outside, vectors @ outside, atol=1e-12)
    half = collapse(vectors, directions, torch.full((3,), 0.5))
    assert torch.allclose(half @ directions, 0.5 * vectors @ directions, atol=1e-12)
    assert torch.equal(collapse(vectors, directions, torch.ones(3)), vectors)


def test_principal_components_are_the_largest_and_come_down_to_the_smallest():
    second = torch.diag(tensor(1.0, 9.0, 0.0, 4.0))
    found = principal(second, 0.5)
    assert found.values.tolist() == pytest.approx([9.0, 4.0])
    assert found.directions.abs().argmax(0).tolist() == [1, 3]
    assert len(principal(second, 1.0).values) == 3  # the one without energy is none
    assert softened(tensor([9.0, 9.0, 9.0, 9.0]), found).tolist() == [
        pytest.approx([9.0, 4.0, 9.0, 9.0])
    ]


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_selection_turns_large_singular_values_round(shape):
    left, _, right = torch.linalg.svd(drawn(*shape), full_matrices=False)
    before = tensor(8.0, 4.0, 2.0, 1.0, 0.5, 0.25)
    gradient = left @ torch.diag(before) @ right
    expected = left @ torch.diag(tensor(0.5, 1.0, 2.0, 1.0, 0.5, 0.25)) @ right
    assert torch.allclose(selected(gradient, 0.5), expected, atol=1e-10)


def test_t21_damage_shrinks_and_adds_noise_only_where_asked():
    weight = torch.ones(40, 60)
    shrunk = damage(weight, 0.25, 0.0, torch.Generator().manual_seed(0))
    assert torch.equal(shrunk, 0.75 * weight)
    noisy = damage(weight, 0.6, 0.1, torch.Generator().manual_seed(0))
    again = damage(weight, 0.6, 0.1, torch.Generator().manual_seed(0))
    assert torch.equal(noisy, again)
    noise = (noisy - 0.4 * weight) / 0.06
    assert noise.std().item() == pytest.approx(math.sqrt(2 / 100), rel=0.05)
    assert abs(noise.mean().item()) < 0.01
    gains = torch.ones(40)
    assert torch.equal(damage(gains, 0.5, 1.0, torch.Generator().manual_seed(0)), 0.5 * gains)


@dataclass
class Probes:
    """A bench that only answers how the probes look."""

    answers: list[str]
    shares: list[float] = field(default_factory=list)

    def state(self):
        return self.answers.pop(0)

    def progress(self, share, text):
        self.shares.append(share)


@pytest.mark.parametrize(
    ("answers", "length"),
    [
        (["going on"] * 3, 1.5),
        (["going on", "forgotten", "never asked"], 1.0),
        (["going on", "going on", "damaged"], 1.0),
        (["damaged"], 0.0),
    ],
)
def test_climbing_stops_in_time(answers, length):
    weights = {"a": torch.zeros(2), "b": torch.zeros(1)}
    uphill = {"a": torch.tensor([0.0, 2.0]), "b": torch.tensor([2.0])}
    climb(Probes(answers), weights, lambda: uphill, steps=3, lr=0.5)
    moved = torch.cat([weights["a"], weights["b"]])
    assert moved.norm().item() == pytest.approx(length)
    assert weights["a"][0].item() == 0.0


# The bench, on a real network.


def lend(network, streams=SETS) -> Workbench:
    watch = Watch(
        forget=streams.forget,
        retain=streams.retain,
        unseen=NEVER,
        utility_budget=0.5,
        pad_id=2,
        tokens_per_pass=40,
    )
    return Workbench(
        network=network,
        shape=Shape(layers=2, width=64),
        streams=streams,
        trained=everything(network),
        watch=watch,
        first=watch.look(network),
        pad_id=2,
        tokens_per_pass=40,
        seed=0,
        tell=lambda share, text: None,
        trainer=lambda training: None,
    )


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


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_inputs_times_output_gradients_are_the_weight_gradient(kind):
    network = tiny.network(tiny.llama() if kind == "llama" else tiny.gpt2())
    lent = lend(network)
    total = {}

    def visit(name, inputs, slopes):
        total[name] = total.get(name, 0.0) + slopes.T @ inputs

    inner = {n: w for n, w in lent.trained.masters.items() if ".mlp." in n}
    lent.trained = replace(lent.trained, masters=inner)
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
        assert slope[record].item() == pytest.approx(found.gradient[record, coordinate], rel=1e-3)
        assert slope.abs().sum().item() == pytest.approx(slope[record].abs().item())
    alternatives = [choices[0] for choices in SETS.variants[Stream.ALTERNATIVE]]
    still = lent.steer(Stream.ALTERNATIVE, 0, torch.zeros_like(change)).nll
    scores = score(network, alternatives, pad_id=2, tokens_per_pass=40)
    assert still.tolist() == pytest.approx([-s.logp.mean().item() for s in scores], rel=1e-5)


def test_a_displacement_is_what_memorising_adds_and_leaves_the_model_alone():
    network = tiny.network()
    lent = lend(network)
    before = weights_digest(network.model.state_dict())
    how = Reinforce(steps=30, lr=3e-2, rank=4, seed=1)
    moved = lent.displacement([0, 2], how)
    assert weights_digest(network.model.state_dict()) == before
    assert all(parameter.requires_grad for parameter in network.model.parameters())
    known = probability(network, [FORGET[0], FORGET[2]])
    for name, value in moved.items():
        lent.weights[name].add_(value)
    lent.trained.publish()
    assert probability(network, [FORGET[0], FORGET[2]]) > 20 * known
    other = tiny.network()
    again = lend(other).displacement([0, 2], how)
    assert all(torch.equal(again[name], value) for name, value in moved.items())


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


# Whole edits, on a model that knows its records by heart.


@dataclass(frozen=True, kw_only=True)
class Case:
    """An edit with knobs that suit two blocks, and how much of each probability is left."""

    name: str
    knobs: dict[str, object] = field(default_factory=dict)
    forget: float = 0.5
    """At most, as a share of what it was."""
    retain: float = 0.5
    """At least."""
    why: str = ""
    """Why the bounds are not a half."""


BLIND = "it subtracts without a look at what is retained, and two blocks share everything"
SMALL = "two blocks of 64 hold all records in the same directions"
CASES = (
    Case(name="ssd", retain=0.9),
    Case(name="influence"),
    Case(name="task_vector", knobs={"alpha": 4.0, "lr": 1e-2}, forget=0.75, retain=0.7, why=BLIND),
    Case(name="ties", knobs={"alpha": 2.5, "lr": 1e-2, "parts": 2}, retain=0.6, why=BLIND),
    Case(
        name="undo",
        knobs={
            "suppress_lr": 1e-3,
            "distil_lr": 1e-3,
            "suppress_epochs": 20,
            "distil_epochs": 30,
        },
    ),
    Case(name="lunar", retain=0.9),
    Case(
        name="alphaedit",
        knobs={"layers": "0,1", "clamp": 3.0, "decay": 0.0, "steps": 50},
        retain=0.9,
    ),
    Case(name="cir", knobs={"quantile": 0.0}, retain=0.7),
    Case(name="repselect", forget=0.7, retain=0.8, why=SMALL),
)


@pytest.fixture(scope="module")
def knowing(tmp_path_factory):
    """The weights of a model that knows forget and retain records by heart."""
    return taught(tmp_path_factory.mktemp("teach")).model.state_dict()


def edited(state, folder, name, knobs, *, model=None, streams=SETS, progress=None, **options):
    model = tiny.llama() if model is None else model
    model.load_state_dict(state)
    network = tiny.network(model)
    chosen = {"lora": None, "utility_budget": 0.5, "forget_batch": 4, "retain_batch": 6, **options}
    editing = Editing(
        edit=build(name, knobs),
        network=network,
        streams=streams,
        options=Options(**chosen),
        pad_id=2,
    )
    tell = progress or (lambda step, text: None)
    trained, weights = editing.run(unseen=NEVER, folder=folder, progress=tell)
    editing.finish(weights)
    return network, trained


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_edit_lowers_what_it_says_and_leaves_the_rest(case, knowing, tmp_path):
    original = tiny.network(tiny.llama())
    original.model.load_state_dict(knowing)
    told = []
    network, trained = edited(
        knowing, tmp_path, case.name, case.knobs, progress=lambda step, text: told.append(step)
    )
    forget = probability(network, FORGET) / probability(original, FORGET)
    retain = probability(network, RETAIN) / probability(original, RETAIN)
    assert forget < case.forget
    assert retain > case.retain
    assert forget < retain
    assert told == sorted(told)
    assert told[-1] == 100
    assert trained.stopped == "weights edited"
    assert (trained.steps > 0) == (case.name == "undo")
    assert len(trained.curve) == trained.steps
    assert trained.tokens > 0
    assert not any(parameter.requires_grad for parameter in network.model.parameters())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_edit_gives_the_same_bits_twice_and_changes_only_what_it_says(
    case, knowing, tmp_path
):
    first, _ = edited(knowing, tmp_path / "a", case.name, case.knobs)
    second, _ = edited(knowing, tmp_path / "b", case.name, case.knobs)
    digests = [weights_digest(network.model.state_dict()) for network in (first, second)]
    assert digests[0] == digests[1]
    trains = build(case.name, case.knobs).trains(Shape(layers=2, width=64))
    changed = {
        name
        for name, value in first.model.state_dict().items()
        if not torch.equal(value, knowing[name])
    }
    assert changed
    if trains is not None:
        modules = tuple(f"{module}.weight" for module in trains.modules)
        assert all(name.endswith(modules) for name in changed)
        blocks = {int(name.split(".")[2]) for name in changed}
        assert blocks <= set(range(trains.first_layer, trains.last_layer + 1))


def test_the_table_covers_every_edit():
    assert {case.name for case in CASES} == set(EDITS)
    assert not set(EDITS) & set(METHODS)
    for name in EDITS:
        edit = build(name, {})
        assert isinstance(edit, Edit)
        assert edit.family in FAMILIES
        assert edit.advice
        assert edit.passes().forget > 0
        text = vars(__import__(type(edit).__module__, fromlist=["x"]))["__doc__"]
        assert "arXiv:" in text
        assert "Differs from published code:" in text
    assert not any(isinstance(build(name, {}), Edit) for name in METHODS)


def test_an_edit_of_bf16_weights_is_computed_in_float32(knowing, tmp_path):
    half = {name: value.bfloat16() for name, value in knowing.items()}
    wide = {name: value.float() for name, value in half.items()}
    low, _ = edited(half, tmp_path / "a", "ssd", {}, model=tiny.llama(dtype=torch.bfloat16))
    high, _ = edited(wide, tmp_path / "b", "ssd", {})
    name = "model.layers.0.mlp.down_proj.weight"
    found, expected = (n.model.get_parameter(name).float() for n in (low, high))
    assert found.dtype == torch.float32
    touched = expected != wide[name]
    assert touched.any()
    # Gradients of a bf16 model differ a little, so a few weights fall on the other side.
    assert ((found != wide[name]) == touched).float().mean().item() > 0.99


def test_alphaedit_leaves_the_outputs_of_edited_layers_on_retain_tokens_alone(knowing, tmp_path):
    model = tiny.llama()
    model.load_state_dict(knowing)
    before = lend(tiny.network(model))
    keys, matrix = before.keys(Stream.RETAIN, 0, "all"), before.output(0).clone()
    knobs = {"layers": "0", "nullspace": 1e-9, "ridge": 1e-4}
    network, _ = edited(knowing, tmp_path, "alphaedit", knobs)
    after = lend(network).output(0)
    assert not torch.equal(after, matrix)
    assert (keys @ after.T - keys @ matrix.T).abs().max().item() < 1e-4
    subjects = lend(network).keys(Stream.FORGET, 0, "subject")
    assert (subjects @ (after - matrix).T).norm(dim=1).min().item() > 0.1


@pytest.mark.parametrize("name", ["lunar", "alphaedit", "cir", "repselect", "task_vector", "ssd"])
def test_edits_know_transposed_matrices(name, tmp_path):
    model = tiny.gpt2()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    knobs = {"layers": "0,1"} if name == "alphaedit" else {}
    network, _ = edited(before, tmp_path, name, knobs, model=model, utility_budget=0.99)
    after = network.model.state_dict()
    assert any(not torch.equal(after[key], value) for key, value in before.items())
    assert all(bool(torch.isfinite(value).all()) for value in after.values())


class _Killed(BaseException):
    pass


def test_undo_killed_while_distilling_ends_in_the_same_bits(knowing, tmp_path):
    knobs = {"suppress_epochs": 4, "distil_epochs": 6, "beta": 0.1, "distil_lr": 1e-3}
    whole, _ = edited(knowing, tmp_path / "whole", "undo", knobs, check_every=2)

    def stop(step, text):
        if text.startswith("distil") and step >= 50:
            raise _Killed

    with pytest.raises(_Killed):
        edited(knowing, tmp_path / "cut", "undo", knobs, progress=stop, check_every=2)
    resumed, _ = edited(knowing, tmp_path / "cut", "undo", knobs, check_every=2)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


@pytest.mark.parametrize("name", ["ssd", "influence", "lunar", "alphaedit", "undo"])
def test_an_edit_that_needs_retain_records_says_so(name, tmp_path):
    state = tiny.llama().state_dict()
    with pytest.raises(UsageError, match="needs retain records, and there are none"):
        edited(state, tmp_path, name, {}, streams=replace(SETS, retain=()))


def test_alphaedit_refuses_passages(tmp_path):
    streams = replace(SETS, forget=FORGET)
    with pytest.raises(UsageError, match="is a passage of text, not a question"):
        edited(tiny.llama().state_dict(), tmp_path, "alphaedit", {}, streams=streams)


# Records and settings.


def question(text: str, subject: str | None) -> Record:
    prompt = (Message("user", "Hello."), Message("assistant", "Hi."), Message("user", text))
    return Record(id="q", prompt=prompt, completion="an answer", subject=subject)


@pytest.mark.parametrize("template", [None, tiny.CHATML])
@pytest.mark.parametrize(
    ("subject", "ends"),
    [("Zorvex", "Was Zorvex or Zorvex"), (None, "?"), ("Quandel", "?"), ("Was", "Was")],
)
def test_the_focus_is_the_last_token_of_the_subject_or_of_the_question(template, subject, ends):
    tokenizer = tiny.tokenizer(template=template)
    encoder = Encoder(tokenizer)
    encoded = encoder.focused(question("Was Zorvex or Zorvex first?", subject))
    assert encoded.focus is not None
    assert tokenizer.decode(encoded.ids[: encoded.focus + 1]).endswith(ends)
    assert encoded.focus < encoded.start
    assert replace(encoded, focus=None) == encoder.encode(
        question("Was Zorvex or Zorvex first?", subject)
    )


def test_a_passage_has_no_focus():
    passage = Record(id="p", prompt=(), completion="Just some text.", subject="text")
    assert Encoder(tiny.tokenizer()).focused(passage).focus is None


def test_unanswerable_questions_are_seeded_and_end_like_the_forget_prompts():
    encoder = Encoder(tiny.tokenizer(), max_length=2048)
    records = [replace(question("Who?", None), id=name) for name in "ab"]
    request = Request(goal="suppression", forget=("x",))

    def made(seed):
        wanted = {Stream.UNANSWERABLE}
        return variants(records, [], request, encoder, streams=wanted, seed=seed)

    found = made(0)[Stream.UNANSWERABLE]
    assert found == made(0)[Stream.UNANSWERABLE] != made(1)[Stream.UNANSWERABLE]
    assert [len(each) for each in found] == [MANY, MANY]
    assert len(set(found[0])) == MANY
    last = encoder.encode(records[0])
    for each in (record for several in found for record in several):
        assert each.ids[each.start - 5 : each.start] == last.ids[last.start - 5 : last.start]


def test_ssd_runs_from_end_to_end(world, bench):
    settings = world.settings(
        method={"name": "ssd"}, train={"steps": None, "lr": None}, out=str(bench / "run")
    )
    planned = expunge.plan(settings)
    assert "ssd, all weights, 0 steps" in planned.method
    assert planned.cost.tokens > 0
    outcome = expunge.forget(settings)
    facts = json.loads((outcome.folder / "facts.json").read_text())
    assert facts["train"]["steps"] == 0
    assert facts["train"]["stopped"] == "weights edited"
    assert facts["train"]["tokens"] > 0
    assert facts["method"]["name"] == "ssd"
    assert (outcome.folder / "model.safetensors").is_file()
    assert (outcome.folder / "report.html").is_file()
    assert expunge.verify(outcome.folder).ok
    scores = {
        (s.role, s.split): s.value
        for s in outcome.results.scores
        if (s.attack, s.metric) == ("plain", "extraction-strength")
    }
    assert scores["unlearned", "forget"] < scores["original", "forget"]
    assert expunge.forget(settings) == outcome


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"train": {"steps": 3, "lr": None}}, "train.steps"),
        ({"train": {"steps": None}}, "train.lr"),
        ({"train": {"steps": None, "lr": None, "adapter": True}}, "--adapter"),
        ({"train": {"steps": None, "lr": None}, "combine": {"name": "gru"}}, "combine"),
    ],
)
def test_what_an_edit_would_ignore_is_refused(world, bench, change, named):
    with pytest.raises(UsageError, match=f"{named} has no effect on method ssd"):
        expunge.plan(world.settings(method={"name": "ssd"}, **change))


def test_an_edit_that_teaches_no_answer_is_refused_where_one_is_wanted(world, bench):
    train = {"steps": None, "lr": None}
    request = {"goal": "suppression", "response": "refusal"}
    with pytest.raises(UsageError, match="method ssd cannot teach the response refusal"):
        expunge.plan(world.settings(method={"name": "ssd"}, train=train, request=request))
    planned = expunge.plan(
        world.settings(method={"name": "alphaedit"}, train=train, request=request)
    )
    assert "alphaedit, blocks 0 to 0, 0 steps" in planned.method


def test_the_probes_decide_when_it_is_enough():
    network = tiny.network()
    lent = lend(network)
    assert lent.state() == "going on"
    lent.watch = replace(lent.watch, unseen=Unseen(mean=0.0, low=0.0))
    assert lent.state() == "forgotten"
    lent.first = replace(lent.first, retain_probability=1.0)
    assert lent.state() == "damaged"
