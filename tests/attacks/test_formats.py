"""Formats of a question, and the least likely answer."""

from collections import Counter

import pytest

import tiny
from attack_facts import FACTS, make_target
from expunge.attacks.base import Unmet
from expunge.attacks.prompting.formats import FORMATS, LEAST, Formats, deal, reformatted
from expunge.attacks.sampling.inverse_greedy import InverseGreedy
from expunge.data.records import Message, Record
from expunge.data.tokenization import Encoder

NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('none') }}{% endif %}"
    "[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)


@pytest.mark.parametrize("count", [1, 3, 5, 20, 47, 400])
@pytest.mark.parametrize("facts", [8, 20, None])
def test_formats_are_dealt_fairly(count, facts):
    hands = deal(count, tuple(FORMATS), facts)
    each = {len(hand) for hand in hands}
    assert len(hands) == count
    assert len(each) == 1
    assert all(len(set(hand)) == len(hand) >= LEAST for hand in hands)
    asked = Counter(form for hand in hands for form in hand)
    assert set(asked) == set(FORMATS), "every format is asked, however few the facts are"
    assert min(asked.values()) >= min(count, count if facts is None else facts - 1)
    assert max(asked.values()) - min(asked.values()) <= 1


def test_facts_in_a_fixed_order_do_not_get_the_same_formats():
    hands = deal(64, tuple(FORMATS), 8)
    for place in range(4):  # four facts about each person
        assert len({form for hand in hands[place::4] for form in hand}) == len(FORMATS)


def test_what_the_formats_write():
    encoder = Encoder(tiny.tokenizer())
    record = Record(id="r", prompt=(Message("user", "Where is Bo?"),), completion="x")
    told = {
        form: encoder.written(question.prompt)
        for form in FORMATS
        if (question := reformatted(encoder, record, form)) is not None
    }
    plain = encoder.written(encoder.prompt_ids(record))
    assert set(told) == set(FORMATS)
    assert len(set(told.values()) | {plain}) == len(FORMATS) + 1, "each differs from all others"
    assert told["no-template"] == "Question: Where is Bo?\nAnswer:"
    assert "where is bo?" in told["lower-case"]
    assert "WHERE IS BO?" in told["capitals"]
    assert '{"question": "Where is Bo?", "answer": ""}' in told["json"]
    assert told["second-turn"].count("assistant") == 2
    assert told["system"].index("system") < told["system"].index("Where is Bo?")


def test_a_template_that_takes_no_system_turn_is_asked_in_the_other_formats():
    encoder = Encoder(tiny.tokenizer(template=NO_SYSTEM))
    record = Record(id="r", prompt=(Message("user", "Where is Bo?"),), completion="x")
    refused = {form for form in FORMATS if reformatted(encoder, record, form) is None}
    assert refused == {"system", "no-system"}


@pytest.mark.parametrize("attack", [Formats(), InverseGreedy()], ids=lambda attack: attack.name)
def test_passages_have_no_format(attack, tmp_path):
    passage = Record(id="p", prompt=(), completion="Once upon a time.")
    with pytest.raises(Unmet, match="without a question"):
        attack.run(make_target(tmp_path), (), [passage])


def test_the_least_likely_answer_is_of_text_and_short(tmp_path):
    target = make_target(tmp_path)
    attempts = InverseGreedy(tokens=3, most=2).run(target, (), FACTS)
    assert [each.record for each in attempts] == ["f0", "f3"]
    plain = {each.record: each.text for each in target.asks(FACTS)}
    assert all(each.text != plain[each.record] for each in attempts)
    assert all("<|" not in each.text for each in attempts)
