"""What DNS URIs mean, and which ones mean nothing."""

from __future__ import annotations

import pytest

from svcmesh.core.clock import SYSTEM
from svcmesh.core.emit import silent
from svcmesh.core.errors import ConfigError, DiscoveryError
from svcmesh.discovery.dns.question import Question, question_of
from svcmesh.discovery.uri import open_discovery, open_service, parse


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("dns://", Question()),
        ("dns:///web.test:80", Question("web.test", 80)),
        ("dns:///web.test.:80", Question("web.test.", 80)),
        ("dns:///{service}.ns.svc:8080", Question("{service}.ns.svc", 8080)),
        ("dns:///%7Bservice%7D:8080", Question("{service}", 8080)),
        ("dns:///[::1]:80", Question("[::1]", 80)),
        ("dns://10.0.0.2/web:80", Question("web", 80, servers=(("10.0.0.2", 53),))),
        ("dns://10.0.0.2:8600,[fd00::1]/web:80", Question("web", 80, servers=(("10.0.0.2", 8600), ("fd00::1", 53)))),
        ("dns://[fd00::1]:54/web:80", Question("web", 80, servers=(("fd00::1", 54),))),
        ("dns://consul:8600/web:80", Question("web", 80, servers=(("consul", 8600),))),
        ("dns+srv://", Question(srv=True)),
        ("dns+srv:///_web._tcp.test", Question("_web._tcp.test", srv=True)),
        ("dns:///web:80?family=4", Question("web", 80, families=(4,))),
        ("dns:///web:80?family=6&tcp", Question("web", 80, families=(6,), tcp=True)),
        ("dns:///web:80?min-ttl=1s&max-ttl=1m", Question("web", 80, floor=1, ceiling=60)),
        ("dns:///web:80?min-ttl=10m", Question("web", 80, floor=600, ceiling=600)),
        ("dns:///web:80?max-ttl=2", Question("web", 80, floor=2, ceiling=2)),
        ("dns:///web:80?search", Question("web", 80, search=("",))),
        ("dns:///web:80?search=false", Question("web", 80)),
        ("dns:///web:80?grpc_config=1", Question("web", 80, grpc_config=True)),
        ("dns:///web:80?search=svc.test,example.org", Question("web", 80, search=("svc.test", "example.org"))),
    ],
)
def test_uris_say_what_is_asked(uri, expected):
    assert question_of(parse(uri)) == expected


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("dns:///web.test", "name:port"),
        ("dns:///:80", "name:port"),
        ("dns:///web:0", "port '0'"),
        ("dns:///web:http", "port 'http'"),
        ("dns:///::1:80", "name:port"),
        ("dns:///web:80/x", "no more"),
        ("dns:///{name}:80", "no more"),
        ("dns://user:pw@10.0.0.2/web:80", "without a user"),
        ("dns://10.0.0.2:0/web:80", "port '0'"),
        ("dns://10.0.0.2,/web:80", "missing"),
        ("dns://fd00::1/web:80", "brackets"),
        ("dns+srv:///_web._tcp.test:80", "leave it out"),
        ("dns:///web:80?family=5", "family is 4, 6 or any"),
        ("dns:///web:80?min-ttl=0", "1 to 86400"),
        ("dns:///web:80?min-ttl=9s&max-ttl=8s", "min-ttl"),
        ("dns:///web:80?search=a..b", "list of domains"),
        ("dns:///web:80?search=a,,b", "list of domains"),
        ("dns:///web:80?tcp=maybe", "true or false"),
        ("dns:///web:80?ttl=3", "unknown key 'ttl'"),
        ("dns:///web:80#x", "fragment"),
    ],
)
def test_bad_uris_say_what_is_wrong(uri, told):
    with pytest.raises(ConfigError, match=told) as caught:
        open_discovery(uri, clock=SYSTEM, emit=silent)

    assert "pw" not in str(caught.value)


def test_a_service_is_put_into_the_name():
    assert question_of(parse("dns:///{service}.test:80")).about("web") == Question("web.test", 80)
    assert question_of(parse("dns+srv:///_{service}._tcp")).about("web") == Question("_web._tcp", srv=True)


def test_without_a_name_the_service_says_its_port():
    assert Question().about("web.test:80") == Question("web.test", 80)
    for service in ("web.test", "web:", "web:http", "web:0", ""):
        with pytest.raises(DiscoveryError, match=r"dns:///\{service\}:8080"):
            Question().about(service)


def test_a_uri_with_a_name_is_a_service():
    open_service("dns:///web.test:80", clock=SYSTEM, emit=silent)
    open_service("dns+srv:///_web._tcp.test", clock=SYSTEM, emit=silent)
    for uri in ("dns://", "dns://10.0.0.2", "dns+srv://10.0.0.2/"):
        with pytest.raises(ConfigError, match="names a registry"):
            open_service(uri, clock=SYSTEM, emit=silent)
