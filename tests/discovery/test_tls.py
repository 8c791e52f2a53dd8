"""A context of TLS is made of files, or of what stands in their place."""

from __future__ import annotations

import ssl
import tempfile

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

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


def shake_hands(context, chain):
    """Have a client with ``context`` look at what a server shows, in memory; raise what it thinks of it."""
    there = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    chain.configure_cert(there)
    out, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        context.wrap_bio(back, out, server_hostname="api.example"),
        there.wrap_bio(out, back, server_side=True),
    ]
    while sides:
        for side in list(sides):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            sides.remove(side)


def test_all_files_of_a_directory_are_authorities_whatever_they_are_called(tmp_path):
    (tmp_path / "deeper").mkdir()
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.crt"))
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "deeper" / "mine"))
    shake_hands(tls_context(Tls(ca_path=str(tmp_path)), "it"), LEAF)


def test_a_file_of_authorities_goes_before_a_directory(tmp_path):
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "mine"))
    other = trustme.CA()
    other.cert_pem.write_to_path(str(tmp_path / "other.crt"))
    context = tls_context(Tls(ca_file=str(tmp_path / "other.crt"), ca_path=str(tmp_path)), "it")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(context, LEAF)


def test_an_authority_is_trusted_though_another_one_stands_above_it(tmp_path):
    between = AUTHORITY.create_child_ca()
    between.cert_pem.write_to_path(str(tmp_path / "between.pem"))
    shake_hands(tls_context(Tls(ca_file=str(tmp_path / "between.pem")), "it"), between.issue_cert("api.example"))


def test_an_authority_need_not_have_all_that_python_3_13_asks_for(monkeypatch):
    usual = ssl.create_default_context

    def strict(*args, **kwargs):
        context = usual(*args, **kwargs)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)
    assert not tls_context(Tls(ca_data=CA), "it").verify_flags & ssl.VERIFY_X509_STRICT


def test_what_is_not_verified_is_not():
    assert tls_context(Tls(verify=False), "it").verify_mode is ssl.CERT_NONE


def test_nobody_is_asked_at_the_terminal_for_the_password_of_a_key():
    key = serialization.load_pem_private_key(KEY.encode(), None)
    locked = serialization.BestAvailableEncryption(b"sesame")
    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked).decode()
    with pytest.raises(DiscoveryError, match="the key given: the key is encrypted, and nobody is there to be asked"):
        tls_context(Tls(certificate_data=CHAIN, key_data=text), "it")


@pytest.mark.parametrize(
    ("tls", "told"),
    [
        (Tls(ca_file="/nowhere/ca.pem"), "TLS for it cannot be set up from /nowhere/ca.pem: No such file"),
        (Tls(ca_data="nonsense"), "from the CA given"),
        (Tls(ca_path="/nowhere/authorities"), "from /nowhere/authorities: no file in that directory"),
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
