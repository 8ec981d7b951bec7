import os
import shutil
import stat
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge.errors import InputError, UsageError
from expunge.evals.results import Results
from expunge.evidence.store import EvidenceStore, Item
from expunge.provenance.keys import default_key_path, fingerprint, item_fingerprints, operator_key
from expunge.provenance.manifest import SCHEMA, Retention, covered, write_manifest
from expunge.provenance.verify import verify
from expunge.reporting.schema import read_results, results_to_json
from expunge.utils.io import json_text, read_json, sha256_file, write_json
from synthetic_run import build_run, facts, forget_items

KEY = bytes(range(32))
EXPIRES = str(datetime.fromisoformat(facts().created).date() + timedelta(365))


def seal(run: Path) -> Path:
    prints = item_fingerprints(EvidenceStore(run / "evidence").items(), KEY)
    return write_manifest(
        run,
        run_id="4f1c0a2b",
        facts=facts(),
        models={"unlearned": "b" * 64, "original": "a" * 64},
        seeds={"train": 0, "audit": 0},
        data_fingerprints=prints,
        evidence=Retention(sealed=False, expires=EXPIRES, redacted=True),
    )


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    run = build_run(tmp_path_factory.mktemp("ledger") / "run")
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "state.bin").write_bytes(b"x")
    (run / ".lock").write_text("{}")
    (run / "empty.txt").touch()
    seal(run)
    shutil.rmtree(run / "checkpoints")
    (run / ".lock").unlink()
    return run


@pytest.fixture
def run(sealed, tmp_path):
    return Path(shutil.copytree(sealed, tmp_path / "run"))


@pytest.fixture(scope="module")
def saved(sealed):
    return read_results(sealed)


def test_a_name_that_is_no_utf8_is_named_as_any_other(tmp_path):
    run = build_run(tmp_path / "run")
    for name in (b"note-\xff", rb"note-\xff"):
        (run / os.fsdecode(name)).write_bytes(name)
    seal(run)
    known = read_json(run / "manifest.json")["files"]
    assert {name for name in known if "note" in name} == {r"note-\xff", r"note-\\xff"}
    saved = read_results(run)
    assert problems(run, saved) == []
    (run / os.fsdecode(b"note-\xff")).rename(run / os.fsdecode(b"note-\xfe"))
    assert problems(run, saved) == [
        (r"note-\xfe", "is not in the manifest"),
        (r"note-\xff", "is missing"),
    ]


def honest(saved: Results):
    """An assessment that gives the saved results, whatever the evidence says."""
    return lambda store: saved


def problems(run: Path, saved: Results) -> list[tuple[str, str]]:
    return [(p.path, p.what) for p in verify(run, assess=honest(saved)).problems]


def test_an_untouched_run_verifies(run, saved):
    found = verify(run, assess=honest(saved))
    assert found.ok
    assert found.problems == ()
    assert found.files == sum(1 for _ in covered(run)) > 15
    assert found.scores == len(saved.scores) + len(saved.gates)
    assert found.digest == read_json(run / "manifest.json")["digest"]


def test_the_manifest_names_every_file_with_its_digest(run):
    manifest = read_json(run / "manifest.json")
    names = list(manifest["files"])
    assert names == sorted(names)
    assert not {"manifest.json", ".lock", "checkpoints/state.bin"} & set(names)
    assert {"config.toml", "facts.json", "results.json", "evidence/items.jsonl"} <= set(names)
    assert manifest["files"]["config.toml"] == {
        "sha256": sha256_file(run / "config.toml"),
        "bytes": (run / "config.toml").stat().st_size,
    }
    assert manifest["schema"] == SCHEMA == "expunge.manifest/2"
    assert manifest["models"] == {"original": "a" * 64, "unlearned": "b" * 64}
    assert manifest["verdict"]["ruling"] == "FAIL-RESIDUAL"
    assert manifest["created"] == facts().created


def test_the_manifest_holds_records_only_as_keyed_fingerprints(run):
    text = (run / "manifest.json").read_text(encoding="utf-8")
    for item in forget_items():
        for secret in (item.subject or "", item.answer, item.question, *item.key_answers):
            assert secret.casefold() not in text.casefold()
    prints = read_json(run / "manifest.json")["data"]
    assert len(prints["forget"]) == 20
    assert all(len(one) == 32 for split in prints.values() for one in split)


FILES = sorted(
    {
        "weights.bin",
        "config.toml",
        "facts.json",
        "results.json",
        "manifest.json",
        "evidence/context.json",
        "evidence/items.jsonl",
        "evidence/unlearned.forget.int4.answers.jsonl",
        "evidence/original.forget.plain.scores.jsonl",
    }
)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0.0, 0.31, 0.74, 1.0])
def test_one_flipped_bit_anywhere_is_found(run, saved, name, place):
    path = run / name
    data = bytearray(path.read_bytes())
    data[round(place * (len(data) - 1))] ^= 1
    path.write_bytes(data)
    assert name in {where for where, _ in problems(run, saved)}


def test_one_flipped_bit_in_every_file_is_found(run, saved):
    expected = set()
    for path in covered(run):
        data = bytearray(path.read_bytes())
        if data:
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
            expected.add(path.relative_to(run).as_posix())
    assert len(expected) > 15
    assert expected <= {where for where, _ in problems(run, saved)}


@pytest.mark.parametrize("cut", [b" ", b"\n"])
def test_white_space_added_to_the_manifest_is_found(run, saved, cut):
    path = run / "manifest.json"
    path.write_bytes(path.read_bytes() + cut)
    assert problems(run, saved) == [("manifest.json", "was changed: its own digest does not match")]


def test_missing_and_added_files_are_named(run, saved):
    (run / "config.toml").unlink()
    (run / "evidence" / "extra.jsonl").write_text("{}\n")
    assert problems(run, saved) == [
        ("config.toml", "is missing"),
        ("evidence/extra.jsonl", "is not in the manifest"),
    ]


def test_a_change_that_keeps_the_size_and_one_that_does_not(run, saved):
    (run / "config.toml").write_bytes((run / "config.toml").read_bytes().replace(b"0.1", b"0.2"))
    (run / "empty.txt").write_text("x")
    assert problems(run, saved) == [
        ("config.toml", "was changed: its SHA-256 differs"),
        ("empty.txt", "was changed: 1 bytes, 0 in the manifest"),
        ("config.toml", "`method` has other hyperparameters than facts.json"),
    ]


def test_a_link_is_a_problem_and_is_refused_when_sealing(run, saved, tmp_path):
    target = tmp_path / "elsewhere"
    shutil.move(run / "config.toml", target)
    (run / "config.toml").symlink_to(target)
    assert ("config.toml", "is a link, not a file") in problems(run, saved)
    with pytest.raises(UsageError, match="link-in-run"):
        seal(run)


def test_a_linked_folder_does_not_hide_files(run, saved, tmp_path):
    (run / "more").symlink_to(tmp_path, target_is_directory=True)
    assert problems(run, saved) == [("more", "is a link, not a file")]


def reseal(run: Path, change) -> None:
    value = read_json(run / "results.json")
    change(value)
    write_json(run / "results.json", value)
    seal(run)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda v: v["scores"][1].update(value=v["scores"][1]["value"] + 1e-15),
            "scores[extraction-strength original forget plain].value is 0.",
        ),
        (lambda v: v["gates"][3].update(status="pass"), "gates[leak under int4].status is 'pass'"),
        (lambda v: v["gates"][3].update(margin=0.5), "gates[leak under int4].margin is 0.5"),
        (lambda v: v["verdict"].update(ruling="PASS"), "verdict.ruling is 'PASS'"),
        (lambda v: v["scores"].pop(), "scores[extraction-strength ladder-0.75 forget plain] is"),
        (lambda v: v["self_tests"].pop(0), "self_tests[fails the original]"),
        (lambda v: v.update(note=1), "note is 1, the evidence gives absent"),
    ],
)
def test_a_doctored_number_is_named_even_under_a_new_manifest(run, saved, change, expected):
    reseal(run, change)
    [(where, what)] = [p for p in problems(run, saved) if p[0] == "results.json"]
    assert where == "results.json"
    assert expected in what


def test_evidence_that_gives_no_results_is_a_problem_without_its_text(run):
    def broken(store):
        raise KeyError("Mirabel Kovanda")

    found = verify(run, assess=broken)
    [problem] = found.problems
    assert (problem.path, problem.what) == ("evidence", "gives no results: KeyError")
    assert found.scores == 0


def test_the_numbers_are_recomputed_from_the_evidence_by_default(run):
    found = verify(run)
    assert [(p.path) for p in found.problems] == ["results.json"]
    from expunge.evals.assess import assess

    write_json(run / "results.json", results_to_json(assess(EvidenceStore(run / "evidence"))))
    seal(run)
    assert verify(run).ok


@pytest.mark.parametrize(
    ("key", "value"),
    [("created", "2030-01-01T00:00:00+00:00"), ("versions", {"expunge": "9"}), ("model", "other")],
)
def test_a_manifest_that_contradicts_the_files_is_named(run, saved, key, value):
    import json

    from expunge.utils.io import sha256_json

    manifest = json.loads((run / "manifest.json").read_text()) | {key: value}
    body = {k: v for k, v in manifest.items() if k != "digest"}
    (run / "manifest.json").write_text(json_text({**body, "digest": sha256_json(body)}))
    what = f"names another {key} than the files that it covers"
    assert problems(run, saved) == [("manifest.json", what)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "is not a manifest"),
        ("[]", "is not a manifest"),
        ('{"files": {}}', "has schema None"),
        ('{"schema": "expunge.manifest/2", "files": {"a": 1}}', "is not a manifest"),
        ('{"schema": "expunge.manifest/1", "files": {}}', "'expunge.manifest/2'"),
    ],
)
def test_a_broken_manifest_is_a_problem(run, saved, content, expected):
    (run / "manifest.json").write_text(content)
    found = verify(run, assess=honest(saved))
    assert not found.ok
    assert expected in found.problems[0].what


def test_a_folder_without_manifest_is_refused(tmp_path):
    with pytest.raises(InputError, match="no-manifest"):
        verify(tmp_path)


def test_sealing_twice_gives_the_same_manifest(run):
    before = (run / "manifest.json").read_bytes()
    assert seal(run).read_bytes() == before


def test_the_key_is_made_once_for_its_owner_only(tmp_path):
    path = tmp_path / "config" / "expunge" / "key"
    key = operator_key(path, run=tmp_path / "run")
    assert len(key) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert operator_key(path, run=tmp_path / "run") == key
    assert operator_key(tmp_path / "other", run=tmp_path / "run") != key
    assert [one.name for one in path.parent.iterdir()] == ["key"]


def test_a_key_inside_the_run_folder_is_refused(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(UsageError, match="key-in-run"):
        operator_key(run / "evidence" / ".." / "key", run=run)
    assert not run.exists()


def test_a_key_that_others_may_read_is_refused(tmp_path):
    path = tmp_path / "key"
    operator_key(path, run=tmp_path / "run")
    path.chmod(0o640)
    with pytest.raises(UsageError, match="chmod 600"):
        operator_key(path, run=tmp_path / "run")


def test_a_short_key_is_refused(tmp_path):
    path = tmp_path / "key"
    path.write_bytes(b"short")
    path.chmod(0o600)
    with pytest.raises(InputError, match="holds 5 bytes; a key has 32"):
        operator_key(path, run=tmp_path / "run")


def test_the_default_key_lies_in_the_home_of_the_operator(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_key_path() == tmp_path / ".config" / "expunge" / "key"


def test_fingerprint_is_hmac_sha256():
    # RFC 4231, test case 2: key "Jefe", first 128 bits.
    expected = "5bdcc146bf60754e6a042426089575c7"
    assert fingerprint("what do ya want for nothing?", b"Jefe") == expected


@given(text=st.text(), other=st.text())
def test_fingerprints_tell_texts_and_keys_apart(text, other):
    assert (fingerprint(text, KEY) == fingerprint(other, KEY)) == (text == other)
    assert fingerprint(text, KEY) != fingerprint(text, KEY[::-1])


def test_items_are_fingerprinted_by_set_in_order():
    items = [
        Item(record=str(i), split=split, question=f"q{i}", answer="a")
        for i, split in enumerate(("forget", "retain", "forget"))
    ]
    assert item_fingerprints(items, KEY) == {
        "forget": [fingerprint("q0\na", KEY), fingerprint("q2\na", KEY)],
        "retain": [fingerprint("q1\na", KEY)],
    }
