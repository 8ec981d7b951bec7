"""The ascent family: closed forms in the logits, identities between methods, traps, behaviour."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import tiny
from expunge.config.request import Request
from expunge.data.records import Message, Record
from expunge.data.tokenization import Encoder
from expunge.errors import UsageError
from expunge.methods import build
from expunge.methods.base import Answers, Distribution, Predictions, Shape, Stream
from expunge.methods.flat import DIVERGENCES, FLAT
from expunge.methods.ihl import inverted_hinge
from expunge.methods.jensun import jsd_to_token
from expunge.methods.llmu import LLMU
from expunge.methods.maxent import kl_from_uniform
from expunge.methods.pdu import PDU, margin
from expunge.methods.retain_losses import jsd
from expunge.methods.satimp import SatImp
from expunge.methods.unlikelihood import log_odds, unlikelihood
from expunge.preparation.variants import variants
from expunge.training.sampler import BatchIndices
from expunge.training.train_loop import Multipliers
from method_cases import Case
from random_records import STREAMS
from taught_tiny import observer

SHAPE = Shape(layers=8, width=16, vocabulary=6)
TARGETS = torch.tensor([0, 3, 2, 5, 1])
TOKEN = 4


def logits(seed: int = 0) -> Tensor:
    """Five positions over six tokens, from unlikely to nearly certain targets."""
    drawn = torch.randn(5, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    drawn[torch.arange(5), TARGETS] += torch.tensor([-3.0, 0.0, 1.0, 3.0, 8.0])
    return drawn.requires_grad_(True)


def seen(z: Tensor, lengths: tuple[int, ...] = (5,)) -> Answers:
    logp = torch.log_softmax(z, dim=-1).gather(-1, TARGETS.unsqueeze(-1)).squeeze(-1)
    sequence = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    return Answers(logp=logp, reference=None, sequence=sequence, size=len(lengths))


def forget(name: str, knobs: dict[str, object], z: Tensor) -> Tensor:
    """The sum that the forget term of a method makes of one answer of five tokens."""
    term = build(name, knobs).terms(SHAPE)[0]
    if isinstance(term, Distribution):
        return term.loss(Predictions(z, TARGETS, torch.arange(5), (), ())).sum()
    return term.loss(seen(z))


def slope(value: Tensor, z: Tensor) -> Tensor:
    return torch.autograd.grad(value, z)[0]


def one_hot(tokens: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(tokens, 6).double()


def weighted(weight):
    """The gradient in the logits of a token loss with weight w(p) on grad log p."""

    def expected(z: Tensor) -> Tensor:
        p = z.detach().softmax(-1)
        own = p[torch.arange(5), TARGETS]
        return weight(own).unsqueeze(-1) * (one_hot(TARGETS) - p)

    return expected


def hinge_gradient(z: Tensor) -> Tensor:
    p = z.detach().softmax(-1)
    second = p.clone()
    second[torch.arange(5), TARGETS] = 0
    v = second.argmax(-1)
    p_y, p_v = p[torch.arange(5), TARGETS], p[torch.arange(5), v]
    return p_y[:, None] * (one_hot(TARGETS) - p) - p_v[:, None] * (one_hot(v) - p)


def others_gradient(z: Tensor) -> Tensor:
    p = z.detach().softmax(-1)
    own = p[torch.arange(5), TARGETS][:, None]
    return torch.where(one_hot(TARGETS).bool(), own, -own * p / (1 - own))


def token_gradient(z: Tensor) -> Tensor:
    p = z.detach().softmax(-1)
    k = p[:, TOKEN]
    return (k / 2 * torch.log(k / (1 + k)))[:, None] * (one_hot(torch.tensor([TOKEN])) - p)


def margin_gradient(z: Tensor) -> Tensor:
    z = z.detach()
    gap = z.amax(-1) - z.mean(-1)
    return 2 * gap[:, None] * (one_hot(z.argmax(-1)) - 1 / 6)


GRADIENTS = [
    ("ga", {}, weighted(torch.ones_like)),
    ("wga", {}, weighted(lambda p: p)),
    ("wga", {"beta": 0.5}, weighted(torch.sqrt)),
    ("wga", {"beta": 0.0}, weighted(torch.ones_like)),
    ("satimp", {}, weighted(lambda p: p**5 * (1 - p))),
    ("satimp", {"beta1": 0.5, "beta2": 2.5}, weighted(lambda p: p**0.5 * (1 - p) ** 2.5)),
    ("unlikelihood", {}, weighted(lambda p: p / (1 - p))),
    ("unlikelihood", {}, others_gradient),
    ("ihl", {}, hinge_gradient),
    ("maxent", {}, lambda z: z.detach().softmax(-1) - 1 / 6),
    ("pdu", {}, margin_gradient),
    ("jensun", {}, weighted(lambda p: p / 2 * torch.log(p / (1 + p)))),
    ("jensun", {"token": TOKEN}, token_gradient),
]


@pytest.mark.parametrize(("name", "knobs", "expected"), GRADIENTS)
def test_gradient_in_the_logits_is_the_closed_form(name, knobs, expected):
    for seed in range(5):
        z = logits(seed)
        found = slope(forget(name, knobs, z), z)
        assert torch.allclose(found, expected(z), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("wga", {"beta": 0.0}), ("ga", {})),
        (("satimp", {"beta1": 0.0, "beta2": 0.0}), ("ga", {})),
        (("satimp", {"beta1": 2.0, "beta2": 0.0}), ("wga", {"beta": 2.0})),
        (("ga", {}), ("graddiff", {})),
    ],
)
def test_methods_that_are_special_cases_of_others(first, second):
    z = logits()
    assert torch.allclose(slope(forget(*first, z), z), slope(forget(*second, z), z), atol=1e-12)


def test_wga_descends_the_mean_probability():
    z = logits()
    p = z.softmax(-1).gather(-1, TARGETS.unsqueeze(-1)).squeeze(-1)
    assert torch.allclose(slope(forget("wga", {}, z), z), slope(p.sum(), z), atol=1e-12)
    assert forget("wga", {}, z).item() == pytest.approx((p - 1).sum().item())


def test_satimp_descends_an_incomplete_beta_function():
    """With integer exponents the function whose gradient it is can be written down."""
    z = logits()
    p = z.softmax(-1).gather(-1, TARGETS.unsqueeze(-1)).squeeze(-1)
    potential = p**5 / 5 - p**6 / 6
    assert torch.allclose(slope(forget("satimp", {}, z), z), slope(potential.sum(), z), atol=1e-12)


def test_ce_u_is_unlikelihood():
    z = logits()
    own = torch.nn.functional.one_hot(TARGETS, 6).bool()
    without = z.detach().masked_fill(own, -math.inf).softmax(-1)
    cross_entropy = -(without * z.log_softmax(-1)).sum()
    assert torch.allclose(
        slope(cross_entropy, z), slope(forget("unlikelihood", {}, z), z), atol=1e-10
    )


@pytest.mark.parametrize(
    ("name", "knobs"),
    [("wga", {}), ("satimp", {}), ("unlikelihood", {"cut": -99}), ("ihl", {})],
)
def test_pull_ends_where_the_token_is_forgotten_but_for_plain_ascent(name, knobs):
    z = torch.zeros(5, 6, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        z[torch.arange(5), TARGETS] = -14.0
    pull = slope(forget(name, knobs, z), z)[torch.arange(5), TARGETS]
    assert pull.abs().max().item() < 1e-6
    plain = slope(forget("ga", {}, z), z)[torch.arange(5), TARGETS]
    assert plain.min().item() > 0.999


@pytest.mark.parametrize("name", ["ga", "wga", "satimp", "unlikelihood", "ihl", "jensun"])
def test_text_known_by_heart_gives_finite_losses_and_gradients(name):
    z = torch.zeros(5, 6)
    z[torch.arange(5), TARGETS] = 60.0
    z.requires_grad_(True)
    loss = forget(name, {}, z)
    assert bool(torch.isfinite(loss))
    assert bool(torch.isfinite(slope(loss, z)).all())


def test_unlikelihood_is_exact_where_one_minus_p_underflows():
    z = torch.tensor([[60.0, 0.0, 0.0]], requires_grad=True)
    target = torch.tensor([0])
    assert z.softmax(-1)[0, 0].item() == 1.0  # so that log(1 - p) would be minus infinity
    loss = unlikelihood(log_odds(z, target))
    assert loss.item() == pytest.approx(60 - math.log(2), rel=1e-6)
    (gradient,) = torch.autograd.grad(loss.sum(), z)
    assert gradient[0].tolist() == pytest.approx([1.0, -0.5, -0.5])


def test_unlikelihood_by_hand():
    z = torch.log(torch.tensor([[0.9, 0.1], [0.25, 0.75]], dtype=torch.float64))
    found = unlikelihood(log_odds(z, torch.tensor([0, 0])))
    assert found.tolist() == pytest.approx([-math.log(0.1), -math.log(0.75)])


def test_unlikelihood_leaves_skipped_and_forgotten_tokens_alone():
    z = logits()
    with torch.no_grad():
        z[2, TARGETS[2]] = -30.0
    pull = slope(forget("unlikelihood", {"skip": 2}, z), z).abs().sum(-1)
    assert (pull > 0).tolist() == [False, False, False, True, True]


@given(st.integers(2, 9), st.integers(0, 99), st.floats(0.1, 30.0))
def test_bounds(size, seed, scale):
    generator = torch.Generator().manual_seed(seed)
    z, other = scale * torch.randn(2, 4, size, generator=generator, dtype=torch.float64)
    targets = torch.randint(size, (4,), generator=generator)
    hinge = inverted_hinge(z, targets)
    assert bool(((hinge >= 0) & (hinge <= 2)).all())
    assert bool((kl_from_uniform(z) >= -1e-12).all())
    assert bool((unlikelihood(log_odds(z, targets)) >= 0).all())
    for divergence in (jsd(z, other), jsd_to_token(z.log_softmax(-1)[:, 0])):
        assert bool(((divergence >= -1e-12) & (divergence <= math.log(2) + 1e-12)).all())


def test_inverted_hinge_by_hand():
    z = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1]], dtype=torch.float64))
    assert inverted_hinge(z, torch.tensor([0, 0])).tolist() == pytest.approx([1.5, 0.5])


def test_maximum_entropy_is_the_divergence_from_uniform():
    z = logits().detach()
    explicit = -(z.log_softmax(-1) + math.log(6)).mean(-1)
    assert torch.allclose(kl_from_uniform(z), explicit, atol=1e-12)
    assert kl_from_uniform(torch.full((1, 9), 4.0)).item() == pytest.approx(0.0, abs=1e-6)
    assert not torch.allclose(kl_from_uniform(z), math.log(6) - _entropy(z), atol=1e-2)


def _entropy(z: Tensor) -> Tensor:
    return -(z.softmax(-1) * z.log_softmax(-1)).sum(-1)


def test_jensen_shannon_to_one_token_is_the_closed_form_trap_t16():
    """Brute force with a target that is a distribution; the published one sums to two."""
    z = logits().detach()
    p, target = z.softmax(-1), one_hot(torch.tensor([TOKEN])).expand(5, 6)
    mean = (p + target) / 2
    assert torch.allclose(mean.sum(-1), torch.ones(5, dtype=torch.float64))
    brute = (p * (p / mean).log()).sum(-1) / 2 - mean[:, TOKEN].log() / 2
    assert torch.allclose(jsd_to_token(z.log_softmax(-1)[:, TOKEN]), brute, atol=1e-12)
    ends = jsd_to_token(torch.tensor([0.0, -800.0], dtype=torch.float64))
    assert ends.tolist() == pytest.approx([0.0, math.log(2)])


def test_jensen_shannon_is_symmetric_and_zero_only_at_the_original():
    first, second = logits(0).detach(), logits(1).detach()
    assert torch.allclose(jsd(first, second), jsd(second, first), atol=1e-14)
    assert jsd(first, first + 2.0).abs().max().item() < 1e-14
    p, q = first.softmax(-1), second.softmax(-1)
    mean = (p + q) / 2
    brute = (p * (p / mean).log() + q * (q / mean).log()).sum(-1) / 2
    assert torch.allclose(jsd(first, second), brute, atol=1e-12)


CONJUGATES = {
    "kl": (lambda v: v, lambda u: math.exp(u - 1)),
    "tv": (lambda v: math.tanh(v) / 2, lambda u: u),
    "pearson": (lambda v: v, lambda u: u * u / 4 + u),
    "js": (
        lambda v: math.log(2) - math.log(1 + math.exp(-v)),
        lambda u: -math.log(2 - math.exp(u)),
    ),
}


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_flat_by_hand_on_answers_of_unequal_length_trap_t8(divergence):
    """The mean probability is over an answer's own tokens, not over the longest of the batch."""
    wanted = _answers([[0.5, 0.1], [0.2]])
    unwanted = _answers([[0.9], [0.8, 0.4, 0.6]])
    g, conjugate = CONJUGATES[divergence]
    pairs = [(0.3, 0.9), (0.2, 0.6)]
    expected = sum(-g(up) + conjugate(g(down)) for up, down in pairs)
    term = FLAT(divergence=divergence).terms(SHAPE)[0]
    assert term.per == "sequence"
    assert term.streams == (Stream.ALTERNATIVE, Stream.FORGET)
    assert term.loss(wanted, unwanted).item() == pytest.approx(expected)


def test_flat_pairs_do_not_see_their_neighbours():
    """Published code takes the mean over the batch before the exponential."""
    term = FLAT(divergence="kl").terms(SHAPE)[0]
    wanted, unwanted = [[0.5], [0.1]], [[0.9], [0.2]]
    together = term.loss(_answers(wanted), _answers(unwanted)).item()
    alone = [
        term.loss(_answers([up]), _answers([down])).item()
        for up, down in zip(wanted, unwanted, strict=True)
    ]
    assert together == pytest.approx(sum(alone))
    assert together / 2 != pytest.approx(-0.3 + math.exp(0.55 - 1))


def _answers(p: list[list[float]]) -> Answers:
    flat = torch.tensor([value for row in p for value in row], dtype=torch.float64).log()
    sequence = torch.tensor([index for index, row in enumerate(p) for _ in row])
    return Answers(logp=flat, reference=None, sequence=sequence, size=len(p))


def test_llmu_has_three_terms_with_means_per_answer():
    ascent, mismatch, retain = LLMU().terms(SHAPE)
    assert [t.coef for t in (ascent, mismatch, retain)] == [0.5, 1.0, 1.0]
    assert [t.streams[0] for t in (ascent, mismatch, retain)] == [
        Stream.FORGET,
        Stream.MISMATCH,
        Stream.RETAIN,
    ]
    assert ascent.per == mismatch.per == "sequence"
    given_answers = _answers([[math.exp(-1), math.exp(-3)], [math.exp(-5)]])
    assert mismatch.loss(given_answers).item() == pytest.approx(2 + 5)
    assert ascent.loss(given_answers).item() == pytest.approx(-7)


def test_random_answers_are_scored_from_their_first_token_on_trap_t26():
    encoder = Encoder(tiny.tokenizer())
    ask = (Message("user", "who lives here?"),)
    mine = Record(id="a", prompt=ask, completion="Ann Bell")
    others = [Record(id=f"o{i}", prompt=ask, completion=f"other {i}") for i in range(7)]
    request = Request(goal="removal", forget=("x.jsonl",))
    made = variants(
        [mine],
        others,
        request,
        encoder,
        encode=encoder.encode,
        streams={Stream.MISMATCH},
        seed=0,
    )
    own = encoder.encode(mine)
    for record in made[Stream.MISMATCH][0]:
        assert record.start == own.start
        assert record.ids[: own.start] == own.ids[: own.start]
        assert encoder.decode(record.ids[record.start :]).startswith("other")


def test_satimp_weighs_forgetting_ten_times_trap_t10():
    method = SatImp()
    assert method.gamma / method.alpha == pytest.approx(10)


def test_pdu_looks_at_the_predictions_of_answer_tokens_trap_t7():
    network = tiny.network()
    (record,) = tiny.encoded((4, 3), seed=4)
    watcher = observer(Case(name="pdu"), network, replace(STREAMS, forget=(record,)))
    draw = BatchIndices(forget=(0,), retain=())
    (part,) = watcher.step_loss(draw, coefs={"forget": 1.0}, tokens_per_pass=4096)
    with torch.no_grad():
        z = network.model(input_ids=torch.tensor([record.ids])).logits[0]
    assert part.values["forget"] == pytest.approx(margin(z[3:6]).mean().item(), rel=1e-5)
    assert part.values["forget"] != pytest.approx(margin(z[4:7]).mean().item(), rel=1e-3)


@pytest.mark.parametrize(
    ("knobs", "progress", "seen_values", "expected"),
    [
        ({}, 0.4, [0.5], 100.0),
        ({}, 0.6, [0.5], 101.0),
        ({}, 0.6, [0.1], 99.0),
        ({"start": 0.5}, 0.6, [0.1], 0.0),
        ({"slack": 0.5, "wait": 0.0, "start": 3.0}, 0.0, [0.2], 2.5),
        ({"slack": 0.5, "wait": 0.0, "start": 3.0}, 0.0, [0.2, 0.5], 3.5),
    ],
)
def test_pdu_multiplier_by_hand(knobs, progress, seen_values, expected):
    multipliers = Multipliers.of(PDU(**knobs).terms(SHAPE))
    for value in seen_values:
        multipliers.step({"forget": 9.0, "retain": value}, progress)
    assert multipliers.values["retain"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "knobs", "message"),
    [
        ("flat", {"divergence": "tvd"}, "there is no divergence tvd"),
        ("jensun", {"token": 6}, "the model has no token 6"),
        ("jensun", {"token": -2}, "the model has no token -2"),
    ],
)
def test_a_wrong_knob_is_explained(name, knobs, message):
    with pytest.raises(UsageError, match=message):
        build(name, knobs).terms(SHAPE)
