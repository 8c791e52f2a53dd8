"""One real etcd for the tests of a file; those that break it have their own."""

from __future__ import annotations

from itertools import count

import pytest

from tests.servers.etcd_process import Etcd

_numbers = count()


@pytest.fixture(scope="module")
def etcd(tmp_path_factory):
    progress = ["--experimental-watch-progress-notify-interval", "100ms"]
    with Etcd(tmp_path_factory.mktemp("etcd"), flags=progress) as etcd:
        yield etcd


@pytest.fixture
def name():
    """Return the name of a service that no other test uses."""
    return f"orders-{next(_numbers)}"
