"""What became of each attack: nothing that was not run looks like a zero."""

from dataclasses import replace

import pytest

from expunge.attacks.base import Attempt
from expunge.attacks.store import AttackOutcome, AttackStore, AttackUnit
from expunge.evals.assess import attack_statuses
from expunge.evals.evidence_table import Table
from expunge.evals.results import Executed
from expunge.evidence.context import AuditContext, Policy, Recorded
from expunge.evidence.store import Answer, EvidenceStore, Scores, Unit

RELEARN = Recorded(
    name="relearn",
    family="weights",
    access="T2",
    learns=True,
    union=False,
    own_scale=False,
    made="m",
)
CONTEXT = AuditContext(
    request="r",
    goal="removal",
    tier="G2",
    threat_model="T1",
    level="quick",
    golds=(),
    adapter=False,
    seed=0,
    policy=Policy(),
    battery=(RELEARN,),
    precision="bfloat16",
)


@pytest.fixture
def store(tmp_path):
    store = EvidenceStore(tmp_path)
    store.write_items([])
    store.write_context(CONTEXT)
    return store


def statuses(store, context=CONTEXT):
    return {each.attack: each for each in attack_statuses(store, Table.read(store), context)}


def test_nothing_was_run_until_there_is_evidence(store):
    found = statuses(store)
    native, exact = found.pop("bf16"), found.pop("fp32")
    assert {each.status for each in found.values()} == {Executed.NOT_RUN}
    assert all(each.reason and each.facts == 0 for each in found.values())
    assert native.status is exact.status is Executed.NOT_APPLICABLE
    assert "holds the weights exactly" in exact.reason


def test_questions_of_the_audit_itself(store):
    unit = Unit(role="unlearned", split="forget", attack="paraphrase", kind="answers")
    store.write_answers(unit, [])
    store.write_answers(replace(unit, attack="prefill-25"), [Answer(record="a", text="x")])
    row = Scores(record="a", logp=(-1.0,), hit=(True,), z=(), ends=False, zlib=1)
    store.write_scores(
        Unit(role="unlearned", split="forget", precision="fp32", kind="scores"), [row]
    )
    found = statuses(store)
    assert found["paraphrase"].status is Executed.NOT_APPLICABLE
    assert (found["prefill-25"].status, found["prefill-25"].facts) == (Executed.EXECUTED, 1)
    assert (found["fp32"].status, found["fp32"].facts) == (Executed.EXECUTED, 1)
    noted = replace(CONTEXT, notes=("unlearned was not scored in fp16: memory ran out",))
    assert statuses(store, noted)["fp16"].reason == noted.notes[0]
    assert statuses(store, replace(CONTEXT, guard=True))["fp16"].status is Executed.NOT_APPLICABLE


TOLD = AttackOutcome(attempts=(Attempt(record="a", text="x"), Attempt(record="a", text="y")))
NO_FACTS = AttackOutcome(missing="too few facts", applies=False)
NO_MEMORY = AttackOutcome(missing="memory ran out")


@pytest.mark.parametrize(
    ("halves", "status", "reason", "facts"),
    [
        ((TOLD, TOLD), Executed.EXECUTED, "", 1),
        ((TOLD, NO_MEMORY), Executed.EXECUTED, "", 1),
        ((NO_FACTS, NO_FACTS), Executed.NOT_APPLICABLE, "too few facts", 0),
        ((NO_MEMORY, NO_MEMORY), Executed.NOT_RUN, "memory ran out", 0),
        ((NO_FACTS, NO_MEMORY), Executed.NOT_RUN, "too few facts", 0),
        ((), Executed.NOT_RUN, "it left no evidence", 0),
    ],
)
def test_attacks_beside_them(store, halves, status, reason, facts):
    for fold, outcome in enumerate(halves):
        unit = AttackUnit(attack="relearn", role="unlearned", split="forget", fold=fold)
        AttackStore(store).write(unit, outcome, "m")
    found = statuses(store)["relearn"]
    assert (found.status, found.reason, found.facts) == (status, reason, facts)
