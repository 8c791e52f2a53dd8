"""What lies under the connections: TLS under the logical name, unix sockets, IPv6, names, and HTTP/2."""

from __future__ import annotations

import errno
import gc
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import svcmesh
from svcmesh import Policy
from svcmesh.transport.http.connection.wire import LONGEST, SHORTEST, clamp
from tests.servers.grpc_process import blackhole_port, refused_port
from tests.servers.http_process import ROOT, HttpServer
from tests.transport.http.colours import COLOURS, Caller, Colour, ask_anew, in_flight

TLS = ROOT / "tests" / "servers" / "tls"
CERTIFICATE = ["--certificate", str(TLS / "orders.pem")]


def _has_ipv6_loopback() -> bool:
    with socket.socket(socket.AF_INET6) as found:
        return found.connect_ex(("::1", 1)) == errno.ECONNREFUSED


@pytest.fixture(params=COLOURS)
def caller(request: pytest.FixtureRequest) -> Colour:
    return COLOURS[request.param]


@pytest.fixture
def trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=TLS / "ca.pem")


@pytest.fixture(scope="module")
def encrypted() -> Iterator[HttpServer]:
    with HttpServer("tls", arguments=CERTIFICATE) as server:
        yield server


def test_the_logical_name_is_what_tls_verifies(caller: Colour, encrypted: HttpServer, trusting: ssl.SSLContext) -> None:
    """The connection goes to an address, the certificate is for the service: verification is left on."""
    with (
        svcmesh.Mesh({"orders": [encrypted.address]}) as mesh,
        caller(mesh.service("orders"), verify=trusting, base_url="https://orders") as client,
    ):
        seen = [client.get("/echo").json() for _ in range(3)]
        assert {each["connection"] for each in seen} == {seen[0]["connection"]}
        assert client.request("PUT", "/echo", content=b"x" * 3_000_000).json()["length"] == 3_000_000
        assert client.raw("/chunks/3") == b"part 0;part 1;part 2;"


def test_another_name_is_not_verified(caller: Colour, encrypted: HttpServer, trusting: ssl.SSLContext) -> None:
    """A certificate for somebody else is a connect failure: nothing was sent, and a POST may go elsewhere."""
    with (
        svcmesh.Mesh({"billing": [encrypted.address]}) as mesh,
        caller(mesh.service("billing"), verify=trusting, base_url="https://billing") as client,
        pytest.raises(httpx.ConnectError, match="certificate"),
    ):
        client.request("POST", "/echo")


def test_a_server_name_of_the_callers_own(caller: Colour, encrypted: HttpServer, trusting: ssl.SSLContext) -> None:
    """``sni_hostname`` works as in httpx, and connections under different names are not mixed up."""
    with (
        svcmesh.Mesh({"billing": [encrypted.address]}, policy=Policy()) as mesh,
        caller(mesh.service("billing"), verify=trusting, base_url="https://billing") as client,
    ):
        assert client.get("/echo", extensions={"sni_hostname": "orders"}).status_code == 200
        with pytest.raises(httpx.ConnectError):
            client.get("/echo")


@pytest.mark.parametrize("encrypt", [True, False])
def test_the_wrong_kind_of_server_is_a_clear_error(caller: Colour, encrypted: HttpServer, encrypt: bool) -> None:
    """TLS to a plain server, or plain text to a TLS server, fails at once with an error of httpx's."""
    with HttpServer("plain") as plain:
        address = plain.address if encrypt else encrypted.address
        scheme = "https" if encrypt else "http"
        with (
            svcmesh.Mesh({"orders": [address]}) as mesh,
            caller(mesh.service("orders"), base_url=f"{scheme}://orders") as client,
            pytest.raises((httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError)),
        ):
            client.get("/echo")


def test_an_encrypted_client_that_is_dropped_unclosed_says_nothing(
    caller: Colour, encrypted: HttpServer, trusting: ssl.SSLContext
) -> None:
    """No warning of an unclosed socket (warnings are errors here), although a whole mesh is garbage in cycles."""
    mesh = svcmesh.Mesh({"orders": [encrypted.address]})
    client = caller(mesh.service("orders"), verify=trusting, base_url="https://orders")
    assert client.get("/echo").status_code == 200
    if hasattr(client, "runner"):
        client.runner.close()
    del mesh, client
    gc.collect()


def test_a_silent_handshake_ends_with_the_attempt(caller: Colour) -> None:
    """A server that accepts and never shakes hands is given up like one that never accepts."""
    with HttpServer("frozen") as server:
        server.freeze()
        policy = Policy(timeout=0.3)
        with (
            svcmesh.Mesh({"orders": [server.address]}, policy=policy) as mesh,
            caller(mesh.service("orders"), base_url="https://orders") as client,
        ):
            began = time.monotonic()
            with pytest.raises(httpx.TimeoutException):
                client.get("/echo")
            assert time.monotonic() - began < 10
        server.thaw()


def test_unix_sockets(caller: Colour, tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/server"
    with (
        HttpServer("unix", listen=address),
        svcmesh.Mesh({"orders": [address]}) as mesh,
        caller(mesh.service("orders")) as client,
    ):
        assert client.get("/echo").json()["server"] == "unix"


def test_a_unix_socket_that_is_not_there(caller: Colour, tmp_path: Path) -> None:
    """Or is a plain file: a connect failure, so that even a POST goes to whoever is there."""
    (tmp_path / "file").touch()
    nobody = [f"unix:{tmp_path}/nobody", f"unix:{tmp_path}/file", f"unix:{tmp_path}/no/where"]
    with svcmesh.Mesh({"orders": nobody}) as mesh, caller(mesh.service("orders")) as client:
        with pytest.raises(httpx.ConnectError) as caught:
            client.request("POST", "/echo")
        found = svcmesh.info(caught.value)
        assert found is not None
        assert found.reason.startswith("connect-failure")
        assert {endpoint.address for endpoint in found.endpoints} == {*nobody}
    with (
        HttpServer("there", listen=f"unix:{tmp_path}/there"),
        svcmesh.Mesh({"orders": [*nobody, f"unix:{tmp_path}/there"]}) as mesh,
        caller(mesh.service("orders")) as client,
    ):
        assert [client.request("POST", "/echo").status_code for _ in range(4)] == [200] * 4


@pytest.mark.skipif(not socket.has_ipv6 or not _has_ipv6_loopback(), reason="this machine has no IPv6 loopback")
def test_ipv6(caller: Colour) -> None:
    with (
        HttpServer("six", listen="[::1]:0") as server,
        svcmesh.Mesh({"orders": [server.address]}) as mesh,
        caller(mesh.service("orders")) as client,
    ):
        assert client.get("/echo").json()["server"] == "six"


def test_a_name_is_resolved_when_it_is_dialled(caller: Colour) -> None:
    """Names may stand for several addresses; the one that answers is used."""
    with (
        HttpServer("named") as server,
        svcmesh.Mesh({"orders": [f"localhost:{server.port}"]}) as mesh,
        caller(mesh.service("orders")) as client,
    ):
        assert client.get("/echo").json()["server"] == "named"


def test_all_addresses_of_a_name_share_the_attempts_time(caller: Colour, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with many addresses that are silent takes the time of one attempt, not of fifty."""
    with blackhole_port() as port:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))] * 50
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
        ask_anew(monkeypatch)
        with (
            svcmesh.Mesh({"orders": [f"silent.example:{port}"]}, policy=Policy(timeout=0.3)) as mesh,
            caller(mesh.service("orders")) as client,
        ):
            began = time.monotonic()
            with pytest.raises(httpx.ConnectTimeout):
                client.get("/echo")
            assert time.monotonic() - began < 10


def test_the_second_address_of_a_name_is_tried(caller: Colour, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the first one refuses."""
    with refused_port() as refused, HttpServer("second") as server:
        ports = [refused, server.port]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
        ask_anew(monkeypatch)
        with svcmesh.Mesh({"orders": ["two.example:80"]}) as mesh, caller(mesh.service("orders")) as client:
            assert client.get("/echo").json()["server"] == "second"


def test_a_name_that_resolves_to_nothing(caller: Colour) -> None:
    with (
        svcmesh.Mesh({"orders": ["nobody.invalid:80"]}) as mesh,
        caller(mesh.service("orders")) as client,
        pytest.raises(httpx.ConnectError),
    ):
        client.get("/echo")


def test_the_connect_timeout_is_httpxs(caller: Colour) -> None:
    with (
        blackhole_port() as port,
        svcmesh.Mesh({"orders": [f"127.0.0.1:{port}"]}, policy=Policy()) as mesh,
        caller(mesh.service("orders"), timeout=httpx.Timeout(5, connect=0.1)) as client,
        pytest.raises(httpx.ConnectTimeout),
    ):
        client.get("/echo")


def test_the_callers_own_deadline_does_not_blame_the_endpoint(caller: Colour) -> None:
    """A connect cut off by the ambient deadline is nobody's fault."""
    with blackhole_port() as port, svcmesh.Mesh({"orders": [f"127.0.0.1:{port}"]}) as mesh:
        service = mesh.service("orders")
        service.wait_ready(30)
        with caller(service) as client:
            for _ in range(6):
                with svcmesh.deadline(0.05), pytest.raises(httpx.TimeoutException):
                    client.get("/echo")
        assert "open" not in str(mesh.state()["services"]["orders"]["endpoints"][0]["breakers"])
        assert mesh.state()["services"]["orders"]["endpoints"][0]["ejected"] is None
        assert in_flight(service) == 0


def test_an_answer_that_does_not_end_is_cut_off_where_the_timeout_was_set_on_purpose(caller: Colour) -> None:
    """The standard timeout ends with the headers; one that somebody asked for holds to the last byte."""
    with HttpServer("drip") as server, svcmesh.Mesh({"orders": [server.address]}) as mesh:
        service = mesh.service("orders").with_policy(Policy(timeout=0.3))
        with caller(service) as client:
            began = time.monotonic()
            with pytest.raises(svcmesh.DeadlineExceeded) as caught:
                client.get("/drip")
            assert time.monotonic() - began < 10
        assert isinstance(caught.value, httpx.TimeoutException)
        assert in_flight(service) == 0


def test_socket_options_and_local_address_are_applied(caller: Colour) -> None:
    """They are arguments of httpx's transport, and they reach the socket."""
    with HttpServer("one") as server, svcmesh.Mesh({"orders": [server.address]}) as mesh:
        options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
        transport = mesh.service("orders").http_transport(socket_options=options, local_address="127.0.0.1")
        with httpx.Client(transport=transport) as client:
            response = client.send(client.build_request("GET", "http://orders/chunks/1"), stream=True)
            connected = response.extensions["network_stream"].get_extra_info("socket")
            assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert connected.getsockname()[0] == "127.0.0.1"
            response.close()


def test_clamping() -> None:
    """A deadline that has passed leaves a moment, because zero would switch a socket to another mode."""
    assert clamp(5.0, None) == 5.0
    assert clamp(None, None) is None
    assert clamp(5.0, time.monotonic() - 1) == SHORTEST
    assert clamp(None, time.monotonic() + 100) == pytest.approx(100, abs=1)
    assert clamp(0.5, time.monotonic() + 100) == 0.5
    assert clamp(None, time.monotonic() + 1e300) == LONGEST, "sockets cannot count further"


def test_callers_are_of_two_colours() -> None:
    """Every test above that takes a caller has run blocking and awaiting."""
    assert issubclass(COLOURS["awaiting"], Caller)
    assert COLOURS["awaiting"] is not COLOURS["blocking"]


OUT_OF_FILES = """
import asyncio, os, resource, sys, httpx, svcmesh

def said(error):
    return "svcmesh" if isinstance(error, svcmesh.SvcmeshError) else f"{type(error).__name__} {error}"

async def main():
    policy = svcmesh.Policy.standard().replace(retry=svcmesh.Retry(wait=lambda _: 0.0))
    mesh = svcmesh.Mesh({"orders": sys.argv[1:]}, policy=policy)
    orders = mesh.service("orders")
    anew = httpx.Limits(max_keepalive_connections=0)
    with orders.http_client(limits=anew) as client:
        async with orders.http_async_client(limits=anew) as async_client:
            print(client.get("/echo").status_code, (await async_client.get("/echo")).status_code)
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            taken, told = [], set()
            try:
                while True:
                    taken.append(os.dup(0))
            except OSError:
                pass
            for _ in range(30):
                for ask in (client.get, async_client.get):
                    try:
                        answer = ask("/echo")
                        await answer if ask == async_client.get else None
                    except Exception as error:
                        told.add(said(error))
            for each in taken:
                os.close(each)
            print(sorted(told))
            print(client.get("/echo").status_code, (await async_client.get("/echo")).status_code)

asyncio.run(main())
"""


def test_a_process_without_files_says_so_and_blames_nobody() -> None:
    """Its calls go on as soon as it has some again, and nothing is printed meanwhile."""
    with HttpServer("one") as one, HttpServer("two") as two:
        command = [sys.executable, "-c", OUT_OF_FILES, one.address, two.address]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        left = subprocess.run(command, check=False, timeout=120, env=environment, capture_output=True, text=True)
    assert (left.stdout.splitlines(), left.stderr) == (
        ["200 200", "['ConnectError [Errno 24] Too many open files']", "200 200"],
        "",
    )
