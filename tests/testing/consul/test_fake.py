"""A fake Consul is worth something only if it behaves as the real one: indexes, checks, rights, time."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from svcmesh.core.errors import ConfigError
from svcmesh.testing import FakeClock, FakeConsul
from tests.servers.consul_agent import Api, ConsulProcess, ask_dns, until


@pytest.fixture
def consul():
    with FakeConsul() as consul:
        yield consul


@pytest.fixture
def api(consul):
    return Api(consul.address)


def index(api, name):
    return api.health(name)[0]


def test_a_service_has_an_index_of_its_own(consul, api):
    consul.register("a", port=1)
    before = index(api, "a")
    consul.register("b", port=1)
    assert index(api, "a") == before
    assert index(api, "b") > before

    consul.set_status("a-1", "warning")
    assert index(api, "a") > index(api, "b")


def test_writing_what_is_there_moves_nothing(consul, api):
    consul.register("a", port=1)
    before = index(api, "a")
    consul.register("a", port=1)
    consul.set_status("a-1", "passing")

    assert index(api, "a") == before


def test_a_node_that_changes_moves_all_services_on_it(consul, api):
    consul.register("a", port=1)
    consul.register("b", port=1, node="other")
    before = index(api, "a"), index(api, "b")
    consul.fail_node()

    assert index(api, "a") > before[0]
    assert index(api, "b") == before[1]
    assert {c["Status"] for c in api.health("a")[1][0]["Checks"]} == {"critical", "passing"}


def test_a_service_that_is_gone_has_the_index_of_its_end(consul, api):
    consul.register("a", port=1)
    before = index(api, "a")
    consul.deregister("a-1")

    assert index(api, "a") > before
    assert api.health("a")[1] == []


def test_a_restored_snapshot_ends_held_questions_with_a_smaller_index(consul, api):
    consul.register("a", port=1)
    held = index(api, "a")
    threading.Timer(0.2, consul.rewind).start()

    assert api.health("a", index=held, wait="10s")[0] == 5


def test_old_servers_moved_all_indexes(consul, api):
    consul.register("a", port=1)
    before = api.health("a")
    consul.bump()

    after = api.health("a")
    assert after[0] > before[0]
    assert after[1] == before[1]


def test_a_ttl_runs_out_and_reaping_follows_on_the_clock():
    clock = FakeClock(autojump=False)
    with FakeConsul(clock=clock) as consul:
        api = Api(consul.address)
        check = {"TTL": "10s", "Status": "passing", "DeregisterCriticalServiceAfter": "5s"}
        api.put("/v1/agent/service/register", {"Name": "a", "Port": 1, "Check": check})

        def statuses():
            return [c["Status"] for entry in consul.instances("a") for c in entry["Checks"] if c["ServiceID"]]

        clock.advance(9)
        api.put("/v1/agent/check/pass/service:a")
        clock.advance(9)
        assert statuses() == ["passing"]
        clock.advance(2)
        assert statuses() == ["critical"]
        clock.advance(58)
        assert statuses() == ["critical"], "less than a minute counts as one"
        clock.advance(2)
        assert consul.instances("a") == []


@pytest.mark.parametrize(("how", "status"), [("pass", "passing"), ("warn", "warning"), ("fail", "critical")])
def test_a_heartbeat_says_how_it_is(consul, api, how, status):
    api.put("/v1/agent/service/register", {"Name": "a", "Port": 1, "Check": {"TTL": "10s"}})
    api.put(f"/v1/agent/check/{how}/service:a")

    assert [c["Status"] for c in api.health("a")[1][0]["Checks"] if c["ServiceID"]] == [status]


def test_checks_of_an_earlier_life_go_when_asked_to(consul, api):
    body = {"Name": "a", "Port": 1, "Checks": [{"TTL": "10s"}, {"TTL": "20s"}]}
    api.put("/v1/agent/service/register", body)
    api.put("/v1/agent/service/maintenance/a", enable="true")
    body["Checks"] = [{"CheckID": "only", "TTL": "10s"}]

    api.put("/v1/agent/service/register", body)
    assert len(api.health("a")[1][0]["Checks"]) == 5
    api.put("/v1/agent/service/register", body, **{"replace-existing-checks": "true"})
    assert {c["CheckID"] for c in api.health("a")[1][0]["Checks"]} == {"serfHealth", "only"}


def test_rights_filter_lists_and_refuse_the_rest(consul, api):
    consul.register("a", port=1)
    consul.allow({"reader": ["service:read", "node:read"], "narrow": ["service:read:a", "node:read"], "": []})

    def asked(token, method="GET", path="/v1/health/service/a", body=None):
        return api.ask(method, path, body, token=token)

    assert len(asked("reader")[2]) == len(asked("narrow")[2]) == 1
    status, headers, entries = asked("")
    assert (status, entries) == (200, [])
    assert headers["x-consul-default-acl-policy"] == "deny"
    assert "x-consul-results-filtered-by-acls" not in headers, "only who sends a token may know"
    consul.allow({"blind": []})
    status, headers, entries = asked("blind")
    assert (status, entries) == (200, [])
    assert headers["x-consul-results-filtered-by-acls"] == "true"
    assert asked("blind", path="/v1/catalog/services")[2] == {}
    consul.allow({"reader": ["service:read", "node:read"], "narrow": ["service:read:a", "node:read"], "": []})
    assert asked("unknown")[::2] == (403, "ACL not found")
    refused = asked("reader", "PUT", "/v1/agent/service/register", {"Name": "a"})
    assert refused[0] == 403
    assert "lacks permission 'service:write'" in refused[2]
    assert asked("narrow", path="/v1/catalog/services")[2] == {"a": []}


def test_a_question_that_was_held_says_nothing_of_rights(consul, api):
    """The agent answers it by what it is sent of changes."""
    consul.allow({"blind": []})
    consul.register("a", port=1)
    _, headers, entries = api.ask("GET", "/v1/health/service/a", token="blind", index=1)

    assert (entries, headers["x-consul-query-backend"]) == ([], "streaming")
    assert "x-consul-results-filtered-by-acls" not in headers


def test_a_prepared_query_fails_over(consul, api):
    consul.query("q", "a", Failover={"Datacenters": ["dc2"]})
    entry = {"Node": {"Node": "n"}, "Service": {"ID": "x", "Tags": []}, "Checks": []}
    consul.elsewhere("dc2", "a", [entry])

    _, _, answer = api.ask("GET", "/v1/query/q/execute")
    assert (answer["Datacenter"], answer["Failovers"], answer["Nodes"]) == ("dc2", 1, [entry])
    assert api.health("a", dc="dc2")[1] == [entry]
    assert api.ask("GET", "/v1/health/service/a", dc="dc3")[::2] == (500, "No path to datacenter")


def test_other_readings(consul, api):
    consul.register("a", port=1, Tags=["x"])
    consul.register("b", port=2, status="critical")

    assert api.ask("GET", "/v1/catalog/services")[2] == {"a": ["x"], "b": [], "consul": []}
    assert [s["ServicePort"] for s in api.ask("GET", "/v1/catalog/service/a")[2]] == [1]
    assert {c["ServiceName"] for c in api.ask("GET", "/v1/health/state/critical")[2]} == {"b"}
    assert [c["Status"] for c in api.ask("GET", "/v1/health/checks/b")[2]] == ["critical"]
    assert set(api.ask("GET", "/v1/agent/services")[2]) == {"a-1", "b-2"}
    assert "serfHealth" in api.ask("GET", "/v1/agent/checks")[2]
    assert api.ask("GET", "/v1/agent/self")[2]["Config"]["Datacenter"] == "dc1"


def test_tools_write_into_the_catalogue_past_the_agent(consul, api):
    service = {"Service": "db", "ID": "db1", "Port": 5432}
    body = {"Node": "rds", "Address": "10.0.0.5", "Service": service, "Check": {"Name": "up", "Status": "passing"}}
    api.put("/v1/catalog/register", body)
    assert api.health("db")[1][0]["Node"]["Address"] == "10.0.0.5"

    api.put("/v1/catalog/deregister", {"Node": "rds"})
    assert api.health("db")[1] == []


def test_faults_are_counted_and_bound_to_paths(consul, api):
    consul.fault("500", "/v1/catalog/*", times=2)
    statuses = [api.ask("GET", "/v1/catalog/services")[0] for _ in range(3)]
    assert statuses == [500, 500, 200]
    assert api.ask("GET", "/v1/health/service/a")[0] == 200
    with pytest.raises(ConfigError, match="unknown fault 'gremlins'; known are"):
        consul.fault("gremlins")


def test_what_it_cannot_understand_is_a_bad_request(consul, api):
    assert api.ask("PUT", "/v1/catalog/register", {"no": "node"})[0] == 400
    assert api.ask("PUT", "/v1/agent/service/register", [1])[0] == 400


def test_it_can_be_stopped_and_started_with_questions_held(consul, api):
    consul.register("a", port=1)
    held = index(api, "a")
    errors = []

    def ask():
        try:
            api.health("a", index=held, wait="30s")
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    until(lambda: consul.connections == 1)
    began = time.monotonic()
    consul.stop()
    thread.join()
    assert time.monotonic() - began < 10
    assert errors
    consul.stop()
    consul.start()
    assert len(api.health("a")[1]) == 1


def test_too_many_connections_are_refused(api):
    with FakeConsul(max_connections=0) as consul:
        assert Api(consul.address).ask("GET", "/v1/status/leader")[0] == 429


def test_it_runs_as_a_process():
    with ConsulProcess() as consul:
        consul.register("a", 1)
        assert len(consul.health("a")[1]) == 1
        assert len(ask_dns(consul.dns_address, "a.service.consul", "SRV").answer) == 1


def test_the_process_ends_with_its_standard_input():
    command = [sys.executable, "-W", "error", "-m", "svcmesh.testing.consul"]
    done = subprocess.run(command, check=False, input=b"", capture_output=True, timeout=120, env={"PYTHONPATH": "src"})

    assert done.returncode == 0, done.stderr
    assert b'"uri": "consul://127.0.0.1:' in done.stdout
