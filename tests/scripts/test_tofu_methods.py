import pytest

from expunge.evidence.store import Answer
from tofu_methods import fluency


@pytest.mark.parametrize(
    ("text", "nll", "gibberish", "refusals"),
    [
        ("Her mother is a florist.", 1.0, 0.0, 0.0),
        ("I don't know.", 9.0, 0.0, 1.0),  # the original would never say it: still no gibberish
        ("I don't know.", 1.0, 0.0, 1.0),
        ("I don't know. " * 9, 1.0, 1.0, 0.0),
        ("xq florist 7 the the", 9.0, 1.0, 0.0),
        ("", None, 1.0, 0.0),
    ],
)
def test_a_refusal_is_not_counted_as_gibberish(text, nll, gibberish, refusals):
    found = fluency([Answer(record="a", text=text, nll=nll)])
    assert found == {"gibberish": gibberish, "refusals": refusals}


def test_shares_are_of_all_answers():
    said = [("I'm not sure.", 7.0), ("Yes.", 1.0), ("", None), ("No.", 2.0)]
    found = fluency([Answer(record=str(i), text=t, nll=n) for i, (t, n) in enumerate(said)])
    assert found == {"gibberish": 0.25, "refusals": 0.25}
