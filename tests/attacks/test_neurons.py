"""Neurons of the MLPs: where they write, what is left without some, and where there are none."""

import pytest
import torch

import tiny
from attack_facts import FACTS, make_target
from expunge.attacks.base import Unmet
from expunge.attacks.weight_space.set_difference import dropped, importance, last_matrices


def test_dropped_neurons_write_nothing(tmp_path):
    target = make_target(tmp_path)
    encoded = [target.encoder.encode(record) for record in FACTS]
    before = importance(target.network, encoded, pad_id=2, tokens_per_pass=2048)
    mask = torch.zeros(128, dtype=torch.bool)
    mask[5] = True
    with dropped(target.network, {0: mask}):
        after = importance(target.network, encoded, pad_id=2, tokens_per_pass=2048)
    assert float(before[0][5]) > 0
    assert float(after[0][5]) == 0
    assert torch.equal(after[0][6:], before[0][6:])


@pytest.mark.parametrize("build", [tiny.mixtral, tiny.qwen_moe])
def test_neurons_of_experts_are_not_told_apart(build):
    with pytest.raises(Unmet, match="no plain MLP"):
        last_matrices(tiny.network(build()))


@pytest.mark.parametrize(("build", "ends"), [(tiny.llama, "down_proj"), (tiny.gpt2, "c_proj"),
                                             (tiny.falcon, "dense_4h_to_h")])  # fmt: skip
def test_the_matrix_that_writes_to_the_residual_stream(build, ends):
    network = tiny.network(build())
    found = [block.get_submodule(f"mlp.{ends}") for block in network.layers]
    assert all(a is b for a, b in zip(last_matrices(network), found, strict=True))
