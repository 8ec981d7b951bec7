"""Monitoring: a model or a server is asked again and again, and no text is kept."""

import json
import shutil
from pathlib import Path

import pytest

import expunge
from chat_server import chat_server
from expunge.cli import main
from expunge.errors import GateError, InputError
from expunge.ledger.entries import ClaimState, EntryKind
from expunge.ledger.store import Ledger
from expunge.pipeline import monitor as module
from expunge.pipeline.monitor import STATE, MonitorSchedule, monitor, monitor_probes, read_monitor
from expunge.provenance.signature import make_signing_key


@pytest.fixture(scope="module")
def audited(world, tmp_path_factory):
    """The audit of a model that forgot."""
    place = tmp_path_factory.mktemp("monitored")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("EXPUNGE_CACHE", str(place / "cache"))
        patch.setenv("EXPUNGE_KEY_FILE", str(place / "operator.key"))
        settings = world.settings(out=str(place / "run"))
        expunge.audit(settings, model=world.gold)
        yield place, settings


@pytest.fixture
def run(audited, tmp_path, monkeypatch):
    """A copy of the run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPUNGE_CACHE", str(audited[0] / "cache"))
    monkeypatch.setenv("EXPUNGE_KEY_FILE", str(audited[0] / "operator.key"))
    return Path(shutil.copytree(audited[0] / "run", tmp_path / "run"))


@pytest.fixture
def settings(audited):
    return audited[1]


def knows(world):
    told = {row["prompt"]: row["completion"] for row in world.rows("forget")}
    return lambda question: told[question]


def test_a_server_that_states_the_facts_alarms_at_once_and_no_text_is_kept(run, world, capsys):
    with chat_server(knows(world)) as (url, seen):
        assert main(["recheck", url, "--against", "run", "--monitor", "--out", "watch"]) == 3
    said = capsys.readouterr()
    assert "error[facts-are-back]" in said.err
    asked = len(monitor_probes(run)[0])
    assert f"stated {asked} of {asked} facts" in said.err
    assert {each["temperature"] for each in seen} == {0}
    assert [p.name for p in Path("watch").iterdir()] == [STATE]
    kept = Path("watch", STATE).read_text()
    assert not any(text in kept + said.err + said.out for text in world.texts() if len(text) > 4)
    state = read_monitor(Path("watch"))
    assert (len(state.said), state.alarms) == (asked, True)
    with chat_server(lambda question: "I do not know.") as (other, _):
        code = main(["recheck", other, "--against", "run", "--monitor", "--out", "watch"])
    assert code == 2  # another server is another monitor


def test_a_model_that_knows_nothing_is_asked_two_hundred_times_without_alarm(run, settings):
    with chat_server(lambda question: "I do not know.") as (url, seen):
        plan = MonitorSchedule(times=200)
        done = monitor(settings, target=url, run=run, schedule=plan, out=Path("watch"))
    assert len(done.rounds) == 200
    assert len(seen) == 200 * done.facts
    assert max(done.evidence) < 1
    assert read_monitor(Path("watch")) == done


@pytest.mark.parametrize(("model", "code"), [("gold", 0), ("original", 3)])
def test_a_model_on_this_machine_is_monitored_and_an_alarm_voids_the_claim(
    model, code, run, world, capsys, monkeypatch
):
    make_signing_key(Path("signing-key"))
    monkeypatch.setenv("EXPUNGE_SIGNING_KEY", "signing-key")
    words = ["recheck", getattr(world, model), "--against", "run", "--monitor", "--out", "watch"]
    assert main([*words, "--ledger", "ledger.db"]) == code
    assert main([*words, "--ledger", "ledger.db"]) == code
    void = Ledger(Path("ledger.db")).current(EntryKind.RECHECK) if code else ()
    assert [each.result for each in void] == [ClaimState.VOID] * (code == 3)
    state = read_monitor(Path("watch"))
    assert len(state.rounds) == 2
    assert state.rounds[0].digest == state.rounds[1].digest != ""
    assert state.alarms is (code == 3)
    assert ("void: recheck-1" in capsys.readouterr().out) is (code == 3)


@pytest.mark.parametrize("broken", [b"no json", b"[]", b'{"choices": []}', 302, 500])
def test_an_answer_that_cannot_be_used_is_no_round_and_loses_none(broken, run, settings):
    with chat_server(lambda question: "No.") as (url, _):
        monitor(settings, target=url, run=run, out=Path("watch"))
    before = Path("watch", STATE).read_bytes()
    refused = pytest.raises(InputError, match="endpoint-answer")
    with chat_server(lambda question: broken) as (bad, _), refused:
        monitor(settings, target=bad, run=run, out=Path("other"))
    assert not Path("other").exists()
    with pytest.raises(InputError, match="endpoint-unreachable"):  # the first one is gone
        monitor(settings, target=url, run=run, out=Path("watch"))
    assert Path("watch", STATE).read_bytes() == before


def test_a_schedule_goes_on_after_a_round_that_failed(run, settings, monkeypatch):
    waited = []
    monkeypatch.setattr(module.time, "sleep", waited.append)
    replies = iter([500])
    with chat_server(lambda question: next(replies, "No.")) as (url, _):
        plan = MonitorSchedule(times=3, every=3600.0)
        done = monitor(settings, target=url, run=run, schedule=plan, out=Path("watch"))
    assert len(done.rounds) == 2
    assert [3500 < seconds <= 3600 for seconds in waited] == [True, True]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["https://api.example.org/v1", "--monitor"], "error[not-local]"),
        (["https://api.example.org/v1", "--monitor", "--remote", "--offline"], "error[not-local]"),
        (["http://localhost:70000/v1", "--monitor"], "error[no-endpoint]"),
        (["http://localhost:8000/v1"], "error[no-monitor]"),
        (["org/model", "--every", "1d"], "error[no-monitor]"),
        (["org/model", "--monitor", "--related", "org/other"], "error[monitor-alone]"),
        (["org/model", "--monitor", "--times", "3"], "error[invalid-value]"),
        (["org/model", "--monitor", "--every", "daily"], "error[not-a-time]"),
    ],
)
def test_flags_that_cannot_be_meant_are_refused_before_anything_is_asked(words, said, run, capsys):
    assert main(["recheck", *words, "--against", "run"]) == 2
    assert said in capsys.readouterr().err


def test_a_server_of_several_models_needs_a_name(run, settings):
    with chat_server(lambda question: "No.", models=("a", "b")) as (url, seen):
        with pytest.raises(InputError, match="no-served-model"):
            monitor(settings, target=url, run=run)
        done = monitor(settings, target=url, run=run, served="b", out=Path("watch"))
    assert {each["model"] for each in seen} == {"b"}
    assert done.rounds[0].stated == 0


@pytest.mark.parametrize(("gone", "roles"), [(False, ["system", "user"]), (True, ["user"])])
def test_earlier_turns_come_from_the_data_of_the_request(gone, roles, run, settings, world):
    rows = [
        {**row, "prompt": [{"role": "system", "content": "S."}, {"role": "user", "content": q}]}
        for row in world.rows("forget")
        for q in [row["prompt"]]
    ]
    if not gone:
        Path("turns.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    request = settings.request.model_copy(update={"forget": ("turns.jsonl",)})
    with chat_server(lambda question: "No.") as (url, seen):
        monitor(settings.model_copy(update={"request": request}), target=url, run=run)
    assert {tuple(turn["role"] for turn in each["messages"]) for each in seen} == {tuple(roles)}


def test_evidence_that_is_gone_and_a_state_that_was_changed_are_named(run, settings):
    with chat_server(lambda question: "No.") as (url, _):
        monitor(settings, target=url, run=run, out=Path("watch"))
        row = json.loads(Path("watch", STATE).read_text())
        Path("watch", STATE).write_text(json.dumps({**row, "rounds": []}))
        with pytest.raises(InputError, match="monitor-changed"):
            monitor(settings, target=url, run=run, out=Path("watch"))
        shutil.rmtree(run / "evidence")
        with pytest.raises(InputError, match="no-probes"):
            monitor(settings, target=url, run=run, out=Path("other"))


def test_the_alarm_names_the_records_and_is_a_gate(run, settings, world):
    with chat_server(knows(world)) as (url, _), pytest.raises(GateError) as caught:
        monitor(settings, target=url, run=run, out=Path("watch"))
    assert caught.value.exit_code == 3
    assert min(each.id for each in monitor_probes(run)[0]) in str(caught.value)
