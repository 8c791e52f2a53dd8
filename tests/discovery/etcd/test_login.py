"""One token for all who ask: fetched once, given up when etcd does not know it, and not tried again at once."""

from __future__ import annotations

import asyncio
import json

import pytest

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.etcd.address import Credentials
from svcmesh.discovery.etcd.errors import Denied, NoUsers
from svcmesh.discovery.etcd.login import Login
from svcmesh.testing import FakeClock


class Etcd:
    """What logins are sent to."""

    def __init__(self):
        self.logins = []
        self.error = None

    async def fetch(self, body):
        self.logins.append(json.loads(body))
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return json.dumps({"token": f"token-{len(self.logins)}"}).encode()


@pytest.fixture
def etcd():
    return Etcd()


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def login(clock):
    return Login(Credentials("me", "pw"), clock)


async def test_many_who_ask_at_once_share_one_login(etcd, login):
    found = await asyncio.gather(*(login.headers(etcd.fetch) for _ in range(100)))

    assert found == [{"Authorization": "token-1"}] * 100
    assert etcd.logins == [{"name": "me", "password": "pw"}]


async def test_a_token_is_replaced_once_however_many_lost_it(etcd, login):
    old = await login.headers(etcd.fetch)
    login.forget(old)
    new = await login.headers(etcd.fetch)
    login.forget(old)

    assert await login.headers(etcd.fetch) == new == {"Authorization": "token-2"}


async def test_nobody_logs_in_without_a_user(etcd, clock):
    assert await Login(None, clock).headers(etcd.fetch) == {}
    assert etcd.logins == []


async def test_etcd_may_ask_nobody_who_he_is_until_it_does(etcd, login):
    etcd.error = NoUsers("authentication is not enabled")
    assert await login.headers(etcd.fetch) == {}
    assert await login.headers(etcd.fetch) == {}
    assert len(etcd.logins) == 1
    etcd.error = None
    login.forget({})
    assert await login.headers(etcd.fetch) == {"Authorization": "token-2"}


async def test_a_wrong_password_is_not_tried_again_at_once(etcd, login, clock):
    etcd.error = Denied("authentication failed")
    for _ in range(100):
        with pytest.raises(Denied, match="authentication failed"):
            await login.headers(etcd.fetch)
    assert len(etcd.logins) == 1
    etcd.error = None
    clock.advance(5.1)
    assert await login.headers(etcd.fetch) == {"Authorization": "token-2"}


async def test_a_password_file_that_is_missing_is_an_error_of_ours(etcd, clock, tmp_path):
    login = Login(Credentials("me", password_file=str(tmp_path / "none")), clock)
    with pytest.raises(DiscoveryError, match="cannot read etcd's password"):
        await login.headers(etcd.fetch)
