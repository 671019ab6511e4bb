"""The system's certificate authorities."""

from __future__ import annotations

import ssl

from clawhaven.core.tls import authorities


def test_they_are_loaded_once_and_refuse_what_they_do_not_know() -> None:
    context = authorities()
    assert authorities() is context
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.get_ca_certs()
