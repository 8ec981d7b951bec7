"""Commands that read a finished run: chat, files of gates, schemas of what it wrote, push."""

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import httpx
import jsonschema
import pytest
import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
from safetensors.torch import load_file

import expunge
from expunge.cli.main import main
from expunge.cli.settings import conclude
from expunge.errors import ExpungeError, GateError
from expunge.evals.results import Gate, Ruling
from expunge.metrics.outcomes import Axis, Status
from expunge.pipeline.push import push
from expunge.reporting.gate_file import gates_junit, write_gate_file
from expunge.reporting.json_schemas import SCHEMAS, json_schema
from expunge.reporting.schema import read_results
from expunge.utils.console import SilentConsole
from expunge.utils.io import read_json, sha256_file, write_json
from hub_server import READ, WRITE, Hub
from synthetic_run import build_run


@pytest.fixture(scope="module")
def run(world, tmp_path_factory):
    """A finished run with a gold, in a folder of its own."""
    place = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXPUNGE_CACHE", str(place / "cache"))
        patch.setenv("EXPUNGE_KEY_FILE", str(place / "operator.key"))
        patch.chdir(place)
        settings = world.settings(
            train={"steps": 45, "lr": 1e-3},
            method={"alpha": 5.0},
            request={"gold": (world.gold,)},
            out=str(place / "run"),
        )
        yield expunge.forget(settings).folder


@pytest.fixture
def synthetic(tmp_path):
    return read_results(build_run(tmp_path / "synthetic"))


def replies(capsys):
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [line for line in lines if line["event"] == "chat"]


def test_all_models_answer_and_the_erased_answer_is_less_likely(run, world, capsys):
    row = world.rows("forget")[0]
    words = ["--format", "json", "--offline", "chat", str(run), "--ask", f" {row['prompt']} "]
    assert main(words) == 0
    (reply,) = replies(capsys)
    assert reply["erased"] == row["completion"]
    by_role = {each["role"]: each for each in reply["answers"]}
    assert list(by_role) == ["original", "unlearned", "gold"]
    assert by_role["original"]["text"] == row["completion"]
    assert by_role["unlearned"]["text"] != row["completion"]
    tokens = {role: [each["token"] for each in a["erased"]] for role, a in by_role.items()}
    assert tokens["original"] == tokens["gold"]
    assert "".join(tokens["original"]).strip() == row["completion"]

    def whole(role):
        product = 1.0
        for each in by_role[role]["erased"]:
            product *= each["probability"]
        return product

    assert whole("original") > 0.5 > 10 * whole("unlearned")
    assert whole("original") > 10 * whole("gold")


def test_questions_come_from_a_pipe_and_nothing_is_shown_raw(run, world, capsys, monkeypatch):
    row = world.rows("retain")[0]
    asked = f"{row['prompt']}\n\n".encode() + b"bad \xff bytes \x1b[31m?\n"
    stdin = io.TextIOWrapper(io.BytesIO(asked), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", stdin)
    assert main(["--offline", "chat", str(run), "--answer", row["completion"]]) == 0
    shown = capsys.readouterr().out
    assert shown.count("\nquestion") == 2
    assert "\x1b" not in shown
    assert "\\x1b[31m" in shown
    table = [line.split() for line in shown.splitlines() if "%" in line]
    assert len(table[0]) >= 4
    assert shown.count("whole answer") == 2


def test_a_model_that_is_gone_is_named_and_left_out(run, tmp_path, capsys):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    text = (copy / "config.toml").read_text()
    (copy / "config.toml").write_text(text.replace("/gold", "/gone"))
    shutil.rmtree(copy / "model")
    assert main(["--offline", "chat", str(copy), "--ask", "Who?"]) == 0
    found = capsys.readouterr()
    said = " ".join(found.err.split())
    assert "gold is left out" in said
    assert "unlearned is left out" in said
    assert "original" in found.out
    assert "no question of the forget set" in found.out


GO_ON = "run the command that began it again"
HALF_WRITTEN = {  # what is gone of a finished run: exit code, what is said, what is not
    "nothing": ((), 0, [], ["is not finished", "is left out"]),
    "manifest": (("manifest.json",), 0, ["the run is not finished", GO_ON], ["is left out"]),
    "no model yet": (
        ("manifest.json", "model"),
        0,
        ["unlearned is left out: the run has not written it yet", "--model", GO_ON],
        ["audit"],
    ),
    "no evidence yet": (
        ("manifest.json", "model", "evidence"),
        0,
        ["has not stored the erased answers yet", "--answer", GO_ON],
        ["audit"],
    ),
    "no settings yet": (
        ("manifest.json", "model", "evidence", "config.toml"),
        4,
        ["run-not-begun", "has no config.toml yet", GO_ON],
        ["give a run folder"],
    ),
    "an audit": (
        ("manifest.json", "model", "run.json"),
        0,
        ["unlearned is left out: an audit makes no model", GO_ON],
        ["has not written it yet"],
    ),
}


@pytest.mark.parametrize("case", HALF_WRITTEN)
def test_a_chat_with_a_half_written_run_says_what_is_missing(run, tmp_path, case, capsys):
    gone, code, said, unsaid = HALF_WRITTEN[case]
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    for name in gone:
        path = copy / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if "run.json" in gone:
        write_json(copy / "run.json", {"method": "audit"})
    assert main(["--offline", "chat", str(copy), "--ask", "Who?"]) == code
    found = capsys.readouterr()
    shown = " ".join(f"{found.out} {found.err}".split())
    assert [words for words in said if words not in shown] == []
    assert [words for words in unsaid if words in shown] == []
    assert ("original" in found.out) is (code == 0)


MISTAKES = [
    ([], 2, "no question was asked"),
    (["--ask", "x" * 30_000], 2, "too long"),
    (["--model", "nowhere/at/all", "--ask", "Who?"], 4, "no-model"),
]


@pytest.mark.parametrize(("words", "code", "said"), MISTAKES)
def test_a_chat_that_cannot_be_held_says_why(run, words, code, said, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert main(["--offline", "chat", str(run), *words]) == code
    assert said in capsys.readouterr().err


def test_what_a_run_writes_fits_the_published_schemas(run, tmp_path):
    gates = tmp_path / "new" / "gates.json"
    write_gate_file(gates, read_results(run), folder=run, passed=False)
    found = {
        "results": read_json(run / "results.json"),
        "manifest": read_json(run / "manifest.json"),
        "request": tomllib.loads((run / "config.toml").read_text()),
        "gates": read_json(gates),
    }
    assert found.keys() == SCHEMAS.keys()
    for name, value in found.items():
        schema = json_schema(name)
        jsonschema.Draft202012Validator.check_schema(schema)
        jsonschema.validate(value, schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**value, "unknown": 1}, schema)
        for key in schema["required"]:
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate({k: v for k, v in value.items() if k != key}, schema)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_printed_as_it_is_published(name, capsys):
    assert main(["schema", name]) == 0
    published = Path(__file__).parents[2] / "docs" / "reference" / "schemas" / f"{name}.json"
    assert json.loads(capsys.readouterr().out) == read_json(published)


def test_junit_has_a_case_for_each_gate_and_counts_what_failed(synthetic, tmp_path):
    odd = Gate(
        axis=Axis.UTILITY,
        name="<&\x00\x1b",
        value=None,
        low=None,
        high=None,
        margin=0.1,
        n=0,
        status=Status.NOT_COMPUTABLE,
        reason="]]>\x07",
    )
    results = replace(synthetic, gates=(*synthetic.gates, odd))
    root = ElementTree.fromstring(gates_junit(results, folder=tmp_path, passed=False))
    names = [case.get("name") for case in root.iter("testcase")]
    assert names.count("<&\\x00\\x1b") == 1
    assert len(names) == 1 + len(results.gates) + len(results.self_tests)
    failed = [
        case.get("name") for case in root.iter("testcase") if case.find("failure") is not None
    ]
    wanted = [gate.name for gate in results.gates if gate.status is Status.FAIL]
    assert failed == [f"{synthetic.verdict.ruling} (T1, {synthetic.verdict.tier})", *wanted]
    open_ = {Status.INCONCLUSIVE, Status.NOT_COMPUTABLE}
    skipped = sum(gate.status in open_ for gate in results.gates)
    counts = {key: root.get(key) for key in ("tests", "failures", "skipped")}
    wanted = {"tests": len(names), "failures": len(failed), "skipped": skipped}
    assert counts == {key: str(count) for key, count in wanted.items()}
    suites = {suite.get("name"): int(suite.get("tests")) for suite in root}
    assert sum(suites.values()) == len(names)


@pytest.mark.parametrize(
    ("ruling", "scar", "passed"),
    [
        (Ruling.PASS, False, True),
        (Ruling.PASS_WITH_SCAR, False, False),
        (Ruling.PASS_WITH_SCAR, True, True),
        (Ruling.FAIL_DAMAGE, True, False),
    ],
)
@pytest.mark.parametrize("gate", [False, True])
def test_gates_are_written_whether_or_not_the_gate_fails(
    synthetic, tmp_path, ruling, scar, passed, gate
):
    results = replace(synthetic, verdict=replace(synthetic.verdict, ruling=ruling))
    files = (tmp_path / "gates.xml", tmp_path / "gates.json")
    told = {"console": SilentConsole(), "gate": gate, "allow_scar": scar, "files": files}
    outcome = SimpleNamespace(folder=tmp_path, results=results, steps=64)
    if gate and not passed:
        with pytest.raises(GateError):
            conclude(outcome, **told)
    else:
        assert conclude(outcome, **told) == 0
    assert read_json(files[1])["passed"] is passed
    verdict = ElementTree.parse(files[0]).getroot()[0]
    assert verdict.get("failures") == str(int(not passed))


def test_a_file_of_gates_in_an_unknown_format_is_refused_before_the_run(world, bench, capsys):
    words = world.command("--gates", "gates.txt")
    assert main(words) == 2
    assert "neither .xml nor .json" in capsys.readouterr().err
    assert not list(bench.rglob("run.json"))


class DeniedHub:
    """Fails at the first thing that it is asked."""

    def __init__(self, error):
        self.error = error

    def create_repo(self, *_, **__):
        raise self.error


def refused(status):
    request = httpx.Request("POST", "https://hub.test")
    return HfHubHTTPError("no", response=httpx.Response(status, request=request))


def as_user(words, hub, home, token=WRITE):
    """Run a command as somebody whose Hub is the one on this machine."""
    own = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": token, "HF_HOME": str(home)}
    environ = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"} | own
    return subprocess.run(
        [sys.executable, *words], env=environ, capture_output=True, text=True, timeout=120
    )


def test_a_page_that_the_manifest_covers_is_not_replaced_by_another(run, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "copy")
    page, manifest = copy / "report.html", read_json(copy / "manifest.json")
    assert main(["report", str(copy)]) == 0, "the same page may be written again"
    page.write_text("by an earlier version")
    manifest["files"]["report.html"]["sha256"] = sha256_file(page)
    write_json(copy / "manifest.json", manifest)
    capsys.readouterr()
    assert main(["report", str(copy)]) == 4
    told = capsys.readouterr().err
    assert "error[report-covered]" in told
    assert "another one would not verify" in told
    assert page.read_text() == "by an earlier version"
    page.write_text("by nobody")
    assert main(["report", str(copy)]) == 0, "nothing is lost that the manifest covers"


def test_only_the_model_folder_is_pushed_and_it_loads_and_verifies_where_it_arrives(
    run, world, tmp_path
):
    push_it = ["-m", "expunge", "push", str(run), "me/erased", "--yes"]
    with Hub({}, takes=tmp_path / "hub") as hub:
        denied = as_user(push_it, hub, tmp_path, token=READ)
        assert denied.returncode == 4
        assert "error[push-denied]: you may not write to me/erased" in denied.stderr
        assert not (tmp_path / "hub").exists()

        pushed = as_user(push_it, hub, tmp_path)
        assert pushed.returncode == 0, pushed.stderr
        sent = {path.name: path.read_bytes() for path in (tmp_path / "hub/me/erased").iterdir()}
        assert sent.pop(".gitattributes"), "the Hub puts it there"
        assert {"model.safetensors", "config.json", "README.md", "manifest.json"} <= sent.keys()
        assert hub.private == {"me/erased": True}
        listed = {line.split()[-1] for line in pushed.stdout.splitlines()}
        assert sent.keys() <= listed, "what goes is shown before it goes"
        assert f"{hub.endpoint}/me/erased" in listed

        fetch = (
            "from huggingface_hub import snapshot_download\n"
            "from transformers import AutoModelForCausalLM\n"
            "snapshot_download('me/erased', local_dir='theirs')\n"
            "AutoModelForCausalLM.from_pretrained('me/erased').save_pretrained('loaded')\n"
        )
        script = f"import os\nos.chdir({str(tmp_path)!r})\n{fetch}"
        fetched = as_user(["-c", script], hub, tmp_path)
        assert fetched.returncode == 0, fetched.stderr
    loaded, ours = tmp_path / "loaded", run / "model"
    both = [load_file(folder / "model.safetensors") for folder in (loaded, ours)]
    assert both[0].keys() == both[1].keys()
    assert all(torch.equal(both[0][name], both[1][name]) for name in both[0])
    theirs = tmp_path / "theirs"
    assert (theirs / ".gitattributes").is_file()
    assert list((theirs / ".cache" / "huggingface").iterdir()), "the client puts it there"
    assert main(["verify", str(theirs)]) == 0
    (theirs / ".cache" / "more.py").write_text("")
    assert main(["verify", str(theirs)]) == 3, "what nobody put there is still named"
    readable = b"".join(data for name, data in sent.items() if not name.startswith("tokenizer"))
    answers = [row["completion"].encode() for row in world.rows("forget")]
    assert [answer for answer in answers if answer in readable] == []


@pytest.mark.parametrize(
    ("error", "code", "exit_code"),
    [
        (refused(403), "push-denied", 4),
        (refused(401), "push-denied", 4),
        (LocalTokenNotFoundError(), "push-denied", 4),
        (refused(500), "push-failed", 5),
        (ConnectionResetError("no route"), "push-failed", 5),
    ],
)
def test_a_push_that_fails_says_why(run, monkeypatch, error, code, exit_code):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(ExpungeError) as found:
        push(run, "me/erased", api=DeniedHub(error))
    assert (found.value.code, found.value.exit_code) == (code, exit_code)


def test_a_push_to_a_hub_that_does_not_answer_says_so(run, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    api = HfApi(endpoint=f"http://127.0.0.1:{port}", token="hf_none")
    with pytest.raises(ExpungeError, match="the Hub cannot be reached"):
        push(run, "me/erased", api=api)


def test_what_is_not_as_audited_or_not_confirmed_is_not_pushed(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("expunge.pipeline.push.HfApi", lambda: pytest.fail("the Hub was asked"))
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert main(["push", str(run), "me/erased"]) == 2
    found = capsys.readouterr()
    assert "nobody said yes" in found.err
    assert "model.safetensors" in found.out
    assert main(["--offline", "push", str(run), "me/erased", "--yes"]) == 4
    assert main(["push", str(run), "erased", "--yes"]) == 2
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "model" / "notes.txt").write_text("a secret")
    assert main(["push", str(copy), "me/erased", "--yes"]) == 3
    assert "notes.txt is not in the manifest" in capsys.readouterr().err
    shutil.rmtree(copy / "model")
    assert main(["push", str(copy), "me/erased", "--yes"]) == 4
