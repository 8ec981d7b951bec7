"""Memory by arithmetic, against numbers worked out by hand."""

from dataclasses import replace
from pathlib import Path

import pytest

from expunge.planning.cost import PROCESS_GIB, peak_gib
from expunge.planning.memory import GIB, RunLayout, Size, fewest, memory

ROOT = Path(__file__).parents[2]
# 8 blocks of 100 numbers whose matrices have 10 inputs and outputs; embeddings and head of 100.
SIZE = Size(total=1000, body=800, head=100, layers=8, width=10, vocabulary=10, linear_sides=80)


def held(**how) -> dict[str, float]:
    found = memory(SIZE, RunLayout(**{"trained": 1000, "tokens": 3, **how}))
    parts = {name: getattr(found, name) * GIB for name in type(found).__slots__}
    return {name: round(value, 3) for name, value in parts.items() if name != "overhead"}


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        # 16-bit weights and a float32 master of each.
        ({}, {"weights": 2000, "masters": 4000, "gradient": 4000, "moments": 8000, "gathered": 0}),
        # 3 tokens keep 1.2 * 10 numbers in each of 8 blocks, and 2 * 10 for norms in 16 bits.
        ({"bytes_each": 4}, {"weights": 4000, "masters": 0, "activations": 4 * 3 * 12 * 8}),
        (
            {},
            {
                "activations": 2 * 3 * 32 * 8,
                "one_block": 1.4 * 2 * 3 * 32,
                "again": 0,
                "early": 400,
            },
        ),
        ({"blocks": 2.5}, {"activations": 2 * 3 * 32 * 2.5}),
        ({"adapter": True, "trained": 50}, {"activations": 2 * 3 * 30 * 8, "early": 0}),
        ({"checkpointing": True}, {"activations": 2 * 3 * 8 * 10, "again": 1.4 * 2 * 3 * 32}),
        ({"passes": 2}, {"early": 4000}),
        ({"scored": 7, "frozen": 5}, {"logits": 4 * 10 * (2 * 7 + 4 * 5)}),
        ({"copies": 2}, {"copies": 8000}),
        ({"references": 6}, {"references": 2 * 10 * 6}),
        # On a card these lie in host memory; the original's head does not, where it is kept.
        ({"references": 6, "card": True}, {"references": 0}),
        ({"frozen": 5}, {"copies": 2 * 100}),
        ({"frozen": 5, "head_trains": False}, {"copies": 0}),
        ({"optimiser": "adamw8bit"}, {"moments": 1000 * (2 + 1 / 64)}),
        ({"trained": 50}, {"weights": 2000, "masters": 200, "gradient": 200, "moments": 400}),
        # Four processes: a quarter of everything, two blocks of 100 and 200 outside gathered.
        (
            {"processes": 4, "spread": True},
            {"weights": 0, "masters": 1000, "gradient": 1000, "moments": 2000, "gathered": 800},
        ),
        # Copies instead of parts: more processes change nothing.
        ({"processes": 4, "trained": 50}, {"weights": 2000, "masters": 200}),
    ],
)
def test_parts_of_memory(how, expected):
    found = held(**how)
    assert {name: found[name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("how", "kept", "again"),
    [
        # An MLP of width 2 and two norms of width 1 in each block.
        ({"bytes_each": 4}, 4 * 3 * (12 - 4 - 2), 4 * 3 * 5 * 2),
        ({}, 2 * 3 * (32 - 4 - 2 - 2), 2 * 3 * 5 * 2),
        ({"adapter": True, "trained": 50}, 2 * 3 * (30 - 4 - 2), 2 * 3 * 5 * 2),
        ({"adapter": True, "trained": 50, "bytes_each": 4}, 4 * 3 * (10 - 4), 4 * 3 * 5 * 2),
        ({"blocks": 0.5}, 2 * 3 * 24 / 16, 2 * 3 * 5 * 2 * 0.5),
        ({"checkpointing": True}, 2 * 3 * 10, 1.4 * 2 * 3 * 32),
    ],
)
def test_what_is_made_again_is_not_kept(how, kept, again):
    size = replace(SIZE, gated=16, normed=16)
    found = memory(size, RunLayout(**{"trained": 1000, "tokens": 3, **how}))
    assert found.activations * GIB == pytest.approx(8 * kept)
    assert found.again * GIB == pytest.approx(again)


def test_the_total_is_the_larger_of_forward_and_gradient_and_names_the_runtime():
    frozen = memory(SIZE, RunLayout(trained=0, tokens=0))
    assert frozen.total == pytest.approx(1.5 + (2000 + 4 * 10 * 2 * 512) / GIB)
    deep = memory(SIZE, RunLayout(trained=1000, tokens=3, scored=0))
    assert deep.total == pytest.approx(1.5 + (2000 + 4000 + 8000 + 4000 + 1.4 * 192) / GIB)
    long = memory(SIZE, RunLayout(trained=1000, tokens=3000, scored=0))
    assert long.total == pytest.approx(1.5 + (2000 + 4000 + 8000 + 400 + 1536000) / GIB)


@pytest.mark.parametrize(
    ("how", "models"),
    [
        # The original's weights in host memory, the model, the blocks as they were, and a copy.
        ({}, 1 + 1 + 0.8 + 1),
        ({"card": True}, 1 + 0.8),
        ({"card": True, "models": 2}, 2 + 0.8),
        # Training holds more: two bytes of weights, 4 each of masters, gradient, two moments.
        ({"trained": 1000}, 1 + 9),
        ({"trained": 1000, "card": True}, 9),
        ({"trained": 1000, "card": True, "models": 9}, 9 + 1),
    ],
)
def test_the_peak_is_that_of_training_or_of_the_audit(how, models):
    layout = RunLayout(**{"trained": 50, "tokens": 0, "scored": 0, "head_trains": False, **how})
    silent = replace(SIZE, vocabulary=0)
    assert (peak_gib(silent, layout) - PROCESS_GIB) * GIB == pytest.approx(models * 2000)
    said = peak_gib(SIZE, replace(layout, models=9)) - peak_gib(silent, replace(layout, models=9))
    writing = 0 if layout.card else 2000  # it is there while nothing is scored
    assert said * GIB == pytest.approx(4 * 4 * 512 * 10 - writing)


def test_fewest_processes_is_the_first_number_that_fits():
    billions = Size(
        total=8 * 10**9,
        body=7 * 10**9,
        head=5 * 10**8,
        layers=32,
        width=4096,
        vocabulary=128256,
        linear_sides=0,
    )
    layout = RunLayout(trained=billions.total, checkpointing=True, tokens=2048)
    count = fewest(billions, layout, gib=80)
    assert count == 2  # 16 bytes each: 119 GiB, and what does not shrink
    assert fewest(billions, layout, gib=4) is None
