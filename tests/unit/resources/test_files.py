"""Files that are there as a whole or not at all."""

import os
from pathlib import Path

import pytest

from resources.files import SHARED, place, replacing, temporary, write_whole


def test_a_file_is_written_and_replaced_whole_and_alone(tmp_path: Path):
    file = tmp_path / "file"
    for content in (b"first", b"second, longer"):
        write_whole(file, content)
        assert file.read_bytes() == content
    assert list(tmp_path.iterdir()) == [file]


def test_others_may_read_what_was_written(tmp_path: Path):
    plain, whole = tmp_path / "plain", tmp_path / "whole"
    plain.write_bytes(b"")
    write_whole(whole, b"")
    assert whole.stat().st_mode == plain.stat().st_mode


def test_what_people_take_is_readable_whatever_the_umask(tmp_path: Path):
    before = os.umask(0o077)
    try:
        write_whole(tmp_path / "private", b"")
        write_whole(tmp_path / "shared", b"", SHARED)
    finally:
        os.umask(before)
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "shared").stat().st_mode & 0o777 == SHARED == 0o644


def write_half(file: Path) -> None:
    with replacing(file) as written:
        written.write_bytes(b"half")
        assert file.read_bytes() == b"before"
        raise ZeroDivisionError


def test_a_write_that_fails_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path: Path):
    file = tmp_path / "file"
    file.write_bytes(b"before")
    with pytest.raises(ZeroDivisionError):
        write_half(file)
    assert file.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [file]


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "file"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_an_error_of_the_system(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "absent" / "file", b"")


def test_a_temporary_file_is_gone_unless_it_was_placed(tmp_path: Path):
    with temporary(tmp_path) as written:
        written.write_bytes(b"not wanted")
    assert not list(tmp_path.iterdir())
    with temporary(tmp_path) as written:
        written.write_bytes(b"wanted")
        place(written, tmp_path / "file")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"wanted"]
