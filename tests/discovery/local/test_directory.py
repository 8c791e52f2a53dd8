"""What the embedded registry takes away is what was meant, and nothing that has come meanwhile."""

from __future__ import annotations

from svcmesh.discovery.local.directory import remove_exactly, remove_if_empty
from svcmesh.discovery.private_directory import write_atomically


def test_removing_takes_only_what_was_meant(tmp_path):
    old = write_atomically(str(tmp_path), "x", b"old", 1_000)
    new = write_atomically(str(tmp_path), "x", b"new", 2_000)

    assert not remove_exactly(str(tmp_path), "x", old)
    assert not remove_exactly(str(tmp_path), "x", new, 1_000)
    assert (tmp_path / "x").read_bytes() == b"new"
    assert (tmp_path / "x").stat().st_ino == new
    assert remove_exactly(str(tmp_path), "x", new, 2_000)
    assert not remove_exactly(str(tmp_path), "x", new)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_is_removed_only_when_empty(tmp_path):
    path = tmp_path / "service"
    path.mkdir()
    (path / "x").touch()
    remove_if_empty(str(path))
    assert path.is_dir()

    (path / "x").unlink()
    remove_if_empty(str(path))
    remove_if_empty(str(path))
    assert not path.exists()
