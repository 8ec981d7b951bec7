"""Registers of free text: sixty records, each question once, the same for the same seed."""

import pytest

from free_text import free_text, kinds


@pytest.mark.parametrize("kind", kinds())
def test_a_register_asks_each_question_once_and_depends_on_the_seed_alone(kind):
    erase, keep = free_text(kind, 3)
    assert (erase, keep) == free_text(kind, 3) != free_text(kind, 4)
    assert [len(erase), len(keep)] == [20, 40]
    rows = [*erase, *keep]
    assert len({row["prompt"] for row in rows}) == 60
    assert all(set(row) == {"prompt", "completion"} for row in rows)
    assert not any("{" in text for row in rows for text in row.values())
