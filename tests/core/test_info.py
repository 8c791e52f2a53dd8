"""The story of a call travels on whatever the caller holds, and never replaces it."""

from __future__ import annotations

from svcmesh.core.info import CallInfo, attach, info

STORY = CallInfo(attempts=1)


class Response:
    def __init__(self):
        self.extensions = {}


class Slotted(Exception):
    __slots__ = ()

    def __setattr__(self, name, value):
        raise AttributeError(name)


def test_on_an_error():
    error = ValueError("mine")
    attach(error, STORY)

    assert info(error) is STORY


def test_on_a_response_it_is_an_extension():
    response = Response()
    attach(response, STORY)

    assert response.extensions == {"svcmesh.info": STORY}
    assert info(response) is STORY


def test_an_object_that_takes_no_attributes_is_left_alone():
    error = Slotted("x")
    attach(error, STORY)
    attach(42, STORY)

    assert info(error) is None


def test_what_svcmesh_did_not_make_has_none():
    assert info(ValueError()) is None
    assert info(None) is None
    assert info(Response()) is None
