"""States under the lowest trained block: what is known of them is not computed again."""

from dataclasses import replace

import pytest
import torch

import tiny
from expunge.methods.base import Shape, Stream
from expunge.methods.graddiff import GradDiff
from expunge.methods.npo import NPO
from expunge.methods.rmu import RMU
from expunge.models.lora import LoraShape
from expunge.models.scoring import score
from expunge.training.activation_cache import LowerStates, compute_lower
from expunge.training.early_stopping import EarlyStopping, Unseen
from expunge.training.reference_model import precompute
from expunge.training.sampler import Streams
from expunge.training.trainer import Trainer, TrainingArgs
from tiny import counted

FORGET = tiny.encoded((12, 8), (9, 14), (20, 6), seed=1)
RETAIN = tiny.encoded((12, 8), (9, 14), (20, 6), (7, 7), seed=2)
OTHERS = tiny.encoded((12, 8), seed=3)
POOLS = {Stream.FORGET: FORGET, Stream.RETAIN: RETAIN}
HOW = {"pad_id": 2, "tokens_per_pass": 60}
SHAPE = Shape(layers=4, width=64)
NEVER = Unseen(mean=float("inf"), low=float("inf"))
MODELS = {
    "llama": lambda: tiny.llama(layers=4),
    "gpt2": lambda: tiny.gpt2(),
    "falcon": lambda: tiny.falcon(),
    "bf16": lambda: tiny.llama(layers=4, dtype=torch.bfloat16),
}


def close(own, others):
    assert own.keys() == others.keys()
    near = {"rtol": 0.02, "atol": 0.02} if _narrow(own) else {}
    for name in own:
        torch.testing.assert_close(own[name], others[name], **near)
    return bool(own)


def _narrow(values):
    return any(value.dtype is torch.bfloat16 for value in values.values())


def lower_of(network, layer, folder, records=(*FORGET, *RETAIN)):
    return compute_lower(network, records, layer=layer, file=folder / "lower.bin", **HOW)


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_references_start_from_what_is_known(build, tmp_path):
    network = tiny.network(build())
    shape = Shape(layers=len(network.layers), width=64)
    terms = [t for m in (NPO(), GradDiff(retain="kl"), RMU(layer=1)) for t in m.terms(shape)]
    lower = lower_of(network, 1, tmp_path)
    plain, whole = counted(lambda: precompute(network, terms, POOLS, **HOW))
    found, spent = counted(lambda: precompute(network, terms, POOLS, **HOW, lower=lower))
    assert spent < whole
    assert close(found.hiddens, plain.hiddens)
    assert close(found.states, plain.states)
    for name, logp in found.logps.items():
        near = 0.05 if network.model.dtype is torch.bfloat16 else 1e-4
        torch.testing.assert_close(logp, plain.logps[name], rtol=0, atol=near)


@pytest.mark.parametrize(("layer", "starts"), [(1, True), (2, True), (3, False)])
def test_a_site_under_the_known_states_is_run_to_from_below(layer, starts, tmp_path):
    network = tiny.network(tiny.llama(layers=4))
    terms = RMU(layer=2).terms(SHAPE)
    lower = lower_of(network, layer, tmp_path)
    plain, whole = counted(lambda: precompute(network, terms, POOLS, **HOW))
    found, spent = counted(lambda: precompute(network, terms, POOLS, **HOW, lower=lower))
    assert (spent < whole) is starts
    assert close(found.states, plain.states)


@pytest.mark.parametrize(
    ("records", "starts"), [(FORGET, True), (OTHERS, False), ((*FORGET, *OTHERS), False)]
)
def test_scores_of_records_that_are_not_all_known_come_from_whole_passes(records, starts, tmp_path):
    network = tiny.network(tiny.llama(layers=4))
    lower = lower_of(network, 2, tmp_path)
    how = {"pad_id": 2, "tokens_per_pass": 4096}
    plain, whole = counted(lambda: score(network, records, **how))
    found, spent = counted(lambda: score(network, records, **how, known=lower.find))
    assert (spent < whole) is starts
    for own, other in zip(found, plain, strict=True):
        torch.testing.assert_close(own.logp, other.logp)


def test_a_look_at_the_probes_starts_from_what_is_known(tmp_path):
    network = tiny.network(tiny.llama(layers=4))
    lower = lower_of(network, 3, tmp_path)
    plain = EarlyStopping(forget=FORGET, retain=RETAIN, unseen=NEVER, utility_budget=0.05, **HOW)
    known = replace(plain, known=lower.find)
    reading, whole = counted(lambda: plain.look(network))
    found, spent = counted(lambda: known.look(network))
    assert spent < whole
    assert found.forget_nll == pytest.approx(reading.forget_nll)
    assert found.retain_probability == pytest.approx(reading.retain_probability)
    assert found.low_share == reading.low_share


@pytest.mark.parametrize("first", [0, 2])
def test_a_run_looks_at_its_probes_above_the_lowest_trained_block(first, tmp_path, monkeypatch):
    def trained(folder):
        run = Trainer(
            method=NPO(),
            network=tiny.network(tiny.llama(layers=4)),
            streams=Streams(forget=FORGET, retain=RETAIN),
            # Two steps of one record each draw fewer records than the probes hold.
            options=TrainingArgs(
                lora=LoraShape(rank=4, first_layer=first),
                steps=2,
                lr=1e-3,
                batch=1,
                retain_batch=1,
                check_every=1,
            ),
            pad_id=2,
        )
        done, _ = run.run(unseen=NEVER, folder=folder, progress=lambda *_: None)
        return done.readings

    found, spent = counted(lambda: trained(tmp_path / "known"))
    monkeypatch.setattr(LowerStates, "find", lambda *_: None)
    plain, whole = counted(lambda: trained(tmp_path / "whole"))
    assert (spent < whole) is (first > 0)
    assert len(found) == len(plain) > 1
    for (step, own), (other_step, other) in zip(found, plain, strict=True):
        assert step == other_step
        assert own.forget_nll == pytest.approx(other.forget_nll, rel=1e-4)
        assert own.retain_probability == pytest.approx(other.retain_probability, rel=1e-4)
