"""What changes places when attacks are told from chance: whole subjects, or single facts."""

import pytest

from expunge.evals.multiple_testing import (
    PairedUnits,
    UnpairedUnits,
    adjusted_paired,
    adjusted_unpaired,
    least_paired,
    least_unpaired,
    paired_units,
    unpaired_units,
)


def people(count, facts, name="p"):
    return {f"{name}{p} {f}": f"{name}{p}" for p in range(count) for f in range(facts)}


@pytest.mark.parametrize(
    ("theirs", "golds", "whole"),
    [(people(10, 3), 1, True), (people(5, 4), 1, False), (people(5, 4), 2, True),
     (people(4, 4), 9, False)],
)  # fmt: skip
def test_clusters_change_places_whole_where_they_are_enough_to_tell(theirs, golds, whole):
    assert (paired_units(theirs, golds) == theirs) is whole
    assert least_paired(theirs, golds) <= 0.01


@pytest.mark.parametrize(
    ("facts", "control", "whole"),
    [(people(2, 9), people(4, 9, "c"), False), (people(1, 9), people(10, 9, "c"), False),
     (people(5, 2), people(6, 2, "c"), True)],
)  # fmt: skip
def test_so_do_those_of_facts_and_control_items(facts, control, whole):
    both = facts | control
    assert (unpaired_units(both, facts) == both) is whole
    assert least_unpaired(both, facts) <= 0.01


def test_two_people_whose_every_fact_leaks_are_told_from_control_items():
    facts, control = people(2, 9), people(4, 9, "c")
    test = UnpairedUnits(dict.fromkeys(facts, 1.0), dict.fromkeys(control, 0.0))
    (p,) = adjusted_unpaired([test], facts | control, seed=0)
    assert p < 0.01


@pytest.mark.parametrize("gold", [True, False])
def test_labels_are_dealt_among_what_was_asked(gold):
    """8 of 40 facts leak; 360 more facts and as many control items are in the evidence, unasked."""
    facts, control = people(40, 1), people(40, 1, "c")
    judged = {name: float(index < 8) for index, name in enumerate(facts)}
    if gold:
        tests, adjusted = [PairedUnits(judged, (dict.fromkeys(facts, 0.0),))], adjusted_paired
    else:
        tests, adjusted = [UnpairedUnits(judged, dict.fromkeys(control, 0.0))], adjusted_unpaired
    asked = facts | control
    unasked = people(360, 1, "further ") | people(360, 1, "c further ")
    (p,) = adjusted(tests, asked | unasked, seed=0)
    assert [p] == adjusted(tests, asked, seed=0)
    assert p < 0.01
