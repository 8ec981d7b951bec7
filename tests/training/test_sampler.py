"""The order of records: a function of seed and step, and cheap however many records there are."""

import random

from expunge.training.sampler import Sampler

ORDER = Sampler(forget=50, retain=31, forget_batch=4, retain_batch=5, seed=917)


def by_hand(stream, lap, size):
    order = list(range(size))
    random.Random(f"917 {stream} {lap}").shuffle(order)
    return order


def test_the_order_is_that_of_the_seed():
    draws = [ORDER.draw(step) for step in range(ORDER.steps_per_epoch * 2)]
    forget = [index for draw in draws for index in draw.forget]
    assert forget == by_hand("forget", 0, 50) + by_hand("forget", 1, 50)
    retain = [index for draw in draws for index in draw.retain]
    laps = [index for lap in range(5) for index in by_hand("retain", lap, 31)]
    assert retain == laps[: len(retain)]


def test_a_pass_is_shuffled_once_not_once_a_step(monkeypatch):
    order = Sampler(forget=40, retain=0, forget_batch=1, retain_batch=0, seed=918)
    seeds = []
    plain = random.Random

    def counted(seed):
        seeds.append(seed)
        return plain(seed)

    monkeypatch.setattr(random, "Random", counted)
    for step in range(80):
        order.draw(step)
        order.draw(step)
    assert seeds == ["918 forget 0", "918 forget 1"]
