"""Tokens come from files, as of now, and are repeated by nobody."""

from __future__ import annotations

import os

import pytest

from svcmesh.core.errors import ConfigError, DiscoveryError
from svcmesh.discovery.tokens import LONGEST, check_token, token_in


def test_a_file_is_read_as_it_is_now(tmp_path):
    file = tmp_path / "token"
    for text, token in (("one\n", "one"), (" two ", "two"), ("", ""), ("x" * LONGEST + "\n", "x" * LONGEST)):
        file.write_text(text)
        assert token_in(str(file), "the oracle's") == token


@pytest.mark.parametrize("content", [b"se cret", b"secret\0", b"secr\xc3\xa9t", b"secret" * LONGEST])
def test_what_no_header_can_hold_is_refused_and_not_repeated(content, tmp_path):
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(DiscoveryError, match="the oracle's token in the file .* is none") as caught:
        token_in(str(file), "the oracle's")
    assert "secr" not in str(caught.value)


def test_a_file_that_is_missing_is_named():
    with pytest.raises(DiscoveryError, match="/nowhere/token: No such file or directory; it has to be a regular file"):
        token_in("/nowhere/token", "the oracle's")


@pytest.mark.parametrize("kind", ["pipe", "directory", "device"])
def test_what_is_no_file_is_refused_and_not_waited_for(kind, tmp_path):
    """A pipe without a writer would hold up the worker, and with it all watches and heartbeats."""
    path = tmp_path / "token"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(
        DiscoveryError, match="token: not a regular file; it has to be a regular file that this process may read"
    ):
        token_in(str(path), "the oracle's")


def test_a_link_to_a_file_is_followed(tmp_path):
    """As to the secrets of a pod."""
    (tmp_path / "data").write_text("one")
    (tmp_path / "token").symlink_to("data")

    assert token_in(str(tmp_path / "token"), "the oracle's") == "one"


def test_where_a_token_stands_is_told():
    with pytest.raises(ConfigError, match="in ORACLE_TOKEN is none"):
        check_token("a b", "the oracle's", "ORACLE_TOKEN")
