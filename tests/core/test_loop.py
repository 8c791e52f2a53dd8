"""Outside of asyncio: an error that says so, wherever something would have to wait."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path

import pytest

from svcmesh import ConfigError, Mesh, Policy, Retry
from svcmesh.core.loop import running_loop


async def test_the_running_loop_is_asyncio_s() -> None:
    assert running_loop() is asyncio.get_running_loop()


def test_where_none_runs_it_is_said_in_words_that_help() -> None:
    """And as the error that asyncio raises, for those who wait for that; it travels between processes."""
    with pytest.raises(ConfigError, match="trio") as caught:
        running_loop()
    assert isinstance(caught.value, RuntimeError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_waiting_for_endpoints_is_refused() -> None:
    with Mesh({"orders": []}) as mesh:
        coroutine = mesh.service("orders").wait_ready_async(1)
        with pytest.raises(ConfigError, match="asyncio"):
            coroutine.send(None)


def test_a_guarded_coroutine_that_fails_says_why_nothing_follows() -> None:
    """The caller's own error is the cause; nothing stays in flight, and what needs no waiting needs no loop."""
    policy = Policy.standard().replace(retry=Retry(wait=lambda _: 5.0))  # a short one may be over before it began
    with Mesh({"orders": ["127.0.0.1:1", "127.0.0.1:2"]}, policy=policy) as mesh:
        orders = mesh.service("orders")
        orders.wait_ready(60)
        failing: list[Exception] = [ConnectionResetError("gone"), KeyError("bug")]

        @orders.guard(idempotent=True)
        async def work() -> str:
            if failing:
                raise failing.pop(0)
            return "done"

        with pytest.raises(ConfigError, match="asyncio") as caught:
            work().send(None)
        assert isinstance(caught.value.__cause__, ConnectionResetError)
        with pytest.raises(KeyError):  # after which there is nothing to wait for
            work().send(None)
        with pytest.raises(StopIteration, match="done"):
            work().send(None)
        assert mesh.state()["services"]["orders"]["in_flight"] == 0


def test_a_grpc_channel_is_refused() -> None:
    """At its first use: it is made anywhere."""
    with Mesh({"orders": ["127.0.0.1:1"]}) as mesh:
        channel = mesh.service("orders").grpc_aio_channel()
        for question in (channel.channel_ready(), channel.close()):
            with pytest.raises(ConfigError, match="asyncio"):
                question.send(None)
        with pytest.raises(ConfigError, match="asyncio"):
            channel.get_state()


def test_a_mesh_and_a_registration_are_refused_where_they_begin(tmp_path: Path) -> None:
    """At their end they would have to be awaited. Without `async` they work under any loop."""
    with Mesh(f"local://{tmp_path}") as mesh, mesh.register("orders", port=1) as registration:
        for beginning in (mesh.__aenter__(), registration.__aenter__(), mesh.aclose()):
            with pytest.raises(ConfigError, match="asyncio"):
                beginning.send(None)
        mesh.service("orders").wait_ready(60)
