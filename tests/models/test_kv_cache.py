import copy

import pytest
import torch
from transformers import DynamicCache, MistralConfig
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

import tiny
from expunge.models.transformer import STEP, GrowingLayer, new_cache

REPEAT, KEEP = torch.tensor([0, 0, 2]), torch.tensor([1])
CONFIG = tiny.llama().config


def columns(rows, count, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, 2, count, 16, generator=generator) for _ in range(2)]


def same(ours, theirs):
    assert ours.get_seq_length() == theirs.get_seq_length()
    for own, other in zip(ours.layers, theirs.layers, strict=True):
        assert torch.equal(own.keys, other.keys)
        assert torch.equal(own.values, other.values)


def grow(caches, rows, count, seed):
    for layer in range(2):
        found = [cache.update(*columns(rows, count, seed + layer), layer) for cache in caches]
        assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


@pytest.mark.parametrize("count", [1, STEP - 1, STEP, 2 * STEP + 1])
def test_it_holds_what_the_cache_of_transformers_holds(count):
    caches = [new_cache(CONFIG), DynamicCache(config=CONFIG)]
    assert {type(layer) for layer in caches[0].layers} == {GrowingLayer}
    grow(caches, 1, count, 0)
    for cache in caches:
        cache.batch_repeat_interleave(3)
    grow(caches, 3, 1, 2)
    for cache in caches:
        cache.batch_select_indices(REPEAT)
    same(*caches)
    grow(caches, 3, STEP, 4)
    for cache in caches:
        cache.batch_select_indices(KEEP)
    for step in range(STEP):
        grow(caches, 1, 1, 6 + step)
    handed = caches[0].layers[0].keys
    kept = handed.clone()
    for cache in caches:
        cache.crop(-2)
    grow(caches, 1, 1, 99)
    same(*caches)
    assert torch.equal(handed, kept), "what was handed out is written over"


def test_a_copy_and_its_original_go_on_apart():
    caches = [new_cache(CONFIG), DynamicCache(config=CONFIG)]
    grow(caches, 1, 5, 0)
    copies = copy.deepcopy(caches)
    grow(caches, 1, 3, 2)
    grow(copies, 1, 3, 4)
    same(*caches)
    same(*copies)
    assert not torch.equal(caches[0].layers[0].keys, copies[0].layers[0].keys)


def test_rows_are_copied_once_in_many_tokens():
    cache = new_cache(CONFIG)
    layer = cache.layers[0]
    places = set()
    for step in range(2 * STEP):
        cache.update(*columns(2, 1, step), 0)
        if step % 9 == 8:
            cache.batch_select_indices(torch.tensor([1, 0]))
        places.add(layer.keys.data_ptr())
    moved = 2 * STEP // 9
    assert len(places) <= 2 + moved < 2 * STEP


def test_only_plain_attention_is_kept_here():
    assert [type(layer) for layer in new_cache(CONFIG).layers] == [GrowingLayer] * 2
    config = MistralConfig(num_hidden_layers=2, sliding_window=8)
    kinds = {type(layer) for layer in new_cache(config).layers}
    assert kinds == {DynamicSlidingWindowLayer}
    assert DynamicLayer not in {type(layer) for layer in tiny.network().read((5, 6, 7)).layers}
