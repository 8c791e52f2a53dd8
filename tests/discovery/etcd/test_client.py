"""Who is asked, in which order, what is said when nobody answers, and lines out of any pieces."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.core.clock import SYSTEM
from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.etcd import client as etcd_client
from svcmesh.discovery.etcd.address import Access
from svcmesh.discovery.etcd.client import Client, _split
from svcmesh.discovery.etcd.errors import Broken, Denied, Unreachable
from svcmesh.discovery.lines import Server


class Scripted(Client):
    """Members that answer as ``answers`` say, by URL: bytes, an error, or None for silence."""

    def __init__(self, **answers):
        super().__init__(Access(tuple(map(Server, answers))), SYSTEM)
        self.answers, self.asked, self.silent = answers, [], asyncio.Event()

    async def _send(self, member, path, content, headers):
        self.asked.append(member.url)
        answer = self.answers[member.url]
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            self.silent.set()
            await asyncio.Event().wait()
        return answer


async def test_the_next_member_is_asked_and_asked_first_from_then_on():
    client = Scripted(a=Unreachable("a is gone"), b=b"yes")
    assert await client.ask("/v3/kv/range", {}) == b"yes"
    assert await client.ask("/v3/kv/range", {}) == b"yes"
    assert client.asked == ["a", "b", "b"]


async def test_when_nobody_answers_all_are_told_of_and_who_has_no_leader_counts():
    for order in ("ab", "ba"):
        answers = {"a": Broken("no leader"), "b": Unreachable("gone")}
        with pytest.raises(Broken) as caught:
            await Scripted(**{url: answers[url] for url in order}).ask("/v3/kv/range", {})
        assert {"no leader", "gone"} == set(str(caught.value).split("; "))


async def test_what_no_other_member_can_mend_is_told_at_once():
    client = Scripted(a=Denied("permission denied"), b=b"yes")
    with pytest.raises(Denied):
        await client.ask("/v3/kv/range", {})
    assert client.asked == ["a"]


async def test_who_was_given_up_on_is_not_asked_first_again():
    client = Scripted(a=None, b=b"yes")
    asking = asyncio.ensure_future(client.ask("/v3/kv/range", {}))
    await client.silent.wait()
    asking.cancel()
    await asyncio.wait([asking])
    assert await client.ask("/v3/kv/range", {}) == b"yes"
    assert client.asked == ["a", "b"]


async def split(parts):
    async def body():
        for part in parts:
            yield part

    return [line async for line in _split(body())]


@given(st.lists(st.binary(max_size=6).map(lambda part: part.replace(b"x", b"\n")) | st.just(b"\n")))
async def test_lines_are_the_same_however_they_come(parts):
    *whole, _ = b"".join(parts).split(b"\n")
    assert await split(parts) == [line for line in whole if line]


async def test_a_line_without_end_is_an_error(monkeypatch):
    monkeypatch.setattr(etcd_client, "LARGEST", 100)
    assert await split([b"x" * 60, b"\n", b"y" * 60, b"\n"]) == [b"x" * 60, b"y" * 60]
    with pytest.raises(DiscoveryError, match="more than 100 bytes"):
        await split([b"x" * 60, b"x" * 60])
