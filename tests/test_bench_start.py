"""Starting a benchmark: what is refused before anything runs."""

import json
import re
from dataclasses import replace

import pytest

from expunge.bench.protocol import read_protocol
from expunge.bench.start import Ask, begin
from expunge.errors import ExpungeError, UsageError
from expunge.settings import Settings
from test_matrix import tree

PLAIN = Settings.model_validate(tree())
CHAIN = Settings.model_validate(tree(stage=[{"method": {"name": "rmu"}}]))


def test_a_chain_is_no_method_of_a_matrix(tmp_path):
    with pytest.raises(UsageError, match="1 \\[\\[stage\\]\\] table") as caught:
        begin(Ask(what="request.toml"), tmp_path / "m", CHAIN)
    assert caught.value.code == "chain-in-a-matrix"
    assert not (tmp_path / "m").exists()


FILE, TOFU, MUSE, RWKU = (Ask(what=what) for what in ("r.toml", "tofu", "muse", "rwku"))


@pytest.mark.parametrize(
    ("ask", "given", "said"),
    [
        (FILE, {"data": "d"}, "r.toml does not read --data"),
        (FILE, {"part": "bio"}, "does not read --part"),
        (FILE, {"records": 3}, "does not read --records"),
        (FILE, {"corpus": ("c",), "keep": ("k",)}, "does not read --corpus and --keep"),
        (FILE, {"keep": ("k",), "records": 3, "beside": ("utility=u",)}, "does not read --keep"),
        (TOFU, {"keep": ("k",)}, "bench tofu does not read --keep"),
        (TOFU, {"corpus": ("c",)}, "reads neither --corpus nor --keep"),
        (MUSE, {"corpus": ("c",)}, "leave it out; muse reads --keep"),
        (RWKU, {"corpus": ("c",), "data": "d", "keep": ("k",)}, "does not read --corpus"),
    ],
)
def test_a_flag_that_is_not_read_is_refused(ask, given, said, tmp_path):
    with pytest.raises(UsageError, match=said) as caught:
        begin(replace(ask, **given), tmp_path / "m", PLAIN)
    assert caught.value.code == "unread-flag"
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("ask", "given", "code"),
    [
        (FILE, {"records": 3, "beside": ("utility=nowhere",)}, "no-benchmark-folder"),
        (MUSE, {"keep": ("k",), "data": "nowhere"}, "no-benchmark-folder"),
        (Ask(what="pistol"), {"keep": ("k",)}, "unknown-suite"),
    ],
)
def test_a_flag_that_is_read_is_not_refused(ask, given, code, tmp_path):
    with pytest.raises(ExpungeError) as caught:
        begin(replace(ask, **given), tmp_path / "m", PLAIN)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("text", "asked", "code"),
    [
        (None, {}, "no-chosen-settings"),
        ("not json", {}, "malformed-chosen-settings"),
        ('["npo"]', {}, "malformed-chosen-settings"),
        ('{"npo": 3}', {}, "malformed-chosen-settings"),
        ('{"nqo": {}}', {}, "unknown-method"),
        ('{"npo": {"method.betta": 1}}', {}, "unknown-knob"),
        ('{"npo": {"trian.lr": 1}}', {}, "invalid-value"),
        ('{"npo": {"train.lr": -1}}', {}, "invalid-value"),
        ('{"npo": {}}', {"methods": ("npo", "rmu")}, "nothing-chosen"),
        ('{"npo": {}}', {"trials": 2}, "chosen-and-tried"),
    ],
)
def test_settings_that_were_not_chosen_are_refused(text, asked, code, tmp_path):
    path = tmp_path / "chosen.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ExpungeError) as caught:
        begin(replace(FILE, chosen=path, **asked), tmp_path / "m", PLAIN)
    assert caught.value.code == code
    assert not (tmp_path / "m").exists()


def test_what_was_chosen_is_part_of_the_protocol(tmp_path):
    path, chosen = tmp_path / "chosen.json", {"npo": {"train.lr": 1e-5}, "rmu": {}}
    path.write_text(json.dumps(chosen))
    asked = replace(FILE, chosen=path, methods=("npo+sam",))
    assert begin(asked, tmp_path / "m", PLAIN).chosen == chosen


@pytest.mark.parametrize(
    ("later", "expected"),
    [
        ({"npo": {}}, "chosen.npo.train.lr 1e-05 (now unset)"),
        ({"npo": {"train.lr": 2e-5}}, "chosen.npo.train.lr 1e-05 (now 2e-05)"),
        ({"npo": {"train.lr": 1e-5}, "npo+sam": {}}, "chosen.npo+sam unset (now {})"),
        ({"npo": {"train.lr": 1e-5}, "rmu": {"train.lr": 1}}, "chosen.rmu {} (now unset)"),
        ({"npo": {"train.lr": 1e-5}}, ["npo", "rmu"]),
        ({"npo": {"train.lr": 1e-5}, "dpo": {}}, ["npo", "rmu", "dpo"]),
        ({"simnpo": {"train.lr": 1}}, ["npo", "rmu", "simnpo"]),
    ],
)
def test_further_methods_join_those_chosen_before_and_change_none(later, expected, tmp_path):
    path, before = tmp_path / "chosen.json", {"npo": {"train.lr": 1e-5}, "rmu": {}}
    path.write_text(json.dumps(before))
    asked = replace(FILE, chosen=path)
    begin(asked, tmp_path / "m", PLAIN)
    path.write_text(json.dumps(later))
    if isinstance(expected, str):
        with pytest.raises(UsageError, match=re.escape(expected)):
            begin(asked, tmp_path / "m", PLAIN)
    else:
        assert list(begin(asked, tmp_path / "m", PLAIN).chosen or {}) == expected
    assert before.items() <= dict(read_protocol(tmp_path / "m").chosen or {}).items()
