"""The traps of published code: the table of traps.md is whole, and those without a home."""

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
import torch

import tiny
from expunge.methods import EVERY, build
from expunge.methods.base import Shape
from expunge.methods.describe import describe
from expunge.methods.rmu import RMU
from expunge.models.scoring import score
from expunge.models.transformer import Network
from expunge.optim import COMBINE, MASKS, OPTIMISERS, ROBUST
from expunge.planning.term_costs import Depth, step_needs
from expunge.training.forward import TermEvaluator
from expunge.training.reference_model import precompute
from expunge.training.sampler import Sampler
from expunge.training.trainable_weights import chosen, everything
from random_records import DRAW, FORGET, POOLS, RETAIN, STREAMS

ROOT = Path(__file__).parents[2]
TRAPS = range(1, 29)
_ROW = re.compile(r"\| T(\d+) \| (.+) \| (.+) \| (.+) \|")
LINES = Path(__file__).with_name("traps.md").read_text(encoding="utf-8").splitlines()
ROWS = [_ROW.fullmatch(line) for line in LINES]
TABLE = {int(row[1]): row[4] for row in ROWS if row}


@cache
def defined_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_trap_has_one_row():
    assert [int(row[1]) for row in ROWS if row] == list(TRAPS)


@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_names_tests_that_exist(trap):
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", TABLE[trap])
    assert named
    assert TABLE[trap].count("`") == 2 * len(named)
    assert [name for file, name in named if name not in defined_in(file)] == []


def test_traps_that_the_code_speaks_of_are_in_the_table():
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py")]
    spoken = {int(number) for text in texts for number in re.findall(r"trap T(\d+)", text)}
    assert spoken <= set(TRAPS)
    assert len(spoken) > 15


def move(network: Network) -> None:
    """Move the weights away from the original, so that no difference is zero by accident."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))


def values(name: str, knobs: dict[str, object], change=lambda network: None) -> dict[str, float]:
    """The values of a method's terms over one step, each record in a pass of its own."""
    network = tiny.network()
    everything(network)
    terms = build(name, knobs).terms(Shape(layers=2, width=64))
    references = precompute(network, terms, POOLS, pad_id=2, tokens_per_pass=1)
    change(network)
    watcher = TermEvaluator(
        network=network, terms=terms, streams=STREAMS, references=references, pad_id=2
    )
    found: Counter[str] = Counter()
    for part in watcher.step_loss(DRAW, coefs={t.name: 1.0 for t in terms}, tokens_per_pass=1):
        found.update(part.values)
    return found


def test_t4_kl_counts_scored_positions_alone():
    network, start = tiny.network(), tiny.network()
    move(network)
    scored: list[torch.Tensor] = []
    with torch.no_grad():
        for record in RETAIN:
            ids = torch.tensor([record.ids])
            now, before = (
                torch.log_softmax(each.model(input_ids=ids).logits[0].double(), -1)
                for each in (network, start)
            )
            divergence = (before.exp() * (before - now)).sum(-1)
            scored.append(divergence[record.start - 1 : -1])
    expected = float(torch.cat(scored).mean())
    assert values("graddiff", {"retain": "kl"}, move)["retain"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["graddiff", "wga", "satimp"])
def test_t5_nothing_runs_twice_and_nothing_unused_is_kept(name):
    found = describe(name, build(name, {}))
    assert found.keeps == ()
    assert found.cost.startswith("4 F a step")  # forget and retain, forward and back, once each


def test_t5_kl_shares_the_retain_pass():
    assert describe("graddiff", build("graddiff", {"retain": "kl"})).cost.startswith("4 F a step")


def test_t12_rmu_stops_at_its_layer_and_asks_for_three_gradients():
    network = tiny.network(tiny.llama(layers=8))
    shape, method = Shape(layers=8, width=64), RMU(layer=3)
    trains = method.trains(shape)
    chosen(network, trains)
    asking = {name for name, p in network.model.named_parameters() if p.requires_grad}
    assert asking == {f"model.layers.{block}.mlp.down_proj.weight" for block in (1, 2, 3)}
    order = Sampler(forget=4, retain=6, forget_batch=4, retain_batch=6, seed=0)
    step = step_needs(
        method.terms(shape),
        STREAMS,
        order,
        steps=1,
        depth=Depth.of(8, trains.first_layer, trains),
        tokens_per_pass=99,
    )
    assert (step.scored, step.again, step.frozen) == (0, 0, 0)
    assert step.forward <= 4 * step.tokens


def test_t12_the_head_is_never_called():
    network, called = tiny.network(tiny.llama(layers=4)), []
    terms = RMU(layer=1).terms(Shape(layers=4, width=64))
    references = precompute(network, terms, POOLS, pad_id=2, tokens_per_pass=99)
    watcher = TermEvaluator(
        network=network, terms=terms, streams=STREAMS, references=references, pad_id=2
    )
    network.model.lm_head.register_forward_hook(lambda *_: called.append("head"))
    network.model.model.layers[2].register_forward_hook(lambda *_: called.append("block 2"))
    network.model.model.layers[1].register_forward_hook(lambda *_: called.append("block 1"))
    coefs = {term.name: 1.0 for term in terms}
    assert list(watcher.step_loss(DRAW, coefs=coefs, tokens_per_pass=99))
    assert set(called) == {"block 1"}


def test_t15_what_cannot_be_checked_is_not_offered():
    offered = {*EVERY, *ROBUST, *COMBINE, *MASKS, *OPTIMISERS}
    assert not {name for name in offered if name in ("ilu", "irm", "invariance")}


@pytest.mark.parametrize(
    ("name", "mean"),
    [
        ("ga", lambda rows: -sum(map(sum, rows)) / sum(map(len, rows))),  # over 21 tokens
        ("simnpo", lambda rows: sum(_simnpo(row) for row in rows) / len(rows)),  # over 4 sequences
    ],
)
def test_t23_a_step_divides_by_its_tokens_or_by_its_sequences(name, mean):
    """However the step is cut: here every record has a pass of its own, of another length."""
    rows = [
        [-float(value) for value in each.logp]
        for each in score(tiny.network(), FORGET, pad_id=2, tokens_per_pass=4096)
    ]
    assert len({len(row) for row in rows}) > 1
    assert values(name, {})["forget"] == pytest.approx(mean(rows), rel=1e-4)


def _simnpo(nlls: list[float]) -> float:
    """SimNPO of one answer: beta 4.5, no margin."""
    beta = build("simnpo", {}).beta
    x = torch.tensor(beta * sum(nlls) / len(nlls), dtype=torch.float64)
    return float(-2 / beta * torch.nn.functional.logsigmoid(x))
