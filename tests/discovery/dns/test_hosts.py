"""The hosts file as people write it."""

from __future__ import annotations

import pytest

from svcmesh.discovery.dns import hosts
from svcmesh.discovery.dns.hosts import listed


@pytest.fixture
def file(monkeypatch, tmp_path):
    path = tmp_path / "hosts"
    monkeypatch.setattr(hosts, "HOSTS", path)
    return path


def test_names_are_found_in_any_case_with_or_without_the_final_dot(file):
    file.write_text(
        "# comment\n10.0.0.1 One one.test # two.test\n\nfd00::1\tone.test\nnonsense one.test\nfe80::1%lo one\n"
    )

    assert listed("ONE.test.") == ["10.0.0.1", "fd00::1"]
    assert listed("one") == ["10.0.0.1"]
    assert listed("two.test") == []


def test_localhost_needs_no_line(file):
    assert listed("localhost") == listed("db.localhost") == ["127.0.0.1", "::1"]

    file.write_text("127.0.0.2 localhost\n")
    assert listed("localhost") == ["127.0.0.2"]


def test_a_file_that_is_no_text_lists_nothing(file):
    file.write_bytes(b"\xff\xfe10.0.0.1 one\n")

    assert listed("one") == []
