"""The search for near-copies, against all continuations there are."""

import math
from itertools import product

import pytest
import torch

import tiny
from expunge.methods.guards.base import GuardRules
from expunge.models.beam_search import Wanted, near_copies

ALLOWED = (10, 11, 12, 13, 14)
ENDS = set(range(tiny.VOCABULARY)) - set(ALLOWED)
"""All others end an answer, so that every continuation can be counted."""
PROMPTS = [record.ids for record in tiny.encoded((4, 1), (9, 1), (7, 1))]
TEXTS = [(10, 11, 12, 13), (14, 14, 10), (12, 13, 12, 10)]


def peaked(build=tiny.llama):
    network = tiny.network(build())
    network.model.lm_head.weight.data.mul_(20)  # far from uniform
    return network


def edits(first, second):
    """The Levenshtein distance, by its recursion."""
    if not first or not second:
        return len(first) + len(second)
    same = edits(first[:-1], second[:-1]) + (first[-1] != second[-1])
    return min(same, edits(first[:-1], second) + 1, edits(first, second[:-1]) + 1)


def everything(network, wanted):
    """Every near-copy with its log-probability, the likeliest first."""
    texts = [
        text
        for text in product(ALLOWED, repeat=len(wanted.text))
        if edits(text, wanted.text) <= wanted.edits
    ]
    rows = torch.tensor([(*wanted.prompt, *text) for text in texts])
    with torch.no_grad():
        logp = network.model(input_ids=rows[:, :-1]).logits.float().log_softmax(-1)
    start = len(wanted.prompt)
    each = logp[:, start - 1 :].gather(-1, rows[:, start:, None]).squeeze(-1).sum(-1)
    return sorted(zip(texts, each.tolist(), strict=True), key=lambda pair: -pair[1])


@pytest.mark.parametrize("build", [tiny.llama, tiny.gpt2])
@pytest.mark.parametrize("distance", [0, 1, 2, 3])
@pytest.mark.parametrize("tokens_per_pass", [1, 10**6])
def test_a_wide_search_finds_every_near_copy(build, distance, tokens_per_pass):
    network = peaked(build)
    wanted = [Wanted(p, text, distance) for p, text in zip(PROMPTS, TEXTS, strict=True)]
    found = near_copies(network, wanted, width=5**4, end_ids=ENDS, tokens_per_pass=tokens_per_pass)
    for each, copies in zip(wanted, found, strict=True):
        expected = everything(network, each)
        assert {copy.tokens for copy in copies} == {text for text, _ in expected}
        likelihoods = dict(expected)
        for copy in copies:
            assert copy.logp == pytest.approx(likelihoods[copy.tokens], abs=2e-4)
        assert [copy.logp for copy in copies] == sorted(
            (copy.logp for copy in copies), reverse=True
        )


def test_a_narrow_search_is_a_lower_bound():
    network = peaked()
    wanted = [Wanted(p, text, 2) for p, text in zip(PROMPTS, TEXTS, strict=True)]
    last = [0.0] * len(wanted)
    for width in (1, 3, 9, 27, 625):
        found = near_copies(network, wanted, width=width, end_ids=ENDS, tokens_per_pass=999)
        sums = [math.fsum(math.exp(copy.logp) for copy in copies) for copies in found]
        assert all(len(copies) <= width for copies in found)
        assert all(now >= before - 1e-6 for now, before in zip(sums, last, strict=True))
        last = sums
    for each, whole in zip(wanted, last, strict=True):
        total = math.fsum(math.exp(logp) for _, logp in everything(network, each))
        assert whole == pytest.approx(total, rel=1e-3)


def test_with_no_edits_it_is_the_probability_of_the_text():
    network = peaked()
    wanted = [Wanted(PROMPTS[0], TEXTS[0], 0)]
    ((copy,),) = near_copies(network, wanted, width=20, end_ids=(), tokens_per_pass=99)
    ((text, logp),) = everything(network, wanted[0])
    assert copy.tokens == text
    assert copy.logp == pytest.approx(logp, abs=1e-4)


def test_a_text_that_holds_an_end_token_has_only_copies_without_it():
    wanted = [Wanted(PROMPTS[0], (10, 5, 12), 1), Wanted(PROMPTS[1], (10, 5, 5), 1)]
    first, second = near_copies(peaked(), wanted, width=99, end_ids=ENDS, tokens_per_pass=99)
    assert {copy.tokens for copy in first} == {(10, token, 12) for token in ALLOWED}
    assert second == []


def test_the_search_goes_through_the_guard():
    network = peaked()
    network.guard = GuardRules(reply=(50, 51, 52, 2))
    wanted = [Wanted(PROMPTS[0], (50, 51, 52), 1)]
    ((best, *_),) = near_copies(network, wanted, width=3, end_ids=(2,), tokens_per_pass=99)
    assert best.tokens == (50, 51, 52)
    assert best.logp == pytest.approx(0.0, abs=1e-3)
