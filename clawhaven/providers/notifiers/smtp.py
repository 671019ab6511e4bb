"""Mail over SMTP submission (RFC 6409), with the standard library."""

from __future__ import annotations

import hashlib
import ipaddress
import re
import smtplib
import ssl
from contextlib import suppress
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from typing import Final, Literal

from pydantic import Field, SecretStr, model_validator

from clawhaven.core.clock import Clock
from clawhaven.core.settings import EnvSettings, Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.notifier import Message

_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,62}[A-Za-z0-9_-]")
_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f\u2028\u2029\x85]")


class Smtp:
    """Implements ports.notifier.Notifier: one connection per mail."""

    name = "smtp"
    is_for_production = True

    class Options(EnvSettings):
        """Settings of the mail server."""

        smtp_host: str = Field("localhost", description="The mail server.")
        smtp_port: int = Field(587, ge=1, le=65535, description="587 for STARTTLS, 465 for TLS from the start.")
        smtp_username: str = Field("", description="User name, where the server wants one.")
        smtp_password: SecretStr = Field(SecretStr(""), description="Its password.")
        smtp_tls: Literal["starttls", "tls", "none"] = Field("starttls", description="How the connection is encrypted.")
        smtp_timeout_seconds: float = Field(20, gt=0, description="A server silent for so long counts as down.")

        @model_validator(mode="after")
        def _keep_password_private(self) -> Smtp.Options:
            if self.smtp_tls == "none" and self.smtp_username and not _is_loopback(self.smtp_host):
                raise ValueError("SMTP_TLS=none would send SMTP_PASSWORD in the clear to another machine")
            return self

    def __init__(self, options: Options, settings: Settings) -> None:
        self._options = options
        name, address = parseaddr(settings.mail_from)
        try:
            self._sender = Address(display_name=name, addr_spec=address)
        except (ValueError, MessageError) as error:
            raise ValueError(f"MAIL_FROM is not a mail address: {error}") from None
        self._clock = Clock()

    def send(self, message: Message) -> None:
        """Hand the mail to the server; returns when it has accepted it.

        ProviderError: permanent when sender, recipient or content was refused for good (5xx) or cannot be written
        as a mail; otherwise worth a retry. A refused log-in is worth a retry too: the operator mends the password,
        and the mails that waited go out.
        """
        letter = self._letter(message)
        try:
            server = self._connect()
        except smtplib.SMTPResponseException as error:
            what = "log-in" if isinstance(error, smtplib.SMTPAuthenticationError) else "connection"
            raise ProviderError(f"The mail server refused the {what} ({error.smtp_code}).", code="smtp_login") from None
        except (smtplib.SMTPException, OSError) as error:
            raise ProviderError(f"The mail server cannot be used: {_reason(error)}", code="smtp_down") from None
        try:
            server.send_message(letter)
        except smtplib.SMTPRecipientsRefused as error:
            raise _refusal(max(code for code, _ in error.recipients.values())) from None
        except smtplib.SMTPResponseException as error:
            raise _refusal(error.smtp_code) from None
        except smtplib.SMTPNotSupportedError:
            raise ProviderError(
                "The mail server does not take this address (no SMTPUTF8).", permanent=True, code="smtp_refused"
            ) from None
        except (smtplib.SMTPException, OSError) as error:
            raise ProviderError(f"The mail server went away: {_reason(error)}", code="smtp_down") from None
        finally:
            # The mail is accepted or not by now; a bad goodbye must not make it go out again.
            with suppress(smtplib.SMTPException, OSError):
                server.quit()

    def _connect(self) -> smtplib.SMTP:
        options = self._options
        timeout = options.smtp_timeout_seconds
        if options.smtp_tls == "tls":
            context = ssl.create_default_context()
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                options.smtp_host, options.smtp_port, timeout=timeout, context=context
            )
        else:
            server = smtplib.SMTP(options.smtp_host, options.smtp_port, timeout=timeout)
        try:
            if options.smtp_tls == "starttls":
                server.starttls(context=ssl.create_default_context())
            if options.smtp_username:
                server.login(options.smtp_username, options.smtp_password.get_secret_value())
        except BaseException:
            server.close()
            raise
        return server

    def _letter(self, message: Message) -> EmailMessage:
        if _UNSAFE.search(message.to) or _UNSAFE.search(message.subject) or _UNSAFE.search(message.key):
            raise ProviderError("A mail header would hold a line break.", permanent=True, code="header_injection")
        try:
            recipient = Address(addr_spec=message.to)
        except (ValueError, IndexError, MessageError):
            recipient = Address()
        if not (recipient.username and recipient.domain):
            raise ProviderError("This is not one mail address.", permanent=True, code="invalid_recipient")
        letter = EmailMessage(policy=SMTP)
        try:
            letter["From"] = self._sender
            letter["To"] = recipient
            letter["Subject"] = message.subject
            letter["Date"] = format_datetime(self._clock.now())
            letter["Message-ID"] = self._message_id(message.key)
            letter["Auto-Submitted"] = "auto-generated"
            letter.set_content(message.text)
            if message.html is not None:
                letter.add_alternative(message.html, subtype="html")
        except (ValueError, MessageError):
            raise ProviderError("This cannot be written as a mail.", permanent=True, code="invalid_mail") from None
        return letter

    def _message_id(self, key: str) -> str:
        left = key if _PLAIN_KEY.fullmatch(key) and ".." not in key else hashlib.sha256(key.encode()).hexdigest()
        return f"<{left}@{self._sender.domain or 'localhost'}>"


def _refusal(code: int) -> ProviderError:
    is_permanent = 500 <= code <= 599
    verdict = "for good" if is_permanent else "for now"
    return ProviderError(
        f"The mail server refused the mail {verdict} ({code}).", permanent=is_permanent, code="smtp_refused"
    )


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
