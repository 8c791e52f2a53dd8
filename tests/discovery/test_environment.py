"""What `consul` and `etcdctl` read from the environment, read alike."""

from __future__ import annotations

import pytest

from svcmesh.core.errors import ConfigError
from svcmesh.discovery.environment import certificate_and_key, flag, server_at


@pytest.mark.parametrize(
    ("text", "expected"), [("1", True), ("True", True), ("f", False), ("FALSE", False), ("", None), (None, None)]
)
def test_booleans_are_those_of_go(text, expected):
    assert flag({} if text is None else {"X": text}, "X") is expected


@pytest.mark.parametrize("text", ["yes", "TrUe", " 1"])
def test_what_go_takes_for_no_boolean_is_refused(text):
    with pytest.raises(ConfigError, match=r"X must be true or false \(or 1, t, 0, f\), not "):
        flag({"X": text}, "X")


def test_a_certificate_goes_with_its_key():
    assert certificate_and_key({"C": "c.pem", "K": "k.pem"}, "C", "K") == ("c.pem", "k.pem")
    assert certificate_and_key({"C": "", "K": ""}, "C", "K") == (None, None)
    for alone in ({"C": "c.pem"}, {"K": "k.pem", "C": ""}):
        with pytest.raises(ConfigError, match="C and K belong together"):
            certificate_and_key(alone, "C", "K")


@pytest.mark.parametrize(
    ("host", "secure", "expected"),
    [
        ("10.0.0.1", False, "http://10.0.0.1:77/p"),
        ("10.0.0.1:1", True, "https://10.0.0.1:1/p"),
        ("[::1]", False, "http://[::1]:77/p"),
        ("[::1]:2", False, "http://[::1]:2/p"),
    ],
)
def test_the_usual_port_may_be_left_out(host, secure, expected):
    assert server_at(host, secure=secure, port=77, prefix="/p", where="X", instead="").url == expected


def test_what_is_no_address_is_refused_by_its_place():
    with pytest.raises(ConfigError, match=r"^X: address 'a b:77'"):
        server_at("a b", secure=False, port=77, where="X", instead="")
    with pytest.raises(ConfigError, match=r"^X: write it otherwise$"):
        server_at("unix:/run/s", secure=False, port=77, where="X", instead="write it otherwise")
