"""Addresses that this machine has no way to are not offered, as long as there are others."""

from __future__ import annotations

from svcmesh.discovery.reach import has_route, reachable


def test_a_version_without_a_way_is_left_out():
    assert reachable(["10.0.0.1", "fd00::1", "fd00::2"], lambda a: ":" not in a) == ("10.0.0.1",)
    assert reachable(["10.0.0.1", "fd00::1"], lambda a: ":" in a) == ("fd00::1",)


def test_both_stay_where_both_have_a_way():
    assert reachable(["10.0.0.1", "fd00::1"], lambda _: True) == ("10.0.0.1", "fd00::1")


def test_nothing_is_left_out_where_nothing_would_be_left():
    """It may be a moment without network, and an error about an address tells more than an empty list."""
    assert reachable(["10.0.0.1", "fd00::1"], lambda _: False) == ("10.0.0.1", "fd00::1")
    assert reachable(["fd00::1"], lambda _: False) == ("fd00::1",)


def test_the_machine_reaches_itself_and_no_nonsense():
    assert has_route("127.0.0.1")
    assert not has_route("fe80::1")  # which of its links is not said
