"""Errors survive pickling and copying with everything attached to them."""

from __future__ import annotations

import copy
import pickle

import pytest

import svcmesh
from svcmesh import CallInfo, Endpoint
from svcmesh.core import errors
from svcmesh.core.info import attach, info

CLASSES = [
    found
    for found in vars(errors).values()
    if isinstance(found, type) and issubclass(found, errors.SvcmeshError) and found.__module__ == errors.__name__
]
STORY = CallInfo(attempts=2, endpoints=(Endpoint("a:1"), Endpoint("b:1")), waits=(0.1,), reason="budget", elapsed=0.3)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_copies_keep_message_retry_after_notes_and_info(kind, twin):
    error = kind("service 'a': no", retry_after=1.5)
    error.add_note("seen in a worker")
    attach(error, STORY)

    copied = twin(error)

    assert type(copied) is kind
    assert str(copied) == "service 'a': no"
    assert copied.retry_after == 1.5
    assert copied.__notes__ == ["seen in a worker"]
    assert info(copied) == STORY


@pytest.mark.parametrize("kind", CLASSES)
def test_retry_after_is_none_where_unknown(kind):
    assert kind("x").retry_after is None
    assert kind().args in ((), ("",))


def test_a_subclass_with_a_constructor_of_its_own_can_be_pickled():
    copied = pickle.loads(pickle.dumps(Special(7)))

    assert (type(copied), copied.number, str(copied)) == (Special, 7, "number 7")


class Special(svcmesh.SvcmeshError):
    def __init__(self, number):
        super().__init__(f"number {number}")
        self.number = number


def test_families():
    """What callers catch: deadlines are timeouts, configuration errors are values gone wrong."""
    assert issubclass(svcmesh.DeadlineExceeded, TimeoutError)
    assert issubclass(svcmesh.ConfigError, ValueError)
    assert all(issubclass(kind, svcmesh.SvcmeshError) for kind in CLASSES)
