"""Batches: which records share a forward pass, and how they lie in it."""

from dataclasses import replace

import torch
from hypothesis import given
from hypothesis import strategies as st

import tiny
from expunge.models.batching import by_beginning, by_length, collate, evenly, shared_beginning
from expunge.models.scoring import score


def test_shared_beginning_never_holds_a_token_that_predicts_a_scored_one():
    same = [replace(tiny.encoded((8, 4))[0], start=start) for start in (8, 6, 9, 8)]
    assert shared_beginning(same) == 5


def test_padding_token_that_ends_an_answer_stays_scored():
    records = tiny.encoded((3, 4), (3, 9))
    ending = records[0].__class__(record="end", ids=(*records[0].ids[:-1], 2), start=3, ends=True)
    batch = collate([ending, records[1]], pad_id=2, device=torch.device("cpu"))
    assert batch.targets[:4].tolist() == list(ending.ids[3:])
    assert batch.ids[0, 7:].tolist() == [2] * 5
    padded = score(tiny.network(), [ending, records[1]], pad_id=2, tokens_per_pass=999)[0]
    alone = score(tiny.network(), [ending], pad_id=2, tokens_per_pass=999)[0]
    assert torch.allclose(padded.logp, alone.logp, atol=1e-5)


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 200))
def test_groups_cover_every_record_once_and_keep_the_limit(lengths, tokens):
    groups = list(by_length(lengths, tokens=tokens))
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or max(lengths[i] for i in group) * len(group) <= tokens


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 200))
def test_even_groups_are_as_many_and_no_larger(lengths, tokens):
    def largest(groups):
        return max((max(lengths[i] for i in g) * len(g) for g in groups), default=0)

    greedy, even = list(by_length(lengths, tokens=tokens)), evenly(lengths, tokens=tokens)
    assert sorted(index for group in even for index in group) == list(range(len(lengths)))
    assert len(even) == len(greedy)
    cuts = [list(by_length(lengths, tokens=limit)) for limit in range(tokens + 1)]
    assert largest(even) == min(largest(cut) for cut in cuts if len(cut) == len(greedy))


def test_groups_are_even():
    assert [len(group) for group in by_length([10] * 6, tokens=50)] == [5, 1]
    assert [len(group) for group in evenly([10] * 6, tokens=50)] == [3, 3]


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=40), max_size=12))
def test_beginnings_hold_every_prompt_once_and_are_their_own(prompts):
    groups = by_beginning(prompts)
    assert sorted(row for group in groups for row in group.rows) == list(range(len(prompts)))
    for length, rows in groups:
        assert len({tuple(prompts[row][:length]) for row in rows}) == 1
        assert length == 0 or length < min(len(prompts[row]) for row in rows)


def test_prompts_of_several_formats_are_read_behind_the_beginning_of_their_own():
    system, other = tuple(range(30)), tuple(range(50, 90))
    prompts = [(*system, 91), (*other, 92), (7,), (*system, 93, 94), (*other, 95)]
    assert by_beginning(prompts) == [(30, (0, 3)), (40, (1, 4)), (0, (2,))]
    assert by_beginning([(*system[:20], 91), (*system[:20], 92)]) == [(0, (0, 1))], "too short"
