"""Our errors in gRPC's form, for both colours: catchable as either, complete, and fit to be pickled."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import grpc
import grpc.aio
import pytest

from svcmesh.core.errors import (
    CircuitOpen,
    ConfigError,
    DeadlineExceeded,
    DiscoveryError,
    LimitExceeded,
    NoEndpoints,
    SvcmeshError,
)
from svcmesh.core.info import CallInfo, attach, info
from svcmesh.transport.grpc import errors as grpc_errors
from svcmesh.transport.grpc.aio import errors as grpc_aio_errors

CODES = [
    (NoEndpoints, grpc.StatusCode.UNAVAILABLE),
    (CircuitOpen, grpc.StatusCode.UNAVAILABLE),
    (LimitExceeded, grpc.StatusCode.UNAVAILABLE),
    (DeadlineExceeded, grpc.StatusCode.DEADLINE_EXCEEDED),
    (DiscoveryError, grpc.StatusCode.INTERNAL),
    (ConfigError, grpc.StatusCode.INTERNAL),
]
COPIES = [lambda error: error, copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))]


@pytest.mark.parametrize(("kind", "code"), CODES)
@pytest.mark.parametrize("module", [grpc_errors, grpc_aio_errors])
@pytest.mark.parametrize("copied", COPIES)
def test_a_refusal_is_ours_and_grpcs(kind: type[SvcmeshError], code: Any, module: Any, copied: Any) -> None:
    """Code, details, metadata and time to wait are all there, in every copy."""
    error = copied(module.refusal(kind("no luck", retry_after=2.5)))

    assert isinstance(error, grpc.RpcError)
    assert isinstance(error, SvcmeshError)
    assert isinstance(error, grpc.aio.AioRpcError if module is grpc_aio_errors else grpc.Call)
    assert error.code() is code
    assert error.details() == "no luck"
    assert list(error.initial_metadata()) == list(error.trailing_metadata()) == []
    assert error.debug_error_string() == f"{code.name}:no luck"
    assert error.retry_after == 2.5
    assert "no luck" in str(error)


@pytest.mark.parametrize("kind", [NoEndpoints, CircuitOpen, LimitExceeded, DeadlineExceeded])
@pytest.mark.parametrize("module", [grpc_errors, grpc_aio_errors])
def test_a_refusal_is_still_of_its_own_class(kind: type[SvcmeshError], module: Any) -> None:
    """`except NoEndpoints` works whatever the transport; the cause is kept."""
    original = kind("no luck")
    original.__cause__ = DiscoveryError("registry down")

    error = module.refusal(original)

    assert isinstance(error, kind)
    assert error.__cause__ is original.__cause__


def test_a_refusal_answers_like_a_call_and_a_future() -> None:
    """Whoever was handed it as a call gets every answer at once."""
    error: Any = grpc_errors.refusal(NoEndpoints("no luck"))
    seen: list[Any] = []
    error.add_done_callback(seen.append)

    assert seen == [error]
    assert error.done()
    assert error.exception() is error
    assert [error.running(), error.cancelled(), error.cancel(), error.is_active()] == [False] * 4
    assert not error.add_callback(lambda: None)
    assert error.time_remaining() is None
    with pytest.raises(NoEndpoints):
        error.result()
    assert error.traceback() is not None


@pytest.mark.parametrize("copied", COPIES)
def test_an_aborted_call_has_the_code_of_the_fault(copied: Any) -> None:
    """It looks like the status that it stands for."""
    made, story = grpc_errors.GrpcAborted(grpc.StatusCode.ABORTED, "injected fault"), CallInfo(attempts=1)
    attach(made, story)
    error = copied(made)

    assert error.code() is grpc.StatusCode.ABORTED
    assert error.details() == "injected fault"
    assert info(error) == story
