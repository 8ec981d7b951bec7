"""The U-LiRA script on the tiny world: who remembers looks trained, who cannot does not."""

import runpy
from pathlib import Path

import torch

from expunge.models.loading import Source, load
from expunge.preparation.prepare import prepare
from tiny import save

SCRIPT = Path(__file__).parents[2] / "scripts" / "u_lira.py"


def shaken(reference, folder, seed):
    """The same model with a little noise: another seed of the same training."""
    loaded = load(reference, Source(device=torch.device("cpu"), dtype=torch.float32))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in loaded.network.model.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.add_(0.02 * weight.std(correction=0) * noise)
    return str(save(folder, loaded.network.model))


def test_records_that_are_still_known_are_named(world, bench):
    script = runpy.run_path(str(SCRIPT))
    kept = [shaken(world.original, bench / f"o{i}", i) for i in range(3)]
    without = [shaken(world.gold, bench / f"g{i}", i) for i in range(4)]
    prepared = prepare(world.settings())
    known = script["attack"](prepared, world.original, kept, without[:3])
    assert known["share_above_0"] > 0.9
    assert known["leave_one_out_auc"] > 0.9
    assert len(known["records"]) == len(prepared.scope.forget)
    gone = script["attack"](prepared, without[3], kept, without[:3])
    assert gone["share_above_0"] < 0.5
