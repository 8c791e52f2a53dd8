"""Credentials that follow their files: new connections use what is there now, running calls are left alone."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import svcmesh
from svcmesh.grpc import rotating_credentials
from svcmesh.policy.policy import Policy
from svcmesh.service import Service
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer
from tests.transport.grpc.kit import PATIENCE, eventually, ping, service_over
from tests.transport.pki import Pair, Pki

QUICK = 0.02


class Rotated:
    """A server that trusts two authorities' clients one after the other, and the files of a client."""

    def __init__(self, folder: Path) -> None:
        self.old, self.new = Pki(folder, "old-ca"), Pki(folder, "new-ca")
        self.root = folder / "root.pem"
        self.mine = self.old.pair("client", file="mine")
        self.root.write_bytes(self.old.roots)

    def credentials(self, **kwargs: Any) -> grpc.ChannelCredentials:
        return rotating_credentials(self.root, self.mine.key, self.mine.chain, every=QUICK, **kwargs)

    def rotate(self) -> None:
        """Replace all three files."""
        self.root.write_bytes(self.new.roots)
        self.new.pair("client", file="mine")

    def server(self, pki: Pki, port: int = 0) -> GrpcServer:
        """Return a server of one authority, which wants a certificate by the same."""
        return pki.grpc_server(pki.pair("probe", file=f"probe-{pki.ca.stem}"), clients=pki.ca, port=port)


@pytest.fixture
def rotated(tmp_path: Path) -> Rotated:
    return Rotated(tmp_path)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def mine(pki: Pki) -> Pair:
    return pki.pair("client")


@pytest.fixture(scope="module")
def secure(pki: Pki) -> Iterator[GrpcServer]:
    with pki.grpc_server(pki.pair("probe"), clients=pki.ca) as server:
        yield server


def reloads(service: Service, events: list[Any]) -> None:
    """Wait until the service has told of new files."""
    eventually(lambda: any(event.name == "config.reloaded" for event in events), "the files were not read again")


def after(service: Service, seconds: float) -> None:
    """Wait until the worker, which looks at files, has done all that falls due within this time."""
    done, runtime = threading.Event(), service.view.runtime
    runtime.call_at(runtime.clock.now() + seconds, done.set)
    assert done.wait(PATIENCE)


def listening(service: Service) -> list[Any]:
    """Return a list that gets what the service's mesh says of files."""
    events: list[Any] = []
    service.view.runtime.events.subscribe(events.append, "config.*")
    return events


def test_everything_rotates_without_a_restart(rotated: Rotated) -> None:
    """The server comes back with another authority and wants clients of it: no call fails for that."""
    with rotated.server(rotated.old) as before, service_over([before.address]) as service:
        events = listening(service)
        with service.grpc_channel(rotated.credentials()) as channel:
            stub = pb_grpc.ProbeStub(channel)
            assert stub.Unary(ping("old")).text == "old"
            rotated.rotate()
            reloads(service, events)
            before.kill()
            with rotated.server(rotated.new, before.port):
                assert stub.Unary(ping("new"), wait_for_ready=True).text == "new"
    assert [event.source for event in events if event.name == "config.reloaded"] == [
        f"{rotated.root}, {rotated.mine.key}, {rotated.mine.chain}"
    ]


async def test_everything_rotates_without_a_restart_on_asyncio(rotated: Rotated) -> None:
    """The same for the asyncio channel."""
    with rotated.server(rotated.old) as before, service_over([before.address]) as service:
        events = listening(service)
        async with service.grpc_aio_channel(rotated.credentials()) as channel:
            stub = pb_grpc.ProbeStub(channel)
            assert (await stub.Unary(ping("old"))).text == "old"
            rotated.rotate()
            await asyncio.to_thread(reloads, service, events)
            before.kill()
            with rotated.server(rotated.new, before.port):
                assert (await stub.Unary(ping("new"), wait_for_ready=True)).text == "new"


def test_running_calls_end_on_the_old_connection(pki: Pki, secure: GrpcServer, tmp_path: Path) -> None:
    """All four kinds: what was begun before the files changed is not disturbed."""
    mine = Pki(tmp_path).pair("x", file="mine")
    rewrite(pki, mine)
    with service_over([secure.address]) as service:
        events = listening(service)
        credentials = rotating_credentials(pki.ca, mine.key, mine.chain, every=QUICK)
        with service.grpc_channel(credentials) as channel:
            stub = pb_grpc.ProbeStub(channel)
            slow: dict[str, Any] = {"metadata": [("x-delay", "0.3")]}
            future = stub.Unary.future(ping("f"), **slow)
            stream = stub.ServerStream(ping("s", 3), **slow)
            bidi = stub.BidiStream(iter([ping("b"), ping("c")]), **slow)
            assert next(bidi).text == "b"  # all of them have begun
            rewrite(pki, mine)
            reloads(service, events)
            assert stub.Unary(ping("new")).text == "new"
            assert future.result().text == "f"
            assert [message.number for message in stream] == [0, 1, 2]
            assert [message.text for message in bidi] == ["c"]


async def test_running_calls_end_on_the_old_connection_on_asyncio(pki: Pki, secure: GrpcServer, tmp_path: Path) -> None:
    """The same for the asyncio channel."""
    mine = Pki(tmp_path).pair("x", file="mine")
    rewrite(pki, mine)
    with service_over([secure.address]) as service:
        events = listening(service)
        credentials = rotating_credentials(pki.ca, mine.key, mine.chain, every=QUICK)
        async with service.grpc_aio_channel(credentials) as channel:
            stub = pb_grpc.ProbeStub(channel)
            slow: dict[str, Any] = {"metadata": [("x-delay", "0.3")]}
            unary = stub.Unary(ping("f"), **slow)
            bidi = stub.BidiStream(iter([ping("b"), ping("c")]), **slow)
            assert (await bidi.read()).text == "b"
            rewrite(pki, mine)
            await asyncio.to_thread(reloads, service, events)
            assert (await stub.Unary(ping("new"))).text == "new"
            assert (await unary).text == "f"
            assert (await bidi.read()).text == "c"


def rewrite(pki: Pki, pair: Pair) -> None:
    """Put a new certificate of this authority into the files."""
    made = pki.pair("client")
    pair.key.write_bytes(made.key.read_bytes())
    pair.chain.write_bytes(made.chain.read_bytes())


def test_closing_cancels_calls_on_old_connections_too(pki: Pki, secure: GrpcServer, tmp_path: Path) -> None:
    """As closing a stock channel cancels all its calls."""
    mine = Pki(tmp_path).pair("x", file="mine")
    rewrite(pki, mine)
    with service_over([secure.address]) as service:
        events = listening(service)
        channel = service.grpc_channel(rotating_credentials(pki.ca, mine.key, mine.chain, every=QUICK))
        stub = pb_grpc.ProbeStub(channel)
        hanging = stub.ServerStream(ping("s", 3), metadata=[("x-hang", "1"), ("x-early", "1")])
        assert hanging.initial_metadata()
        rewrite(pki, mine)
        reloads(service, events)
        channel.close()
        eventually(hanging.done, "the call on the old connection goes on")
        assert hanging.code() is grpc.StatusCode.CANCELLED


def test_an_old_connection_is_closed_when_it_is_idle(pki: Pki, secure: GrpcServer, tmp_path: Path) -> None:
    """Only the one in use is left."""
    mine = Pki(tmp_path).pair("x", file="mine")
    rewrite(pki, mine)
    with service_over([secure.address]) as service:
        credentials = rotating_credentials(pki.ca, mine.key, mine.chain, every=QUICK)
        with service.grpc_channel(credentials) as channel:
            stub = pb_grpc.ProbeStub(channel)
            dialer: Any = channel._dialer  # type: ignore[attr-defined]  # where old ones would pile up
            for _ in range(3):
                stub.Unary(ping())
                kept = dialer.kept()
                rewrite(pki, mine)
                eventually(lambda kept=kept: dialer.kept() != kept, "the channel was not replaced")
            eventually(lambda: not dialer._retired, "old channels are kept")


def test_files_that_do_not_fit_are_left_out_until_they_do(rotated: Rotated) -> None:
    """A new key beside the old certificate: the old pair stays in force, and an event tells why."""
    with rotated.server(rotated.old) as server, service_over([server.address]) as service:
        events = listening(service)
        with service.grpc_channel(rotated.credentials()) as channel:
            stub = pb_grpc.ProbeStub(channel)
            stub.Unary(ping())
            made = rotated.old.pair("client", file="next")
            rotated.mine.key.write_bytes(made.key.read_bytes())
            eventually(lambda: bool(events), "nobody tells of files that do not fit")
            assert events[0].name == "config.warning"
            assert "the key is not that of the certificate" in events[0].error
            assert "PRIVATE KEY" not in events[0].error
            assert stub.Unary(ping("still")).text == "still"
            rotated.mine.chain.write_bytes(made.chain.read_bytes())
            reloads(service, events)
            assert stub.Unary(ping("again")).text == "again"
    assert [event.name for event in events] == ["config.warning", "config.reloaded"]


def test_a_file_that_is_gone_for_a_moment_changes_nothing(rotated: Rotated) -> None:
    """What was read last stays in force."""
    with rotated.server(rotated.old) as server, service_over([server.address]) as service:
        events = listening(service)
        with service.grpc_channel(rotated.credentials()) as channel:
            stub = pb_grpc.ProbeStub(channel)
            stub.Unary(ping())
            rotated.root.unlink()
            eventually(lambda: bool(events), "nobody tells of a file that is missing")
            assert "root=" in events[0].error
            assert "cannot be read" in events[0].error
            assert stub.Unary(ping("still")).text == "still"


@pytest.mark.allow_leaks("gRPC asks plugins on a thread of its core's own, which Python lists for ever")
def test_call_credentials_go_along(rotated: Rotated) -> None:
    """They are added to each of the credentials that follow one another."""

    def token(_: Any, callback: Any) -> None:
        callback((("x-token", "t"),), None)

    more = grpc.metadata_call_credentials(token)  # type: ignore[arg-type]  # a plugin may be a function
    with (
        rotated.server(rotated.old) as server,
        service_over([server.address]) as service,
        service.grpc_channel(rotated.credentials(call_credentials=more)) as channel,
    ):
        stub = pb_grpc.ProbeStub(channel)
        stub.Unary(ping())
        assert json.loads(stub.Unary(ping("?stats")).text)["metadata"]["x-token"] == "t"


def test_a_stock_channel_takes_what_the_files_held(pki: Pki, mine: Pair, secure: GrpcServer) -> None:
    """The credentials are credentials."""
    credentials = rotating_credentials(pki.ca, mine.key, mine.chain)
    options = [("grpc.ssl_target_name_override", "probe")]
    with grpc.secure_channel(secure.address, credentials, options) as channel:
        assert pb_grpc.ProbeStub(channel).Unary(ping("stock")).text == "stock"


def test_nobody_looks_at_files_for_a_channel_that_is_gone(pki: Pki, mine: Pair, secure: GrpcServer) -> None:
    """Neither before its first call, nor after its end."""
    credentials: Any = rotating_credentials(pki.ca, mine.key, mine.chain, every=QUICK)
    looks: list[bool] = []
    refresh = credentials.files.refresh
    credentials.files.refresh = lambda: looks.append(True) or refresh()
    with service_over([secure.address], Policy()) as service:
        channel = service.grpc_channel(credentials)
        after(service, 5 * QUICK)
        assert not looks
        pb_grpc.ProbeStub(channel).Unary(ping())
        eventually(lambda: bool(looks), "nobody looks")
        channel.close()
        after(service, 2 * QUICK)
        seen = len(looks)
        after(service, 5 * QUICK)
        assert len(looks) == seen


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "root, key and chain are all missing"),
        ({"key": "client.key"}, "key and chain belong together"),
        ({"chain": "client.pem"}, "key and chain belong together"),
        ({"root": "nowhere.pem"}, "root=.*nowhere.pem.*cannot be read: No such file"),
        ({"root": "client.key"}, "client.key"),
        ({"key": "other.key", "chain": "client.pem"}, "the key is not that of the certificate"),
        ({"root": "ca.pem", "every": 0}, "every must be more than 0 seconds"),
        ({"key": "encrypted.key", "chain": "client.pem"}, "encrypted"),
    ],
)
def test_wrong_files_are_refused_at_once(
    pki: Pki, mine: Pair, tmp_path: Path, arguments: dict[str, Any], words: str
) -> None:
    """With the field and the path, and never with what is in a key."""
    pki.pair("other")
    encrypt(mine.key, pki.folder / "encrypted.key")
    given: dict[str, Any] = {
        name: pki.folder / value if isinstance(value, str) else value for name, value in arguments.items()
    }
    with pytest.raises(svcmesh.ConfigError, match=words) as caught:
        rotating_credentials(**given)
    assert "PRIVATE KEY" not in str(caught.value)


def encrypt(source: Path, target: Path) -> None:
    """Write the key at ``source`` to ``target``, behind a password."""
    from cryptography.hazmat.primitives import serialization as form

    key = form.load_pem_private_key(source.read_bytes(), None)
    target.write_bytes(
        key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.BestAvailableEncryption(b"secret"))
    )
