"""A context of TLS is made of files, or of what stands in their place."""

from __future__ import annotations

import ssl
import tempfile

import pytest
import trustme

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.tls import Tls, tls_context

AUTHORITY = trustme.CA()
LEAF = AUTHORITY.issue_cert("api.example")
CA = AUTHORITY.cert_pem.bytes().decode()
CHAIN = "".join(pem.bytes().decode() for pem in LEAF.cert_chain_pems)
KEY = LEAF.private_key_pem.bytes().decode()


def test_data_stands_for_files_and_leaves_none_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    context = tls_context(Tls(ca_data=CA, certificate_data=CHAIN, key_data=KEY), "it")
    assert [found["subject"] for found in context.get_ca_certs()]
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert list(tmp_path.iterdir()) == []


def test_files_and_data_may_be_mixed(tmp_path):
    (tmp_path / "ca.pem").write_text(CA)
    (tmp_path / "key.pem").write_text(KEY)
    tls = Tls(ca_file=str(tmp_path / "ca.pem"), certificate_data=CHAIN, key=str(tmp_path / "key.pem"))
    assert len(tls_context(tls, "it").get_ca_certs()) == 1


def test_what_is_not_verified_is_not():
    assert tls_context(Tls(verify=False), "it").verify_mode is ssl.CERT_NONE


@pytest.mark.parametrize(
    ("tls", "told"),
    [
        (Tls(ca_file="/nowhere/ca.pem"), "TLS for it cannot be set up from /nowhere/ca.pem: No such file"),
        (Tls(ca_data="nonsense"), "from the CA given"),
        (Tls(certificate_data="nonsense", key_data="nonsense"), "from the certificate given, the key given"),
        (Tls(certificate="/nowhere/c.pem", key="/nowhere/k.pem"), "/nowhere/c.pem, /nowhere/k.pem"),
        (Tls(certificate_data=CHAIN, key_data=trustme.CA().issue_cert("x").private_key_pem.bytes().decode()), "KEY"),
    ],
)
def test_what_is_wrong_is_named_and_not_repeated(tls, told):
    with pytest.raises(DiscoveryError, match=told) as caught:
        tls_context(tls, "it")
    assert "nonsense" not in str(caught.value)
    assert KEY not in repr(tls)
