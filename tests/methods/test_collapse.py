"""Ascent collapses on a model that knows its records by heart, and a retain term rescues it."""

import pytest

from expunge.methods import build
from random_records import FORGET, RETAIN
from taught_tiny import NEVER, probability, taught, unlearning


@pytest.mark.parametrize(
    ("name", "breaks", "keeps"),
    [
        ("ascent", ("ga", {}), ("graddiff", {})),
        ("multiplier", ("pdu", {"start": 0, "eta": 0}), ("pdu", {"start": 0, "wait": 0})),
        ("flat", ("flat", {}), ("flat", {"retain": "nll"})),
    ],
)
def test_without_a_retain_term_the_model_breaks_and_with_one_it_does_not(
    name, breaks, keeps, tmp_path
):
    def survives(method, folder) -> float:
        network = taught()
        before = probability(network, RETAIN)
        run = unlearning(
            network,
            build(*method),
            lr=3e-3,
            steps=25,
            batch=4,
            retain_batch=6,
            utility_budget=1.0,
        )
        run.run(unseen=NEVER, folder=tmp_path / folder, progress=lambda step, text: None)
        assert probability(network, FORGET) < 0.5
        return probability(network, RETAIN) / before

    assert survives(breaks, "breaks") < 0.5
    assert survives(keeps, "keeps") > 0.9
