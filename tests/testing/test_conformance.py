"""Our own backends run the suite that others run; and the suite finds what is wrong with a bad one."""

from __future__ import annotations

import asyncio
import contextlib
import json

import dns.rcode
import pytest

from svcmesh.core.clock import SYSTEM
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import DiscoveryError
from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery import first, poll, union
from svcmesh.discovery.base import Announcement
from svcmesh.discovery.dns.backend import DnsDiscovery
from svcmesh.discovery.dns.question import Question
from svcmesh.discovery.local.registry import LocalRegistry
from svcmesh.discovery.uri import open_discovery
from svcmesh.testing import DiscoveryConformance, FakeConsul
from tests.servers.etcd_process import Etcd
from tests.servers.name_server import NameServer, respond


def opened(uri):
    return open_discovery(uri, clock=SYSTEM, emit=lambda *_, **__: None)


class TestFile(DiscoveryConformance):
    @pytest.fixture(autouse=True)
    def registry(self, tmp_path):
        self.path, self.listed = tmp_path / "mesh.json", {}
        self.path.write_text("{}")

    def open(self):
        return opened(f"file://{self.path}")

    def put(self, service, addresses):
        self.listed[service] = list(addresses)
        self.path.write_text(json.dumps(self.listed))

    def break_registry(self):
        self.path.write_text("{")
        return True

    def mend_registry(self):
        self.path.write_text(json.dumps(self.listed))


class TestLocal(DiscoveryConformance):
    @pytest.fixture(autouse=True)
    def registry(self, tmp_path):
        self.directory, self.there = tmp_path / "local", {}
        self.owner = self.open()

    def open(self):
        return LocalRegistry(str(self.directory), clock=SYSTEM)

    def put(self, service, addresses):
        async def update():
            registry, before = self.owner, self.there.get(service, ())
            for address in {*before, *addresses}:
                announcement = Announcement(service, address.replace(":", "-"), address, ttl=60.0)
                await (registry.register if address in addresses else registry.deregister)(announcement)

        asyncio.run(update())
        self.there[service] = tuple(addresses)

    def break_registry(self):
        self.directory.rename(self.directory.with_name("aside"))
        self.directory.write_text("no directory any more")
        return True

    def mend_registry(self):
        self.directory.unlink()
        self.directory.with_name("aside").rename(self.directory)


class TestConsul(DiscoveryConformance):
    @pytest.fixture(autouse=True)
    def registry(self):
        with FakeConsul() as self.consul:
            self.there = {}
            yield

    def open(self):
        return opened(self.consul.uri)

    def put(self, service, addresses):
        for address in {*self.there.get(service, ())} - {*addresses}:
            self.consul.deregister(f"{service}-{address}")
        for address in addresses:
            host, _, port = address.rpartition(":")
            self.consul.register(service, port=int(port), address=host, id=f"{service}-{address}")
        self.there[service] = tuple(addresses)

    def break_registry(self):
        self.consul.fault("no-leader")
        return True

    def mend_registry(self):
        self.consul.heal()


class TestEtcd(DiscoveryConformance):
    root = "apps"

    @pytest.fixture(autouse=True)
    def registry(self, tmp_path):
        with Etcd(tmp_path) as self.etcd:
            yield

    def open(self):
        return opened(f"etcd://{self.etcd.address}/{self.root}")

    def put(self, service, addresses):
        there = {f"{self.root}/{service}/{address}": address for address in addresses}
        for key in self.etcd.items(f"{self.root}/{service}/").keys() - there.keys():
            self.etcd.delete(key)
        for key, address in there.items():
            self.etcd.put(key, json.dumps({"Op": 0, "Addr": address, "Metadata": None}))

    def break_registry(self):
        self.etcd.kill()
        return True

    def mend_registry(self):
        self.etcd.start()


class TestEtcdAsAWhole(TestEtcd):
    """Beyond so many watches, by the one that they share."""

    @pytest.fixture(autouse=True)
    def shared(self, monkeypatch):
        monkeypatch.setattr("svcmesh.discovery.etcd.backend.MOST_HELD", 0)


class Named(DiscoveryConformance):
    """By a name server that answers what is listed."""

    srv = False

    @pytest.fixture(autouse=True)
    def registry(self):
        self.listed, self.broken = {}, False
        with NameServer(lambda query, _: self._answer(query).to_wire()) as self.server:
            yield

    def open(self):
        port = int(self.server.address.rpartition(":")[2])
        name = "_{service}._tcp.test" if self.srv else "{service}.test"
        question = Question(
            name,
            None if self.srv else 8001,
            srv=self.srv,
            servers=(("127.0.0.1", port),),
            families=(4,),
            floor=0.02,
            ceiling=0.02,
        )
        return DnsDiscovery(question, clock=SYSTEM)

    def put(self, service, addresses):
        self.listed[service] = list(addresses)

    def break_registry(self):
        self.broken = True
        return True

    def mend_registry(self):
        self.broken = False

    def _answer(self, query):
        name = query.question[0].name.to_text()
        if self.broken:
            return respond(query, rcode=dns.rcode.SERVFAIL)
        records = self._records(name)
        return respond(query, *records) if records else respond(query, rcode=dns.rcode.NXDOMAIN)

    def _records(self, name):
        hosts = [address.rpartition(":")[0] for address in self.listed.get(name.removesuffix(".test."), ())]
        return [f"{name} 0 IN A {host}" for host in hosts]


class TestDns(Named):
    pass


class TestDnsServices(Named):
    srv = True

    def _records(self, name):
        if name.startswith("at-"):
            return [f"{name} 0 IN A {name.removesuffix('.test.').removeprefix('at-').replace('-', '.')}"]
        service = name.removesuffix("._tcp.test.").removeprefix("_")
        pairs = (address.rpartition(":") for address in self.listed.get(service, ()))
        return [f"{name} 0 IN SRV 1 1 {port} at-{host.replace('.', '-')}.test." for host, _, port in pairs]


class TestPoll(DiscoveryConformance):
    @pytest.fixture(autouse=True)
    def registry(self):
        self.listed, self.broken = {}, False

    def open(self):
        return poll(self._ask, 0.02)

    def put(self, service, addresses):
        self.listed[service] = list(addresses)

    def break_registry(self):
        self.broken = True
        return True

    def mend_registry(self):
        self.broken = False

    def _ask(self, service):
        if self.broken:
            raise DiscoveryError("it is broken")
        return list(self.listed.get(service, ()))


class TestFirst(TestPoll):
    def open(self):
        return first({}, poll(self._ask, 0.02))


class TestUnion(TestPoll):
    def open(self):
        return union({}, poll(self._ask, 0.02))


# -- what is wrong is found ----------------------------------------------------------------------------------------


class Sound:
    """A backend as it should be, over a dict; each subclass does one thing wrong."""

    listed: dict = {}  # noqa: RUF012 - the registry of this test module, set anew for each test
    broken = False

    async def watch(self, service):
        while True:
            if self.broken:
                raise DiscoveryError("it is broken")
            yield Snapshot(tuple(map(Endpoint, self.listed.get(service, ()))))
            await asyncio.sleep(0.01)


class Deaf(Sound):
    """Sees no change."""

    async def watch(self, service):
        async for snapshot in super().watch(service):
            yield snapshot
            await asyncio.Event().wait()


class Brief(Sound):
    """Ends by itself."""

    async def watch(self, service):
        async for snapshot in super().watch(service):
            yield snapshot
            return


class Strict(Sound):
    """Takes an unknown service for an error."""

    async def watch(self, service):
        async for snapshot in super().watch(service):
            if not snapshot.endpoints:
                raise LookupError(service)
            yield snapshot


class Mixed(Sound):
    """Asks by the beginning of a name."""

    async def watch(self, service):
        while True:
            found = [a for name, addresses in self.listed.items() if name.startswith(service) for a in addresses]
            yield Snapshot(tuple(map(Endpoint, dict.fromkeys(found))))
            await asyncio.sleep(0.01)


class Careless(Sound):
    """Says that there is nothing when it does not know."""

    async def watch(self, service):
        while True:
            yield Snapshot(() if self.broken else tuple(map(Endpoint, self.listed.get(service, ()))))
            await asyncio.sleep(0.01)


class Forgetful(Sound):
    """Knows well that it cannot ask when it begins, and not any more later."""

    async def watch(self, service):
        async for snapshot in super().watch(service):
            yield snapshot
            while self.broken:
                yield Snapshot(())
                await asyncio.sleep(0.01)


class Hasty(Sound):
    """Yields before it has asked."""

    async def watch(self, service):
        yield Snapshot(())
        async for snapshot in super().watch(service):
            yield snapshot


class Restless(Sound):
    """Never waits."""

    async def watch(self, service):
        while True:
            if self.broken:
                raise DiscoveryError("it is broken")
            yield Snapshot(tuple(map(Endpoint, self.listed.get(service, ()))))


class Untidy(Sound):
    """Leaves a task behind."""

    def __init__(self):
        self.kept = []

    async def watch(self, service):
        self.kept.append(asyncio.ensure_future(asyncio.sleep(3600)))
        async for snapshot in super().watch(service):
            yield snapshot


class Stubborn(Sound):
    """Does not let itself be cancelled, wherever it is caught: it waits in one place only."""

    async def watch(self, service):
        yield Snapshot(tuple(map(Endpoint, self.listed.get(service, ()))))
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        await asyncio.sleep(3600)


class Plain(Sound):
    """Yields lists."""

    async def watch(self, service):
        while True:
            yield list(self.listed.get(service, ()))
            await asyncio.sleep(0.01)


class Single(Sound):
    """Has one watch, and the second takes its place."""

    def __init__(self):
        self.latest = None

    async def watch(self, service):
        self.latest = me = object()
        async for snapshot in super().watch(service):
            yield snapshot
            if self.latest is not me:
                await asyncio.sleep(3600)


def failures(backend, seconds=0.3, only="test_"):
    """Return the tests of the suite that ``backend`` fails, where it is given so many seconds for a change."""

    class Suite(DiscoveryConformance):
        patience = seconds

        def open(self):
            return backend()

        def put(self, service, addresses):
            backend.listed[service] = list(addresses)

        def break_registry(self):
            backend.broken = True
            return True

        def mend_registry(self):
            backend.broken = False

    failed = set()
    for name in dir(Suite):
        if name.startswith(only):
            backend.listed = {}
            try:
                getattr(Suite(), name)()
            except Exception:  # noqa: BLE001 - whatever a bad backend makes of a test
                failed.add(name)
    return failed


@pytest.mark.parametrize(
    ("backend", "found_by"),
    [
        (Deaf, "test_additions_and_removals_are_yielded"),
        (Brief, "test_additions_and_removals_are_yielded"),
        (Strict, "test_an_unknown_service_is_empty"),
        (Mixed, "test_services_are_kept_apart"),
        (Careless, "test_a_broken_registry_is_an_error_and_never_an_empty_service"),
        (Forgetful, "test_a_registry_that_breaks_under_a_watch_empties_nothing"),
        (Hasty, "test_what_is_listed_is_yielded_at_once"),
        (Restless, "test_a_quiet_registry_is_not_told_of_without_pause"),
        (Untidy, "test_a_watch_that_is_cancelled_ends_at_once"),
        (Plain, "test_what_is_listed_is_yielded_at_once"),
        (Single, "test_two_watches_of_one_service_see_the_same"),
    ],
)
def test_what_is_wrong_with_a_backend_is_found(backend, found_by):
    assert found_by in failures(backend)


def test_a_watch_that_cannot_be_cancelled_is_found():
    """Alone: a mesh would have to leave its worker behind."""
    law = "test_a_watch_that_is_cancelled_ends_at_once"

    assert failures(Stubborn, only=law) == {law}


def test_nothing_is_found_where_nothing_is_wrong():
    assert failures(Sound, seconds=10.0) == set()


def test_what_cannot_be_broken_is_skipped():
    class Suite(TestPoll):
        def break_registry(self):
            return False

    suite = Suite()
    suite.listed, suite.broken = {}, False
    with pytest.raises(Exception, match="break_registry is not there"):
        suite.test_a_broken_registry_is_an_error_and_never_an_empty_service()


def test_the_suite_says_what_has_to_be_written():
    suite = DiscoveryConformance()
    for missing in (suite.open, lambda: suite.put("orders", [])):
        with pytest.raises(NotImplementedError):
            missing()
