"""Every attack on a tiny model: what it asks, what it leaves behind, what it refuses to do."""

from dataclasses import is_dataclass, replace
from importlib.util import find_spec

import pytest

from attack_facts import FACTS, make_target, person
from expunge.attacks.base import FAMILIES, Unmet
from expunge.attacks.finetuning.base import Sweep
from expunge.attacks.presets import LEVELS, PARANOID, attack_names, select_attacks
from expunge.attacks.prompting.custom_prompts import read_prompts
from expunge.attacks.prompting.plain import Plainly
from expunge.attacks.runner import halves
from expunge.attacks.weight_space.real_quantizers import RealKernel
from expunge.data.records import Record
from expunge.errors import InputError, UsageError
from expunge.models.loading import digest_of

SWEEP = Sweep(
    lora_rates=(1e-3,), upper_rates=(1e-3,), full_rates=(1e-4,), batch=4, looks=(0, 1, 2), rank=2
)
CASES = {
    "plain": {},
    "unplug": {},
    "paraphrase": {},
    "wording": {},
    "format": {},
    "role-play": {},
    "alias": {},
    "inverse": {},
    "cloze": {},
    "multiple-choice": {},
    "translation": {},
    "multi-hop": {},
    "few-shot": {},
    "reminder": {},
    "multi-turn": {},
    "prefill-affirm": {},
    "prefill-10": {},
    "prefill-25": {},
    "prefill-50": {},
    "extraction": {},
    "sampling": {"samples": 3},
    "inverse-greedy": {},
    "near-verbatim": {},
    "interpolation": {},
    "merge": {},
    "original-routing": {},
    "pruning": {},
    "noise": {},
    "int8": {},
    "int4": {},
    "nf4": {},
    "q8_0": {},
    "q4_0": {},
    "torchao-int8": {},
    "torchao-int4": {},
    "bitsandbytes-int8": {},
    "bitsandbytes-nf4": {},
    "lens": {},
    "early-exit": {},
    "probe": {},
    "patching": {},
    "ablation": {},
    "set-difference": {},
    "relearn": {"sweep": SWEEP},
    "relearn-related": {"sweep": SWEEP},
    "relearn-syntax": {"sweep": SWEEP},
    "retain-only": {"sweep": SWEEP, "counts": (2, 4)},
    "soft-prompt": {"length": 2, "steps": 2, "seeds": 2},
    "embedding": {"length": 2, "steps": 2, "together": 2},
    "gcg": {"length": 3, "steps": 2, "width": 4, "top": 4, "facts": 2},
}
"""Name of an attack to the budget that suits a tiny model, where its own does not."""

ABSENT = {
    "unplug": "neither an unmerged adapter nor guarded",
    "merge": "no sibling",
    "original-routing": "no mixture of experts",
    **{
        attack.name: "not installed"
        for attack in PARANOID
        if isinstance(attack, RealKernel) and find_spec(attack.name.partition("-")[0]) is None
    },
}


@pytest.fixture
def target(tmp_path):
    return make_target(tmp_path)


def small(attack):
    return replace(attack, **CASES[attack.name])


def carried_out(attack, target, used, half):
    """Attack; a library may be installed and have no kernel for this machine's processor."""
    try:
        return small(attack).run(target, used, half.tested)
    except Unmet as unmet:
        if isinstance(attack, RealKernel):
            pytest.skip(str(unmet))
        raise


def test_the_table_of_cases_covers_every_attack():
    assert CASES.keys() == set(attack_names())


@pytest.mark.parametrize("attack", PARANOID, ids=lambda attack: attack.name)
def test_every_attack_leaves_the_model_as_it_was_and_depends_on_its_seed_alone(attack, target):
    before = digest_of(target.network)
    half = halves(FACTS, seed=0)[0]
    used = half.used if attack.meta.learns else ()
    if attack.name in ABSENT:
        with pytest.raises(Unmet, match=ABSENT[attack.name]):
            small(attack).run(target, used, half.tested)
        return
    attempts = carried_out(attack, target, used, half)
    assert {each.record for each in attempts} == {record.id for record in half.tested}
    assert digest_of(target.network) == before
    assert not any(p.requires_grad for p in target.network.model.parameters())
    assert target.meter.tokens > 0
    assert small(attack).run(target, used, half.tested) == attempts


@pytest.mark.parametrize("attack", PARANOID, ids=lambda attack: attack.name)
def test_every_attack_says_what_it_is(attack):
    assert is_dataclass(attack)
    assert attack.meta.family in FAMILIES
    assert attack.meta.access in ("T1", "T2", "T3")
    assert "." not in attack.name
    module = __import__(type(attack).__module__, fromlist=["x"])
    assert "Budget:" in module.__doc__ or attack.name == "plain"


def test_facts_that_an_attack_uses_are_never_those_it_is_tested_on():
    first, second = halves(FACTS, seed=3)
    assert {r.id for r in first.used}.isdisjoint(r.id for r in first.tested)
    assert {r.id for r in first.tested} | {r.id for r in second.tested} == {r.id for r in FACTS}
    assert halves(list(reversed(FACTS)), seed=3) == (first, second)
    assert halves(FACTS, seed=4) != (first, second)


def test_a_fact_that_the_other_half_states_is_not_tested():
    teller = replace(FACTS[1], id="teller", completion="Townb is near Towna.")
    for half in halves([FACTS[0], teller], seed=0):
        if teller in half.used:
            assert half.tested == ()
            assert half.injected == ("f0",)


def test_subjects_are_spread_over_both_halves():
    facts = [*FACTS, *(person(i + 10, subject="Ann Lee", split="a") for i in range(4))]
    for half in halves(facts, seed=1):
        assert {record.subject for record in half.used} == {"Zora Quill", "Ann Lee"}


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("{", "not JSON"),
        ('{"text": "x"}', "text `prompt`"),
        ('{"prompt": "x", "more": 1}', "text `prompt`"),
        ('{"prompt": "{qestion}"}', "did you mean {question}?"),
        ("", "empty"),
    ],
)
def test_own_prompts_that_are_none(tmp_path, line, word):
    path = tmp_path / "prompts.jsonl"
    path.write_text(line)
    with pytest.raises(InputError, match="prompt") as error:
        read_prompts(path)
    assert word in str(error.value)


def test_own_prompts_are_asked_where_they_can_be_filled(tmp_path, target):
    path = tmp_path / "prompts.jsonl"
    lines = ['{"prompt": "Sing: {paraphrase}", "prefill": "La"}', '{"prompt": "{subject}?"}']
    path.write_text("\n".join(lines))
    bare = replace(FACTS[1], paraphrases=())
    attempts = read_prompts(path).run(target, (), [FACTS[0], bare])
    assert [(each.record, each.variant) for each in attempts] == [
        ("f0", "1"),
        ("f0", "2"),
        ("f1", "2"),
    ]
    assert attempts[0].told == f"Sing: {FACTS[0].paraphrases[0]}"
    assert attempts[0].given == "La"


def test_levels_grow_and_names_are_unique():
    names = {level: [attack.name for attack in attacks] for level, attacks in LEVELS.items()}
    assert all(len(each) == len(set(each)) for each in names.values())
    assert set(names["quick"]) < set(names["standard"]) < set(names["paranoid"])


def test_only_takes_the_budget_of_the_level_and_always_asks_plainly():
    assert [attack.name for attack in select_attacks("quick", ("int4",))] == ["plain", "int4"]
    assert select_attacks("quick", ("inverse",))[1].most == 8
    assert select_attacks("quick", ("paraphrase",))[1].most == 8  # who names it asks all wordings
    assert select_attacks("quick", ("gcg",))[1].name == "gcg"
    with pytest.raises(UsageError, match="did you mean relearn"):
        select_attacks("quick", ("relern",))


def test_passages_are_not_asked_for(target):
    passage = Record(id="p", prompt=(), completion="A long enough passage.")
    with pytest.raises(Unmet, match="passages"):
        Plainly().run(target, (), [passage])
