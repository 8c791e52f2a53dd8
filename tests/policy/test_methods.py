"""Methods that may be repeated: by name, by service, or all."""

from __future__ import annotations

import pytest

from svcmesh.core.errors import ConfigError
from svcmesh.policy.methods import check_idempotent, is_listed

LISTED = check_idempotent({"/greet.Greeter/SayHello", "/shop.Orders/*"})


@pytest.mark.parametrize("method", ["/greet.Greeter/SayHello", "/shop.Orders/Get", "/shop.Orders/List"])
def test_a_method_is_listed_by_name_or_with_its_service(method):
    assert is_listed(method, LISTED)


@pytest.mark.parametrize("method", ["/greet.Greeter/SayBye", "/shop.OrdersX/Get", "/shop/Orders/Get", "SayHello", ""])
def test_any_other_is_not(method):
    assert not is_listed(method, LISTED)


@pytest.mark.parametrize(
    "wrong",
    [
        {"greet.Greeter/SayHello"},
        {"/greet.Greeter"},
        {"/greet.Greeter/"},
        {"/greet.Greeter/Say*"},
        {"/*/SayHello"},
        {"/a/b/c"},
        {"/a b/c"},
        {7},
        "/greet.Greeter/SayHello",
        None,
        1,
    ],
    ids=repr,
)
def test_a_malformed_method_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"^idempotent must"):
        check_idempotent(wrong)
