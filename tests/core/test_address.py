"""Addresses: what is accepted, and what the error says of what is not."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh import ConfigError
from svcmesh.core.address import Address, check_address, is_usual, join_address, parse_address


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("10.0.0.1:8080", Address("10.0.0.1", 8080)),
        ("localhost:1", Address("localhost", 1)),
        ("a-b.example.org:65535", Address("a-b.example.org", 65535)),
        ("under_score:80", Address("under_score", 80)),
        ("example.org.:80", Address("example.org.", 80)),
        ("[::1]:8080", Address("::1", 8080)),
        ("[fe80::1%eth0]:80", Address("fe80::1%eth0", 80)),
        ("unix:/run/app.sock", Address("", 0, "/run/app.sock")),
        ("unix:///run/app.sock", Address("", 0, "/run/app.sock")),
    ],
)
def test_good(text, parsed):
    assert parse_address(text) == parsed


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "non-empty"),
        (None, "non-empty"),
        (80, "non-empty"),
        (["10.0.0.1:80"], "non-empty"),
        ("10.0.0.1", "no port"),
        ("10.0.0.1:", "port"),
        ("10.0.0.1:0", "1 to 65535"),
        ("10.0.0.1:70000", "1 to 65535"),
        ("10.0.0.1:-1", "1 to 65535"),
        ("10.0.0.1:8o", "1 to 65535"),
        ("10.0.0.1:080", "port '080' begins with a zero; write it as 80"),
        ("a:00080", "write it as 80"),
        ("[::1]:01", "write it as 1"),
        ("10.0.0.1:٨٠", "1 to 65535"),
        ("10.0.0.1: 80", "1 to 65535"),
        ("::1:80", "brackets"),
        ("[::1]", "brackets"),
        ("[::1]80", "brackets"),
        ("[10.0.0.1]:80", "brackets"),
        ("[::1:80", "brackets"),
        (":80", "host"),
        ("-a:80", "host"),
        ("a b:80", "host"),
        ("a/b:80", "host"),
        ("10.0.0.256:80", "host"),
        ("127.1:80", "host"),
        ("http://a:80", "without a scheme"),
        ("http://a", "without a scheme"),
        ("unix:", "absolute"),
        ("unix:app.sock", "absolute"),
        ("unix:/a\0b", "absolute"),
        ("unix:/a\ud800", "no text"),
    ],
)
def test_bad(text, says):
    """Every malformed address is a ConfigError that quotes it."""
    with pytest.raises(ConfigError, match=says) as caught:
        parse_address(text)

    assert repr(text) in str(caught.value)


@given(st.ip_addresses(), st.integers(1, 65535))
def test_round_trip(ip, port):
    """Whatever IP and port are joined parse back to the same."""
    parsed = parse_address(join_address(str(ip), port))

    assert (parsed.host, parsed.port, parsed.path, parsed.is_ip) == (str(ip), port, None, True)


@given(st.text())
def test_any_text_parses_or_is_refused_clearly(text):
    """No text makes anything but an address or a ConfigError."""
    try:
        address = parse_address(text)
    except ConfigError:
        return
    assert address.path if text.startswith("unix:") else address.host
    assert address.port in range(65536)


def test_a_name_is_no_ip():
    assert not parse_address("localhost:80").is_ip


@given(
    st.lists(st.integers(0, 300).map(str) | st.sampled_from(["", "01", "00", "٣"]), min_size=3, max_size=5),
    st.integers(-1, 70_000).map(str) | st.sampled_from(["", "080", "+80", "٨٠"]),
)
def test_what_is_read_at_one_look_is_what_all_other_looks_read(parts, port):
    """An IPv4 address has its four numbers without leading zeros, and its port is one, without them too."""
    host = ".".join(parts)
    number = int(port) if port.isascii() and port.isdigit() and not port.startswith("0") else 0
    try:
        ipaddress.IPv4Address(host)
        good = 1 <= number <= 65_535
    except ValueError:
        good = False
    if good:
        found = parse_address(f"{host}:{port}")
        assert (found.host, found.port, found.path, found.is_ip) == (host, number, None, True)
    else:
        with pytest.raises(ConfigError):
            parse_address(f"{host}:{port}")


@given(st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){3}:[0-9]{1,5}", fullmatch=True))
def test_the_quick_look_takes_what_the_thorough_one_takes(text):
    """IPv4 addresses with ports need no parsing to be known as good; nothing that is bad passes as one of them."""
    try:
        found = parse_address(text)
    except ConfigError:
        assert not is_usual(text)
        with pytest.raises(ConfigError):
            check_address(text)
    else:
        assert is_usual(text)
        assert text == f"{found.host}:{found.port}"
        check_address(text)


@pytest.mark.parametrize("port", [1, 9, 10, 9999, 10000, 59999, 60000, 64999, 65000, 65499, 65500, 65529, 65530, 65535])
def test_ports_up_to_the_last_one_are_usual(port):
    assert is_usual(f"10.0.0.1:{port}")


@pytest.mark.parametrize("port", ["0", "01", "65536", "65600", "66000", "70000", "100000", "", "8O"])
def test_what_is_no_port_is_not(port):
    assert not is_usual(f"10.0.0.1:{port}")


def test_what_is_no_text_is_refused_as_ever():
    with pytest.raises(ConfigError, match="non-empty string"):
        check_address(b"10.0.0.1:80")


def test_the_user_of_a_url_is_not_repeated():
    with pytest.raises(ConfigError, match=r"'http://…@a:80'") as caught:
        parse_address("http://admin:hunter2@a:80")
    assert "hunter2" not in str(caught.value)
