"""Requests as they go out, and answers in any pieces: events, or an error of ours that says what was asked."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing, asynccontextmanager, suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.kubernetes import client as module
from svcmesh.discovery.kubernetes.access import Access, Credentials
from svcmesh.discovery.kubernetes.client import Client, Scope
from svcmesh.discovery.kubernetes.errors import KubernetesError, Unreachable
from svcmesh.discovery.lines import Server
from tests.servers.kubernetes.objects import bookmark, endpoint_slice, event

SCOPE = Scope("prod", "orders")
JSON = {"Content-Type": "application/json"}


class Reply:
    """An answer in pieces."""

    def __init__(self, *parts, status=200, headers=JSON):
        self.parts, self.status_code, self.headers = parts, status, headers

    async def aiter_bytes(self):
        for part in self.parts:
            yield part


class Lines:
    """Gives one answer, and keeps what was asked."""

    def __init__(self, reply):
        self.reply, self.asked = reply, []

    @asynccontextmanager
    async def exchange(self, ask):
        self.asked.append(ask)
        yield self.reply


def client(*parts, **reply):
    made = Client(Access(Server("http://api:1/prefix"), Credentials("secret")))
    made._lines = Lines(Reply(*parts, **reply))
    return made


async def watched(made, found=None):
    found = [] if found is None else found
    async with aclosing(made.watch(SCOPE, "v/1", 300.0)) as batches:
        async for events in batches:
            found += events
    return found


def line(number):
    found = endpoint_slice("prod", f"s{number}", "orders", [])
    found["metadata"]["resourceVersion"] = str(number)
    return json.dumps(event("ADDED", found)).encode() + b"\n"


async def test_a_list_asks_for_a_page_of_what_is_there_now():
    made = client(b'{"metadata":{"resourceVersion":"1"},"items":[]}')
    await made.page(SCOPE)
    await made.page(Scope("prod"), "to/ken=")
    path = "/apis/discovery.k8s.io/v1/namespaces/prod/endpointslices?labelSelector=kubernetes.io%2Fservice-name"
    assert [ask.target for ask in made._lines.asked] == [
        f"{path}%3Dorders&limit=100",
        f"{path}&limit=100&continue=to%2Fken%3D",
    ]
    assert made._lines.asked[0].headers["Authorization"] == "Bearer secret"


async def test_a_watch_asks_for_bookmarks_from_a_version_on():
    made = client()
    assert await watched(made) == []
    (ask,) = made._lines.asked
    assert ask.target.endswith(
        "service-name%3Dorders&watch=1&resourceVersion=v%2F1&allowWatchBookmarks=true&timeoutSeconds=300"
    )
    assert ask.patience == module.SILENCE


BODY = line(1) + b"\n" + json.dumps(bookmark(5)).encode() + b"\r\n" + line(7)


@given(st.lists(st.integers(0, len(BODY)), max_size=12))
def test_events_are_the_same_in_whatever_pieces_they_come(cuts):
    edges = [0, *sorted(cuts), len(BODY)]
    parts = [BODY[a:b] for a, b in pairwise(edges)]
    assert [e.version for e in asyncio.run(watched(client(*parts)))] == ["1", "5", "7"]


@pytest.mark.parametrize("cut", [1, 10, 100])
async def test_half_a_line_at_the_end_is_a_watch_that_broke_off(cut):
    found = []
    with pytest.raises(Unreachable, match="ended in the middle of a line"):
        await watched(client(line(1), line(2)[:-cut]), found)
    assert [e.version for e in found] == ["1"], "what came before it holds"


async def test_a_line_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(module, "LONGEST_LINE", 1000)
    with pytest.raises(KubernetesError, match="a line of more than 1000 bytes"):
        await watched(client(*[b"x" * 100] * 100))


async def test_a_bad_answer_is_read_as_far_as_it_is_told():
    read = []

    def endless():
        while True:
            read.append(1)
            yield b"x" * 1000

    with pytest.raises(KubernetesError, match=r"^watch endpointslices of service orders in namespace prod at http"):
        await watched(client(status=500))
    made = client(status=500)
    made._lines.reply.parts = endless()
    with pytest.raises(KubernetesError, match="answered 500: xxx"):
        await made.page(Scope("prod"))
    assert len(read) < 10


async def test_an_error_says_what_was_asked():
    with pytest.raises(KubernetesError, match=r"list endpointslices of all services in namespace prod at .*no JSON"):
        await client(b"{").page(Scope("prod"))


@given(
    st.lists(st.binary(max_size=40) | st.just(line(1)), max_size=6),
    st.sampled_from([200, 200, 204, 302, 403, 410, 500]),
)
def test_any_bytes_are_a_page_or_events_or_an_error_of_ours(parts, status):
    async def both():
        for ask in (lambda made: made.page(SCOPE), watched):
            with suppress(DiscoveryError):
                await ask(client(*parts, status=status))

    asyncio.run(both())
