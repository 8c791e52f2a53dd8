"""Which service a URL means, and what becomes of a URL that means none."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import httpx
import pytest

import svcmesh
from svcmesh.transport.http.route import host_of
from tests.servers.http_process import HttpServer


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    with HttpServer("one") as one:
        yield one


@pytest.fixture
def mesh(server: HttpServer) -> Iterator[svcmesh.Mesh]:
    with svcmesh.Mesh({"orders": [server.address], "empty": []}) as mesh:
        yield mesh


def test_mesh_transport_takes_hosts_for_names(mesh: svcmesh.Mesh) -> None:
    """In any case; a service that discovery does not know is refused, as httpx's ConnectError and our NoEndpoints."""
    with httpx.Client(transport=mesh.http_transport()) as client:
        assert client.get("http://orders/echo").status_code == 200
        assert client.get("http://ORDERS/echo").status_code == 200
        with pytest.raises(svcmesh.NoEndpoints) as caught:
            client.get("http://nobody/echo")
    assert isinstance(caught.value, httpx.ConnectError)
    assert str(caught.value.request.url) == "http://nobody/echo"


def test_async_mesh_transport_takes_hosts_for_names(mesh: svcmesh.Mesh) -> None:
    async def check() -> None:
        async with httpx.AsyncClient(transport=mesh.http_async_transport()) as client:
            assert (await client.get("http://orders/echo")).status_code == 200
            with pytest.raises(svcmesh.NoEndpoints):
                await client.get("http://nobody/echo")

    asyncio.run(check())


def test_a_port_in_the_url(mesh: svcmesh.Mesh, server: HttpServer) -> None:
    """It must be the endpoints' own; another one is refused, with what there is."""
    with httpx.Client(transport=mesh.http_transport()) as client:
        assert client.get(f"http://orders:{server.port}/echo").status_code == 200
        with pytest.raises(svcmesh.NoEndpoints, match=str(server.port)):
            client.get("http://orders:1/echo")
        with pytest.raises(svcmesh.NoEndpoints):
            client.get("http://empty:1/echo")


def test_a_port_that_only_some_endpoints_have(server: HttpServer) -> None:
    """Those are asked, in both colours, and the others are when no port is named."""
    with HttpServer("two") as two, svcmesh.Mesh({"orders": [server.address, two.address, "127.0.0.1:1"]}) as mesh:
        with httpx.Client(transport=mesh.http_transport()) as client:
            for each, name in ((server, "one"), (two, "two")):
                seen = {client.get(f"http://orders:{each.port}/echo").json()["server"] for _ in range(8)}
                assert seen == {name}
            assert len({client.get("http://orders/echo").json()["server"] for _ in range(40)}) == 2
            with pytest.raises(svcmesh.NoEndpoints, match="port 2 .* none of its endpoints"):
                client.get("http://orders:2/echo")

        async def check() -> set[str]:
            async with httpx.AsyncClient(transport=mesh.http_async_transport(passthrough=True)) as client:
                return {(await client.get(f"http://orders:{two.port}/echo")).json()["server"] for _ in range(8)}

        assert asyncio.run(check()) == {"two"}


def test_the_port_that_a_scheme_has_anyway_is_none(mesh: svcmesh.Mesh) -> None:
    """The client takes it out of the URL before anybody sees it."""
    with httpx.Client(transport=mesh.http_transport()) as client:
        assert client.get("http://orders:80/echo").status_code == 200


def test_passthrough(mesh: svcmesh.Mesh, server: HttpServer) -> None:
    """Unknown names and other ports go to a plain transport, or to the one that was given."""
    with httpx.Client(transport=mesh.http_transport(passthrough=True)) as client:
        response = client.get(f"http://{server.address}/echo")
        assert ["Host", server.address] in response.json()["headers"]
        assert svcmesh.info(response) is None
        assert svcmesh.info(client.get("http://orders/echo")) is not None
        with pytest.raises(httpx.ConnectError):
            client.get("http://orders:1/echo")
    inner = httpx.MockTransport(lambda request: httpx.Response(200, text=str(request.url)))
    with httpx.Client(transport=mesh.http_transport(passthrough=True, inner=inner)) as client:
        assert client.get("http://elsewhere/x").text == "http://elsewhere/x"


def test_other_schemes_are_passed_on_where_anything_is(mesh: svcmesh.Mesh) -> None:
    """To the caller's own transport, which may know them; a plain one refuses them, in the words that we have, too."""
    inner = httpx.MockTransport(lambda request: httpx.Response(200, text=request.url.scheme))
    with httpx.Client(transport=mesh.http_transport(passthrough=True, inner=inner)) as client:
        assert client.get("invalid://orders/").text == "invalid"
    said: list[str] = []
    for transport in (mesh.http_transport(), mesh.http_transport(passthrough=True), httpx.HTTPTransport()):
        with httpx.Client(transport=transport) as client, pytest.raises(httpx.UnsupportedProtocol) as caught:
            client.get("invalid://orders/")
        said.append(str(caught.value))
    assert len(set(said)) == 1


def test_async_passthrough(mesh: svcmesh.Mesh, server: HttpServer) -> None:
    async def check() -> None:
        async with httpx.AsyncClient(transport=mesh.http_async_transport(passthrough=True)) as client:
            response = await client.get(f"http://{server.address}/echo")
            assert svcmesh.info(response) is None
            assert svcmesh.info(await client.get("http://orders/echo")) is not None

    asyncio.run(check())


def test_a_services_client_serves_that_service_only(mesh: svcmesh.Mesh) -> None:
    """A redirect or an absolute URL to another host is not sent to the service's endpoints."""
    with mesh.service("orders").http_client() as client:
        with pytest.raises(svcmesh.NoEndpoints, match="serves http://orders only"):
            client.get("http://elsewhere/")
        with pytest.raises(httpx.UnsupportedProtocol, match="ftp"):
            client.get("ftp://orders/")
    client = httpx.Client(transport=mesh.http_transport())
    with client, pytest.raises(httpx.UnsupportedProtocol, match="missing"):
        client.get("/no/host")


def test_mounts_keep_other_hosts_apart(mesh: svcmesh.Mesh, server: HttpServer) -> None:
    with httpx.Client(mounts={"http://orders": mesh.service("orders").http_transport()}) as client:
        assert svcmesh.info(client.get("http://orders/echo")) is not None
        assert svcmesh.info(client.get(f"http://{server.address}/echo")) is None


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("orders", "orders"),
        ("orders.prod_2", "orders.prod_2"),
        ("10.0.0.1", "10.0.0.1"),
        ("::1", "[::1]"),
        ("consul://127.0.0.1:8500/orders?tag=x", "orders"),
        ("static://10.0.0.1:80,10.0.0.2:80", "static"),
        ("dns:///orders.internal:80", "orders.internal"),
    ],
)
def test_the_host_of_a_service(name: str, host: str) -> None:
    """Its name, or what stands for the name in a URI."""
    assert host_of(name) == host


@pytest.mark.parametrize("name", ["a b", "a/b", "user@host", "a#b"])
def test_a_name_that_no_url_can_hold(name: str) -> None:
    with pytest.raises(svcmesh.ConfigError, match="host of a URL"):
        host_of(name)


def test_names_are_found_in_any_case(server: HttpServer) -> None:
    """URLs lose the case of their host, and a service may have been named with one."""
    with (
        svcmesh.Mesh({"Orders": [server.address]}) as mesh,
        httpx.Client(transport=mesh.http_transport()) as client,
    ):
        assert client.get("http://Orders/echo").status_code == 200


def test_hosts_that_nobody_knows_are_forgotten(mesh: svcmesh.Mesh, server: HttpServer) -> None:
    """A crawler that passes every host through must not leave a service, and a watch, behind for each."""
    inner = httpx.MockTransport(lambda request: httpx.Response(200))
    kept = mesh.service("kept-1")
    transport = mesh.http_transport(passthrough=True, inner=inner)
    with httpx.Client(transport=transport) as client:
        for number in range(300):
            assert client.get(f"http://kept-{number}/").status_code == 200
    del transport, client
    gc.collect()

    assert mesh.service("kept-1") is kept
    assert mesh._clusters.keys() == {"kept-1"}
