"""Contexts that follow their files, and clients whom a server turns away."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import svcmesh
from svcmesh import Policy, Retry
from svcmesh.core.outcome import CONNECT_FAILURE, RESET, Kind
from svcmesh.http import rotating_context
from svcmesh.transport.http.outcome import of_error
from svcmesh.transport.http.tls import TURNED_AWAY
from tests.servers.http_process import HttpServer
from tests.transport.http.colours import COLOURS, Colour, in_flight
from tests.transport.pki import Pki


@pytest.fixture(params=COLOURS)
def caller(request: pytest.FixtureRequest) -> Colour:
    return COLOURS[request.param]


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def strict(pki: Pki) -> Iterator[HttpServer]:
    """A server that says why it turns a client away."""
    arguments = ["--certificate", str(pki.pair("orders").both), "--client-ca", str(pki.ca)]
    with HttpServer("strict", module="tests.servers.alert_server", arguments=arguments) as server:
        yield server


@pytest.fixture(scope="module")
def plain(pki: Pki) -> Iterator[HttpServer]:
    with pki.http_server(pki.pair("orders", file="open")) as server:
        yield server


def wrong(pki: Pki, what: str, folder: Path) -> ssl.SSLContext:
    """Return the context of a client that is not let in."""
    if what == "none":
        return pki.context()
    pair = pki.pair("client", expired=True) if what == "expired" else Pki(folder).pair("client")
    return pki.context(pair)


@pytest.mark.parametrize(
    ("what", "words"), [("none", "CERTIFICATE_REQUIRED"), ("expired", "CERTIFICATE_EXPIRED"), ("strange", "UNKNOWN_CA")]
)
def test_a_client_that_is_turned_away_surely_sent_nothing(
    caller: Colour, pki: Pki, strict: HttpServer, plain: HttpServer, tmp_path: Path, what: str, words: str
) -> None:
    """Not even a POST is lost: it goes elsewhere where there is an elsewhere, and the error says why where not."""
    outcomes: list[Any] = []
    with (
        svcmesh.Mesh({"orders": [strict.address], "both": [strict.address, plain.address]}) as mesh,
        mesh.events.subscribe(outcomes.append, "attempt.finished"),
        caller(mesh.service("orders"), verify=wrong(pki, what, tmp_path), base_url="https://orders") as client,
        caller(mesh.service("both"), verify=wrong(pki, what, tmp_path), base_url="https://both") as lucky,
    ):
        with pytest.raises(httpx.NetworkError, match=words) as caught:
            client.request("POST", "/echo", content=b"once")
        told = svcmesh.info(caught.value)
        assert told is not None
        assert {endpoint.address for endpoint in told.endpoints} == {strict.address}
        assert told.reason.startswith(CONNECT_FAILURE)
        assert {event.outcome for event in outcomes} == {"unsent"}
        sni = {"sni_hostname": "orders"}
        assert all(lucky.request("POST", "/echo", extensions=sni).status_code == 200 for _ in range(6))
        assert in_flight(mesh.service("orders")) == in_flight(mesh.service("both")) == 0


def test_a_client_that_is_known_is_let_in(caller: Colour, pki: Pki, strict: HttpServer) -> None:
    """The same server, with the right certificate."""
    with (
        svcmesh.Mesh({"orders": [strict.address]}) as mesh,
        caller(mesh.service("orders"), verify=pki.context(pki.pair("client")), base_url="https://orders") as client,
    ):
        assert client.request("POST", "/echo").text == "ok"


def alerted(reason: str) -> httpx.ReadError:
    """Return httpx's error of a read that met this alert."""
    error = httpx.ReadError("alert")
    error.__cause__ = ssl.SSLError(1, "alert")
    error.__cause__.reason = reason
    return error


@pytest.mark.parametrize("reason", sorted(TURNED_AWAY))
def test_alerts_on_a_new_connection_are_refusals(reason: str) -> None:
    """On one that has carried a request before, the handshake is long over, and nobody knows."""
    assert (of_error(alerted(reason)).kind, of_error(alerted(reason)).reason) == (Kind.UNSENT, CONNECT_FAILURE)
    assert of_error(alerted(reason), reused=True).kind is Kind.LOST


@pytest.mark.parametrize("reason", ["TLSV1_ALERT_INTERNAL_ERROR", "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"])
def test_other_troubles_of_tls_are_lost_connections(reason: str) -> None:
    """They may come at any time."""
    assert (of_error(alerted(reason)).kind, of_error(alerted(reason)).reason) == (Kind.LOST, RESET)


# -- files that change -------------------------------------------------------------------------------------------------


def test_new_connections_are_made_with_what_the_files_hold(caller: Colour, tmp_path: Path) -> None:
    """Server and client move to another authority; the client is not restarted."""
    old, new = Pki(tmp_path, "old"), Pki(tmp_path, "new")
    root = tmp_path / "root.pem"
    root.write_bytes(old.roots)
    mine = old.pair("client", file="mine")
    with old.http_server(old.pair("orders"), clients=old.ca) as before:
        mesh = svcmesh.Mesh({"orders": [before.address]}, policy=Policy(timeout=5, retry=Retry()))
        verify = rotating_context(root, mine.key, mine.chain)
        with mesh, caller(mesh.service("orders"), verify=verify, base_url="https://orders") as client:
            assert client.get("/echo").json()["server"] == "orders"
            root.write_bytes(new.roots)
            new.pair("client", file="mine")
            assert client.get("/echo").json()["server"] == "orders"  # on the connection that is open
            before.kill()
            with new.http_server(new.pair("orders", file="fresh"), clients=new.ca, port=before.port):
                assert client.get("/echo").json()["server"] == "fresh"


def test_an_authority_that_was_taken_out_is_not_trusted_any_more(plain: HttpServer, pki: Pki, tmp_path: Path) -> None:
    """Contexts of Python can only add authorities; this one forgets."""
    root = tmp_path / "root.pem"
    root.write_bytes(pki.roots)
    verify = rotating_context(root)
    with svcmesh.Mesh({"orders": [plain.address]}, policy=Policy()) as mesh:
        with mesh.service("orders").http_client(verify=verify, base_url="https://orders") as client:
            assert client.get("/echo").status_code == 200
        root.write_bytes(Pki(tmp_path).roots)
        with (
            mesh.service("orders").http_client(verify=verify, base_url="https://orders") as client,
            pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"),
        ):
            client.get("/echo")


def test_files_that_do_not_fit_are_left_out(plain: HttpServer, pki: Pki, tmp_path: Path) -> None:
    """A key that is half written takes nothing down."""
    mine = Pki(tmp_path).pair("client", file="mine")
    context: Any = rotating_context(pki.ca, mine.key, mine.chain)
    before = context.current()
    mine.key.write_bytes(pki.pair("x").key.read_bytes())
    assert context.current() is before
    mine.chain.write_bytes(pki.pair("x", file="y").chain.read_bytes())  # of yet another key
    assert context.current() is before
    other = pki.pair("z")
    mine.key.write_bytes(other.key.read_bytes())
    mine.chain.write_bytes(other.chain.read_bytes())
    assert context.current() is not before


def test_the_context_serves_stock_clients_and_keeps_its_settings(plain: HttpServer, pki: Pki) -> None:
    """It is an SSLContext, and what is set on it holds for what shakes hands."""
    context = rotating_context(pki.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    made: Any = context
    assert made.current().minimum_version is ssl.TLSVersion.TLSv1_3
    assert made.current().verify_mode is ssl.CERT_REQUIRED
    with httpx.Client(verify=context) as client:
        answer = client.get(f"https://127.0.0.1:{plain.port}/echo", extensions={"sni_hostname": "orders"})
    assert answer.status_code == 200


CIPHER = "ECDHE-ECDSA-AES128-GCM-SHA256"


def with_one_cipher(context: ssl.SSLContext) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # those of 1.3 cannot be chosen
    context.set_ciphers(CIPHER)


def with_any_name(context: ssl.SSLContext) -> None:
    context.check_hostname = False


def with_anybody(context: ssl.SSLContext) -> None:
    with_any_name(context)
    context.verify_mode = ssl.CERT_NONE


@pytest.mark.parametrize("late", [False, True], ids=["before", "after the first connection"])
def test_only_the_ciphers_that_were_set_are_offered(plain: HttpServer, pki: Pki, tmp_path: Path, late: bool) -> None:
    """And they still are when the files have changed."""
    root = tmp_path / "root.pem"
    root.write_bytes(pki.roots)
    context: Any = rotating_context(root)
    if late:
        handshake(context, plain)
    with_one_cipher(context)
    assert handshake(context, plain) == CIPHER
    root.write_bytes(pki.roots + b"\n")
    assert handshake(context, plain) == CIPHER
    assert CIPHER in {each["name"] for each in context.current().get_ciphers()}
    with pytest.raises(ssl.SSLError, match="No cipher"):
        context.set_ciphers("nonsense")


def test_what_is_not_to_be_verified_is_not(plain: HttpServer, pki: Pki, tmp_path: Path) -> None:
    """In the order that Python's own contexts ask for, there and back again."""
    strange = rotating_context(Pki(tmp_path).ca)
    context = rotating_context(pki.ca)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(context, plain, name="elsewhere")
    with_any_name(context)
    handshake(context, plain, name="elsewhere")
    context.check_hostname = True
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(context, plain, name="elsewhere")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(strange, plain)
    with_anybody(strange)
    handshake(strange, plain)
    strange.verify_mode = ssl.CERT_REQUIRED
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(strange, plain)


@pytest.mark.parametrize(
    ("load", "instead"),
    [
        (lambda context, pki: context.load_verify_locations(pki.ca), "root="),
        (lambda context, pki: context.load_default_certs(), "root="),
        (lambda context, pki: context.set_default_verify_paths(), "root="),
        (lambda context, pki: context.load_cert_chain(pki.pair("x").both), "key= and chain="),
    ],
)
def test_other_files_are_refused(pki: Pki, load: Any, instead: str) -> None:
    """Nobody would follow them."""
    with pytest.raises(svcmesh.ConfigError, match=f"give .* to rotating_context as {instead}"):
        load(rotating_context(pki.ca), pki)


@pytest.mark.filterwarnings("ignore:`cert=:DeprecationWarning")  # since httpx 0.28
def test_a_certificate_beside_the_context_is_refused(pki: Pki) -> None:
    """httpx loads its ``cert=`` into the context that it was given."""  # noqa: D403 - that is its name
    pair = pki.pair("client")
    with (
        svcmesh.Mesh({"orders": ["127.0.0.1:1"]}) as mesh,
        pytest.raises(svcmesh.ConfigError, match="key= and chain="),
    ):
        mesh.service("orders").http_client(verify=rotating_context(pki.ca), cert=(str(pair.chain), str(pair.key)))


def test_it_tells_what_is_in_force(pki: Pki) -> None:
    """Which authorities, which ciphers."""
    context: Any = rotating_context(pki.ca)
    made = context.current()
    assert context.get_ca_certs() == made.get_ca_certs() != []
    assert context.get_ca_certs(binary_form=True) == made.get_ca_certs(binary_form=True)
    assert context.cert_store_stats() == made.cert_store_stats()
    assert context.cert_store_stats()["x509_ca"] == 1


def test_without_files_of_authorities_a_log_of_keys_stays_on(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What httpx's own context is made with holds, as long as nothing else is set."""
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    mine = pki.pair("client")
    made: Any = rotating_context(key=mine.key, chain=mine.chain)
    stock = httpx.create_ssl_context()
    for each in ("keylog_filename", "verify_flags", "options", "minimum_version"):
        assert getattr(made.current(), each) == getattr(stock, each) == getattr(made, each), each


def handshake(context: ssl.SSLContext, server: HttpServer, name: str = "orders") -> str:
    """Shake hands with a server; return the cipher that was agreed upon."""
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as encrypted,
    ):
        chosen = encrypted.cipher()
        assert chosen is not None
        return chosen[0]


def test_without_a_root_file_the_default_authorities_are_trusted(pki: Pki) -> None:
    """Not none, and not all."""
    mine = pki.pair("client")
    made: Any = rotating_context(key=mine.key, chain=mine.chain)
    assert made.current().get_ca_certs() or made.current().cert_store_stats()["x509_ca"] > 10


def test_a_context_is_refused_where_files_are_wrong(tmp_path: Path) -> None:
    """When it is made."""
    with pytest.raises(svcmesh.ConfigError, match="cannot be read"):
        rotating_context(tmp_path / "nowhere")


def test_a_connection_makes_no_context_anew(pki: Pki) -> None:
    """Unless the files have changed."""
    made: Any = rotating_context(pki.ca)
    first = made.current()
    assert all(made.current() is first for _ in range(10))
