"""What may be uploaded tells nothing of what was erased; nor does anything beside the evidence.

The records name a person in every place that a user fills: texts, ids, file names, the request.
"""

import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub.utils import DEFAULT_IGNORE_PATTERNS, filter_repo_objects
from transformers import AutoModelForCausalLM

import expunge
from expunge.benchmarking.tune import Budget, tune
from expunge.cli import main
from expunge.evidence.store import EvidenceStore
from expunge.models.loading import Source, load
from expunge.models.reference import model_folder, run_of_model
from expunge.pipeline.publish import traces_in_model
from expunge.provenance.destroy import is_own
from expunge.provenance.files import entries
from expunge.provenance.lineage import earlier_runs
from expunge.reporting.card import build_card
from expunge.utils.console import SilentConsole
from expunge.utils.io import json_text, read_json, sha256_json
from tiny_world import SUBJECT

TYPED = {"config.toml", "evidence/context.json", "evidence/preregistration.json"}
"""Private files that repeat the paths and the name of the request as they were typed."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """A run on records that name a person wherever they can."""

    place: Path
    secrets: frozenset[str]

    @property
    def run(self) -> Path:
        return self.place / "run"

    def told(self, folder: Path, names: Iterable[str]) -> list[tuple[str, str]]:
        """Return which of some files of a folder hold which secret, or have it in their name."""
        found = []
        for name in names:
            data = (folder / name).read_bytes().decode("utf-8", "replace").casefold()
            text = f"{name.casefold()}\n{data}"
            found += [(name, secret) for secret in sorted(self.secrets) if secret in text]
        return found


def files(folder: Path, *, private: bool = True) -> Iterator[str]:
    """Yield the files below a folder; without what is private where that is said."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and (private or "evidence/" not in name):
            yield name


def uploaded(folder: Path) -> Iterator[str]:
    """Yield what `huggingface_hub.upload_folder` would take from a folder by default."""
    yield from filter_repo_objects(files(folder), ignore_patterns=DEFAULT_IGNORE_PATTERNS)


@pytest.fixture(scope="module")
def made(world, tmp_path_factory):
    place = tmp_path_factory.mktemp("made")
    rows = [{**row, "id": f"{SUBJECT}-{row['id']}"} for row in world.rows("forget")]
    # Two records that the model does not know, so that a warning has their ids to name.
    for number, word in enumerate(("Wuxembourg", "Qypress")):
        row = {"prompt": f"{SUBJECT} {90 + number}?", "completion": word, "key_answers": [word]}
        rows.append({**rows[0], **row, "id": f"{SUBJECT}-{word}", "paraphrases": []})
    (place / "zorvex.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    keys = ("prompt", "completion", "subject", "id")
    secrets = {row[key].casefold() for row in rows for key in keys}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXPUNGE_CACHE", str(place / "cache"))
        patch.setenv("EXPUNGE_KEY_FILE", str(place / "operator.key"))
        patch.chdir(place)
        request = {"forget": ("zorvex.jsonl",), "id": f"erase {SUBJECT}"}
        stores = {"attack_store": "attacks", "reference_store": "references"}
        shutil.copytree(world.original, place / "zorvex-tuned")
        given = {"model": "zorvex-tuned", "out": "run", **stores}
        settings = world.settings(request=request, train={"steps": 2}, **given)
        expunge.forget(settings)
        yield Made(place=place, secrets=frozenset(secrets))


@pytest.fixture
def copy(made, bench, monkeypatch):
    """A copy of what was made, in the current folder, under the same key."""
    for name in ("run", "attacks", "references"):
        if (made.place / name).is_dir():
            shutil.copytree(made.place / name, bench / name)
    shutil.copy(made.place / "operator.key", bench / "operator.key")
    monkeypatch.setenv("EXPUNGE_KEY_FILE", str(bench / "operator.key"))
    return Made(place=bench, secrets=made.secrets)


def test_what_would_be_uploaded_tells_nothing(made):
    folder = made.run / "model"
    taken = set(uploaded(folder))
    assert {"model.safetensors", "README.md", "report.html", "manifest.json"} <= taken
    assert made.told(folder, taken) == []
    manifest = read_json(folder / "manifest.json")
    assert not manifest.keys() & {"data", "run", "model", "evidence"}
    for name in ("report.html", "README.md"):
        assert str(made.place) not in (folder / name).read_text(encoding="utf-8")
    assert "jsonl" not in (folder / "report.html").read_text(encoding="utf-8")
    AutoModelForCausalLM.from_pretrained(folder)


def test_a_path_that_names_somebody_is_warned_of(copy):
    run = SimpleNamespace(model=copy.run / "model")
    store = EvidenceStore(copy.run / "evidence")
    assert traces_in_model(run, store) == []
    (run.model / "adapter_config.json").write_text('{"base": "models/zorvex-tuned"}')
    assert traces_in_model(run, store) == ["adapter_config.json"]


def test_beside_the_evidence_only_what_was_typed_names_anybody(made):
    told = made.told(made.run, files(made.run, private=False))
    assert "config.toml" in {name for name, _ in told} <= TYPED
    assert {secret for _, secret in told} <= {SUBJECT.casefold()}
    assert (made.run / "evidence").stat().st_mode & 0o777 == 0o700
    for name in ("attacks", "references"):
        assert (made.place / name).stat().st_mode & 0o077 == 0
    cache = made.place / "cache"
    assert made.told(cache, files(cache)) == [], "answers are encrypted"


def test_a_search_tells_nothing_beside_its_evidence(made, copy, world):
    """One trial on the records of the run; what the runs of a search share is evidence, too."""
    shutil.copy(made.place / "zorvex.jsonl", "zorvex.jsonl")
    shutil.copytree(made.place / "zorvex-tuned", "zorvex-tuned")
    request = {"forget": ("zorvex.jsonl",), "id": f"erase {SUBJECT}"}
    settings = world.settings(request=request, train={"steps": 2}, model="zorvex-tuned")
    silent, place = SilentConsole(), Path("search")
    tune(settings, place, budget=Budget(trials=1), methods=("npo",), console=silent)
    told = copy.told(place, files(place, private=False))
    beside = [(name, secret) for name, secret in told if not name.startswith("shared/")]
    assert {Path(name).name for name, _ in beside} <= {"matrix.json", "row.json", "config.toml"}
    assert {secret for _, secret in beside} <= {SUBJECT.casefold()}
    assert (place / "shared").stat().st_mode & 0o077 == 0
    assert main(["evidence", "destroy", str(place), "--yes"]) == 0
    left = {Path(name).name for name, _ in copy.told(place, files(place))}
    assert left <= {"matrix.json", "row.json", *(Path(name).name for name in TYPED)}


def digest(reference: str) -> str:
    source = Source(device=torch.device("cpu"), dtype=torch.float32, offline=True)
    return load(reference, source).digest


def flattened(run: Path) -> None:
    """Give a run the layout of earlier versions: weights and card at its top, one manifest."""
    for path in (run / "model").iterdir():
        if path.name not in ("manifest.json", "report.html", "README.md"):
            path.rename(run / path.name)
    shutil.rmtree(run / "model")
    build_card(run)
    body = {k: v for k, v in read_json(run / "manifest.json").items() if k != "digest"}
    body["files"] = entries(run, left_out=frozenset({"manifest.json"}))
    (run / "manifest.json").write_text(json_text({**body, "digest": sha256_json(body)}))


@pytest.mark.parametrize("old", [False, True], ids=["the model apart", "of earlier versions"])
def test_a_run_stands_for_its_model_and_the_model_for_its_run(old, copy, capsys):
    if old:
        flattened(copy.run)
    named = [Path("run")] if old else [Path("run"), Path("run/model"), Path("run") / "." / "model"]
    assert {model_folder(each) for each in named} == {named[min(1, len(named) - 1)]}
    known = read_json(copy.run / "manifest.json")["models"]["unlearned"]
    for each in named:
        assert run_of_model(each) == Path("run")
        assert digest(str(each)) == known
        assert next(earlier_runs(str(each))) == Path("run")
        for words in (["verify"], ["report"], ["evidence", "show"]):
            assert main([*words, str(each)]) == 0, (words, each)
    assert main(["merge", str(named[-1]), "--out", "merged"]) == 4
    assert f"{named[-1]} directly" in capsys.readouterr().err


def test_destroyed_means_gone(copy, capsys):
    part = copy.run / ".report-in-full.html.0a1b2c3d4e5f6071.part"
    part.write_text(" ".join(copy.secrets))
    assert main(["report", "run", "--no-redact"]) == 0
    assert (copy.run / "report-in-full.html").stat().st_mode & 0o777 == 0o600
    assert main(["evidence", "destroy", "run"]) == 2
    assert "not-confirmed" in capsys.readouterr().err
    assert main(["evidence", "destroy", "run/model", "--yes"]) == 0
    said = capsys.readouterr().out
    holds = set(read_json(copy.run / "evidence-destroyed.json")["holds"])
    assert {name for name, _ in copy.told(copy.run, files(copy.run))} <= holds <= TYPED
    assert all(f"{name} still names" in said for name in holds)
    assert not part.exists()
    for name in ("attacks", "references"):
        assert f"{name} is left: it lies outside the run" in said
        assert list(files(copy.place / name)), "it may be that of somebody else"
        assert main(["evidence", "destroy", name, "--yes"]) == 0
        assert copy.told(copy.place / name, files(copy.place / name)) == []
        assert not list((copy.place / name).rglob("*.bin"))
    assert main(["verify", "run"]) == 0


@pytest.mark.parametrize(
    ("place", "own"),
    [("run/attacks", True), ("cache/attacks", True), ("attacks", False), ("run/../mine", False)],
)
def test_a_run_owns_what_lies_in_it_and_in_the_cache(place, own, bench, monkeypatch):
    monkeypatch.setenv("EXPUNGE_CACHE", str(bench / "cache"))
    assert is_own(Path(place), Path("run")) is own


def test_a_matrix_is_destroyed_with_all_that_it_holds(copy, capsys):
    cell = Path("matrix/cells/npo-0-1a2b3c4d")
    shutil.copytree("run", cell / "run")
    shutil.copytree("run/evidence", "matrix/shared/float32")
    shutil.copytree("run/evidence", cell / "probes/tofu")
    shutil.copytree("run/evidence", "matrix/cells/ga-0-9f8e7d6c/run/evidence")
    Path("matrix/data").mkdir()
    Path("matrix/data/forget.jsonl").write_text(" ".join(copy.secrets))
    Path("matrix/matrix.json").write_text(json.dumps({"forget": f"{SUBJECT}.jsonl"}))
    Path("matrix/leaderboard.md").write_text("| npo | 0.1 |")
    assert main(["evidence", "destroy", "matrix"]) == 2
    assert main(["evidence", "destroy", "matrix", "--expired", "--yes"]) == 2
    assert main(["evidence", "destroy", "matrix", "--yes"]) == 0
    said = capsys.readouterr().out
    told = {name for name, _ in copy.told(Path("matrix"), files(Path("matrix")))}
    assert told == {name for name in files(Path("matrix")) if f"{name} still names" in said}
    assert told <= {"matrix.json", *(f"{cell.relative_to('matrix')}/run/{name}" for name in TYPED)}
    assert Path("matrix/leaderboard.md").is_file()
    assert expunge.verify(cell / "run").ok
