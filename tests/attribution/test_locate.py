"""Where facts lie: planted weights are found, masks forget equally, and help is never assumed."""

import json
from dataclasses import replace

import pytest
import torch

import planted_weights
import random_records
import taught_tiny
import tiny
from expunge.attribution.causal_trace import traced_record
from expunge.attribution.localisation import MaskTrial
from expunge.attribution.masked_step import RISE, MaskedStep
from expunge.attribution.parts import ModelPart, part_matrices
from expunge.attribution.saliency import gradient_saliency, nll_gradient
from expunge.cli.main import main
from expunge.data.records import Message, Record
from expunge.data.tokenization import Encoder
from expunge.methods.base import Trains
from expunge.models.architecture import linear_layers
from expunge.pipeline.locate import settings_of

FORGET = tiny.encoded((6, 4), (5, 3), seed=1)
RETAIN = tiny.encoded((6, 4), (5, 5), (4, 4), seed=2)
PLANTED = (ModelPart(3, "mlp"),)


@pytest.fixture(scope="module")
def world():
    return planted_weights.planted(PLANTED, seed=0)


@pytest.fixture(scope="module")
def located(world):
    return world.located()


@pytest.mark.slow
def test_patching_ranks_the_planted_part_among_its_first_two(located):
    """Of twelve parts. Saliency is no test: it finds planted weights no better than a lot."""
    scores = located.rankings["patched"]
    assert PLANTED[0] in sorted(scores, key=scores.get, reverse=True)[:2]


@pytest.mark.slow
def test_the_noise_takes_the_facts_away_and_one_part_brings_them_back(located):
    effects = located.effects
    assert effects.clean - effects.noised > 2
    assert effects.traced[PLANTED[0]] > 0.5


@pytest.mark.slow
def test_only_a_candidate_that_beats_every_random_mask_and_all_parts_helps(located):
    random = located.control("mlp")
    for name, damage, whole, helps in (
        ("clearly better", min(random) / 10, 1.0, True),
        ("no better than one of them", min(random), 1.0, False),
        ("worse than all parts", min(random) / 10, min(random) / 20, False),
        ("cannot forget", None, 1.0, False),
    ):
        trial = MaskTrial(name=name, kind="mlp", blocks=(3,), damage=damage)
        everything = replace(located.everything, damage=whole)
        changed = replace(located, everything=everything, candidates=(trial,))
        assert (changed.best is not None) is helps, name


@pytest.mark.slow
def test_what_helps_becomes_settings_that_train_it_alone(world, located):
    trial = MaskTrial(name="patched", kind="attention", blocks=(2, 3), damage=-1.0)
    random = tuple(replace(each, kind="attention", damage=1.0) for each in located.controls)
    helped = replace(located, candidates=(trial,), controls=random)
    settings = dict(each.split("=") for each in settings_of(helped, world.network))
    trains = Trains(
        modules=(settings["train.targets"],),
        first_layer=int(settings["train.first_layer"]),
        last_layer=int(settings["train.last_layer"]),
    )
    assert {index for index, _ in linear_layers(world.network.layers, trains)} == {2, 3}
    assert trains.takes("self_attn.q_proj")
    assert not trains.takes("mlp.up_proj")
    assert settings_of(replace(helped, candidates=()), world.network) == ()


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (tiny.llama, {"self_attn.q_proj", "mlp.down_proj"}),
        (tiny.gpt2, {"attn.c_attn", "mlp.c_fc"}),
        (tiny.falcon, {"self_attention.dense", "mlp.dense_h_to_4h"}),
        (tiny.mixtral, {"self_attn.q_proj"}),
    ],
)
def test_every_architecture_has_attention_and_mlp_in_each_block(model, names):
    found = part_matrices(tiny.network(model()))
    assert set(found) == {ModelPart(b, kind) for b in (0, 1) for kind in ("attention", "mlp")}
    assert names <= {name for own in found.values() for name in own}


def test_a_masked_step_forgets_the_same_with_any_mask_and_is_taken_back(monkeypatch):
    network = taught_tiny.taught()
    before = {name: w.clone() for name, w in network.model.state_dict().items()}
    weights = part_matrices(network)
    forget, retain = random_records.FORGET, random_records.RETAIN
    slopes = nll_gradient(network, forget, weights, pad_id=2)
    step = MaskedStep(network=network, forget=forget, retain=retain, pad_id=2)
    level, losses, measure = step.losses(), [], MaskedStep.loss
    monkeypatch.setattr(
        MaskedStep, "loss", lambda self, rows: losses.append(measure(self, rows)) or losses[-1]
    )
    for part in weights:
        damage = step.damage([*weights[part].values()], [*slopes[part].values()], level)
        rise = losses[-2] - level.forget
        assert rise == pytest.approx(RISE, rel=0.1)
        assert damage == pytest.approx((losses[-1] - level.retain) / rise)
    assert len(losses) <= 10 * len(weights)
    assert all(torch.equal(w, before[name]) for name, w in network.model.state_dict().items())


def test_saliency_is_the_ratio_of_gradients():
    network = tiny.network()
    weights = part_matrices(network)
    forget = nll_gradient(network, FORGET, weights, pad_id=2)
    retain = nll_gradient(network, RETAIN, weights, pad_id=2)
    part, name = ModelPart(1, "mlp"), "mlp.up_proj"
    found = gradient_saliency(forget, retain)
    ratio = forget[part][name].norm() / retain[part][name].norm()
    assert found.matrices[1, name] == pytest.approx(float(ratio), rel=1e-5)
    assert gradient_saliency(forget, forget).parts[part] == 1.0


def test_the_subject_of_a_question_is_noised_and_a_passage_has_none():
    encoder = Encoder(tiny.tokenizer())
    question = "Where does Lin Aro live?"
    record = Record(
        id="a", prompt=(Message("user", question),), completion="Oslo", subject="Lin Aro"
    )
    found = traced_record(encoder, record)
    assert encoder.decode(found.encoded.ids[found.subject.start : found.subject.stop]) == "Lin Aro"
    assert traced_record(encoder, replace(record, prompt=(), subject=None)) is None


def test_the_command_writes_a_table_and_a_picture_and_says_that_it_did_not_help(tmp_path, capsys):
    model = tiny.save(tmp_path / "model", tiny.llama())
    rows = [{"prompt": f"Where is Lin Aro on day {n}?", "completion": f"Oslo {n}"} for n in "123"]
    data = tmp_path / "erase.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "located"
    assert main(["locate", str(model), "--for", str(data), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "localisation did not help" in said
    assert "--set" not in said
    found = json.loads((out / "locate.json").read_text())
    assert not found["helps"]
    assert {(each["block"], each["kind"]) for each in found["parts"]} == {
        (block, kind) for block in (0, 1) for kind in ("attention", "mlp")
    }
    assert (out / "locate.svg").read_text().startswith("<svg ")
