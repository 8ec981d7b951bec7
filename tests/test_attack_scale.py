"""The scale of a test: what the original must have known before a share of it can come back."""

import numpy as np
import pytest

from expunge.audit.attacks.attempt import Attempt
from expunge.audit.attacks.ladder import ladder
from expunge.audit.attacks.store import Outcome
from expunge.audit.results import Status
from trials import FACTS, ITEMS, ground, trial


def depths(*levels, seed=0):
    """A measurement of every fact at some depths; of each depth the mean is given."""
    noise = np.random.default_rng(seed).uniform(-0.15, 0.15, FACTS)
    return Outcome(
        attempts=tuple(
            Attempt(record=each.record, variant=f"block {depth}", value=level + float(beside))
            for depth, level in enumerate(levels)
            for each, beside in zip(ITEMS, noise - noise.mean(), strict=True)
        )
    )


@pytest.mark.parametrize(
    ("original", "golds", "computed"),
    [
        (depths(0.6, seed=1), [depths(0.3, seed=2)], True),
        (depths(0.31, seed=1), [depths(0.3, seed=2)], False),
        (depths(0.3, seed=1), [depths(0.4, seed=2)], False),
        (depths(0.6, seed=1), [depths(0.2, seed=2), depths(0.4, seed=3)], False),
        (depths(0.6, seed=1), [depths(0.29, seed=2), depths(0.31, seed=3)], True),
    ],
)
def test_on_a_scale_of_its_own_the_original_must_measurably_know_more(original, golds, computed):
    """Above gold with its 95 % interval, and by more than three deviations between golds."""
    one = trial("lens", depths(0.35, seed=4), golds, own_scale=True, original=original)
    (rung,) = ladder([one], ground(golds=golds))
    assert (rung.worst is not None) is computed
    if not computed:
        assert rung.status is Status.NOT_COMPUTABLE
        assert "did not measurably know more than gold" in rung.reason


def test_a_depth_at_which_the_original_knows_nothing_is_left_out():
    """There gold lies below it by luck, and so does any model: a share of luck is no recovery."""
    one = trial(
        "lens",
        depths(0.32, 0.3, seed=1),
        [depths(0.3, 0.3, seed=2)],
        own_scale=True,
        union=False,
        original=depths(0.31, 0.8, seed=3),
    )
    (rung,) = ladder([one], ground())
    assert [test.variant for test in rung.tests] == ["block 1"]
    assert rung.status is Status.PASS
