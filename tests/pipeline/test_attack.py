"""`expunge attack` end to end on a tiny world: what falls, what is written, what resumes."""

import json
import re
import shutil
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import tiny
from attack_command import NAMES, by_name, stress
from expunge.attacks.presets import QUICK, STANDARD, AttackResources
from expunge.attacks.runner import AttackBattery
from expunge.cli import main
from expunge.errors import ExpungeError, UsageError
from expunge.methods.guards.base import GuardRules
from expunge.metrics.outcomes import Status
from expunge.models.guarded import save_guard
from expunge.pipeline.attack import AttackOptions, attack
from expunge.pipeline.forget import audit
from expunge.provenance.destroy import destroy_evidence
from expunge.provenance.keys import key_path, operator_key
from expunge.provenance.signature import make_signing_key
from expunge.provenance.verify import verify

ROOT = Path(__file__).parents[2]


def refusing(folder, base):
    """Stand a guard that answers everything with no before a model, and return its folder."""
    reply = (*tiny.tokenizer().encode("no"), 2)
    save_guard(GuardRules(reply=reply), folder, base=base, method="refusal_guard", parameters={})
    return folder


def test_the_original_falls_and_gold_does_not(world, bench):
    fallen = by_name(stress(world, bench, world.original, only=("paraphrase", "extraction")))
    assert fallen["extraction"].status is Status.FAIL
    assert fallen["extraction"].worst.rho == pytest.approx(1.0, abs=0.05)
    for rung in stress(world, bench, world.gold, out="gold").rungs:
        assert rung.status is not Status.FAIL
        assert rung.worst is None or rung.worst.rho == 0


def test_what_is_written_names_no_fact(world, bench):
    found = stress(world, bench, world.original)
    ladder = json.loads((found.folder / "attack.json").read_text())
    assert ladder["schema"] == "expunge.attack/1"
    assert {rung["attack"] for rung in ladder["rungs"]} == set(NAMES)
    assert all(rung["cost"]["tokens"] > 0 for rung in ladder["rungs"])
    page = (found.folder / "attack.md").read_text()
    assert "relearn" in page
    assert "![Relearning curves against gold](relearning.svg)" in page
    assert "upper lora" in (found.folder / "relearning.svg").read_text()
    asked = {path.name.split(".")[0] for path in found.folder.rglob("*.original.forget.*.jsonl")}
    assert asked == {"plain", "prefill-50"}, "what may reach further than the plain question"
    shown = [p for p in found.folder.rglob("*") if p.is_file() and "evidence" not in p.parts]
    assert {"attack.md", "attack.json", "relearning.svg", "log.txt"} <= {p.name for p in shown}
    for path in shown:
        text = f"{path.relative_to(found.folder)}\n{path.read_text()}"
        assert not [secret for secret in world.texts() if len(secret) > 4 and secret in text]
    assert not (found.folder / "checkpoints").exists()
    assert (found.folder / "evidence").stat().st_mode & 0o777 == 0o700


def test_a_battery_goes_on_where_it_was(world, bench, monkeypatch):
    first = stress(world, bench, world.original, only=("paraphrase",))
    real, done = AttackBattery._attacked, []

    def counted(self, attack, target, half):
        done.append(attack.name)
        return real(self, attack, target, half)

    monkeypatch.setattr(AttackBattery, "_attacked", counted)
    assert stress(world, bench, world.original, only=("paraphrase",)).rungs == first.rungs
    assert done == []
    more = stress(world, bench, world.original, only=("paraphrase", "prefill-50"))
    assert set(done) == {"prefill-50"}
    assert {rung.attack for rung in more.rungs} == {"paraphrase", "prefill-50"}


def test_another_choice_of_attacks_joins_the_ladder_that_is_there(world, bench):
    first = stress(world, bench, world.original, only=("paraphrase",))
    both = stress(world, bench, world.original, only=("prefill-50",))
    assert both.folder == first.folder
    assert {rung.attack for rung in both.rungs} == {"paraphrase", "prefill-50"}
    written = json.loads((both.folder / "attack.json").read_text())
    assert {rung["attack"] for rung in written["rungs"]} == {"paraphrase", "prefill-50"}
    assert verify(both.folder, key=operator_key(key_path(), run=both.folder)).ok
    with pytest.raises(UsageError, match="folder-in-use"):  # another attacker is another ladder
        stress(world, bench, world.original, only=("paraphrase",), access="T1")


def test_few_facts_can_be_attacked_and_then_all(world, bench):
    shared = {"attack_store": str(bench / "store"), "only": ("extraction", "relearn")}
    few = by_name(stress(world, bench, world.original, attack_records=4, **shared))
    whole = by_name(stress(world, bench, world.original, out="whole", **shared))
    apart = by_name(stress(world, bench, world.original, out="apart", only=shared["only"]))
    assert few["extraction"].worst.n == 4
    assert few["relearn"].worst.n + few["relearn"].not_judged == 4
    assert whole["extraction"].worst.n == len(world.rows("forget")) > 4
    assert {name: rung.worst for name, rung in whole.items()} == {
        name: rung.worst for name, rung in apart.items()
    }


def test_an_audit_attacks_as_few_facts_as_it_is_told(world, bench):
    few = world.settings(
        out=str(bench / "out"),
        request={"gold": (world.gold,)},
        audit={"max_new_tokens": 10, "attacks": ("extraction",), "attack_records": 4},
    )
    gates = {gate.name: gate for gate in audit(few, model=world.original).results.gates}
    assert gates["recovery by extraction"].n == 4
    assert gates["residual memory under int4"].n == 4
    assert gates["residual memory"].n == len(world.rows("forget")) > 4
    assert verify(bench / "out").ok


def test_original_and_golds_are_attacked_once_for_all_runs(world, bench, monkeypatch):
    shared = {"attack_store": str(bench / "store"), "only": ("extraction", "relearn", "unplug")}
    real, done = AttackBattery._attacked, []

    def counted(self, attack, target, half):
        done.append((attack.name, target.reference, target.judged))
        return real(self, attack, target, half)

    monkeypatch.setattr(AttackBattery, "_attacked", counted)
    first = stress(world, bench, world.original, **shared)
    anchors = [each for each in done if not each[2]]
    assert {name for name, _, _ in anchors} == {"plain", "extraction", "relearn"}
    done.clear()
    again = stress(world, bench, world.original, out="again", **shared)
    assert again.rungs == tuple(
        replace(rung, cost=found.cost) for rung, found in zip(first.rungs, again.rungs, strict=True)
    )
    assert {judged for _, _, judged in done} == {True}
    done.clear()
    stress(world, bench, world.original, out="longer", max_new_tokens=11, **shared)
    assert [each for each in done if not each[2]] == anchors


def test_a_gold_in_the_place_of_the_judged_model_is_not_attacked_again(world, bench, monkeypatch):
    shared = {"attack_store": str(bench / "store"), "only": ("extraction", "relearn")}
    first = by_name(stress(world, bench, world.original, **shared))
    kept = {path.name for path in (bench / "store").rglob("*.jsonl")}
    monkeypatch.setattr(AttackBattery, "_attacked", lambda *_: pytest.fail("attacked again"))
    again = by_name(stress(world, bench, world.gold, out="again", **shared))
    assert {path.name for path in (bench / "store").rglob("*.jsonl")} == kept
    for name, rung in again.items():
        assert rung.worst.judged == rung.worst.anchor == first[name].worst.anchor


def test_sealed_attacks_are_shared_sealed(world, bench):
    shared = {"attack_store": str(bench / "store"), "only": ("extraction",)}
    stress(world, bench, world.original, seal=True, **shared)
    kept = {path.name for path in (bench / "store").rglob("*") if path.is_file()}
    assert len(kept) > 1
    assert {name for name in kept if not name.endswith(".sealed")} == {"seal.json", "store.json"}
    assert not (bench / "store" / "open").exists()


def test_what_runs_share_is_kept_for_the_longest_and_destroyed_for_all(world, bench, capsys):
    store = bench / "store"
    shared = {"attack_store": str(store), "only": ("extraction",)}
    stress(world, bench, world.original, retention_days=9, **shared)
    stress(world, bench, world.original, retention_days=5, out="again", **shared)
    until = str(datetime.now(UTC).date() + timedelta(9))
    assert main(["evidence", "show", str(store)]) == 0
    assert f"kept until {until}" in " ".join(capsys.readouterr().out.split())
    assert main(["evidence", "destroy", str(store), "--expired", "--yes"]) == 2
    assert list(store.rglob("*.jsonl"))
    assert main(["evidence", "destroy", str(store), "--yes"]) == 0
    assert not list(store.iterdir())
    stress(world, bench, world.original, out="anew", **shared)
    assert list(store.rglob("*.jsonl"))


def test_without_gold_control_items_are_attacked_as_well(world, bench):
    found = stress(world, bench, world.original, gold=False, only=("paraphrase", "extraction"))
    assert by_name(found)["extraction"].status is Status.FAIL
    files = {path.name for path in (found.folder / "evidence" / "attacks").iterdir()}
    assert "paraphrase.unlearned.control.0.jsonl" in files
    assert "extraction.original.control.0.jsonl" in files


def test_attacks_beyond_the_attackers_access_are_not_made(world, bench):
    found = by_name(stress(world, bench, world.original, access="T1"))
    assert found["int4"].status is Status.NOT_COMPUTABLE
    assert found["int4"].reason == (
        "it takes the weights (T3), and the attacker has queries (T1); "
        "--access T3 where more is at hand"
    )
    assert found["paraphrase"].worst is not None
    with_weights = by_name(stress(world, bench, world.original, out="with-weights"))
    assert with_weights["int4"].worst is not None


def test_behind_a_guard_only_unplug_reaches_for_the_weights(world, bench):
    guard = refusing(bench / "guard", world.original)
    names = ("paraphrase", "int4", "unplug", "relearn", "interpolation", "lens", "gcg")
    found = by_name(stress(world, bench, str(guard), only=names))
    for name in ("paraphrase", "int4"):
        assert found[name].worst.judged == 0.0, name
    assert found["unplug"].status is Status.FAIL
    for name in ("relearn", "interpolation", "lens", "gcg"):
        assert found[name].status is Status.NOT_COMPUTABLE
        assert "those behind this guard are the original's" in found[name].reason
        assert "attack the model behind the guard" in found[name].reason


def test_a_guard_is_not_the_model_behind_it(world, bench, monkeypatch):
    """Both have the same weights: neither attacks nor audits of one stand for the other."""
    monkeypatch.chdir(bench)
    guard = refusing(bench / "guard", world.original)
    request = {"gold": (world.gold,), "control": ()}
    settings = world.settings(request=request, audit={"max_new_tokens": 10})
    choice = AttackOptions(only=("prefill-50",))
    models = (str(guard), world.original)
    folders = [attack(settings, model=model, choice=choice).folder for model in models]
    folders += [audit(settings, model=model).folder for model in models]
    assert len(set(folders)) == 4


def test_a_gold_that_was_trained_anew_is_attacked_anew(world, bench):
    gold = bench / "own-gold"
    shutil.copytree(world.gold, gold)
    request = {"gold": (str(gold),), "control": ()}
    settings = world.settings(request=request, audit={"max_new_tokens": 10})
    first = attack(settings, model=world.original, choice=AttackOptions(only=("extraction",)))
    shutil.rmtree(gold)
    shutil.copytree(world.original, gold)
    again = attack(settings, model=world.original, choice=AttackOptions(only=("extraction",)))
    assert again.folder != first.folder
    assert by_name(first)["extraction"].worst.anchor < 0.5
    assert "did not measurably know more than gold" in by_name(again)["extraction"].reason


@pytest.mark.parametrize(
    ("given", "code", "word"),
    [
        ({"tools": AttackResources(sibling="nowhere"), "only": ("merge",)}, "", "nowhere"),
        ({"tools": AttackResources(sibling="m")}, "no-such-attack-here", "--only merge"),
        ({"tools": AttackResources(translator="m:f")}, "no-such-attack-here", "--only translation"),
        ({"only": ("own-prompts",)}, "no-own-prompts", "--prompts FILE"),
        ({"further": ("own-prompts",)}, "no-own-prompts", "audit.prompts"),
    ],
)
def test_what_no_attack_reads_or_what_is_not_there_is_said_at_once(world, bench, given, code, word):
    settings = world.settings(out=str(bench / "out"))
    with pytest.raises(ExpungeError) as caught:
        attack(settings, model=world.original, choice=AttackOptions(**given))
    assert code in caught.value.code
    assert word in str(caught.value)
    assert not (bench / "out").exists()


def test_a_model_of_another_shape_is_attacked_as_far_as_that_goes(world, bench):
    other = bench / "other"
    shutil.copytree(world.original, other)
    tiny.llama(layers=3, seed=9).save_pretrained(other)
    found = by_name(stress(world, bench, str(other), only=("prefill-50", "interpolation")))
    assert found["prefill-50"].worst is not None
    assert "original" in found["interpolation"].reason


def test_sealed_evidence_is_sealed_here_too(world, bench):
    found = stress(world, bench, world.original, only=("paraphrase",), seal=True)
    assert by_name(found)["paraphrase"].worst is not None
    files = [path for path in (found.folder / "evidence").rglob("*") if path.is_file()]
    open_files = {path.name for path in files if path.suffix != ".sealed"}
    assert open_files == {"seal.json"}
    assert verify(found.folder, key=operator_key(key_path(), run=found.folder)).problems == ()
    assert "sealed" in verify(found.folder).notes[0]


def only_text(row):
    return {"id": row["id"], "text": f"{row['prompt']} {row['completion']}"}


@pytest.mark.parametrize(
    ("change", "attack", "reason"),
    [
        (lambda row: row if row["id"] == "f0" else None, "relearn", "too few facts to learn"),
        (lambda row: {**row, "paraphrases": []}, "paraphrase", "no record brings a paraphrase"),
        (only_text, "plain", ""),
        (only_text, "prefill-affirm", "passages without a question"),
    ],
)
def test_what_the_facts_do_not_allow_is_said(world, bench, change, attack, reason):
    """Facts without paraphrases, passages, and too few facts to learn some: said, never guessed."""
    rows = [changed for row in world.rows("forget") if (changed := change(row)) is not None]
    facts = bench / "facts.jsonl"
    facts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = stress(world, bench, world.original, only=(attack,), forget=str(facts))
    (rung,) = found.rungs or [None]
    if attack == "plain":
        assert (rung, found.summary.result) == (None, "nothing")
        return
    assert reason in rung.reason
    assert rung.status is Status.NOT_COMPUTABLE


def test_a_folder_of_attacks_verifies(world, bench):
    """Every number follows from the evidence; what is changed is found, there and in the ladder."""
    found = stress(world, bench, world.original, only=("paraphrase", "extraction"))
    assert verify(found.folder).problems == ()
    more = stress(world, bench, world.original, only=("paraphrase", "multiple-choice"))
    assert more.folder == found.folder
    checked = verify(more.folder)
    assert (checked.problems, checked.scores) == ((), sum(len(r.tests) for r in more.rungs))
    assert checked.scores >= 2
    attempts = found.folder / "evidence" / "attacks" / "paraphrase.unlearned.forget.0.jsonl"
    for path, old, new in (
        (found.folder / "attack.json", '"rho": ', '"rho": 1'),
        (attempts, '"text":', '"text": "x", "variant":'),
    ):
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        assert {problem.path for problem in verify(found.folder).problems} >= {
            path.relative_to(found.folder).as_posix()
        }
        path.write_text(text)
    (found.folder / "report-masked.html").write_text("x")
    assert [problem.path for problem in verify(found.folder).problems] == ["report-masked.html"]
    (found.folder / "attack.json").write_text("{}")
    assert not verify(found.folder).ok


def test_a_signed_folder_of_attacks_names_its_signer(world, bench, monkeypatch):
    """A signature that is removed, or written in other letters, is missed by name."""
    monkeypatch.setenv("EXPUNGE_SIGNING_KEY", str(bench / "signing.key"))
    make_signing_key(bench / "signing.key")
    folder = stress(world, bench, world.original, only=("plain",)).folder
    path = folder / "manifest.sig"
    text = path.read_text()
    assert verify(folder).signer
    assert verify(folder).ok
    path.write_text(text.replace("a", "A"))
    assert [problem.path for problem in verify(folder).problems] == ["manifest.sig"]
    path.unlink()
    assert [problem.path for problem in verify(folder).problems] == ["manifest.sig"]


def test_the_evidence_of_attacks_is_destroyed_like_that_of_audits(world, bench):
    open_page = {"report": {"redact": False}}
    found = stress(world, bench, world.original, only=("extraction", "paraphrase"), **open_page)
    key = operator_key(key_path(), run=found.folder)
    now = datetime(2026, 3, 1, tzinfo=UTC)
    with pytest.raises(UsageError, match="is kept until"):
        destroy_evidence(found.folder, key=key, only_expired=True, now=now)
    destroy_evidence(found.folder, key=key, only_expired=False, now=now)
    left = {path.name for path in found.folder.rglob("*") if path.is_file()}
    assert "attack.json" in left
    assert not left & {"attack.md", "items.jsonl", "extraction.unlearned.forget.0.jsonl"}
    checked = verify(found.folder, key=key)
    assert checked.problems == ()
    assert checked.notes == (
        "evidence destroyed on 2026-03-01: no score can be recomputed any more",
    )
    with pytest.raises(UsageError, match="was destroyed"):
        stress(world, bench, world.original, only=("paraphrase",))


def test_an_unknown_attack_is_refused_before_anything_is_loaded(world, bench):
    with pytest.raises(UsageError, match="did you mean relearn"):
        stress(world, bench, "nowhere", only=("relern",))


def test_the_command_attacks_a_model(world, bench, capsys):
    prompts = Path("prompts.jsonl")
    prompts.write_text('{"prompt": "{question}"}\n')
    sets = ["--original", world.original, "--gold", world.gold, "--retain", world.data("retain")]
    chosen = ["--only", "prefill-25", "--prompts", str(prompts), "--set", "audit.max_new_tokens=8"]
    named = ["attack", world.original, "--against", world.data("forget"), "--goal", "removal"]
    code = main([*named, *sets, *chosen, "--offline", "--format", "json"])
    assert code == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {e["attack"] for e in events if e["event"] == "rung"} == {"prefill-25", "own-prompts"}
    assert events[-1]["result"] == "recovered"


@pytest.mark.parametrize(
    ("asked", "attacked"),
    [
        (["--only", "own-prompts", "--set", "audit.prompts=own.jsonl"], {"own-prompts"}),
        (["--only", "prefill-25", "--set", "audit.prompts=own.jsonl"], {"prefill-25"}),
        (["--only", "prefill-25", "--set", "audit.sibling=SIBLING"], {"prefill-25"}),
        (["--only", "int4", "--set", "audit.attacks=prefill-25"], {"int4"}),
        (["--set", "audit.attacks=relearn"], {*(each.name for each in QUICK), "relearn"}),
        (["--set", "audit.level=standard"], {each.name for each in STANDARD}),
        (["--set", "audit.level=standard", "--level", "quick"], {each.name for each in QUICK}),
    ],
)
def test_the_command_reads_what_the_request_says_of_attacks(
    world, bench, monkeypatch, asked, attacked
):
    """Flags win; without them it is the level, the attacks and the tools of `[audit]`."""
    Path("own.jsonl").write_text('{"prompt": "{question}"}\n')
    found = []

    def record(_settings, *, model, choice, against, console):
        found.extend(choice.attacks())
        raise UsageError("stop", what="stop", why="seen", fix="none")

    monkeypatch.setattr("expunge.pipeline.attack.attack", record)
    named = ["attack", world.original, "--against", world.data("forget"), "--goal", "removal"]
    sets = ["--original", world.original, "--gold", world.gold, "--retain", world.data("retain")]
    asked = [word.replace("SIBLING", world.gold) for word in asked]
    assert main([*named, *sets, *asked, "--offline"]) == 2
    assert {attack.name for attack in found} == attacked | {"plain"}


def test_an_attack_of_ones_own_is_scored_like_the_others(world, bench, monkeypatch):
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (code,) = (
        each for each in re.findall(r"```python\n(.*?)```", text, re.S) if "Shouting" in each
    )
    (bench / "shouting.py").write_text(code, encoding="utf-8")
    monkeypatch.delitem(sys.modules, "shouting", raising=False)
    found = by_name(stress(world, bench, world.original, only=("shouting:Shouting",)))
    assert set(found) == {"shouting"}
    assert found["shouting"].worst is not None
    monkeypatch.delitem(sys.modules, "shouting")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere:Attack", "cannot import Attack from nowhere"),
        ("dataclasses:Field", "is no attack"),
        ("expunge.attacks.prompting.role_play:RolePlay", "role-play is an attack of expunge"),
        ("expunge.methods.npo:NPO", "it has no meta"),
    ],
)
def test_what_is_no_attack_of_ones_own_is_refused(name, said):
    with pytest.raises(UsageError) as caught:
        AttackOptions(only=(name,)).attacks()
    assert said in f"{caught.value.what} {caught.value.why}"


def test_a_file_names_no_attack_to_import(world):
    with pytest.raises(UsageError, match="there is no attack payload:Attack"):
        AttackOptions(further=("payload:Attack",)).attacks()
