"""A file is read at once, again when its content changes, and a broken one says where."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from pathlib import Path
from random import Random

import pytest

from svcmesh.core.clock import SYSTEM, sleep_until
from svcmesh.core.emit import silent
from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery import file as module
from svcmesh.discovery import file_watched
from svcmesh.discovery.elements import Known
from svcmesh.discovery.file import FileDiscovery, decode
from svcmesh.discovery.file_watched import LARGEST, POLL, SELDOM, SMALL
from svcmesh.engine.watch import watch as care
from svcmesh.testing.sim import run, virtual_clock


def watched(path, script, service="orders"):
    """Run ``script(sleep)`` beside a watch in virtual time; return what the watch yielded, errors at the end."""
    seen = []

    async def follow(discovery):
        try:
            async for snapshot in discovery.watch(service):
                seen.append([e.address for e in snapshot.endpoints])  # noqa: PERF401 - it is cancelled on its way
        except DiscoveryError as error:
            seen.append(error)

    async def main():
        clock = virtual_clock()
        task = asyncio.ensure_future(follow(FileDiscovery(str(path), clock=clock)))
        await sleep_until(clock, clock.now() + 0.01)
        await script(lambda seconds: sleep_until(clock, clock.now() + seconds))
        task.cancel()
        await asyncio.wait([task])

    run(main())
    return seen


async def nothing(sleep):
    await sleep(0)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.json", '["a:1", {"address": "b:1", "weight": 2}]'),
        ("x.json", '{"orders": ["a:1", "b:1"], "billing": []}'),
        ("x.yaml", "- a:1\n- b:1\n"),
        ("x.yaml", "orders: [a:1, 'b:1']\nbilling: []\n"),
        ("x", '["a:1",\n"b:1"]'),
        ("x.yml", "\ufeff- a:1\n- address: b:1\n  metadata: {version: '2'}\n"),
    ],
)
def test_json_and_yaml_lists_and_mappings(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8")

    assert watched(tmp_path / name, nothing) == [["a:1", "b:1"]]


def test_a_name_that_a_mapping_lacks_is_empty(tmp_path):
    (tmp_path / "x.yaml").write_text("orders: [a:1]")

    assert watched(tmp_path / "x.yaml", nothing, service="nobody") == [[]]


def test_the_name_goes_into_the_path(tmp_path):
    (tmp_path / "orders.json").write_text('["a:1"]')

    assert watched(f"{tmp_path}/{{service}}.json", nothing) == [["a:1"]]


def test_a_name_cannot_leave_the_directory(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret.json").write_text('["a:1"]')
    (failure,) = watched(f"{tmp_path}/inside/{{service}}.json", nothing, service="../secret")

    assert "%2E.%2Fsecret.json" in str(failure)


def test_writing_in_place_is_seen(tmp_path):
    file = tmp_path / "x.json"
    file.write_text('["a:1"]')

    async def script(sleep):
        file.write_text('["b:1"]')
        await sleep(2 * POLL)

    assert watched(file, script) == [["a:1"], ["b:1"]]


def test_atomic_replacement_is_seen_even_after_a_long_quiet_time(tmp_path):
    file = tmp_path / "x.json"
    file.write_text('["a:1"]')

    async def script(sleep):
        await sleep(3600)
        (tmp_path / "new").write_text('["b:1"]')
        (tmp_path / "new").rename(file)
        await sleep(2 * POLL)

    assert watched(file, script) == [["a:1"], ["b:1"]]


def test_a_symlink_that_is_pointed_elsewhere_is_seen(tmp_path):
    """Kubernetes updates a mounted ConfigMap like this."""
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.json").write_text(f'["{name}:1"]')
    (tmp_path / "data").symlink_to("a")

    async def script(sleep):
        await sleep(60)
        (tmp_path / "next").symlink_to("b")
        (tmp_path / "next").rename(tmp_path / "data")
        await sleep(2 * POLL)

    assert watched(tmp_path / "data" / "x.json", script) == [["a:1"], ["b:1"]]


def test_the_same_content_again_is_no_news(tmp_path):
    file = tmp_path / "x.json"
    file.write_text('["a:1"]')

    async def script(sleep):
        file.write_text('["a:1"]')
        await sleep(2 * POLL)
        os.utime(file, ns=(1, 1))
        await sleep(2 * POLL)

    assert watched(file, script) == [["a:1"]]


def test_a_change_within_the_grain_of_the_time_stamp_is_seen(tmp_path):
    """Two writes in one tick leave the same time stamp; a file that just changed is therefore read again."""
    file = tmp_path / "x.json"
    file.write_text('["a:1"]')
    os.utime(file, ns=(1, 1))

    async def script(sleep):
        await sleep(POLL)
        with file.open("r+") as opened:
            opened.write('["b:1"]')
        os.utime(file, ns=(1, 1))
        await sleep(2 * SELDOM)

    assert watched(file, script) == [["a:1"], ["b:1"]]


@pytest.mark.parametrize(("name", "looks"), [("orders", round(30 / POLL)), ("{service}", round(30 / SELDOM))])
def test_files_of_single_services_may_be_thousands_and_are_looked_at_less_often(tmp_path, monkeypatch, name, looks):
    (tmp_path / "orders.json").write_text('["a:1"]')
    looked, stat = [], Path.stat

    def counted(self, **how):
        looked.append(self)
        return stat(self, **how)

    async def script(sleep):
        monkeypatch.setattr(Path, "stat", counted)
        await sleep(30)

    assert watched(tmp_path / f"{name}.json", script) == [["a:1"]]
    assert len(looked) == pytest.approx(looks, abs=2)


def test_a_file_that_just_changed_is_read_again_less_often_than_it_is_looked_at(tmp_path, monkeypatch):
    """It may be a large one, and its time stamp says already that nothing has happened, if it is not too coarse."""
    file = tmp_path / "x.json"
    file.write_text('["a:1"]')
    reads, read = [], file_watched.read_regular

    def counted(path, *args, **more):
        reads.append(path)
        return read(path, *args, **more)

    async def script(sleep):
        monkeypatch.setattr(file_watched, "read_regular", counted)
        await sleep(30)

    assert watched(file, script) == [["a:1"]]
    assert 2 <= len(reads) <= 2.5 / SELDOM + 1


def test_an_empty_list_is_believed(tmp_path):
    file = tmp_path / "x.json"
    file.write_text("[]")

    async def main():
        snapshots = FileDiscovery(str(file), clock=virtual_clock()).watch("orders")
        snapshot = await anext(snapshots)
        await snapshots.aclose()
        return snapshot

    assert run(main()).authoritative


def test_a_file_that_breaks_ends_the_watch_with_the_reason(tmp_path):
    file = tmp_path / "x.json"
    file.write_text('["a:1"]')

    async def script(sleep):
        file.write_text('["a:1"')
        await sleep(2 * POLL)

    good, failure = watched(file, script)

    assert good == ["a:1"]
    assert str(failure).startswith(f"{file}, line 1: ")


def test_a_file_that_vanishes_ends_the_watch(tmp_path):
    file = tmp_path / "x.json"
    file.write_text('["a:1"]')

    async def script(sleep):
        file.unlink()
        await sleep(2 * POLL)

    assert f"cannot read {file}: No such file" in str(watched(file, script)[1])


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo"])
def test_what_is_no_file_fails_at_once(tmp_path, kind):
    """A FIFO without a writer must not be waited for."""
    path = tmp_path / "x.json"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    (failure,) = watched(path, nothing)

    assert isinstance(failure, DiscoveryError)
    assert str(path) in str(failure)


def test_a_huge_file_is_refused(tmp_path):
    path = tmp_path / "x.json"
    with path.open("wb") as file:
        file.truncate(LARGEST + 1)
    (failure,) = watched(path, nothing)

    assert f"larger than {LARGEST} bytes" in str(failure)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "x.yaml: the file is empty: write \\[\\]"),
        (b"# only a comment\n", "the file is empty"),
        (b"- a:1\n- \xff\n", "x.yaml, line 2: not UTF-8"),
        (b"- a:1\n- address: b:1\n  wieght: 2\n", r"x.yaml, line 3, \[1\].wieght: unknown key 'wieght'"),
        (b"orders:\n- a:1\nbilling:\n- b\n", r"x.yaml, line 4, billing\[0\]: address 'b' has no port"),
        (b"7: [a:1]\n", "x.yaml, line 1, 7: a service name is text"),
        (b"just text\n", "expected a list of endpoints, not text"),
        (b"orders: a:1\n", "x.yaml, line 1, orders: expected a list"),
    ],
)
def test_errors_name_path_line_and_field(content, told):
    with pytest.raises(DiscoveryError, match=told):
        decode(content, "x.yaml")


def test_all_services_of_a_file_share_one_look_and_one_parse_per_content(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    path.write_text('{"s0": ["a:1"], "s1": ["b:1"], "s2": ["c:1"]}')
    parsed, looks, seen = [], [], []
    stat = Path.stat

    def counted(content, where, known):
        parsed.append(content)
        return decode(content, where, known)

    def looked(self, **how):
        looks.append(self)
        return stat(self, **how)

    async def follow(discovery, service):
        async for snapshot in discovery.watch(service):
            seen.append((service, [e.address for e in snapshot.endpoints]))  # noqa: PERF401 - it is cancelled

    async def main():
        clock = virtual_clock()
        discovery = FileDiscovery(str(path), clock=clock)
        tasks = [asyncio.ensure_future(follow(discovery, f"s{n}")) for n in range(3)]
        await sleep_until(clock, clock.now() + 10 * POLL + 0.01)
        path.write_text('{"s0": [], "s1": ["b:2"], "s2": ["c:1"]}')
        await sleep_until(clock, clock.now() + 2 * POLL)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    monkeypatch.setattr(module, "decode", counted)
    monkeypatch.setattr(Path, "stat", looked)
    run(main())

    assert len(parsed) == 2
    assert len(looks) <= 14
    first = [("s0", ["a:1"]), ("s1", ["b:1"]), ("s2", ["c:1"])]
    assert sorted(seen[:3]) == first
    assert sorted(seen[3:]) == [("s0", []), ("s1", ["b:2"]), ("s2", ["c:1"])]


def told_of(path, script, emitted):
    """Run ``script(sleep)`` beside a mesh's care of a watched file in virtual time; return the events of the file."""

    async def main():
        clock = virtual_clock()
        task = asyncio.ensure_future(
            care(
                FileDiscovery(str(path), clock=clock, emit=emitted),
                "orders",
                clock=clock,
                rng=Random(1),
                publish=lambda snapshot: None,
                emit=silent,
            )
        )
        await sleep_until(clock, clock.now() + 0.01)
        await script(lambda seconds: sleep_until(clock, clock.now() + seconds))
        task.cancel()
        await asyncio.wait([task])

    run(main())
    return emitted


def test_another_good_content_is_told_as_reloaded_once(tmp_path, emitted):
    """The first content is no change, nor is the same one written again."""
    file = tmp_path / "x.json"
    file.write_text('["a:1"]')

    async def script(sleep):
        await sleep(10)
        assert emitted == []
        file.write_text('["b:1"]')
        await sleep(10)
        file.write_text('["b:1"]')
        await sleep(10)

    assert told_of(file, script, emitted) == [("config.reloaded", "", {"source": str(file)})]


def test_a_broken_content_is_warned_of_once_and_the_good_one_after_it_is_told(tmp_path, emitted):
    """However often the watch asks again meanwhile; mending it back to what it was changes nothing."""
    file = tmp_path / "x.json"
    file.write_text('["a:1"]')

    async def script(sleep):
        await sleep(10)
        file.write_text('["a:1"')
        await sleep(60)
        assert [name for name, _, _ in emitted] == ["config.warning"]
        assert emitted.errors()[0].startswith(f"{file}, line 1")
        file.write_text('["a:1"]')
        await sleep(10)
        assert [name for name, _, _ in emitted] == ["config.warning"]
        file.write_text('["c:1"]')
        await sleep(10)

    assert [name for name, _, _ in told_of(file, script, emitted)] == ["config.warning", "config.reloaded"]


@pytest.mark.parametrize("form", ["%s", '{"orders": %s}'])
def test_an_endpoint_that_is_as_before_is_the_very_same(form):
    known = Known()

    def read(*listed):
        found = decode((form % json.dumps(listed)).encode(), "x.json", known)
        return found if isinstance(found, tuple) else found["orders"]

    one, two, three = ({"address": f"{name}:1", "metadata": {"x": name}} for name in "abc")
    before = read(one, two)
    assert read(three, two)[1] is before[1]
    with pytest.raises(DiscoveryError, match=r"x.json, line 1, (orders)?\[1\]: address 'b:1' is listed twice"):
        read(two, two)


def test_a_large_content_is_parsed_beside_the_loop(tmp_path, monkeypatch):
    """The loop has heartbeats to send meanwhile; a small one is parsed on the loop, which costs less than a thread."""
    path = tmp_path / "x.json"
    threads, may_end = [], threading.Event()

    def slow(content, where, known):
        threads.append(threading.current_thread())
        if len(threads) == 2:
            assert may_end.wait(30)
        return decode(content, where, known)

    async def main():
        path.write_text('["a:1"]')
        snapshots = FileDiscovery(str(path), clock=SYSTEM).watch("orders")
        first = await anext(snapshots)
        path.write_text('["b:1"]' + " " * SMALL)
        coming = asyncio.ensure_future(anext(snapshots))
        while len(threads) < 2:  # noqa: ASYNC110 - a thread and a file have no event of this loop
            await asyncio.sleep(0.01)
        may_end.set()  # by a loop that runs: parsing on it would have waited in vain
        second = await asyncio.wait_for(coming, 30)
        await snapshots.aclose()
        return [first.endpoints[0].address, second.endpoints[0].address]

    monkeypatch.setattr(module, "decode", slow)

    assert asyncio.run(main()) == ["a:1", "b:1"]
    assert threads[0] is threading.main_thread() is not threads[1]


def test_what_a_large_content_has_wrong_is_said_all_the_same(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('["a:1"' + " " * SMALL)

    with pytest.raises(DiscoveryError, match=r"x.json, line 1: Expecting"):
        asyncio.run(anext(FileDiscovery(str(path), clock=SYSTEM).watch("orders")))
