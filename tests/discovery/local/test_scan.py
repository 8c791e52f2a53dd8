"""What counts as registered: heartbeats, TTLs, restarts, hostile files, and what is cleaned up after the dead."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.base import Announcement
from svcmesh.discovery.local import scan
from svcmesh.discovery.local.record import encode, stamp
from svcmesh.discovery.local.scan import GRACE, Scan
from svcmesh.discovery.local.tombstone import KEPT, bury, sweep, tombstone_of
from svcmesh.discovery.private_directory import write_atomically
from svcmesh.testing.sim import Kernel

START = 1000.0


class Registry:
    """A registry's directory, a clock, and a scan of the service ``orders``."""

    def __init__(self, root, emitted):
        root.mkdir(0o700)
        self.root = root
        self.directory = root / "orders"
        self.directory.mkdir()
        self.clock = Kernel(START)
        self.emitted = emitted
        self.scan = self.another()
        self.editions = 0

    def another(self):
        """Return a scan that has seen nothing yet."""
        return Scan(str(self.root), "orders", clock=self.clock, emit=self.emitted)

    def write(
        self, name_of_it, address="a:1", *, ttl=10.0, since=None, draining=False, service="orders", weight=1, name=None
    ):
        announcement = Announcement(service, name_of_it, address, ttl=ttl, weight=weight)
        now = self.clock.now()
        content = encode(announcement, since=now if since is None else since, draining=draining, owner="x", pid=1)
        self.editions += 1
        write_atomically(str(self.directory), name or f"{name_of_it}.json", content, stamp(now, self.editions))

    def delete(self, name_of_it):
        """Take a file away as a stranger does."""
        (self.directory / f"{name_of_it}.json").unlink()

    def leave(self, name_of_it):
        """Leave in order."""
        found = (self.directory / f"{name_of_it}.json").stat()
        bury(str(self.directory), f"{name_of_it}.json", found.st_ino, found.st_mtime_ns, self.clock.now())

    def poll(self, scan=None):
        found = (scan or self.scan).poll()
        return None if found is None else [e.address for e in found]

    def later(self, seconds):
        self.clock.run(until=self.clock.now() + seconds)

    def touch(self, name, instant):
        path = self.directory / name
        edition = path.stat().st_mtime_ns % 1000
        os.utime(path, ns=(0, stamp(instant, edition)))


@pytest.fixture
def registry(tmp_path, emitted):
    return Registry(tmp_path / "registry", emitted)


def test_the_first_look_always_answers(registry):
    assert registry.poll() == []


def test_registrations_come_in_order_of_address(registry):
    registry.write("2", "b:1")
    registry.write("1", "c:1")
    registry.write("3", "a:1")

    assert registry.poll() == ["a:1", "b:1", "c:1"]
    assert registry.poll() is None, "nothing changed since"


def test_a_service_without_a_directory_is_empty(registry):
    registry.directory.rmdir()
    assert registry.poll() == []
    registry.directory.mkdir()
    registry.write("1")
    assert registry.poll() == ["a:1"]


def test_a_changed_weight_is_a_change(registry):
    registry.write("1", weight=1)
    registry.poll()
    registry.write("1", weight=2)

    (endpoint,) = registry.scan.poll()
    assert endpoint.weight == 2


def test_draining_ones_are_left_out(registry):
    registry.write("1", "a:1")
    registry.write("2", "b:1")
    registry.poll()
    registry.write("1", "a:1", draining=True)

    assert registry.poll() == ["b:1"]


def test_a_ttl_without_heartbeat_ends_it(registry):
    registry.write("1", ttl=10.0)
    assert registry.poll() == ["a:1"]
    registry.later(9.9)
    assert registry.poll() is None
    registry.later(0.2)
    assert registry.poll() == []


def test_heartbeats_keep_it(registry):
    registry.write("1", ttl=10.0)
    registry.poll()
    for _ in range(30):
        registry.later(3.0)
        registry.touch("1.json", registry.clock.now())
        assert registry.poll() is None


def test_a_stranger_sees_the_same_as_a_watcher(registry):
    """Life is in the file and not in what a watcher remembers, so that a new process does not list the dead."""
    registry.write("1", ttl=10.0)
    registry.later(11.0)

    assert registry.poll() == []


def test_each_has_a_ttl_of_its_own(registry):
    registry.write("1", "a:1", ttl=1.0)
    registry.write("2", "b:1", ttl=100.0)
    registry.poll()
    registry.later(1.1)

    assert registry.poll() == ["b:1"]


def test_a_file_from_before_a_reboot_is_dead(registry, monkeypatch):
    monkeypatch.setattr("svcmesh.discovery.local.record.boot_id", lambda: "an earlier boot")
    registry.write("1")

    assert registry.poll() == []


def test_a_touched_file_gets_one_ttl_from_when_that_was_seen(registry):
    """A stamp in the future is no heartbeat; who touched the file may have touched that of a living process."""
    registry.write("1", ttl=10.0)
    os.utime(registry.directory / "1.json")
    assert registry.poll() == ["a:1"]
    registry.later(9.0)
    assert registry.poll() is None
    registry.later(1.1)
    assert registry.poll() == []


def test_a_restart_at_the_same_address_hides_its_killed_predecessor(registry):
    registry.write("old", "a:1", weight=1, since=1.0)
    registry.write("new", "a:1", weight=2, since=2.0)
    (endpoint,) = registry.scan.poll()
    assert endpoint.weight == 2


def test_two_that_share_an_address_leave_it_listed_while_one_drains(registry):
    registry.write("1", "a:1", since=1.0)
    registry.write("2", "a:1", since=2.0, draining=True)

    assert registry.poll() == ["a:1"]


def hostile_files():
    return {
        "half.json": b'{"svcmesh": 1, "service": "ord',
        "empty.json": b"",
        "binary.json": bytes(range(256)),
        "deep.json": b"[" * 60_000,
        "huge.json": b" " * 70_000,
        "foreign.json": b'{"name": "something else"}',
        "README": b"hello",
        ".hidden": b"x",
    }


def test_hostile_files_are_skipped_and_reported_once_each(registry):
    registry.write("good", "z:1")
    registry.write("good", "y:1", name="elsewhere.json")
    registry.write("stray", "x:1", service="billing")
    for name, content in hostile_files().items():
        (registry.directory / name).write_bytes(content)
    os.mkfifo(registry.directory / "fifo.json")
    (registry.directory / "dir.json").mkdir()
    (registry.directory / "link.json").symlink_to("good.json")
    (registry.directory / "dangling.json").symlink_to("nowhere")

    assert registry.poll() == ["z:1"]
    for _ in range(100):
        registry.later(0.25)
        registry.touch("good.json", registry.clock.now())
        registry.poll()

    assert {name for name, _, _ in registry.emitted} == {"config.warning"}
    assert {service for _, service, _ in registry.emitted} == {"orders"}
    assert len(registry.emitted) == len(hostile_files()) + 6
    told = "\n".join(registry.emitted.errors())
    assert "half.json': no JSON" in told
    assert "fifo.json': not a regular file" in told
    assert "link.json': not a regular file" in told
    assert "stray.json': it registers 'stray' of 'billing', which belongs elsewhere" in told


def test_a_bad_file_that_changes_is_reported_again_and_one_that_is_mended_counts(registry):
    (registry.directory / "1.json").write_bytes(b"{")
    registry.poll()
    (registry.directory / "1.json").write_bytes(b"[[")
    registry.poll()
    assert len(registry.emitted) == 2

    registry.write("1")
    assert registry.poll() == ["a:1"]
    assert len(registry.emitted) == 2


def test_a_file_that_is_edited_in_place_is_seen_within_seconds(registry):
    (registry.directory / "1.json").write_bytes(b"{")
    registry.poll()
    registry.later(60.0)
    registry.poll()
    content = encode(Announcement("orders", "1", "a:1"), since=1.0, draining=False, owner="x", pid=1)
    (registry.directory / "1.json").write_bytes(content)
    registry.later(5.0)

    assert registry.poll() == ["a:1"]


def test_what_the_dead_left_is_removed_after_a_grace(registry):
    registry.write("1", ttl=10.0)
    (registry.directory / ".tmp-1-2-3").write_bytes(b"half")
    registry.poll()
    registry.later(10.0 + GRACE - 1.0)
    registry.poll()
    assert (registry.directory / "1.json").exists()

    registry.later(6.0)
    registry.poll()
    assert not registry.directory.exists(), "the empty directory goes too"


def test_what_is_not_ours_is_never_removed(registry):
    (registry.directory / "notes.txt").write_bytes(b"keep me")
    registry.poll()
    registry.later(86_400.0)
    registry.poll()

    assert (registry.directory / "notes.txt").read_bytes() == b"keep me"


def test_who_returns_in_the_grace_is_not_removed(registry):
    registry.write("1", ttl=10.0)
    registry.later(10.0 + GRACE - 1.0)
    registry.poll()
    registry.write("1", ttl=10.0)
    assert registry.poll() == ["a:1"]
    registry.later(6.0)
    registry.poll()

    assert (registry.directory / "1.json").exists()


@pytest.mark.parametrize("harm", ["removed", "opened", "replaced"])
def test_a_registry_that_is_gone_or_unsafe_is_an_error_and_not_empty(registry, harm):
    registry.write("1")
    registry.poll()
    root = registry.root
    match harm:
        case "removed":
            root.rename(root.with_name("gone"))
        case "opened":
            root.chmod(0o777)
            registry.later(6.0)
        case "replaced":
            registry.directory.rename(root / "elsewhere")
            registry.directory.symlink_to("elsewhere")

    with pytest.raises(DiscoveryError, match=str(root)):
        registry.poll()


def test_it_goes_on_when_the_registry_is_back(registry):
    registry.write("1")
    registry.poll()
    registry.root.rename(registry.root.with_name("gone"))
    with pytest.raises(DiscoveryError):
        registry.poll()
    registry.root.with_name("gone").rename(registry.root)
    registry.write("2", "b:1")

    assert registry.poll() == ["a:1", "b:1"]


def test_who_left_in_order_is_gone_at_the_next_look(registry):
    registry.write("1", "a:1", ttl=600.0)
    registry.write("2", "b:1", ttl=600.0)
    registry.poll()
    registry.later(100.0)
    registry.leave("1")

    assert registry.poll() == ["b:1"]


@pytest.mark.parametrize("what", ["file", "directory"])
def test_a_file_that_somebody_deletes_counts_for_a_ttl_unless_a_heartbeat_brings_it_back(registry, what):
    """A living process heartbeats within a third of it, perhaps for the last time just before the file was deleted."""
    registry.write("1", "a:1", ttl=9.0)
    registry.write("2", "b:1", ttl=9.0)
    assert registry.poll() == ["a:1", "b:1"]
    registry.later(8.0)  # and the reader has not looked at heartbeats for five of them
    registry.delete("1") if what == "file" else shutil.rmtree(registry.directory)
    registry.touch("2.json", registry.clock.now()) if what == "file" else None
    assert registry.poll() is None
    registry.later(3.0)
    assert registry.poll() is None
    registry.directory.mkdir(exist_ok=True)
    registry.write("2", "b:1", ttl=9.0)
    assert registry.poll() is None
    registry.later(6.1)

    assert registry.poll() == ["b:1"]
    registry.later(3.0)
    assert registry.poll() == [], "and what came back is measured by its own heartbeats again"


def test_a_file_that_is_put_back_as_it_was_is_measured_by_its_own_heartbeat(registry):
    registry.write("1", "a:1", ttl=10.0)
    registry.poll()
    registry.later(5.0)
    (registry.directory / "1.json").rename(registry.root / "elsewhere")
    assert registry.poll() is None
    (registry.root / "elsewhere").rename(registry.directory / "1.json")
    assert registry.poll() is None
    registry.later(5.1)

    assert registry.poll() == []


def test_who_was_seen_draining_needs_no_tombstone(registry):
    """As those leave that are too old to know of tombstones."""
    registry.write("1", "a:1")
    registry.poll()
    registry.write("1", "a:1", draining=True)
    assert registry.poll() == []
    registry.delete("1")
    assert registry.poll() is None


def test_who_was_dead_already_does_not_come_back_when_its_file_goes(registry):
    registry.write("1", "a:1", ttl=10.0)
    registry.poll()
    registry.later(10.1)
    assert registry.poll() == []
    registry.delete("1")
    assert registry.poll() is None
    registry.later(1.0)
    assert registry.poll() is None


def test_a_tombstone_that_comes_after_the_loss_is_heard_too(registry):
    """Between the steps of leaving a reader may find neither the file nor its tombstone."""
    registry.write("1", "a:1", ttl=600.0)
    registry.poll()
    (registry.directory / "1.json").rename(registry.directory / ".tmp-1-1-gone")
    assert registry.poll() is None
    mtime = stamp(registry.clock.now(), 1)
    write_atomically(str(registry.directory), tombstone_of("1.json"), b"", mtime)

    assert registry.poll() == []


def test_the_tombstone_of_an_earlier_life_says_nothing_of_this_one(registry):
    registry.write("1", "a:1")
    registry.poll()
    registry.leave("1")
    registry.later(0.1)
    registry.write("1", "b:1")
    assert registry.poll() == ["b:1"]
    registry.delete("1")

    assert registry.poll() is None


def test_who_drained_and_left_between_two_looks_is_gone(registry):
    registry.write("1", "a:1")
    registry.poll()
    registry.later(0.1)
    registry.write("1", "a:1", draining=True)
    registry.leave("1")

    assert registry.poll() == []


def test_all_readers_see_a_tombstone_before_it_is_removed_with_its_directory(registry):
    """Whichever looks first, and also if others come and go meanwhile."""
    readers = [registry.another() for _ in range(3)]
    registry.write("1", "a:1", ttl=600.0)
    registry.write("2", "b:1", ttl=600.0)
    for reader in readers:
        registry.poll(reader)
    registry.leave("1")
    registry.poll(readers[0])
    registry.later(KEPT - 0.1)
    sweep(str(registry.directory), registry.clock.now())
    assert registry.poll(readers[1]) == ["b:1"]
    registry.poll(readers[0])
    assert registry.poll(readers[2]) == ["b:1"]
    registry.leave("2")
    registry.later(0.1)
    assert [registry.poll(reader) for reader in readers] == [[], [], []]
    assert registry.directory.exists()
    registry.later(KEPT)
    for reader in readers:
        registry.poll(reader)

    assert not registry.directory.exists()


def test_who_may_not_remove_anything_reads_all_the_same(registry, monkeypatch):
    """A directory may be mounted so that a client can only read."""

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    registry.write("1", "a:1", ttl=10.0)
    registry.write("2", "b:1", ttl=600.0)
    registry.poll()
    registry.leave("1")
    monkeypatch.setattr(Path, "rename", refuse)
    assert registry.poll() == ["b:1"]
    for _ in range(10):
        registry.later(KEPT)
        assert registry.poll() is None


def test_after_a_look_that_failed_the_next_one_is_none_that_trusts_the_time_stamps(registry, monkeypatch):
    registry.write("1", "a:1", ttl=600.0)
    registry.poll()
    registry.write("2", "b:1", ttl=600.0)

    def refuse(*args, **kwargs):
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as broken:
        broken.setattr(os, "open", refuse)
        for _ in range(4):
            with pytest.raises(DiscoveryError, match="Too many open files"):
                registry.poll()
            registry.later(1.0)

    assert registry.poll() == ["a:1", "b:1"]


def test_a_quiet_directory_costs_one_look(registry, monkeypatch):
    """Between changes nothing is listed and nothing is opened, whatever the number of registrations."""
    for number in range(50):
        registry.write(str(number), f"a:{number + 1}", ttl=100.0)
    registry.poll()
    registry.later(60.0)
    for number in range(50):
        registry.touch(f"{number}.json", registry.clock.now())
    registry.poll()
    listed = []
    monkeypatch.setattr(os, "scandir", listed.append)
    for _ in range(19):
        registry.later(0.25)
        registry.poll()

    assert listed == []


def test_heartbeats_open_nothing(registry, monkeypatch):
    for number in range(5):
        registry.write(str(number), f"a:{number + 1}")
    registry.poll()
    opened = []
    monkeypatch.setattr("svcmesh.discovery.local.scan.read_regular", lambda *args: opened.append(args))
    for _ in range(40):
        registry.later(3.0)
        for number in range(5):
            registry.touch(f"{number}.json", registry.clock.now())
        assert registry.poll() is None

    assert opened == []


def test_a_machine_without_descriptors_takes_no_endpoint_away(registry, monkeypatch):
    """It is a failure of the look, and the next one that succeeds has them all."""
    registry.write("one", "a:1")
    assert registry.poll() == ["a:1"]
    registry.write("one", "a:1", weight=2)
    registry.write("two", "a:2")

    def refuse(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(scan, "read_regular", refuse)
        with pytest.raises(DiscoveryError, match="Too many open files"):
            registry.poll()
    assert registry.poll() == ["a:1", "a:2"]
