"""Files of a cache: written whole, read only if they can be trusted, and never worse than none."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import ConfigError
from svcmesh.engine import cache as module
from svcmesh.engine.cache import MAX_AGE, Cache, open_cache
from svcmesh.testing.sim import run

A, B = Endpoint("a:1"), Endpoint("b:1", weight=2)


class Inline:
    """Does each job where it is asked for."""

    def run(self, key, job):
        job()

    def join(self, timeout):
        pass

    def reset_after_fork(self):
        pass


class Disk:
    """A cache in a directory, a wall clock, and what it warned of."""

    def __init__(self, directory):
        self.directory = directory
        self.now = 1_000_000.0
        self.warnings = []
        self.cache = Cache(str(directory), self.emit, wall=lambda: self.now, aside=Inline())

    def emit(self, name, service, **fields):
        assert name == "config.warning"
        self.warnings.append((service, fields["error"]))

    def slot(self, service="orders", source="registry"):
        return self.cache.slot(service, source)

    def write(self, *endpoints, slot=None):
        (self.slot() if slot is None else slot).write(endpoints)

    def read(self, slot=None):
        """Return endpoints and age, or None."""
        found = []

        async def main():
            (self.slot() if slot is None else slot).read(found.append)
            await asyncio.sleep(0)

        run(main())
        return (found[0].snapshot.endpoints, found[0].age) if found else None

    def files(self):
        return sorted(path.name for path in self.directory.iterdir())

    def file(self):
        (name,) = self.files()
        return self.directory / name


@pytest.fixture
def disk(tmp_path):
    return Disk(tmp_path / "cache")


def test_what_was_written_is_read_with_its_age(disk):
    disk.write(A, B)
    disk.now += 90

    assert disk.read() == ((A, B), 90.0)
    assert disk.warnings == []


def test_what_was_never_written_is_nothing_to_warn_of(disk):
    assert disk.read() is None
    assert disk.warnings == []


def test_directory_and_files_are_private(disk):
    disk.write(A)

    assert disk.directory.stat().st_mode & 0o777 == 0o700
    assert disk.file().stat().st_mode & 0o777 == 0o600


def test_services_and_sources_do_not_meet(disk):
    disk.write(A, slot=disk.slot("orders"))
    disk.write(B, slot=disk.slot("orders", "another registry"))

    assert disk.read(disk.slot("orders")) == ((A,), 0.0)
    assert disk.read(disk.slot("orders", "another registry")) == ((B,), 0.0)
    assert disk.read(disk.slot("stock")) is None
    assert len(disk.files()) == 2


def test_no_endpoint_leaves_no_file(disk):
    disk.write(A)
    disk.write()
    disk.write()

    assert disk.files() == []
    assert disk.read() is None
    assert disk.warnings == []


def test_a_wall_clock_that_was_set_back_makes_no_negative_age(disk):
    disk.write(A)
    disk.now -= 50_000

    assert disk.read() == ((A,), 0.0)


def test_what_is_older_than_a_day_is_not_used(disk):
    disk.write(A)
    disk.now += MAX_AGE
    assert disk.read() == ((A,), MAX_AGE)
    disk.now += 3600

    assert disk.read() is None
    ((service, error),) = disk.warnings
    assert service == "orders"
    assert "25 hours old" in error
    assert str(disk.file()) in error


@pytest.mark.parametrize(("limit", "used"), [(60.0, False), (120.0, True), (10 * MAX_AGE, True)])
def test_a_mesh_may_want_nothing_that_is_older(disk, limit, used):
    disk.write(A)
    disk.now += 90
    disk.cache.oldest = Cache(str(disk.directory), disk.emit, oldest=limit).oldest

    assert (disk.read() is not None) == used
    assert ["90 seconds old, and not used after 60 seconds" in error for _, error in disk.warnings] == [True] * (
        not used
    )
    assert disk.cache.oldest <= MAX_AGE


def make_fifo(path):
    path.unlink()
    os.mkfifo(path)


def make_symlink(path):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def make_huge(path):
    with path.open("r+b") as file:
        file.truncate(module.LARGEST + 1)


def rename_another(path):
    path.write_text(json.dumps(json.loads(path.read_text()) | {"service": "stock"}))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda path: path.write_bytes(b""), "line 1"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "line"),
        (lambda path: path.write_bytes(os.urandom(999) + b"\xff"), "damaged"),
        (make_huge, "larger than"),
        (make_fifo, "not a regular file"),
        (make_symlink, "not a regular file"),
        (rename_another, "another service"),
    ],
)
def test_a_file_that_is_none_of_ours_is_left_out_with_one_warning(disk, spoil, why):
    disk.write(A)
    path = disk.file()
    spoil(path)
    slot = disk.slot()

    assert disk.read(slot) is None
    assert disk.read(slot) is None
    ((service, error),) = disk.warnings
    assert (service, why in error) == ("orders", True), error
    assert error.startswith(f"the cache {path} is of no use: ")
    assert len(error) < 1000


def test_a_file_that_may_not_be_read_is_left_out_too(disk, monkeypatch):
    def refuse(name, most):
        raise PermissionError(13, "Permission denied", name)

    disk.write(A)
    monkeypatch.setattr(module, "read_regular", refuse)

    assert disk.read() is None
    assert disk.warnings[0][1].endswith("is of no use: Permission denied")


def test_a_write_replaces_whatever_stands_there(disk):
    disk.write(A)
    make_symlink(disk.file())
    disk.write(B)

    assert disk.read() == ((B,), 0.0)


def test_a_write_that_fails_is_told_once_until_it_works_again(disk):
    slot = disk.slot()
    disk.write(A, slot=slot)
    path = disk.file()
    path.unlink()
    path.mkdir()
    for _ in range(3):
        disk.write(A, slot=slot)
    assert [service for service, _ in disk.warnings] == ["orders"]
    path.rmdir()
    disk.write(B, slot=slot)
    path.unlink()
    path.mkdir()
    disk.write(A, slot=slot)

    assert len(disk.warnings) == 2
    assert disk.files() == [path.name], "nothing half-written is left"


def test_a_directory_that_was_opened_to_others_meanwhile_is_neither_read_nor_written(disk):
    disk.write(A)
    disk.directory.chmod(0o755)

    assert disk.read() is None
    disk.write(B)
    assert all("chmod 700" in error for _, error in disk.warnings)
    disk.directory.chmod(0o700)
    assert disk.read() == ((A,), 0.0)


def test_a_directory_that_vanished_is_made_again(disk):
    disk.write(A)
    disk.file().unlink()
    disk.directory.rmdir()
    assert disk.read() is None
    disk.write(B)

    assert disk.read() == ((B,), 0.0)
    assert disk.directory.stat().st_mode & 0o777 == 0o700


def test_what_would_be_too_large_to_read_is_not_written(disk, monkeypatch):
    monkeypatch.setattr(module, "LARGEST", 300)
    disk.write(*[Endpoint(f"host-{number}:1") for number in range(20)])

    assert disk.files() == []
    assert "20 endpoints take" in disk.warnings[0][1]


def test_what_a_crash_left_half_written_is_removed_after_a_while(tmp_path):
    directory = tmp_path / "cache"
    directory.mkdir(0o700)
    for name in (".tmp-1-1-1", ".tmp-2-2-2", "notes.txt"):
        (directory / name).touch()
    os.utime(directory / ".tmp-1-1-1", (1, 1))
    os.utime(directory / "notes.txt", (1, 1))
    disk = Disk(directory)
    disk.now = (directory / ".tmp-2-2-2").stat().st_mtime + 60
    disk.write()

    assert disk.files() == [".tmp-2-2-2", "notes.txt"]


def test_a_name_that_no_file_can_have_has_no_place(disk):
    assert disk.slot("x" * 5000) is None


def test_a_loop_that_has_ended_is_told_nothing(disk):
    """A read that hangs may outlive its mesh."""
    disk.write(A)
    jobs = []
    disk.cache.aside.run = lambda key, job: jobs.append(job)

    async def main():
        disk.slot().read(pytest.fail)

    run(main())
    jobs[0]()

    assert disk.warnings == []


@pytest.mark.parametrize("directory", ["", 7, b"/tmp/x", "/tmp/\0", True, ["a"]])
def test_what_is_no_path_is_refused(directory):
    with pytest.raises(ConfigError, match="cache must be the path of a directory"):
        open_cache(directory, print)


def test_none_is_no_cache():
    assert open_cache(None, print) is None


@pytest.mark.parametrize("mode", [0o755, 0o770])
def test_a_directory_that_others_may_enter_is_refused_at_once(tmp_path, mode):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(mode)

    with pytest.raises(ConfigError, match=r"others may enter the cache directory .* chmod 700"):
        open_cache(tmp_path / "cache", print)


def test_a_symlink_is_refused_and_so_is_what_cannot_be_made(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "file").touch()

    with pytest.raises(ConfigError, match=r"symlink; remove it, or set Mesh\(cache=…\)"):
        open_cache(tmp_path / "link", print)
    with pytest.raises(ConfigError, match="cache="):
        open_cache(tmp_path / "file" / "below", print)


def test_a_relative_path_is_what_it_is_when_the_mesh_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cache = open_cache(Path("cache"), print)

    assert cache is not None
    assert cache.directory == str(tmp_path / "cache")
