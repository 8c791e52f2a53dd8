"""Files that others write are read without waiting for them, and only if they are files."""

from __future__ import annotations

import os
import socket

import pytest

from svcmesh.discovery.regular_file import NotRegularError, read_regular


@pytest.mark.parametrize("kind", ["fifo", "symlink", "directory", "socket"])
def test_only_regular_files_are_read_and_none_is_waited_for(tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real").write_text("x")
    match kind:
        case "fifo":
            os.mkfifo("it")
        case "symlink":
            (tmp_path / "it").symlink_to("real")
        case "directory":
            (tmp_path / "it").mkdir()
        case "socket":
            with socket.socket(socket.AF_UNIX) as server:
                server.bind("it")

    for follow in (False, True)[: 1 if kind == "symlink" else 2]:
        with pytest.raises(NotRegularError, match="not a regular file"):
            read_regular("it", 100, follow=follow)


def test_a_large_file_is_read_no_further_than_asked(tmp_path):
    (tmp_path / "x").write_bytes(b"x" * 1000)

    assert len(read_regular(str(tmp_path / "x"), 100)) == 101


def test_a_symlink_is_followed_where_that_is_asked_for(tmp_path):
    """As to the secrets of a pod; one that leads to a device is none the better for it."""
    (tmp_path / "real").write_text("x")
    (tmp_path / "it").symlink_to("real")
    (tmp_path / "endless").symlink_to("/dev/zero")

    assert read_regular(str(tmp_path / "it"), 100, follow=True) == b"x"
    with pytest.raises(NotRegularError):
        read_regular(str(tmp_path / "endless"), 100, follow=True)


def test_a_file_in_a_directory_is_read_by_its_name(tmp_path):
    (tmp_path / "x").write_text("1")
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        assert read_regular("x", 100, directory) == b"1"
    finally:
        os.close(directory)
