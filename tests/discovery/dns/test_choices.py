"""Which choice of a TXT record is for this client."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.dns.choices import PREFIX, Us, chosen

US = Us("box-1", 42.5)


def text(*choices):
    return PREFIX + json.dumps(choices)


def choice(number, **conditions):
    return {"serviceConfig": {"number": number}, **conditions}


def number(*choices, us=US):
    found = chosen([text(*choices)], us)
    return None if found is None else found["number"]


@pytest.mark.parametrize(
    "conditions",
    [
        {},
        {"clientLanguage": None, "percentage": None, "clientHostname": None},
        {"clientLanguage": ["go", "Python"]},
        {"percentage": 43},
        {"clientHostname": ["box-2", "box-1"]},
        {"clientLanguage": ["python"], "percentage": 100, "clientHostname": ["box-1"]},
    ],
)
def test_one_whose_conditions_are_met_counts(conditions):
    assert number(choice(1, **conditions), choice(2)) == 1


@pytest.mark.parametrize(
    "conditions",
    [
        {"clientLanguage": ["go", "c++"]},
        {"clientLanguage": []},
        {"percentage": 42},
        {"percentage": 0},
        {"clientHostname": ["box"]},
        {"clientHostname": []},
        {"clientLanguage": ["python"], "percentage": 0},
    ],
)
def test_one_with_another_condition_does_not(conditions):
    assert number(choice(1, **conditions), choice(2)) == 2
    assert number(choice(1, **conditions)) is None


def test_the_share_of_clients_is_the_percentage():
    assert sum(number(choice(1, percentage=30), us=Us("", drawn + 0.5)) == 1 for drawn in range(100)) == 30


def test_other_texts_are_not_looked_at():
    assert chosen(["v=spf1 -all", "grpc_config", ""], US) is None
    assert chosen(["v=spf1 -all", text(choice(1))], US) == {"number": 1}
    assert chosen([text()], US) is None


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        ([text(choice(1), choice(2, clientVersion="1"))], "choice 1 has the unknown key 'clientVersion'"),
        ([text(choice(1), 7)], "choice 1 is no object"),
        ([text({})], "choice 0 has no serviceConfig"),
        ([text({"serviceConfig": []})], "choice 0 has no serviceConfig"),
        ([text(choice(1, clientLanguage="python"))], "clientLanguage is a list of texts"),
        ([text(choice(1, clientHostname=[1]))], "clientHostname is a list of texts"),
        ([text(choice(1, percentage=101))], "percentage is a whole number"),
        ([text(choice(1, percentage=True))], "percentage is a whole number"),
        ([text(choice(1, percentage=1.5))], "percentage is a whole number"),
        ([PREFIX + "{}"], "no list of choices"),
        ([PREFIX + "[{]"], "grpc_config, line 1"),
        ([PREFIX], "grpc_config, line 1"),
        ([text(choice(1)), text(choice(2))], "2 records"),
    ],
)
def test_one_mistake_voids_them_all(texts, told):
    with pytest.raises(DiscoveryError, match=told):
        chosen(texts, US)


@settings(max_examples=100)
@given(st.text(max_size=40))
def test_any_text_is_a_config_or_that_error(content):
    for text in (content, PREFIX + content, PREFIX + "[" + content + "]"):
        try:
            assert chosen([text], US) is None
        except DiscoveryError as error:
            str(error)
