"""Starting a benchmark: what is refused before anything runs."""

import pytest

from expunge.bench.start import Ask, begin
from expunge.errors import UsageError
from expunge.settings import Settings
from test_matrix import tree

CHAIN = Settings.model_validate(tree(stage=[{"method": {"name": "rmu"}}]))


def test_a_chain_is_no_method_of_a_matrix(tmp_path):
    with pytest.raises(UsageError, match="1 \\[\\[stage\\]\\] table") as caught:
        begin(Ask(what="request.toml"), tmp_path / "m", CHAIN)
    assert caught.value.code == "chain-in-a-matrix"
    assert not (tmp_path / "m").exists()
