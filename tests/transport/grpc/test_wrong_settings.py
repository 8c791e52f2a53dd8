"""Settings that gRPC would refuse are refused when the channel is made, and others are not shown to gRPC for that."""

from __future__ import annotations

import grpc
import grpc.experimental
import pytest

import svcmesh
from svcmesh.transport.grpc import wrong_settings
from svcmesh.transport.grpc.settings import Settings
from svcmesh.transport.grpc.wrong_settings import refuse_wrong

INSECURE = grpc.experimental.insecure_channel_credentials()
TOKEN = grpc.access_token_call_credentials("secret")


@pytest.fixture
def made(monkeypatch):
    """Return the settings for which a stock channel is made."""
    found = []
    real = wrong_settings.sync_channel
    monkeypatch.setattr(wrong_settings, "sync_channel", lambda *args: found.append(args[0]) or real(*args))
    return found


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"options": (("grpc.max_receive_message_length", -1), ("grpc.primary_user_agent", "me"))},
        {"compression": grpc.Compression.Gzip},
        {"credentials": grpc.ssl_channel_credentials()},
        {"credentials": grpc.composite_channel_credentials(grpc.ssl_channel_credentials(), TOKEN)},
    ],
    ids=["nothing", "options", "compression", "TLS", "TLS and a token"],
)
def test_usual_settings_make_no_channel(made, given):
    refuse_wrong(Settings("orders", **given))

    assert made == []


@pytest.mark.parametrize(
    "given",
    [
        {"options": (("grpc.max_receive_message_length", 2.5),)},
        {"options": (("grpc.max_receive_message_length", 2**40),)},
        {"options": ((7, 1),)},
        {"options": (("grpc.one", 1, 2),)},
        {"options": (("grpc.name", "\ud800"),)},
        {"compression": 77},
        {"credentials": INSECURE},
        {"credentials": TOKEN},
        {"credentials": "none"},
    ],
    ids=["a float", "too large", "no name", "a triple", "a surrogate", "no compression", "insecure", "a token", "text"],
)
@pytest.mark.parametrize("colour", ["grpc_channel", "grpc_aio_channel"])
async def test_others_are_refused_in_the_words_of_grpc(given, colour):
    options, compression = given.get("options"), given.get("compression")

    def stock():
        if "credentials" in given:
            return grpc.secure_channel("127.0.0.1:1", given["credentials"], options, compression)
        return grpc.insecure_channel("127.0.0.1:1", options, compression)

    try:
        stock().close()
    except Exception as error:  # noqa: BLE001 - whatever it is
        expected = type(error), str(error)
    else:
        expected = None
    found = None
    with svcmesh.Mesh({"orders": ["127.0.0.1:1"]}) as mesh:
        try:
            channel = getattr(mesh.service("orders"), colour)(**given)
        except Exception as error:  # noqa: BLE001 - as above
            found = type(error), str(error)
        else:
            ended = channel.close()
            if ended is not None:
                await ended

    assert found == expected
