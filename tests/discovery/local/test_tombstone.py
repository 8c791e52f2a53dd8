"""Who has left in order is known to have left; nobody else is, whatever happens on the way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from svcmesh.discovery.local.record import edition, stamp, stamped_at
from svcmesh.discovery.local.tombstone import KEPT, bury, is_tombstone, proves, sweep, tombstone_of
from svcmesh.discovery.names import quote_name
from svcmesh.discovery.private_directory import temporary_name, write_atomically

NOW = 1000.0
NAME = "o-1.json"


def write(directory, content=b"x", at=NOW, number=7):
    """Write the file of a registration; return its inode and time stamp."""
    mtime_ns = stamp(at, number)
    return write_atomically(str(directory), NAME, content, mtime_ns), mtime_ns


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_a_file_becomes_its_tombstone_with_the_stamp_of_now(tmp_path):
    inode, mtime_ns = write(tmp_path)

    assert bury(str(tmp_path), NAME, inode, mtime_ns, NOW + 9.0)
    (found,) = tmp_path.iterdir()
    assert found.name == tombstone_of(NAME)
    assert found.stat().st_ino == inode
    assert stamped_at(found.stat().st_mtime_ns) == NOW + 9.0
    assert edition(found.stat().st_mtime_ns) == 7


def test_a_successor_at_the_same_place_is_not_buried(tmp_path):
    inode, mtime_ns = write(tmp_path)
    write(tmp_path, b"successor", number=8)

    assert not bury(str(tmp_path), NAME, inode, mtime_ns, NOW)
    assert names(tmp_path) == [NAME]
    assert (tmp_path / NAME).read_bytes() == b"successor"


def test_what_is_gone_is_not_buried(tmp_path):
    assert not bury(str(tmp_path), NAME, 1, 1, NOW)
    assert not bury(str(tmp_path / "nowhere"), NAME, 1, 1, NOW)
    assert names(tmp_path) == []


def test_who_comes_and_goes_leaves_one_tombstone(tmp_path):
    for number in range(5):
        inode, mtime_ns = write(tmp_path, number=number)
        assert bury(str(tmp_path), NAME, inode, mtime_ns, NOW + number)

    assert names(tmp_path) == [tombstone_of(NAME)]
    assert stamped_at((tmp_path / tombstone_of(NAME)).stat().st_mtime_ns) == NOW + 4


@pytest.mark.parametrize("step", ["utime", "rename"])
def test_whoever_is_killed_on_the_way_has_said_nothing(tmp_path, monkeypatch, step):
    """Before it is complete the tombstone is not there; what is, stands for nothing."""
    inode, mtime_ns = write(tmp_path)

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    rename = Path.rename
    if step == "utime":
        monkeypatch.setattr(os, "utime", killed)
    else:
        monkeypatch.setattr(Path, "rename", lambda a, b: killed() if a.name != NAME else rename(a, b))
    with pytest.raises(KeyboardInterrupt):
        bury(str(tmp_path), NAME, inode, mtime_ns, NOW)
    monkeypatch.undo()
    (left,) = names(tmp_path)
    assert left.startswith(".tmp-")
    assert not is_tombstone(left)


def test_names_of_tombstones_are_hidden_no_temporary_ones_and_fit_into_a_file_system():
    longest = quote_name("id", "x" * 4096) + ".json"

    assert len(tombstone_of(longest)) < 255
    assert is_tombstone(tombstone_of(longest))
    assert tombstone_of(NAME).startswith(".")
    assert not is_tombstone(NAME)
    assert not is_tombstone(f"{temporary_name()}-{stamp(NOW, 1)}")
    assert not is_tombstone(f"{temporary_name()}-gone")


@pytest.mark.parametrize(
    ("left", "since", "proven"),
    [
        (NOW, NOW - 5.0, True),
        (NOW, NOW + 1e-7, True),  # stamps are in whole microseconds
        (NOW - 5.0, NOW - 4.0, False),  # of an earlier registration of that id
        (NOW + 1.0, NOW - 5.0, False),  # of another boot
    ],
)
def test_a_tombstone_is_of_who_registered_before_it(left, since, proven):
    assert proves(stamp(left, 1), since, NOW) is proven


def test_only_tombstones_that_everybody_has_seen_are_swept(tmp_path):
    ages = {"old": KEPT + 0.1, "new": KEPT - 0.1, "earlier-boot": -3600.0}
    for name, age in ages.items():
        write_atomically(str(tmp_path), tombstone_of(name), b"", stamp(NOW - age, 1))
        write_atomically(str(tmp_path), name, b"", stamp(NOW - age, 1))
    sweep(str(tmp_path), NOW)

    assert names(tmp_path) == sorted([*ages, tombstone_of("new")])


def test_sweeping_what_is_not_there_is_harmless(tmp_path):
    sweep(str(tmp_path / "nowhere"), NOW)
    (tmp_path / tombstone_of("dir")).mkdir()
    sweep(str(tmp_path), NOW)
