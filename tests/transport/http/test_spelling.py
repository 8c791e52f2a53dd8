"""Hosts of URLs have no case, names of services may: a host finds its service however that is spelled."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest

import svcmesh
from svcmesh import Abort, Fault, Snapshot
from tests.servers.http_process import HttpServer

BROKEN = Fault(abort=Abort(http=418))


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    with HttpServer("one") as one:
        yield one


def _local(tmp_path: Path, server: HttpServer) -> svcmesh.Mesh:
    mesh = svcmesh.Mesh(f"local://{tmp_path}/registry")
    _register(mesh, server, "Orders.EU_1")
    return mesh


def _dict(tmp_path: Path, server: HttpServer) -> svcmesh.Mesh:
    return svcmesh.Mesh({"Orders.EU_1": [server.address], "billing": []})


def _file(tmp_path: Path, server: HttpServer) -> svcmesh.Mesh:
    path = tmp_path / "mesh.json"
    path.write_text(json.dumps({"Orders.EU_1": [server.address], "billing": []}))
    return svcmesh.Mesh(f"file://{path}")


def _files(tmp_path: Path, server: HttpServer) -> svcmesh.Mesh:
    (tmp_path / "Orders.EU_1.json").write_text(json.dumps([server.address]))
    (tmp_path / "orders.json").write_text("[]")
    return svcmesh.Mesh(f"file://{tmp_path}/{{service}}.json")


def _services(tmp_path: Path, server: HttpServer) -> svcmesh.Mesh:
    standard = svcmesh.Policy.standard()
    return svcmesh.Mesh({}, services={"Orders.EU_1": (f"static://{server.address}", standard)})


def _static(tmp_path: Path, server: HttpServer) -> svcmesh.Mesh:
    return svcmesh.Mesh(f"static://{server.address}")


MESHES = {"local": _local, "dict": _dict, "file": _file, "files": _files, "services": _services, "static": _static}


def _register(mesh: svcmesh.Mesh, server: HttpServer, name: str) -> svcmesh.Registration:
    """Register, and wait until it is listed."""
    found = mesh.register(name, port=server.port, host="127.0.0.1")
    mesh.service(name).wait_ready(30)
    return found


@pytest.mark.parametrize("make", MESHES.values(), ids=MESHES)
def test_a_host_finds_a_name_that_nobody_has_used_yet(
    make: Callable[[Path, HttpServer], svcmesh.Mesh], tmp_path: Path, server: HttpServer
) -> None:
    """In whatever case it is registered, in both colours; httpx itself writes hosts in lower case."""
    with make(tmp_path, server):  # keeps what is registered
        with make(tmp_path, server) as mesh, httpx.Client(transport=mesh.http_transport()) as client:
            assert client.get("http://Orders.EU_1/echo").status_code == 200
            assert client.post("http://orders.eu_1/echo", content=iter([b"once"])).status_code == 200

        async def check() -> int:
            async with (
                make(tmp_path, server) as mesh,
                httpx.AsyncClient(transport=mesh.http_async_transport()) as client,
            ):
                return (await client.get("http://orders.eu_1/echo")).status_code

        assert asyncio.run(check()) == 200


def test_a_reader_of_the_local_registry_finds_it_with_no_help(tmp_path: Path, server: HttpServer) -> None:
    """In a mesh that has never heard the name, also when it is registered only after the first call."""
    uri = f"local://{tmp_path}/registry"
    with svcmesh.Mesh(uri) as mesh, svcmesh.Mesh(uri) as other, httpx.Client(transport=mesh.http_transport()) as client:
        with pytest.raises(svcmesh.NoEndpoints):
            client.get("http://orders/echo")
        with _register(other, server, "Orders"):
            assert client.get("http://orders/echo").status_code == 200
            del client
            gc.collect()
            assert [*mesh.state()["services"]] == ["Orders"], "one service, under its own name"


def test_passing_through_is_for_what_no_spelling_names(tmp_path: Path, server: HttpServer) -> None:
    uri = f"local://{tmp_path}/registry"
    inner = httpx.MockTransport(lambda request: httpx.Response(200, text="passed on"))
    with (
        svcmesh.Mesh(uri) as mesh,
        svcmesh.Mesh(uri) as other,
        _register(other, server, "Orders"),
        httpx.Client(transport=mesh.http_transport(passthrough=True, inner=inner)) as client,
    ):
        assert svcmesh.info(client.get("http://orders/")) is not None
        assert client.get("http://nobody/").text == "passed on"
        assert svcmesh.info(client.get(f"http://orders:{server.port}/")) is not None


@pytest.mark.parametrize("port", [False, True])
def test_a_registry_is_read_before_anything_is_passed_on(tmp_path: Path, server: HttpServer, port: bool) -> None:
    """At the first request of a mesh nobody has looked into the file yet."""
    inner = httpx.MockTransport(lambda request: httpx.Response(200, text="passed on"))
    url = f"http://orders.eu_1:{server.port}/echo" if port else "http://orders.eu_1/echo"
    with _file(tmp_path, server) as mesh, httpx.Client(transport=mesh.http_transport(passthrough=True)) as client:
        assert svcmesh.info(client.get(url)) is not None

    async def check() -> bool:
        async with _file(tmp_path, server) as mesh:
            transport = mesh.http_async_transport(passthrough=True, inner=inner)
            async with httpx.AsyncClient(transport=transport) as client:
                return svcmesh.info(await client.get(url)) is not None

    assert asyncio.run(check())


def test_the_exact_name_comes_first(server: HttpServer) -> None:
    with (
        svcmesh.Mesh({"Orders": ["127.0.0.1:1"], "orders": [server.address]}) as mesh,
        httpx.Client(transport=mesh.http_transport()) as client,
    ):
        assert client.get("http://ORDERS/echo").status_code == 200
        assert [*mesh.state()["services"]] == ["orders"]


def test_two_names_that_a_host_cannot_tell_apart_are_refused() -> None:
    """To take one of them would be a guess, and the other one's requests would go there."""
    with (
        svcmesh.Mesh({"Orders": ["127.0.0.1:1"], "ORDERS": ["127.0.0.1:1"]}) as mesh,
        httpx.Client(transport=mesh.http_transport()) as client,
    ):
        with pytest.raises(svcmesh.NoEndpoints, match="'ORDERS', 'Orders'") as caught:
            client.get("http://orders/")
        assert isinstance(caught.value, httpx.ConnectError)
        with pytest.raises(svcmesh.ConfigError, match="'ORDERS', 'Orders'"), mesh.faults.inject("orders", BROKEN):
            pass
        with mesh.faults.inject("Orders", BROKEN):
            assert mesh.service("ORDERS").view.cluster.faults == ()


@pytest.mark.parametrize("used", [False, True])
def test_faults_hit_the_service_that_the_url_means(tmp_path: Path, server: HttpServer, used: bool) -> None:
    """Before and after its first use, however the test spells it."""
    with svcmesh.Mesh({"Orders": [server.address]}) as mesh, httpx.Client(transport=mesh.http_transport()) as client:
        if used:
            assert client.get("http://orders/echo").status_code == 200
        for name in ("ORDERS", "orders", "Orders"):
            with mesh.faults.inject(name, BROKEN):
                assert client.get("http://orders/echo").status_code == 418
        assert client.get("http://orders/echo").status_code == 200
        assert [*mesh.state()["services"]] == ["Orders"]


def test_faults_hit_a_host_that_only_a_url_has_named(server: HttpServer) -> None:
    """Where discovery cannot list its names, what a client has already asked for is known."""

    class Unlisted:
        async def watch(self, service: str) -> AsyncIterator[Snapshot]:
            yield Snapshot((svcmesh.Endpoint(server.address),) if service == "orders" else ())
            await asyncio.get_running_loop().create_future()

    with svcmesh.Mesh(Unlisted()) as mesh, httpx.Client(transport=mesh.http_transport()) as client:
        assert client.get("http://orders/echo").status_code == 200
        with mesh.faults.inject("ORDERS", BROKEN):
            assert client.get("http://orders/echo").status_code == 418
