"""What is asked, accepted and refused in each dialect: versions, nonces, names, who we are."""

from __future__ import annotations

import pytest

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.xds.delta import Incremental
from svcmesh.discovery.xds.dialect import Said
from svcmesh.discovery.xds.kinds import Kind
from svcmesh.discovery.xds.node import node_of
from svcmesh.discovery.xds.resources import Decoded
from svcmesh.discovery.xds.rest import PlainWorld
from svcmesh.discovery.xds.sotw import StateOfTheWorld
from tests.servers.xds import resources
from tests.servers.xds.resources import CLUSTER, ENDPOINTS, LISTENER
from tests.servers.xds.wire import decode, encode, packed, text

PREFIX = "type.googleapis.com/"
GOOD = packed(ENDPOINTS, resources.assignment("a", []))
BAD = packed(ENDPOINTS, b"\xff")


def whole():
    return StateOfTheWorld(node_of({"id": "me"}))


def changes():
    return Incremental(node_of({"id": "me"}))


def response(*found, kind=ENDPOINTS, version="7", nonce="n"):
    return encode({1: version, 2: list(found), 4: PREFIX + kind, 5: nonce})


def delta_response(found=(), removed=(), kind=ENDPOINTS, nonce="n"):
    listed = [{3: name, 1: "1", 2: one} for name, one in found]
    return encode({1: "7", 2: listed, 4: PREFIX + kind, 5: nonce, 6: list(removed)})


def names(request, number=3):
    return [name.decode() for name in request.get(number, [])]


def test_the_first_request_says_who_we_are_and_no_other_one_does():
    for dialect, number in ((whole(), 2), (changes(), 1)):
        first, second = (decode(dialect.ask(kind, ["a"])) for kind in (Kind.LISTENER, Kind.CLUSTER))
        node = decode(first[number][0])
        assert (text(node, 1), text(node, 6)) == ("me", "svcmesh")
        assert number not in second


def test_the_state_of_the_world_is_asked_for_with_all_names_and_only_when_they_change():
    dialect = whole()

    assert dialect.ask(Kind.CLUSTER, []) is None
    assert names(decode(dialect.ask(Kind.CLUSTER, {"b", "a"}))) == ["a", "b"]
    assert dialect.ask(Kind.CLUSTER, {"a", "b"}) is None
    assert names(decode(dialect.ask(Kind.CLUSTER, {"c"}))) == ["c"]
    last = decode(dialect.ask(Kind.CLUSTER, []))
    assert (names(last), text(last, 4)) == ([], PREFIX + CLUSTER)


def test_a_response_is_accepted_with_its_version_and_refused_with_the_one_before():
    dialect = whole()
    dialect.ask(Kind.ENDPOINTS, ["a"])
    accepted = decode(dialect.answer(dialect.hear(response(GOOD))))
    refused = decode(dialect.answer(dialect.hear(response(BAD, version="8", nonce="m"))))
    later = decode(dialect.ask(Kind.ENDPOINTS, ["a", "b"]))

    assert (text(accepted, 1), text(accepted, 5), names(accepted), 6 in accepted) == ("7", "n", ["a"], False)
    assert (text(refused, 1), text(refused, 5), names(refused)) == ("7", "m", ["a"])
    status = decode(refused[6][0])
    assert status[1] == [3]
    assert "Error parsing" in text(status, 2) or text(status, 2)
    assert (text(later, 1), text(later, 5), 6 in later) == ("7", "m", False)


def test_what_has_stood_in_the_response_before_is_decoded_once():
    """So that a response with everything costs little when little has changed."""
    dialect = whole()
    other = packed(ENDPOINTS, resources.assignment("b", []))
    first = dialect.hear(response(GOOD)).found[0]
    again, new = dialect.hear(response(GOOD, other, version="8")).found

    assert again.resource is first.resource
    assert new.name == "b"
    assert dialect.hear(response(packed(CLUSTER, resources.assignment("a", [])))).found[0].why


def in_whole(resource):
    return response(packed(ENDPOINTS, resource))


def in_changes(resource):
    return delta_response([("a", packed(ENDPOINTS, resource))])


@pytest.mark.parametrize(("dialect", "said"), [(whole, in_whole), (changes, in_changes)])
def test_an_endpoint_that_is_as_before_is_the_very_same_while_its_cluster_is_wanted(dialect, said):
    one = dialect()

    def hear(*listed):
        (found,) = one.hear(said(resources.assignment("a", [resources.place(listed)]))).found
        return found.resource

    one.ask(Kind.ENDPOINTS, ["a"])
    first = hear("10.0.0.1:80", "10.0.0.2:80", ":0")
    second = hear("10.0.0.3:80", "10.0.0.2:80", ":0")
    assert [each.address for each in second.endpoints] == ["10.0.0.3:80", "10.0.0.2:80"]
    assert second.endpoints[1] is first.endpoints[1]
    assert second.left_out == first.left_out != ()

    one.ask(Kind.ENDPOINTS, ["b"])
    one.ask(Kind.ENDPOINTS, ["a"])
    third = hear("10.0.0.4:80", "10.0.0.2:80")
    assert third.endpoints[1] == first.endpoints[1]
    assert third.endpoints[1] is not first.endpoints[1]


def test_kinds_have_versions_and_nonces_of_their_own():
    dialect = whole()
    dialect.answer(dialect.hear(response(GOOD)))

    other = decode(dialect.ask(Kind.CLUSTER, ["a"]))
    assert (text(other, 1), text(other, 5)) == ("", "")


def test_only_listeners_and_clusters_come_all_together():
    dialect = whole()
    kinds = {LISTENER: True, resources.ROUTES: False, CLUSTER: True, ENDPOINTS: False}

    assert {kind: dialect.hear(response(kind=kind)).whole for kind in kinds} == kinds


def test_changes_are_asked_for_by_what_comes_and_goes():
    dialect = changes()

    assert dialect.ask(Kind.CLUSTER, []) is None
    first = decode(dialect.ask(Kind.CLUSTER, {"a", "b"}))
    second = decode(dialect.ask(Kind.CLUSTER, {"b", "c"}))
    assert (names(first), names(first, 4)) == (["a", "b"], [])
    assert (names(second), names(second, 4)) == (["c"], ["a"])
    assert dialect.ask(Kind.CLUSTER, {"b", "c"}) is None


def test_changes_are_accepted_and_refused_by_their_nonce():
    dialect = changes()
    accepted = decode(dialect.answer(dialect.hear(delta_response([("a", GOOD)]))))
    refused = decode(dialect.answer(dialect.hear(delta_response([("a", BAD)], nonce="m"))))

    assert (text(accepted, 6), 7 in accepted, 3 in accepted) == ("n", False, False)
    assert (text(refused, 6), text(decode(refused[7][0]), 2)[:4]) == ("m", "'a':")


def test_changes_say_what_is_gone_and_name_what_cannot_be_decoded():
    said = changes().hear(delta_response([("x", BAD), ("y", GOOD)], removed=["z"]))

    assert said.removed == ("z",)
    assert [(one.name, bool(one.why)) for one in said.found] == [("x", True), ("y", True)]
    assert "within, it is called 'a'" in said.found[1].why


def test_one_name_twice_is_refused():
    assert "'a' stands 2 times in it" in whole().hear(response(GOOD, GOOD)).refusal()


def test_a_refusal_is_text_whatever_was_wrong():
    """JSON has halves of letters, which no message holds."""
    said = Said(Kind.ROUTES, "", "1", (Decoded("t", None, "domains is '\ud800'"),))
    assert said.refusal() == "'t': domains is '\\ud800'"
    PlainWorld({"id": "me"}).answer(said)


def test_a_refusal_is_no_longer_than_servers_take():
    found = [packed(ENDPOINTS, encode({1: "ä" * 100, 2: {2: [{1: {}}]}})) for _ in range(1000)]

    assert 1000 < len(whole().hear(response(*found)).refusal().encode()) <= 4096


@pytest.mark.parametrize("dialect", [whole, changes])
def test_a_kind_that_was_never_asked_for_is_not_answered(dialect):
    one = dialect()
    said = one.hear(encode({4: PREFIX + "envoy.config.core.v3.Runtime", 5: "n"}))

    assert said.kind is None
    assert one.answer(said) is None


@pytest.mark.parametrize("dialect", [whole, changes])
def test_bytes_that_are_no_response_are_an_error(dialect):
    with pytest.raises(DiscoveryError, match="no response of a discovery service"):
        dialect().hear(b"\xff\xff")
