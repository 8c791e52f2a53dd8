"""`svcmesh resolve`: one answer, and a status that says what it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from svcmesh.cli.main import main
from svcmesh.testing import FakeConsul

Said = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    "arguments",
    [
        ["static://10.0.0.1:80,10.0.0.2:81"],
        ["file://{directory}/list.json"],
        ["file://{directory}/mapping.json", "orders"],
        ["file://{directory}/{{service}}.json", "list"],
    ],
)
def test_endpoints_are_shown(arguments: list[str], tmp_path: Path, capsys: Said) -> None:
    listed = ["10.0.0.1:80", "10.0.0.2:81"]
    (tmp_path / "list.json").write_text(json.dumps(listed))
    (tmp_path / "mapping.json").write_text(json.dumps({"orders": listed}))

    assert main(["resolve", *(a.format(directory=tmp_path) for a in arguments)]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[0] == "ADDRESS"
    assert [row.split()[0] for row in rows] == listed


def test_with_json_each_is_a_line(capsys: Said) -> None:
    assert main(["resolve", "--json", "static://10.0.0.1:80,10.0.0.2:81"]) == 0
    assert [json.loads(row)["address"] for row in capsys.readouterr().out.splitlines()] == [
        "10.0.0.1:80",
        "10.0.0.2:81",
    ]


def test_unhealthy_ones_are_shown_as_what_they_are(capsys: Said) -> None:
    """A mesh would not call them; whoever looks wants to know why."""
    with FakeConsul() as consul:
        consul.register("orders", port=8001)
        consul.register("orders", port=8002, status="critical")
        assert main(["resolve", "--json", consul.uri, "orders"]) == 0

    found = [json.loads(row) for row in capsys.readouterr().out.splitlines()]
    assert {row["address"]: row["health"] for row in found} == {
        "127.0.0.1:8001": "healthy",
        "127.0.0.1:8002": "unhealthy",
    }


def test_what_the_environment_sends_elsewhere_is_looked_for_there(
    tmp_path: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a program in the same shell."""
    (tmp_path / "mapping.json").write_text('{"orders": ["a:1"], "billing": ["b:1"]}')
    uri = f"file://{tmp_path}/mapping.json"
    monkeypatch.setenv("SVCMESH_OVERRIDES", f"orders=127.0.0.1:8080;stock=file://{tmp_path}/mapping.json")

    assert main(["resolve", "--json", uri, "orders"]) == 0
    said = capsys.readouterr()
    assert [json.loads(row)["address"] for row in said.out.splitlines()] == ["127.0.0.1:8080"]
    assert said.err == "svcmesh resolve: SVCMESH_OVERRIDES sends 'orders' elsewhere; this is what is there\n"
    assert main(["resolve", "--json", uri, "billing"]) == 0
    said = capsys.readouterr()
    assert ([json.loads(row)["address"] for row in said.out.splitlines()], said.err) == (["b:1"], "")
    monkeypatch.setenv("SVCMESH_OVERRIDES", "orders")
    assert main(["resolve", uri, "orders"]) == 2
    assert "SVCMESH_OVERRIDES is a list of" in capsys.readouterr().err


def test_no_endpoints_is_a_status_and_says_which_services_there_are(tmp_path: Path, capsys: Said) -> None:
    (tmp_path / "mapping.json").write_text('{"orders": ["a:1"], "billing": ["b:1"]}')

    assert main(["resolve", f"file://{tmp_path}/mapping.json", "stock"]) == 1
    assert capsys.readouterr() == ("", "svcmesh resolve: no endpoints; it has billing, orders\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["orders"], "no discovery URI"),
        (["zoo://x"], "unknown discovery scheme"),
        (["local:///nowhere"], "'local:///nowhere' names a registry: say which service"),
        (["dns:///{service}:80"], "names a registry: say which service"),
        (["dns:///localhost:80", "orders"], "leave 'orders' out"),
        (["static://admin:hunter2@a:1"], "without a user"),
    ],
)
def test_a_wrong_command_line_is_explained(arguments: list[str], told: str, capsys: Said) -> None:
    assert main(["resolve", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert told in said.err
    assert "hunter2" not in said.err


def test_a_registry_that_cannot_be_asked_is_a_status_of_its_own(tmp_path: Path, capsys: Said) -> None:
    assert main(["resolve", f"file://{tmp_path}/missing.json"]) == 3
    assert "missing.json: No such file" in capsys.readouterr().err


def test_a_registry_that_is_silent_is_waited_for_only_so_long(capsys: Said) -> None:
    with FakeConsul() as consul:
        consul.fault("freeze")
        assert main(["resolve", "--timeout", "0.2", consul.uri, "orders"]) == 3
        consul.heal()
    assert "no answer within 0.2 s" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "soon", "1e9"])
def test_a_timeout_is_a_number_of_seconds(seconds: str, capsys: Said) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["resolve", "--timeout", seconds, "static://a:1"])
    assert ended.value.code == 2
    assert "--timeout" in capsys.readouterr().err
