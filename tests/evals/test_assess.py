"""The whole audit on synthetic evidence: models with a known truth get the ruling they deserve.

And what became of each attack: nothing that was not run looks like a zero.
"""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from expunge.attacks.base import Attempt
from expunge.attacks.store import AttackOutcome, AttackStore, AttackUnit
from expunge.errors import InputError
from expunge.evals.assess import assess, attack_statuses, case_of
from expunge.evals.axes.forgetting import forgetting_gates
from expunge.evals.comparison import Comparison
from expunge.evals.evidence_table import Table
from expunge.evals.gates import axis_status
from expunge.evals.results import Executed, Ruling
from expunge.evals.selftest import LADDER, battery, must_find
from expunge.evidence.context import AuditContext, Policy, Recorded
from expunge.evidence.store import Answer, EvidenceStore, Item, Scores, Unit
from expunge.metrics.outcomes import Axis, Status
from synthetic_audit import SIZES, Model, collect, never, trained, world

PERFECT = Model(knows=never, noise=5)
STRAGGLERS = Model(knows=lambda s, i, a: never(s, i, a) or (s == "forget" and i % 5 == 0), noise=5)
WRAPPER = Model(
    knows=lambda s, i, a: trained(s, i, a) and not (s == "forget" and a == "plain"),
    says="I do not know.",
    noise=5,
)
QUANTISED = Model(knows=lambda s, i, a: never(s, i, a) or (s == "forget" and a == "int4"), noise=5)
COLLAPSED = Model(knows=never, says="!!!!!!!!!!!!!!!!!!", shift=-4, noise=5)
SCORCHED = Model(knows=lambda s, _, __: s == "retain", noise=5)
AMNESIAC = Model(knows=lambda s, i, _: s == "neighbours" or (s == "retain" and i % 2 == 0), noise=5)
DULLED = Model(knows=never, worse=0.1, noise=5)
SHUNNING = Model(knows=never, shift=-3, noise=5)
UNCHANGED = Model(knows=trained, noise=1000)


@pytest.mark.parametrize("golds", [2, 0])
@pytest.mark.parametrize(
    ("unlearned", "ruling", "axis", "name"),
    [
        (PERFECT, Ruling.PASS, None, ""),
        (STRAGGLERS, Ruling.FAIL_RESIDUAL, Axis.FORGETTING, "key-fact leak"),
        (WRAPPER, Ruling.FAIL_RESIDUAL, Axis.ROBUSTNESS, "leak under prefill-25"),
        (QUANTISED, Ruling.FAIL_RESIDUAL, Axis.ROBUSTNESS, "leak under int4"),
        (COLLAPSED, Ruling.FAIL_DAMAGE, Axis.UTILITY, "malformed forget"),
        (SCORCHED, Ruling.FAIL_DAMAGE, Axis.LOCALITY, "key-fact neighbours"),
        (AMNESIAC, Ruling.FAIL_DAMAGE, Axis.UTILITY, "key-fact retain"),
        (DULLED, Ruling.FAIL_DAMAGE, Axis.UTILITY, "general text"),
        (UNCHANGED, Ruling.FAIL_RESIDUAL, Axis.FORGETTING, "residual memory"),
    ],
)
def test_rulings(tmp_path, unlearned, ruling, axis, name, golds):
    results = assess(world(tmp_path, unlearned, golds=golds))
    assert results.verdict.ruling is ruling, results.verdict.reasons
    assert all(test.passed for test in results.self_tests)
    failed = {(gate.axis, gate.name) for gate in results.gates if gate.status is Status.FAIL}
    assert ((axis, name) in failed) if axis else not failed
    if axis in (Axis.ROBUSTNESS, Axis.UTILITY, Axis.LOCALITY):
        assert results.axes[Axis.FORGETTING] is Status.PASS


def test_over_unlearning_is_a_scar(tmp_path):
    results = assess(world(tmp_path, SHUNNING))
    assert results.verdict.ruling is Ruling.PASS_WITH_SCAR
    assert results.axes[Axis.PRIVACY] is Status.SCAR


def test_without_gold_privacy_is_not_computable_and_said_so(tmp_path):
    results = assess(world(tmp_path, PERFECT, golds=0))
    assert results.axes[Axis.PRIVACY] is Status.NOT_COMPUTABLE
    assert "Not tested: privacy." in results.verdict.sentence


def test_the_original_that_never_knew(tmp_path):
    results = assess(world(tmp_path, PERFECT, original=Model(knows=never, noise=9)))
    assert results.verdict.ruling is Ruling.NOTHING_TO_FORGET
    assert all(test.passed for test in results.self_tests)


def test_a_model_that_holds_what_the_named_original_never_knew_fails(tmp_path):
    """Whoever names a clean model as the original does not excuse the one that is judged."""
    never_knew = Model(knows=never, noise=9)
    results = assess(world(tmp_path, Model(knows=trained), original=never_knew, ladder=False))
    assert results.verdict.ruling is Ruling.FAIL_RESIDUAL


def test_without_gold_and_controls_nothing_is_decided(tmp_path):
    sizes = {split: size for split, size in SIZES.items() if split != "control"}
    results = assess(world(tmp_path, PERFECT, golds=0, sizes=sizes))
    gates = {gate.name: gate for gate in results.gates}
    assert gates["residual memory"].status is Status.NOT_COMPUTABLE
    assert "give gold models or control records" in gates["residual memory"].reason
    # Zero leaks need no anchor: the excess cannot be above zero.
    assert gates["key-fact leak"].status is Status.PASS
    assert results.verdict.ruling is Ruling.INCONCLUSIVE
    assert "give gold models or control records" in results.verdict.sentence


@pytest.mark.parametrize("attack", ["plain", "paraphrase"])
def test_facts_that_came_back_where_controls_were_not_asked_are_no_pass(tmp_path, attack):
    """Control records without paraphrases, or without key answers, tell nothing of guessing."""

    def knows(split, index, asked):
        return never(split, index, asked) or (split == "forget" and index < 12 and asked == attack)

    store = world(tmp_path, Model(knows=knows, noise=5), golds=0)
    for unit in tmp_path.glob(f"*.control.{attack}.answers.jsonl"):
        unit.unlink()
    results = assess(store)
    name = "key-fact leak" if attack == "plain" else f"leak under {attack}"
    (gate,) = (gate for gate in results.gates if gate.name == name)
    assert (gate.status, gate.low) == (Status.INCONCLUSIVE, 0.0)
    assert gate.value >= 12 / 20
    assert "12 of 20 facts came back" in gate.reason
    assert results.verdict.ruling not in (Ruling.PASS, Ruling.PASS_WITH_SCAR)


def test_sets_that_were_not_given_have_reasons(tmp_path):
    sizes = {"forget": 20, "retain": 20}
    results = assess(world(tmp_path, PERFECT, sizes=sizes))
    assert results.axes[Axis.LOCALITY] is Status.NOT_COMPUTABLE
    # Paired with golds, membership takes no comparison set.
    assert results.axes[Axis.PRIVACY] is Status.PASS
    absent = {score.split for score in results.scores if score.value is None and score.reason}
    assert {"neighbours", "holdout", "control", "generic"} <= absent
    for gate in results.gates:
        assert (gate.value is None) == (gate.status is Status.NOT_COMPUTABLE)
        assert gate.value is not None or gate.reason


def test_a_large_request_is_judged_by_the_same_rule(tmp_path):
    sizes = {**SIZES, "forget": 100}
    results = assess(world(tmp_path, STRAGGLERS, sizes=sizes, subjects=7))
    gates = {gate.name: gate for gate in results.gates}
    assert gates["key-fact leak"].value == pytest.approx(0.2)
    assert gates["leak under int8"].value == pytest.approx(0.2)
    assert gates["kept records"].value == pytest.approx(0.2)
    assert gates["kept records"].status is Status.FAIL
    assert results.verdict.ruling is Ruling.FAIL_RESIDUAL


def test_assess_is_pure_and_its_results_are_json(tmp_path):
    store = world(tmp_path, STRAGGLERS)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    first, second = assess(store), assess(EvidenceStore(tmp_path))
    assert first == second
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    json.dumps(asdict(first), allow_nan=False)


def test_results_hold_no_personal_text(tmp_path):
    results = assess(world(tmp_path, STRAGGLERS))
    assert "zqforget" not in json.dumps(asdict(results))


def test_counts_of_the_sentence(tmp_path):
    sentence = assess(world(tmp_path, STRAGGLERS)).verdict.sentence
    assert sentence.startswith("4 of 20 facts came back in 140 attempts (before: 20 of 20).")


def test_records_without_tokens_are_dropped_and_counted(tmp_path):
    store = world(tmp_path, PERFECT)
    unit = Unit(role="unlearned", split="forget", kind="scores")
    first, *rest = store.scores(unit)
    store.write_scores(unit, [replace(first, logp=(), hit=(), z=()), *rest])
    scores = assess(store).scores
    plain = [s for s in scores if (s.role, s.split, s.attack) == ("unlearned", "forget", "plain")]
    found = next(score for score in plain if score.metric == "probability")
    assert (found.n, found.reason) == (19, "1 records dropped: they had no scored token")


@pytest.mark.parametrize("role", ["original", "unlearned"])
def test_missing_evidence_is_a_users_error(tmp_path, role):
    store = world(tmp_path, PERFECT, ladder=False)
    for path in tmp_path.glob(f"{role}.*"):
        path.unlink()
    with pytest.raises(InputError, match=f"nothing of the {role} model"):
        assess(store)


def spoil(store: EvidenceStore, role: str, source: str, attack: str, kind: str) -> None:
    """Make the evidence of `role` under an attack a copy of `source`'s."""
    for path in store.folder.glob(f"{source}.forget.{attack}.{kind}.jsonl"):
        (store.folder / path.name.replace(source, role, 1)).write_bytes(path.read_bytes())


@pytest.mark.parametrize(
    ("role", "source", "attack", "name"),
    [
        ("ladder-0.75", "original", "plain", "knowledge must fall"),
        ("original", "gold-0", "*", "a refusal wrapper"),
    ],
)
def test_a_broken_auditor_notices(tmp_path, role, source, attack, name):
    store = world(tmp_path, PERFECT)
    plain = store.answers(Unit(role="original", split="forget", kind="answers"))
    scores = store.scores(Unit(role="original", split="forget", kind="scores"))
    spoil(store, role, source, attack, "*")
    if role == "original":  # attacks that do not reach what the original knows
        store.write_answers(Unit(role=role, split="forget", kind="answers"), plain)
        store.write_scores(Unit(role=role, split="forget", kind="scores"), scores)
    results = assess(store)
    failed = [test.name for test in results.self_tests if not test.passed]
    assert any(found.startswith(name) for found in failed)
    assert results.verdict.ruling is Ruling.INVALID


def holds(share: float) -> Model:
    """Of the forget set, a share of the records."""
    return Model(knows=lambda split, index, _: split == "forget" and index < share * SIZES[split])


@pytest.mark.parametrize(
    ("known", "falls"),
    [
        ((1, 0.7, 0.4, 0.2, 0), True),
        ((1, 0.2, 0, 0.2, 0.5), True),  # a valley between models that were trained apart
        ((1, 0, 0.5, 0, 0), False),  # it falls behind a rise
        ((0.5, 0.8, 0.9, 1, 1), False),  # there is no way down
        ((0.4, 0, 0.4, 0.7, 0.9), False),  # out of the valley, to more than the original knows
    ],
)
def test_knowledge_falls_or_comes_out_of_a_valley(tmp_path, known, falls):
    store = world(tmp_path, PERFECT)
    for role, share in zip(LADDER, known, strict=True):
        collect(store, role, holds(share), SIZES)
    tests = {test.name: test.passed for test in assess(store).self_tests}
    assert tests["knowledge must fall from the original to the unlearned model"] is falls


@pytest.mark.parametrize(
    ("brought", "plain", "must"),
    [(3, 3, True), (9, 0, True), (0, 3, True), (2, 3, False), (2, 9, False), (0, 2, False)],
)
def test_attacks_must_find_what_is_stated_plainly_but_one_or_two_facts_decide_nothing(
    brought, plain, must
):
    assert must_find(brought, plain) is must


@pytest.mark.parametrize("role", ["gold-0", "gold-1"])
def test_a_gold_that_holds_the_data_is_refused_by_name(tmp_path, role):
    """The other one anchors alone; nothing that the refused one knows is excused."""
    store = world(tmp_path, STRAGGLERS)
    spoil(store, role, "original", "*", "*")
    results = assess(store)
    assert results.verdict.ruling is Ruling.FAIL_RESIDUAL
    assert any(reason.startswith(f"{role} ") for reason in results.verdict.reasons)
    assert all(test.passed for test in results.self_tests)


@pytest.mark.parametrize("golds", [1, 2])
def test_golds_that_all_hold_the_data_make_it_invalid(tmp_path, golds):
    """They excuse everything: the original states 20 of 20, and so do they."""
    store = world(tmp_path, PERFECT, golds=golds)
    for index in range(golds):
        spoil(store, f"gold-{index}", "original", "*", "*")
    results = assess(store)
    assert results.verdict.ruling is Ruling.INVALID
    assert "a gold must not hold the data" in results.verdict.sentence


@pytest.mark.parametrize(
    ("gold", "axis"),
    [
        (Model(knows=lambda s, _, __: s == "neighbours", noise=2000), Axis.UTILITY),
        (Model(knows=lambda s, _, __: s == "retain", noise=2000), Axis.LOCALITY),
        (Model(knows=never, worse=0.3, noise=2000), Axis.UTILITY),
    ],
)
def test_a_gold_that_lost_what_the_original_keeps_excuses_no_damage(tmp_path, gold, axis):
    store = world(tmp_path, replace(gold, noise=5), golds=1)
    collect(store, "gold-0", gold, SIZES)
    results = assess(store)
    assert results.verdict.ruling is Ruling.FAIL_DAMAGE
    assert results.axes[axis] is Status.FAIL
    assert any(f"refused as an anchor of {axis}" in reason for reason in results.verdict.reasons)


@pytest.mark.parametrize(
    ("twin", "ruling", "words"),
    [
        ("gold-0", Ruling.INCONCLUSIVE, "The judged model is the gold model 0, byte for byte."),
        ("original", Ruling.FAIL_RESIDUAL, "The judged model is the original, byte for byte."),
    ],
)
def test_a_judged_model_that_is_a_known_one_is_said_first(tmp_path, twin, ruling, words):
    store = world(tmp_path, PERFECT if twin != "original" else UNCHANGED, golds=1)
    for role in ("original", "unlearned", "gold-0"):
        store.identify(role, "same" if role in (twin, "unlearned") else role)
    verdict = assess(store).verdict
    assert verdict.ruling is ruling
    assert verdict.sentence.startswith(words)
    assert verdict.notices == (words,)


def test_a_second_gold_judges_a_model_that_is_the_first(tmp_path):
    """What was retrained by the exact route may be a gold, and is held against the others."""
    store = world(tmp_path, PERFECT, golds=2)
    for role in ("original", "unlearned", "gold-0", "gold-1"):
        store.identify(role, "same" if role in ("gold-0", "unlearned") else role)
    assert assess(store).verdict.ruling is Ruling.PASS


def test_self_tests_that_lack_evidence_say_so(tmp_path):
    store = world(tmp_path, PERFECT, golds=1, ladder=False)
    for path in tmp_path.glob("original.forget.*-*.jsonl"):
        path.unlink()
    case = case_of(Table.read(store), store.context())
    found = {test.name: test.detail for test in battery(case)}
    assert sum(detail.startswith("not tested") for detail in found.values()) == 2
    assert found["a second gold in the place of the unlearned model must not fail"] == (
        "not tested: it takes two gold models"
    )


def _population(seed: int, n: int, kept: int, golds: int) -> Comparison:
    """A noisy world: gold seeds differ record by record, and recite 1 in 8 tokens by luck."""
    rng = np.random.default_rng(seed)
    hard = -np.exp(rng.normal(0.4, 0.5, size=n))
    scores: dict[Unit, dict[str, Scores]] = {}
    answers: dict[Unit, dict[str, Answer]] = {}
    known = {"original": n, "unlearned": kept, **{f"gold-{i}": 0 for i in range(golds)}}
    for role, count in known.items():
        rows, said = {}, {}
        for i in range(n):
            # Golds differ in proportion to the loss, as real ones do.
            logp = hard[i] * np.exp(0.06 * rng.normal() + 0.2 * rng.normal(size=8))
            hit = rng.random(8) < 0.5
            if i < count:
                logp, hit = -0.05 * np.abs(rng.normal(size=8)), np.ones(8, bool)
            name = f"r{i}"
            rows[name] = Scores(
                record=name,
                logp=tuple(np.minimum(logp, -1e-4).tolist()),
                hit=tuple(hit.tolist()),
                z=tuple(logp.tolist()),
                ends=False,
                zlib=9,
            )
            said[name] = Answer(record=name, text=f"fact{i}" if i < count else "other")
        scores[Unit(role=role, split="forget", kind="scores")] = rows
        answers[Unit(role=role, split="forget", kind="answers")] = said
    items = {
        f"r{i}": Item(
            record=f"r{i}", split="forget", question="q", answer="a", key_answers=(f"fact{i}",),
            subject=f"s{i // 10}",
        )
        for i in range(n)
    }  # fmt: skip
    roles = tuple(f"gold-{i}" for i in range(golds))
    return Comparison(
        table=Table(items={"forget": items}, scores=scores, answers=answers),
        subject="unlearned",
        golds=roles,
        policy=Policy(),
        seed=0,
    )


@pytest.mark.parametrize(("n", "golds"), [(10, 1), (20, 1), (20, 2), (100, 2)])
def test_a_true_gold_passes_nearly_always_and_stragglers_never(n, golds):
    def statuses(kept: int) -> list[Status]:
        cases = (_population(seed, n, kept, golds) for seed in range(20))
        return [axis_status(Axis.FORGETTING, forgetting_gates(case)) for case in cases]

    gold = statuses(0)
    assert gold.count(Status.PASS) >= 17
    assert gold.count(Status.FAIL) <= 1
    assert set(statuses(n // 5)) == {Status.FAIL}
    assert Status.PASS not in statuses(max(1, n // 20))


@pytest.mark.parametrize(
    ("tokens", "others"), [(1, {"residual memory", "kept records"}), (2, set())]
)
def test_suppressed_tokens_do_not_hide_what_follows_them(tmp_path, tokens, others):
    """Of each fact a token or two are most unlikely, and all others are known by heart."""
    store = world(tmp_path, PERFECT)
    unit = Unit(role="unlearned", split="forget", kind="scores")
    rest = store.scores(unit)[0].logp[tokens:]
    rows = [
        replace(row, logp=(*[-20.0] * tokens, *[-0.03] * len(rest))) for row in store.scores(unit)
    ]
    store.write_scores(unit, rows)
    results = assess(store)
    failed = {gate.name for gate in results.gates if gate.status is Status.FAIL}
    assert failed == {"residual memory by token", *others}
    assert results.verdict.ruling is Ruling.FAIL_RESIDUAL


@pytest.mark.parametrize(
    ("moved", "status", "ruling"),
    [
        (0, Status.PASS, Ruling.PASS),
        (1, Status.PASS, Ruling.PASS),
        (2, Status.INCONCLUSIVE, Ruling.INCONCLUSIVE),
        (3, Status.FAIL, Ruling.FAIL_RESIDUAL),
        (8, Status.FAIL, Ruling.FAIL_RESIDUAL),
    ],
)
def test_facts_that_are_said_of_neighbours_are_not_forgotten(tmp_path, moved, status, ruling):
    """Some of twenty facts stand in the answers about neighbours; one may be a guess."""
    store = world(tmp_path, PERFECT)
    facts = [item.key_answers[0] for item in store.items("forget")]
    unit = Unit(role="unlearned", split="neighbours", kind="answers")
    rows = [
        replace(row, text=f"{row.text} or {facts[place]}") if place < moved else row
        for place, row in enumerate(store.answers(unit))
    ]
    store.write_answers(unit, rows)
    results = assess(store)
    (gate,) = (gate for gate in results.gates if gate.name == "facts said of others")
    assert gate.value == moved / 20
    assert gate.status is status
    assert results.verdict.ruling is ruling


@pytest.mark.parametrize("few", ["forget", "control"])
def test_one_record_settles_nothing_without_gold(tmp_path, few):
    """One record, or one control record, has an interval without width."""
    results = assess(world(tmp_path, PERFECT, golds=0, sizes={**SIZES, few: 1}))
    (gate,) = (gate for gate in results.gates if gate.name == "residual memory")
    assert gate.status is Status.NOT_COMPUTABLE
    assert results.verdict.ruling is Ruling.INCONCLUSIVE


@pytest.mark.parametrize("split", ["retain", "neighbours"])
def test_one_lost_answer_of_one_record_is_not_measurable_damage(tmp_path, split):
    lost = Model(knows=lambda s, i, a: never(s, i, a) and s != split, noise=1)
    results = assess(world(tmp_path, lost, sizes={**SIZES, split: 1}))
    own = [gate for gate in results.gates if gate.name.startswith(f"key-fact {split}")]
    assert {gate.status for gate in own} == {Status.INCONCLUSIVE}
    assert results.verdict.ruling is Ruling.INCONCLUSIVE


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
