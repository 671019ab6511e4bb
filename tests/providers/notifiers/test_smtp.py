"""SMTP against a real server: STARTTLS, log-in, refusals."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Literal

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr, ValidationError

from clawhaven.core.settings import Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.notifier import Message
from clawhaven.providers.notifiers.smtp import Smtp

USER, PASSWORD = "haven", "correct horse battery"
MESSAGE = Message("mail_abc", "user@example.com", "Grüße & links", "Open http://x/s?t=1\n" + "long " * 400, "<b>Hi</b>")


class Inbox:
    """What the server does with mail. `rcpt` and `data` are its answers."""

    def __init__(self) -> None:
        self.rcpt, self.data, self.mail = "250 OK", "250 OK", "250 OK"
        self.letters: list[EmailMessage] = []
        self.recipients: list[str] = []
        self.was_encrypted: list[bool] = []

    async def handle_MAIL(
        self, _s: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return self.mail

    async def handle_RCPT(self, _s: SMTP, _session: Session, envelope: Envelope, address: str, _o: list[str]) -> str:
        envelope.rcpt_tos.append(address)
        return self.rcpt

    async def handle_DATA(self, _s: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        if self.data.startswith("250"):
            self.letters.append(message_from_bytes(envelope.content, policy=policy.default))
            self.recipients += envelope.rcpt_tos
            self.was_encrypted.append(session.ssl is not None)
        return self.data


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate and key for 127.0.0.1 in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


def authenticate(_server: SMTP, _session: Session, _envelope: Envelope, _how: str, given: Any) -> AuthResult:
    is_right = isinstance(given, LoginPassword) and given.login == USER.encode() and given.password == PASSWORD.encode()
    return AuthResult(success=is_right, handled=False)


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def server(inbox: Inbox, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Controller]:
    """A server that insists on STARTTLS and a log-in; its certificate is trusted."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    controller = Controller(
        inbox,
        hostname="127.0.0.1",
        port=free_port(),
        tls_context=context,
        require_starttls=True,
        authenticator=authenticate,
        auth_required=True,
        enable_SMTPUTF8=False,
    )
    with running(controller) as ready:
        yield ready


@contextmanager
def running(controller: Controller) -> Iterator[Controller]:
    """The server, started."""
    controller.start()
    try:
        yield controller
    finally:
        controller.stop()


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def make(
    port: int, password: str = PASSWORD, tls: Literal["starttls", "tls", "none"] = "starttls", user: str = USER
) -> Smtp:
    """A notifier for the server at `port`."""
    options = Smtp.Options(
        _env_file=None,
        smtp_host="127.0.0.1",
        smtp_port=port,
        smtp_username=user,
        smtp_password=SecretStr(password),
        smtp_tls=tls,
        smtp_timeout_seconds=10,
    )
    return Smtp(options, Settings(_env_file=None, mail_from="Clawhaven <noreply@haven.example>"))


def test_arrives_encrypted_and_whole(server: Controller, inbox: Inbox) -> None:
    make(server.port).send(MESSAGE)
    (letter,) = inbox.letters
    assert inbox.was_encrypted == [True]
    assert inbox.recipients == ["user@example.com"]
    assert letter["From"] == "Clawhaven <noreply@haven.example>"
    assert letter["To"] == "user@example.com"
    assert letter["Subject"] == MESSAGE.subject
    assert letter["Message-ID"] == "<mail_abc@haven.example>"
    assert letter["Date"].datetime.tzinfo is not None
    plain, rich = letter.get_body(("plain",)), letter.get_body(("html",))
    assert plain is not None
    assert rich is not None
    assert plain.get_content().replace("\r\n", "\n").rstrip("\n") == MESSAGE.text.rstrip("\n")
    assert rich.get_content().strip() == "<b>Hi</b>"


def test_a_repeat_has_the_same_message_id(server: Controller, inbox: Inbox) -> None:
    notifier, odd = make(server.port), Message("grace: 14 days/<x>", "user@example.com", "s", "t")
    for message in (MESSAGE, MESSAGE, odd, odd):
        notifier.send(message)
    ids = [str(letter["Message-ID"]) for letter in inbox.letters]
    assert ids[0] == ids[1] != ids[2] == ids[3]
    assert all(one.startswith("<") and one.endswith("@haven.example>") and " " not in one for one in ids)


@pytest.mark.parametrize("where", ["mail", "rcpt", "data"])
@pytest.mark.parametrize(("answer", "is_permanent"), [("450 Try later", False), ("550 Never", True)])
def test_refusals(server: Controller, inbox: Inbox, where: str, answer: str, is_permanent: bool) -> None:
    setattr(inbox, where, answer)
    with pytest.raises(ProviderError) as caught:
        make(server.port).send(MESSAGE)
    assert caught.value.permanent is is_permanent
    assert caught.value.code == "smtp_refused"
    assert inbox.letters == []


def test_a_wrong_password_waits_for_the_operator_and_is_not_told(server: Controller, inbox: Inbox) -> None:
    with pytest.raises(ProviderError) as caught:
        make(server.port, password="wrong-and-secret").send(MESSAGE)
    assert (caught.value.permanent, caught.value.code) == (False, "smtp_login")
    assert "wrong-and-secret" not in str(caught.value)
    assert inbox.letters == []


def test_an_untrusted_certificate_gets_no_mail(
    server: Controller, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(ProviderError) as caught:
        make(server.port).send(MESSAGE)
    assert not caught.value.permanent
    assert inbox.letters == []


def test_a_server_without_starttls_gets_no_mail(inbox: Inbox) -> None:
    with running(Controller(inbox, hostname="127.0.0.1", port=free_port())) as plain:
        with pytest.raises(ProviderError) as caught:
            make(plain.port, user="").send(MESSAGE)
        assert not caught.value.permanent
        make(plain.port, user="", tls="none").send(MESSAGE)
    assert len(inbox.letters) == 1


def test_nobody_there_is_worth_a_retry() -> None:
    with pytest.raises(ProviderError) as caught:
        make(9).send(MESSAGE)
    assert (caught.value.permanent, caught.value.code) == (False, "smtp_down")


@pytest.mark.parametrize(
    "message",
    [
        Message("k", "user@example.com\r\nBcc: all@example.com", "s", "t"),
        Message("k", "user@example.com", "s\nBcc: all@example.com", "t"),
        Message("k\r\nX: y", "user@example.com", "s", "t"),
        Message("k", "a@example.com, b@example.com", "s", "t"),
        Message("k", "A <a@example.com>", "s", "t"),
        Message("k", "nobody", "s", "t"),
        Message("k", "", "s", "t"),
        Message("k", "user@example.com", "s", "lone \ud800 surrogate"),
        Message("k", "üser@example.com", "s", "t"),
    ],
)
def test_what_cannot_be_a_mail_is_refused_for_good(server: Controller, inbox: Inbox, message: Message) -> None:
    with pytest.raises(ProviderError) as caught:
        make(server.port).send(message)
    assert caught.value.permanent
    assert inbox.letters == []


def test_a_password_is_never_sent_in_the_clear_to_another_machine() -> None:
    with pytest.raises(ValidationError) as caught:
        Smtp.Options(
            _env_file=None,
            smtp_host="mail.example.com",
            smtp_username="u",
            smtp_password=SecretStr("p"),
            smtp_tls="none",
        )
    assert "SMTP_TLS" in str(caught.value)


def test_a_sender_that_is_no_address_is_told_at_once() -> None:
    with pytest.raises(ValueError, match="MAIL_FROM"):
        Smtp(Smtp.Options(_env_file=None), Settings(_env_file=None, mail_from="nobody"))
