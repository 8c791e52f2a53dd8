"""Only a directory that nobody else can enter is used, and every change in it is whole or has not happened."""

from __future__ import annotations

import os
import threading

import pytest

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery import private_directory
from svcmesh.discovery.private_directory import Role, check_private, make_private, write_atomically
from svcmesh.discovery.regular_file import read_regular

ROLE = Role("registry directory", "SVCMESH_LOCAL_DIR")


def test_it_is_made_for_its_user_alone(tmp_path):
    path = tmp_path / "a" / "registry"
    make_private(str(path), ROLE)
    make_private(str(path), ROLE)

    assert path.stat().st_mode & 0o777 == 0o700


def test_a_strict_umask_does_not_matter(tmp_path):
    before = os.umask(0o000)
    try:
        make_private(str(tmp_path / "registry"), ROLE)
    finally:
        os.umask(before)

    assert check_private(str(tmp_path / "registry"), ROLE)


def test_one_that_vanishes_while_it_is_made_is_made_again(tmp_path, monkeypatch):
    """The last other instance leaves between our mkdir and our look, and takes the directory along."""
    path = tmp_path / "registry"
    looks = []

    def look(name, role):
        looks.append(name)
        if len(looks) == 2:
            path.rmdir()
        return check_private(name, role)

    monkeypatch.setattr(private_directory, "check_private", look)
    make_private(str(path), ROLE)

    assert path.is_dir()
    assert len(looks) > 2


def test_one_that_always_vanishes_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(private_directory, "check_private", lambda *_: False)

    with pytest.raises(DiscoveryError, match="vanishes whenever"):
        make_private(str(tmp_path / "registry"), ROLE)


def test_what_is_missing_is_no_mistake(tmp_path):
    assert not check_private(str(tmp_path / "none"), ROLE)


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701, 0o1777])
def test_a_directory_that_others_may_enter_is_refused(tmp_path, mode):
    path = tmp_path / "registry"
    path.mkdir()
    path.chmod(mode)

    with pytest.raises(DiscoveryError, match=rf"mode {mode:04o}.*chmod 700 {path}"):
        make_private(str(path), ROLE)


def test_a_symlink_is_refused_even_to_a_private_directory(tmp_path):
    (tmp_path / "real").mkdir(0o700)
    (tmp_path / "link").symlink_to("real")

    with pytest.raises(DiscoveryError, match="symlink"):
        make_private(str(tmp_path / "link"), ROLE)


def test_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(DiscoveryError, match="is a file"):
        make_private(str(tmp_path / "file"), ROLE)


def test_a_directory_of_somebody_else_is_refused(tmp_path, monkeypatch):
    (tmp_path / "registry").mkdir(0o700)
    stranger = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: stranger)

    with pytest.raises(DiscoveryError, match=rf"belongs to user .*, not to {stranger}"):
        make_private(str(tmp_path / "registry"), ROLE)


def test_what_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(DiscoveryError, match=r"cannot (create|look at)"):
        make_private(str(tmp_path / "file" / "registry"), ROLE)


def test_a_write_replaces_in_one_step_and_sets_the_time_stamp(tmp_path):
    first = write_atomically(str(tmp_path), "x", b"one", 1_000)
    second = write_atomically(str(tmp_path), "x", b"two", 2_000)

    found = (tmp_path / "x").stat()
    assert (tmp_path / "x").read_bytes() == b"two"
    assert (found.st_ino, found.st_mtime_ns, found.st_mode & 0o777) == (second, 2_000, 0o600)
    assert first != second
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_write_that_fails_leaves_nothing(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "y").touch()

    with pytest.raises(OSError, match="directory"):
        write_atomically(str(tmp_path), "x", b"one", 1)
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_reader_never_sees_half_a_file(tmp_path):
    contents = {bytes([65 + n]) * 20_000 for n in range(4)}
    write_atomically(str(tmp_path), "x", b"A" * 20_000, 1)
    seen = set()
    done = threading.Event()

    def read():
        while not done.is_set():
            seen.add(read_regular(str(tmp_path / "x"), 65_536))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(200):
        for content in sorted(contents):
            write_atomically(str(tmp_path), "x", content, 1)
    done.set()
    reader.join()

    assert seen
    assert seen <= contents
