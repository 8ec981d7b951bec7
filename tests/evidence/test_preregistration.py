"""Pre-registration: rules are fixed before the judged model is asked, and a change shows."""

from dataclasses import replace

import pytest

from expunge.errors import InputError
from expunge.evidence.context import AuditContext, Policy
from expunge.evidence.preregistration import NAME, departures, preregister, read_preregistration
from expunge.evidence.store import Answer, EvidenceStore, Item, Unit

KEY = bytes(32)
CONTEXT = AuditContext(
    request="r1",
    goal="removal",
    tier="G2",
    threat_model="T1",
    level="quick",
    golds=("gold-0",),
    adapter=False,
    seed=0,
    policy=Policy(),
)
CHANGES = {
    "policy": {"policy": Policy(residual=0.2)},
    "seed": {"seed": 1},
    "level": {"level": "standard"},
    "golds": {"golds": ()},
}


def items(answer: str = "In Velmor.") -> list[Item]:
    return [Item(record="a", split="forget", question="Where is Bo?", answer=answer)]


@pytest.fixture
def store(tmp_path):
    store = EvidenceStore(tmp_path)
    store.write_items(items())
    store.write_context(CONTEXT)
    return store


def asked(store):
    store.write_answers(
        Unit(role="unlearned", split="forget", kind="answers"), [Answer(record="a", text="x")]
    )


def test_it_is_written_once_and_holds_no_record(store):
    first = preregister(store, CONTEXT, key=KEY)
    asked(store)
    assert preregister(store, CONTEXT, key=KEY) == first == read_preregistration(store)
    assert not first.late
    assert "Velmor" not in (store.folder / NAME).read_text()
    assert departures(store, key=KEY) == []
    later = replace(CONTEXT, notes=("seen",), models={"unlearned": "d"})
    assert preregister(store, later, key=KEY) == first, "what came about later is no rule"


@pytest.mark.parametrize("name", CHANGES)
def test_rules_may_change_until_the_judged_model_is_asked(store, name):
    changed = replace(CONTEXT, **CHANGES[name])
    first = preregister(store, CONTEXT, key=KEY)
    second = preregister(store, changed, key=KEY)
    assert second.digest != first.digest
    asked(store)
    with pytest.raises(InputError, match=rf"registered-otherwise.*other {name}"):
        preregister(store, CONTEXT, key=KEY)


@pytest.mark.parametrize("name", CHANGES)
def test_a_rule_that_was_changed_in_the_evidence_shows(store, name):
    preregister(store, CONTEXT, key=KEY)
    store.write_context(replace(CONTEXT, **CHANGES[name]))
    assert departures(store, key=KEY) == [f"{name} is not what was registered"]


def test_a_record_that_was_changed_shows_to_whoever_has_the_key(store):
    preregister(store, CONTEXT, key=KEY)
    store.write_items(items("In Arlen."))
    assert departures(store, key=KEY) == ["the records are not those that were registered"]
    assert departures(store, key=None) == []
    asked(store)
    with pytest.raises(InputError, match="other records"):
        preregister(store, CONTEXT, key=KEY)


def test_what_is_registered_after_the_first_answer_says_so(store):
    asked(store)
    assert preregister(store, CONTEXT, key=KEY).late
