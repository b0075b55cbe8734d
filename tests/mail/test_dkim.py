"""DKIM signatures, verified by another implementation."""

from __future__ import annotations

import dkim  # type: ignore[import-untyped]
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from regsvc.config.dkim_keys import load_keys
from regsvc.mail.message.dkim import Signer

MESSAGE = (
    b"Date: Sat, 28 Nov 2026 12:00:00 +0000\r\nTo: jane@example.net\r\nMessage-ID: <1@example.org>\r\n"
    b"From:  =?utf-8?q?B=C3=BCro?=\r\n\t<no-reply@example.org>\r\nSubject: Confirm \t your address\r\n"
    b"Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n"
    b"Hello,  \t\r\n\r\n a  word \r\n.\r\n\r\n\r\n"
)


def _pem(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.fixture(scope="module")
def pems() -> dict[str, str]:
    return {
        "rsa": _pem(rsa.generate_private_key(65537, 2048)),
        "ed25519": _pem(ed25519.Ed25519PrivateKey.generate()),
    }


def _verify(signer: Signer, message: bytes, index: int = 0) -> bool:
    records = {f"{key.selector}._domainkey.{signer.domain}.": key.record.encode() for key in signer.keys}
    verifier = dkim.DKIM(message)
    return bool(verifier.verify(idx=index, dnsfunc=lambda name, **_: records.get(name.decode())))


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
def test_another_implementation_verifies_the_signature(kind: str, pems: dict[str, str]) -> None:
    """The record that we tell operators to publish is the one that verifies."""
    signer = Signer("example.org", load_keys(pems[kind], "mail"))
    signed = signer.sign(MESSAGE)
    assert signed.endswith(MESSAGE)
    assert _verify(signer, signed)


def test_two_keys_add_a_signature_each(pems: dict[str, str]) -> None:
    signer = Signer("example.org", load_keys(pems["rsa"] + pems["ed25519"], "r1 e1"))
    signed = signer.sign(MESSAGE)
    assert [_verify(signer, signed, index) for index in (0, 1)] == [True, True]
    assert signer.sign(MESSAGE) == signed  # every try has the same octets


def test_what_relays_may_change_breaks_nothing(pems: dict[str, str]) -> None:
    """White space within lines and empty lines at the end are no part of the relaxed form."""
    signer = Signer("example.org", load_keys(pems["ed25519"], "mail"))
    signed = signer.sign(MESSAGE)
    changed = signed.replace(b"a  word \r\n", b"a word\r\n").removesuffix(b"\r\n\r\n")
    assert _verify(signer, b"Received: by relay\r\n" + changed.replace(b"Confirm \t your", b"Confirm your"))


@pytest.mark.parametrize("header", ["From: evil@example.com", "Subject: other", "Message-ID: <2@evil>"])
def test_a_second_header_of_a_name_breaks_the_signature(header: str, pems: dict[str, str]) -> None:
    signer = Signer("example.org", load_keys(pems["ed25519"], "mail"))
    signed = signer.sign(MESSAGE)
    assert not _verify(signer, header.encode() + b"\r\n" + signed)


def test_an_empty_body_and_8_bit_recipients_verify(pems: dict[str, str]) -> None:
    signer = Signer("example.org", load_keys(pems["rsa"], "mail"))
    head = MESSAGE.partition(b"\r\n\r\n")[0].replace(b"jane@", "jäne@".encode())
    for message in (head + b"\r\n\r\n", head + b"\r\n\r\n\r\n\r\n"):
        assert _verify(signer, signer.sign(message))


def test_lines_of_the_signature_stay_short(pems: dict[str, str]) -> None:
    signed = Signer("example.org", load_keys(pems["rsa"], "mail")).sign(MESSAGE)
    assert max(map(len, signed.split(b"\r\n"))) <= 78


def test_keys_that_cannot_be_used_are_refused_without_being_shown(pems: dict[str, str]) -> None:
    small = _pem(rsa.generate_private_key(65537, 1024))  # noqa: S505 - what is to be refused
    curve = _pem(ec.generate_private_key(ec.SECP256R1()))
    broken = pems["rsa"].replace("M", "!")
    for pem, selectors, said in (
        ("nothing", "mail", "no private key in PEM"),
        (broken, "mail", "cannot be read"),
        (small, "mail", "fewer than 2048 bits"),
        (curve, "mail", "neither RSA nor Ed25519"),
        (pems["rsa"] + pems["ed25519"], "mail", "one name"),
        (pems["rsa"] + pems["ed25519"], "mail mail", "all different"),
        (pems["rsa"] * 3, "a b c", "more than 2"),
        (pems["rsa"], "bad_;", "letters"),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            load_keys(pem, selectors)
        assert "BEGIN" not in str(caught.value)
