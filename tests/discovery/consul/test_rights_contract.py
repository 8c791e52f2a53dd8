"""Rights that a token has, has not, and loses, of the fake and of a real agent: a list that they empty empties nothing.

An agent before 1.11 says of no list that something was removed from it, a later one only to who sends a token.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from itertools import count

import pytest

import svcmesh
from svcmesh.core.clock import SYSTEM
from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.base import Announcement
from svcmesh.discovery.consul import errors as consul_errors
from svcmesh.discovery.consul import rights as consul_rights
from svcmesh.discovery.uri import open_discovery
from svcmesh.testing import FakeConsul
from svcmesh.testing.consul.rights import EVERYTHING, Rights
from tests.discovery.hearing import Told
from tests.servers.consul_agent import NO_CONSUL, Api, ConsulProcess, real_consul, until

_numbers = count(1)


@pytest.fixture(autouse=True)
def impatience(monkeypatch):
    """Let what only people can mend be asked again soon."""
    for module in (consul_errors, consul_rights):
        monkeypatch.setattr(module, "SLOWLY", 0.1)


class Fake(Api):
    """The fake with ACLs."""

    def __init__(self, fake: FakeConsul) -> None:
        super().__init__(fake.address)
        self.token = "root"
        self._fake = fake
        self._tokens: dict[str, list[str]] = {"root": sorted(EVERYTHING)}
        fake.allow(self._tokens)

    def grant(self, *rights: str) -> str:
        """Make a token with these rights: "service:read" or "service:read:name", "node:read"."""
        token = f"token-{next(_numbers)}"
        self.change(token, *rights)
        return token

    def change(self, token: str, *rights: str) -> None:
        """Give a token other rights."""
        self._tokens[token] = list(rights)
        self._fake.allow(self._tokens)

    def delete(self, token: str) -> None:
        """Take a token back."""
        del self._tokens[token]
        self._fake.allow(self._tokens)


class Real(Api):
    """A real agent with ACLs; as `Fake`."""

    def __init__(self, agent: ConsulProcess) -> None:
        super().__init__(agent.address)
        until(lambda: self.ask("PUT", "/v1/acl/bootstrap")[0] != 500)  # no leader, or not yet ready for it
        self._made: dict[str, tuple[str, str]] = {}

    def ask(self, method, path, body=None, **params):
        answer = super().ask(method, path, body, **params)
        if path == "/v1/acl/bootstrap" and answer[0] == 200:
            self.token = answer[2]["SecretID"]
        return answer

    def grant(self, *rights: str) -> str:
        policy = {"Name": f"policy-{next(_numbers)}", "Rules": _rules(rights)}
        policy_id = self._told("/v1/acl/policy", policy)["ID"]
        token = self._told("/v1/acl/token", {"Policies": [{"ID": policy_id}]})
        self._made[token["SecretID"]] = token["AccessorID"], policy_id
        return token["SecretID"]

    def change(self, token: str, *rights: str) -> None:
        _, policy_id = self._made[token]
        body = {"ID": policy_id, "Name": f"policy-{next(_numbers)}", "Rules": _rules(rights)}
        self._told(f"/v1/acl/policy/{policy_id}", body)

    def delete(self, token: str) -> None:
        assert self.ask("DELETE", f"/v1/acl/token/{self._made[token][0]}")[0] == 200

    def _told(self, path, body):
        status, _, answer = self.ask("PUT", path, body)
        assert status == 200, answer
        return answer


def _rules(rights):
    """Return rights in Consul's language."""
    rules = []
    for right in rights:
        resource, access, *names = right.split(":")
        rules.append(f'{resource}{"" if names else "_prefix"} "{"".join(names)}" {{ policy = "{access}" }}')
    return "\n".join(rules)


@contextmanager
def guarded(which: str) -> Iterator[Fake | Real]:
    if which != "real":
        with FakeConsul() as fake, pytest.MonkeyPatch.context() as patch:
            if which == "fake-before-1.11":
                patch.setattr(Rights, "tell_filtered", lambda *_: None)
            yield Fake(fake)
        return
    binary = real_consul()
    if binary is None:
        pytest.skip(NO_CONSUL)
    with ConsulProcess(binary, '-hcl=acl { enabled = true default_policy = "deny" }') as agent:
        yield Real(agent)


@pytest.fixture(scope="module", params=["fake", "fake-before-1.11", "real"])
def consul(request):
    with guarded(request.param) as api:
        yield api


@pytest.fixture
def name(consul):
    """Return the name of a service with one instance."""
    name = f"orders-{next(_numbers)}"
    consul.register(name, 8001)
    consul.settle(name, 1)
    return name


def uri(consul, token, query=""):
    return f"consul://{token}@{consul.address}/{query}" if token else f"consul://{consul.address}/{query}"


def ports(service):
    return sorted(endpoint.port for endpoint in service.endpoints)


@pytest.mark.parametrize("left", [("service:read",), ("service:read:another", "node:read")])
def test_rights_that_are_lost_empty_nothing(consul, name, left):
    token = consul.grant("service:read", "node:read")
    with svcmesh.Mesh(uri(consul, token)) as mesh:
        service = mesh.service(name)
        service.wait_ready(30)
        told = Told(mesh)
        consul.change(token, *left)
        consul.register(name, 8002)
        until(lambda: any("service:read and node:read" in error for error in told.errors()))
        assert ports(service) == [8001]
        consul.change(token, "service:read", "node:read")
        until(lambda: ports(service) == [8001, 8002])


@pytest.mark.parametrize("query", ["?cached", "?query={service}&every=100ms"])
def test_rights_that_are_lost_empty_nothing_however_it_is_asked(consul, name, query):
    assert consul.ask("POST", "/v1/query", {"Name": name, "Service": {"Service": name}})[0] == 200
    token = consul.grant("service:read", "node:read", "query:read")
    with svcmesh.Mesh(uri(consul, token, query)) as mesh:
        service = mesh.service(name)
        service.wait_ready(30)
        told = Told(mesh)
        consul.change(token, "query:read")
        consul.register(name, 8002)
        until(lambda: any("service:read and node:read" in error for error in told.errors()))
        assert ports(service) == [8001]


@pytest.fixture
def own_node(consul, name):
    """Return the agent's node; another one, "elsewhere", has an instance at port 9001, too."""
    there = {
        "Node": "elsewhere",
        "Address": "10.0.0.9",
        "Service": {"Service": name, "ID": f"{name}-9001", "Port": 9001},
    }
    consul.put("/v1/catalog/register", there)
    consul.settle(name, 2)
    return next(e["Node"]["Node"] for e in consul.health(name)[1] if e["Service"]["Port"] == 8001)


@pytest.mark.parametrize("held", [150, 0], ids=["a question each", "one for all"])
def test_instances_on_nodes_that_may_not_be_read_any_more_are_not_gone(consul, name, own_node, held, monkeypatch):
    monkeypatch.setattr("svcmesh.discovery.consul.backend.MOST_HELD", held)
    token = consul.grant("service:read", "node:read")
    with svcmesh.Mesh(uri(consul, token)) as mesh:
        service = mesh.service(name)
        service.wait_ready(30)
        told = Told(mesh)
        consul.change(token, "service:read", f"node:read:{own_node}")
        consul.register(name, 8001, Tags=["new"])
        until(lambda: any("may not read their nodes any more, such as 'elsewhere'" in error for error in told.errors()))
        assert ports(service) == [8001, 9001]
        consul.change(token, "service:read", "node:read")
        until(lambda: all(e.metadata.get("tags") == ("new",) for e in service.endpoints if e.port == 8001))
        assert ports(service) == [8001, 9001]


def test_nor_are_they_where_as_many_have_come_as_are_hidden(consul, name, own_node):
    """The list is as long as it was."""
    token = consul.grant("service:read", "node:read")
    with svcmesh.Mesh(uri(consul, token)) as mesh:
        service = mesh.service(name)
        service.wait_ready(30)
        told = Told(mesh)
        consul.change(token, "service:read", f"node:read:{own_node}")
        consul.register(name, 8002)
        until(lambda: any("may not read their nodes any more, such as 'elsewhere'" in error for error in told.errors()))
        assert ports(service) == [8001, 9001]
        consul.change(token, "service:read", "node:read")
        until(lambda: ports(service) == [8001, 8002, 9001])


def test_who_may_read_some_nodes_only_sees_who_goes_from_them(consul, name, own_node):
    consul.register(name, 8002)
    consul.settle(name, 3)
    token = consul.grant("service:read", f"node:read:{own_node}")
    with svcmesh.Mesh(uri(consul, token)) as mesh:
        service = mesh.service(name)
        service.wait_ready(30)
        assert ports(service) == [8001, 8002]
        gone = next(e.metadata["id"] for e in service.endpoints if e.port == 8002)
        consul.put(f"/v1/agent/service/deregister/{gone}")
        until(lambda: ports(service) == [8001])


def test_what_only_looks_like_nodes_is_none(consul, name, own_node):
    """Metadata may call anything a node; whoever goes has gone then."""
    consul.register(name, 8002, Meta={"node": "mine"})
    consul.register(name, 8001, Meta={"node": "mine"})
    consul.settle(name, 3)
    token = consul.grant("service:read", f"node:read:{own_node}")
    with svcmesh.Mesh(uri(consul, token)) as mesh:
        service = mesh.service(name)
        service.wait_ready(30)
        until(lambda: [e.metadata["node"] for e in service.endpoints] == ["mine"] * 2)
        gone = next(e.metadata["id"] for e in service.endpoints if e.port == 8002)
        consul.put(f"/v1/agent/service/deregister/{gone}")
        until(lambda: ports(service) == [8001])


def test_a_token_that_is_deleted_empties_nothing(consul, name):
    token = consul.grant("service:read", "node:read")
    with svcmesh.Mesh(uri(consul, token)) as mesh:
        service = mesh.service(name)
        service.wait_ready(30)
        told = Told(mesh)
        consul.delete(token)
        consul.register(name, 8002)
        until(lambda: any("ACL not found" in error for error in told.errors()))
        assert ports(service) == [8001]
        assert token not in "".join(told.errors())


async def test_who_may_see_one_service_alone_believes_that_it_is_empty(consul, name):
    snapshot = await first(uri(consul, consul.grant(f"service:read:{name}-gone", "node:read")), f"{name}-gone")
    assert snapshot.endpoints == ()
    assert not snapshot.authoritative


@pytest.mark.parametrize("rights", [None, ("service:read:another", "node:read"), ("service:read",)])
async def test_who_may_not_see_a_service_is_told_so_and_not_that_it_is_empty(consul, name, rights):
    token = None if rights is None else consul.grant(*rights)
    with pytest.raises(DiscoveryError, match=r"service:read and node:read"):
        await first(uri(consul, token), name)


async def first(uri, name):
    registry = open_discovery(uri, clock=SYSTEM, emit=lambda *_, **__: None)
    async with aclosing(registry.watch(name)) as snapshots:
        return await anext(snapshots)


async def test_who_may_write_one_service_registers_it_and_no_other(consul, name):
    token = consul.grant(f"service:write:{name}-mine")
    registry = open_discovery(uri(consul, token), clock=SYSTEM, emit=lambda *_, **__: None)
    mine = Announcement(f"{name}-mine", "mine", "127.0.0.1:80")
    await registry.register(mine)
    await registry.heartbeat(mine)
    with pytest.raises(DiscoveryError, match="answered 403: Permission denied"):
        await registry.register(Announcement(f"{name}-yours", "yours", "127.0.0.1:80"))
    await registry.drain(mine)
    await registry.deregister(mine)
