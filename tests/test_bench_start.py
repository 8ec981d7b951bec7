"""Starting a benchmark: what is refused before anything runs."""

from dataclasses import replace

import pytest

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
