"""The wrappers' arithmetic: closed forms on quadratic losses, oracles, counts, traps."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from expunge.errors import UsageError
from expunge.methods.base import Predictions
from expunge.optim import COMBINE, MASKS, OPTIMISERS, ROBUST, build_wrapper
from expunge.optim.base import dot, norm
from expunge.optim.combine.blur import Blur
from expunge.optim.combine.gru import GRU, rectified
from expunge.optim.combine.ngdiff import NGDiff
from expunge.optim.masks.memflex import MemFlex
from expunge.optim.masks.random_mask import RandomMask
from expunge.optim.masks.saliency import Saliency
from expunge.optim.masks.top_k import keep_largest
from expunge.optim.masks.wagle import Wagle
from expunge.optim.optimizers.normalized_sgd import NormalisedSGD
from expunge.optim.optimizers.sophia import Sophia
from expunge.optim.robust.gradient_norm import GradientNorm
from expunge.optim.robust.mudman import Mudman, agreeing
from expunge.optim.robust.randomized_smoothing import RandomizedSmoothing
from expunge.optim.robust.rounded_weights import RoundedWeights
from expunge.optim.robust.sam import SAM
from expunge.training.step_gradient import sampled_nll

TABLES = {"robust": ROBUST, "combine": COMBINE, "mask": MASKS, "optimiser": OPTIMISERS}
PAGE = Path(__file__).parents[2] / "docs" / "catalogue" / "papers.md"
PAPERS = PAGE.read_text(encoding="utf-8")
VECTORS = st.lists(st.floats(-9, 9).map(lambda x: round(x, 3)), min_size=3, max_size=3)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def parts(values: torch.Tensor) -> dict[str, torch.Tensor]:
    """Cut a vector of three into two weights, so that lengths go over tensors."""
    return {"a": values[:2].clone(), "b": values[2:].clone()}


def whole(gradient: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([gradient["a"], gradient["b"]])


@dataclass
class Bowl:
    """A pull whose forget loss is 0.5 x'Hx (+ 0.25 quartic sum x^4), relearning one |x - c|^2/2."""

    x: torch.Tensor
    hessian: torch.Tensor
    quartic: float = 0.0
    home: torch.Tensor = field(default_factory=lambda: vector(0, 0, 0))
    asked: list[torch.Tensor] = field(default_factory=list)

    @property
    def weights(self):
        return parts(self.x)

    def slope(self, x):
        return self.hessian @ x + self.quartic * x**3

    def __call__(self, side, *, at=None):
        assert side == "forget"
        offset = vector(0, 0, 0) if at is None else whole(at)
        self.asked.append(offset)
        return parts(self.slope(self.x + offset))

    def relearn(self, *, at=None):
        return parts(self.x + whole(at) - self.home)

    def rounded(self):
        return parts(self.slope(self.x.round()))


H = torch.tensor([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 3.0]], dtype=torch.float64)
X = vector(1.0, -2.0, 0.5)


def forget(wrapper, pull, *, retain=None, memory=None, seed=0):
    kept = {} if memory is None else memory
    return whole(wrapper.forget(pull, retain or {}, kept, generator(seed)))


def test_sam_takes_the_gradient_at_rho_along_the_gradient():
    pull = Bowl(X, H)
    slope = H @ X
    expected = H @ (X + 0.3 * slope / slope.norm())
    assert torch.allclose(forget(SAM(rho=0.3), pull), expected, atol=1e-12)
    assert pull.asked[1].norm().item() == pytest.approx(0.3)
    assert len(pull.asked) == SAM().pulls
    flat = forget(SAM(), Bowl(vector(0, 0, 0), H))
    assert flat.tolist() == [0, 0, 0]


@pytest.mark.parametrize(("share", "least", "most"), [(1.0, 200, 200), (0.5, 80, 120)])
def test_a_share_of_the_steps_is_taken_at_rounded_weights(share, least, most):
    wrapper, x = RoundedWeights(share=share), vector(1.2, -2.4, 0.6)
    taken = [forget(wrapper, Bowl(x, H), seed=seed) for seed in range(200)]
    count = sum(torch.equal(each, H @ x.round()) for each in taken)
    assert least <= count <= most
    assert sum(torch.equal(each, H @ x) for each in taken) == 200 - count


def test_noise_is_the_mean_over_seeded_offsets():
    pull = Bowl(X, H)
    found = forget(RandomizedSmoothing(draws=5, sigma=0.1), pull, seed=4)
    mean = torch.stack(pull.asked).mean(0)
    assert torch.allclose(found, H @ (X + mean), atol=1e-12)
    assert len(pull.asked) == 5
    assert torch.equal(found, forget(RandomizedSmoothing(draws=5, sigma=0.1), Bowl(X, H), seed=4))
    assert not torch.equal(
        found, forget(RandomizedSmoothing(draws=5, sigma=0.1), Bowl(X, H), seed=5)
    )
    spread = Bowl(X, H)
    forget(RandomizedSmoothing(draws=3000, sigma=0.1), spread)
    assert torch.stack(spread.asked).std().item() == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize("central", [True, False])
def test_gradient_norm_penalty_is_exact_on_a_quadratic_and_not_zero(central):
    """Trap T14: the published penalty has no gradient at all."""
    slope = H @ X
    penalty = H @ (slope / slope.norm())
    pull = Bowl(X, H)
    wrapper = GradientNorm(weight=0.7, step=0.05, central=central)
    found = forget(wrapper, pull)
    assert torch.allclose(found, slope + 0.7 * penalty, atol=1e-10)
    assert (found - slope).norm() > 0.5
    assert len(pull.asked) == wrapper.pulls


def test_gradient_norm_penalty_is_the_slope_of_the_penalised_loss():
    def value(x):
        loss = 0.5 * x @ H @ x + 0.5 * (x**4).sum()
        return (loss + 0.7 * Bowl(x, H, quartic=2.0).slope(x).norm()).item()

    steps = 1e-5 * torch.eye(3, dtype=torch.float64)
    slopes = vector(*[(value(X + e) - value(X - e)) / 2e-5 for e in steps])
    errors = {}
    for central in (True, False):
        wrapper = GradientNorm(weight=0.7, step=0.01, central=central)
        errors[central] = (forget(wrapper, Bowl(X, H, quartic=2.0)) - slopes).norm().item()
    assert errors[True] < 1e-3 < 0.02 < errors[False]
    assert forget(GradientNorm(), Bowl(vector(0, 0, 0), H)).tolist() == [0, 0, 0]


def test_mudman_by_hand():
    wrapper = Mudman(refork=2, lr=0.1, decay=0.5, strength=2.0)
    memory: dict[str, torch.Tensor] = {}
    retain = [vector(1, 1, 1), vector(-4, 0, 0), vector(0, 0, 0)]
    x, home = X.clone(), vector(5, 5, 5)
    mean, adversary = vector(0, 0, 0), x
    for step, slope in enumerate(retain):
        pull = Bowl(x, H, home=home)
        found = forget(wrapper, pull, retain=parts(slope), memory=memory)
        mean = 0.5 * mean + 0.5 * slope
        adversary = x if step % 2 == 0 else adversary
        adversary = adversary - 0.1 * (adversary - home)
        gradient = H @ adversary
        expected = 2.0 / gradient.norm() * gradient * (gradient.sign() == mean.sign())
        assert torch.allclose(pull.asked[0], adversary - x, atol=1e-12)
        assert torch.allclose(found, expected, atol=1e-12)
        assert 0 < found.count_nonzero() < 3
        x = x - 0.2 * found  # the adversary does not follow the weights
    assert all(isinstance(value, torch.Tensor) for value in memory.values())


def test_weights_without_retain_gradient_are_masked():
    assert agreeing({"a": vector(1, -1)}, {})["a"].tolist() == [0, 0]
    assert agreeing({"a": vector(1, -1)}, {"a": vector(3, 2)})["a"].tolist() == [1, 0]


@given(VECTORS, VECTORS)
def test_gru_never_conflicts_with_retaining_and_leaves_the_rest_alone(f, r):
    """Oracle 11."""
    forward, back = parts(vector(*f)), parts(vector(*r))
    found = GRU().combine(forward, back, {})
    inner, size = float(dot(forward, back)), 1 + float(norm(forward) * norm(back))
    assert float(dot(found, back)) >= -1e-9 * size
    if inner >= 0:
        assert torch.equal(whole(rectified(forward, back)), vector(*f))
        assert torch.allclose(whole(found), vector(*f) + vector(*r))
    else:
        assert float(dot(rectified(forward, back), back)) == pytest.approx(0, abs=1e-9 * size)
    assert (whole(forward).tolist(), whole(back).tolist()) == (f, r)


def test_gru_averages_the_retain_gradient_and_clips_the_cosine():
    memory: dict[str, torch.Tensor] = {}
    forward, first, second = vector(-1, 0, 1), vector(1, 0, 0), vector(0, 1, 0)
    GRU(fresh=0.8).combine(parts(forward), parts(first), memory)
    found = GRU(fresh=0.8).combine(parts(forward), parts(second), memory)
    mean = 0.2 * 0.8 * first + 0.8 * second
    expected = forward - (forward @ mean) / (mean @ mean) * mean + second
    assert torch.allclose(whole(found), expected)
    against = rectified(parts(vector(-1, 0, 0)), parts(vector(2, 0, 0)), floor=-0.5)
    assert whole(against).tolist() == pytest.approx([-0.5, 0, 0])


@given(VECTORS, VECTORS, st.floats(0.1, 3))
def test_blur_forgets_at_the_same_speed_whatever_is_retained(f, r, gamma):
    """Oracle 11."""
    forward, back = parts(vector(*f)), parts(vector(*r))
    found = Blur(gamma=gamma).combine(forward, back, {})
    square = float(dot(forward, forward))
    expected = gamma * square
    assert float(dot(found, forward)) == pytest.approx(expected, abs=1e-7 * (1 + square))
    assert (whole(forward).tolist(), whole(back).tolist()) == (f, r)
    if square == 0:
        assert whole(found).tolist() == r


def test_ngdiff_adds_unit_gradients():
    found = NGDiff().combine(parts(vector(3, 0, 4)), parts(vector(0, -0.01, 0)), {})
    assert torch.allclose(whole(found), vector(0.6, -1, 0.8))
    alone = NGDiff().combine(parts(vector(3, 0, 4)), parts(vector(0, 0, 0)), {})
    assert torch.allclose(whole(alone), vector(0.6, 0, 0.8))


@given(st.lists(st.sampled_from([0.0, 0.0, 1.0, 2.0, 5.0]), min_size=1), st.floats(0.01, 1))
def test_the_count_of_kept_weights_is_exact_also_among_ties(values, share):
    half = len(values) // 2
    scores = {"a": torch.tensor(values[:half]), "b": torch.tensor(values[half:])}
    kept = torch.cat(list(keep_largest(scores, share).values()))
    wanted = max(1, round(share * len(values)))
    assert int(kept.sum()) == wanted
    ranked = sorted(values, reverse=True)[:wanted]
    assert sorted(torch.tensor(values)[kept].tolist(), reverse=True) == pytest.approx(ranked)


def kept(mask, weights, up, down=None) -> dict[str, list]:
    found = mask.keep(weights, up, down or {}, generator())
    assert all(found[name].shape == weight.shape for name, weight in weights.items())
    return {name: value.int().tolist() for name, value in found.items()}


def test_wagle_by_hand():
    weights = {"w": torch.tensor([[1.0, 2.0], [3.0, -4.0]]), "never": torch.tensor([9.0])}
    up = {"w": torch.tensor([[1.0, -1.0], [0.5, 0.5]])}
    down = {"w": torch.tensor([[1.0, 1.0], [1.5, 1.0]])}
    # mu = 0.5: |(1-2) 1|, |(2-2) -1|, |(3-3) 0.5|, |(-4-2) 0.5|, |9 * 0|
    found = kept(Wagle(share=0.4, mu=0.5), weights, up, down)
    assert found == {"w": [[1, 0], [0, 1]], "never": [0]}


def test_saliency_by_neuron_and_by_weight():
    weights = {"w": torch.ones(3, 2), "bias": torch.ones(2)}
    up = {"w": torch.tensor([[3.0, 4.0], [6.0, 0.0], [-4.0, 4.0]]), "bias": torch.tensor([-5.5, 1])}
    # rows: 5, 6, 5.66; biases: 5.5, 1
    found = kept(Saliency(share=0.6), weights, up)
    assert found == {"w": [[0, 0], [1, 1], [1, 1]], "bias": [1, 0]}
    found = kept(Saliency(share=0.25, unit="weight"), weights, up)
    assert found == {"w": [[0, 0], [1, 0], [0, 0]], "bias": [1, 0]}


def test_memflex_chooses_large_and_distinct_tensors_and_b_decides_for_a():
    names = ("same", "own", "small", "x.lora_A", "x.lora_B", "y.lora_A", "y.lora_B")
    weights = {name: torch.zeros(2) for name in names}
    up = {
        "same": torch.tensor([1.0, 1.0]),
        "own": torch.tensor([1.0, -1.0]),
        "small": torch.tensor([1e-4, -1e-4]),
        "x.lora_B": torch.tensor([1.0, -1.0]),
        "y.lora_A": torch.tensor([1.0, -1.0]),
    }
    down = {name: torch.ones(2) for name in weights}
    found = kept(MemFlex(), weights, up, down)
    moving = {name for name, value in found.items() if value == [1, 1]}
    assert moving == {"own", "x.lora_A", "x.lora_B"}
    assert all(value == [0, 0] for name, value in found.items() if name not in moving)


@pytest.mark.parametrize("unit", ["neuron", "weight"])
def test_a_random_mask_has_the_size_of_the_mask_it_controls(unit):
    weights = {"w": torch.ones(30, 7), "v": torch.ones(10, 7)}
    up = {name: torch.randn(w.shape, generator=generator(1)) for name, w in weights.items()}
    chosen = Saliency(share=0.3, unit=unit).keep(weights, up, {}, generator())
    drawn = RandomMask(share=0.3, unit=unit).keep(weights, {}, {}, generator())
    count = sum(int(value.sum()) for value in drawn.values())
    assert count == sum(int(value.sum()) for value in chosen.values()) == 84
    again = RandomMask(share=0.3, unit=unit).keep(weights, {}, {}, generator())
    other = RandomMask(share=0.3, unit=unit).keep(weights, {}, {}, generator(9))
    assert all(torch.equal(drawn[name], again[name]) for name in weights)
    assert not all(torch.equal(drawn[name], other[name]) for name in weights)


def test_sophia_by_hand_averages_once_a_step_and_refreshes_every_tenth():
    """Trap T13."""
    weight = torch.tensor([1.0, 1.0, 1.0], requires_grad=True)
    optimiser = Sophia(beta1=0.5, beta2=0.75, rho=0.1, every=2).make({"w": weight}, 0.01, 0.1)
    x, m, h = weight.detach().clone(), torch.zeros(3), torch.zeros(3)
    for step, slope in enumerate(([1.0, -1.0, 0.0], [0.2, 0.2, 0.0], [1.0, 0.0, 0.0])):
        g = torch.tensor(slope)
        assert optimiser.due is (step % 2 == 0)
        if optimiser.due:
            seen = torch.tensor([100.0, 4.0, 0.0])
            optimiser.refresh({"w": seen})
            h = 0.75 * h + 0.25 * seen
        weight.grad = g.clone()
        optimiser.step()
        m = 0.5 * m + 0.5 * g
        ratio = torch.where(h > 0, m / (0.1 * h).clamp(min=1e-12), m.sign())
        x = (1 - 0.01 * 0.1) * x - 0.01 * ratio.clamp(-1, 1)
        assert torch.allclose(weight.detach(), x, atol=1e-7)
    assert set(optimiser.state[weight]) == {"step", "momentum", "curvature"}
    assert all(isinstance(value, torch.Tensor) for value in optimiser.state[weight].values())


def test_sampled_labels_give_the_gauss_newton_diagonal_without_bias():
    base = 1.5 * torch.randn(6, 5, generator=generator(3), dtype=torch.float64)
    shift = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    seen = Predictions(base + shift, torch.arange(6) % 5, torch.arange(6), (), ())
    p = torch.softmax(base, -1)
    expected = (p * (1 - p)).mean(0)  # of the mean NLL, by each entry of a shared bias
    total = torch.zeros(5, dtype=torch.float64)
    draws = 4000
    for seed in range(draws):
        loss = sampled_nll(seed)(seen).mean()
        (slope,) = torch.autograd.grad(loss, shift, retain_graph=True)
        total += 6 * slope.square() / draws
    assert torch.allclose(total, expected, rtol=0.1)
    assert torch.equal(sampled_nll(7)(seen), sampled_nll(7)(seen))
    assert not torch.equal(sampled_nll(7)(seen), sampled_nll(8)(seen))


def test_normalised_steps_have_the_length_of_the_learning_rate():
    weights = {"a": torch.ones(2, requires_grad=True), "b": torch.ones(1, requires_grad=True)}
    idle = torch.ones(1, requires_grad=True)
    optimiser = NormalisedSGD().make({**weights, "c": idle}, 0.5, 0.0)
    weights["a"].grad, weights["b"].grad = torch.tensor([3.0, 0.0]), torch.tensor([-4.0])
    optimiser.step()
    assert weights["a"].tolist() == pytest.approx([0.7, 1.0])
    assert (weights["b"].item(), idle.item()) == (pytest.approx(1.4), 1.0)
    weights["a"].grad, weights["b"].grad = torch.zeros(2), torch.zeros(1)
    optimiser.step()
    assert weights["a"].tolist() == pytest.approx([0.7, 1.0])


@pytest.mark.parametrize(
    ("what", "name"), [(what, name) for what, table in TABLES.items() for name in table]
)
def test_every_wrapper_is_documented_and_built_by_name(what, name):
    kind = TABLES[what][name]
    made = build_wrapper(TABLES[what], name, {}, what=what)
    assert made == kind()
    assert kind.advice
    text = vars(__import__(kind.__module__, fromlist=["x"]))["__doc__"]
    assert "arXiv:" in text
    assert "Differs from" in text
    assert f"--set {what}.name={name}`" in PAPERS
    assert f"optim/{'/'.join(kind.__module__.split('.')[2:])}.py" in PAPERS


@pytest.mark.parametrize(
    ("what", "name", "knobs", "message"),
    [
        ("robust", "smm", {}, "there is no robust smm.*did you mean sam?"),
        ("robust", "sam", {"roh": 1}, "robust sam has no parameter roh.*did you mean rho?"),
        ("robust", "sam", {"rho": 0}, "rho = 0.0 does not work in .robust.*larger than 0"),
        ("robust", "noise", {"draws": 0}, "draws = 0 does not work in .robust."),
        ("robust", "none", {"rho": 1}, "robust.rho is set, but no robust is chosen"),
        ("combine", "gru", {"fresh": 1.5}, "fresh = 1.5 .*above 0 and at most 1"),
        ("mask", "saliency", {"share": 0}, "share = 0.0 does not work in .mask."),
        ("mask", "random", {"unit": "layer"}, "unit = layer .*weight or neuron"),
        ("mask", "wagle", {"mu": -1}, "mu = -1.0 does not work in .mask."),
        ("optimiser", "sophia", {"every": 0}, "every = 0 does not work in .optimiser."),
        ("optimiser", "adam", {}, "there is no optimiser adam.*did you mean adamw?"),
    ],
)
def test_a_wrong_wrapper_is_explained(what, name, knobs, message):
    with pytest.raises(UsageError, match=f"(?s){message}"):
        build_wrapper(TABLES[what], name, knobs, what=what)


def test_no_wrapper_is_none():
    assert build_wrapper(ROBUST, "none", {}, what="robust") is None
    assert math.isfinite(SAM().rho)
