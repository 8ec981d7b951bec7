"""Packed files, and rows as they are."""

import bz2
import gzip

import pytest

from expunge.data.readers import read, read_rows
from expunge.errors import InputError
from write_records import write


@pytest.mark.parametrize(
    ("name", "pack"),
    [("a.jsonl.gz", gzip.compress), ("a.json.bz2", bz2.compress), ("a.csv.gz", gzip.compress)],
)
def test_packed_files_read_like_plain_ones(tmp_path, name, pack):
    plain = "text\nIn Oslo.\n" if ".csv" in name else '{"text": "In Oslo."}\n'
    path = write(tmp_path, name, pack(plain.encode()))
    assert [record.completion for record in read([path]).records] == ["In Oslo."]
    assert len(read([str(tmp_path)]).records) == 1


CUT = gzip.compress(b"x" * 99)[:-9]


# Named, for the bytes hold the time of day, and all workers must collect the same tests.
@pytest.mark.parametrize("content", [b"no gzip", CUT], ids=["no gzip", "cut"])
def test_a_damaged_packed_file_is_an_error(tmp_path, content):
    with pytest.raises(InputError, match="cannot be unpacked"):
        read([write(tmp_path, "a.jsonl.gz", content)])


def test_rows_are_read_as_they_are(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"mine": 1}\n{"mine": 1}\n')
    assert [(row.value, row.source) for row in read_rows(path)] == [
        ({"mine": 1}, f"{path}:1"),
        ({"mine": 1}, f"{path}:2"),
    ]
