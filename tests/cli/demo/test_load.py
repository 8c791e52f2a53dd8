"""The client, against servers in this process."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from svcmesh import Endpoint, Mesh
from svcmesh.cli.demo import load as module
from svcmesh.cli.demo.load import CALLERS, Load, plain_get
from svcmesh.cli.demo.record import Record
from svcmesh.cli.demo.server import greeter, orders
from svcmesh.cli.demo.stage import POLICY


def test_every_protocol_calls_and_is_answered() -> None:
    """Soon each protocol has made several calls, none of which failed; nothing runs after `stop`."""
    with greeter() as one, orders() as two:
        listed = {"greeter": [f"127.0.0.1:{one}"], "orders": [f"127.0.0.1:{two}"]}
        with Mesh(listed, policy=POLICY) as mesh:
            record = Record(time.monotonic)
            load = Load(mesh, record)
            load.start()
            until = time.monotonic() + 60
            while min(counts(record).values(), default=0) < 3:
                assert time.monotonic() < until, f"too few calls: {counts(record)}"
                assert not record.failures
                time.sleep(0.02)
            load.stop()
            made = len(record.calls)

    assert record.failures == []
    assert len(record.calls) == made


def counts(record: Record) -> dict[str, int]:
    """Return the calls of each protocol."""
    found = Counter(call.protocol for call in list(record.calls))
    return {protocol: found[protocol] for protocol in CALLERS}


def test_calls_that_fail_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody listens every protocol fails, each call with its error, and calling goes on."""
    monkeypatch.setattr(module, "EVERY", 0.01)
    with Mesh({"greeter": ["127.0.0.1:1"], "orders": ["127.0.0.1:1"]}, policy=POLICY.replace(retry=None)) as mesh:
        record = Record(time.monotonic)
        load = Load(mesh, record)
        load.start()
        until = time.monotonic() + 60
        while min(counts(record).values()) < 2:
            assert time.monotonic() < until, f"too few calls: {counts(record)}"
            time.sleep(0.02)
        load.stop()

    assert len(record.failures) == len(record.calls)


def test_a_client_that_breaks_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error outside all calls does not go unseen."""

    def broken(_: Load, *__: object) -> None:
        raise RuntimeError("no loop")

    monkeypatch.setattr(Load, "_call_on", broken)
    monkeypatch.setattr(Load, "_call_on_loop", broken)
    with Mesh({"greeter": ["127.0.0.1:1"], "orders": ["127.0.0.1:1"]}) as mesh:
        record = Record(time.monotonic)
        load = Load(mesh, record)
        load.start()
        load.stop()

    assert {call.error for call in record.failures} == {"RuntimeError: no loop"}


def test_a_wrong_answer_is_a_failure() -> None:
    """An order or a greeting that was not asked for raises."""
    with pytest.raises(ValueError, match="call 7"):
        module._check_order(7, {"order": 8})
    with pytest.raises(ValueError, match="call 7"):
        module._check_greeting(7, module.greet_pb2.HelloReply(message="Hello, caller 8!"))
    module._check_order(7, {"order": 7})
    module._check_greeting(7, module.greet_pb2.HelloReply(message="Hello, caller 7!"))


def test_the_plain_function_fetches_json() -> None:
    """It needs nothing but an endpoint; a status that is not 200 is an error that names whom it asked."""
    with orders() as port:
        endpoint = Endpoint(f"127.0.0.1:{port}")
        assert plain_get(endpoint, "/orders/3", 5.0) == {"order": 3}
        with pytest.raises(ConnectionError, match=f"{endpoint.address} answered 404"):
            plain_get(endpoint, "/nothing", 5.0)
