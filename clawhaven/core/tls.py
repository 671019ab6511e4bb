"""The certificate authorities that clients trust, loaded once in a process."""

from __future__ import annotations

import functools
import os
import ssl


@functools.cache
def authorities() -> ssl.SSLContext:
    """What a client trusts: `SSL_CERT_FILE` or `SSL_CERT_DIR` alone where one is set, else the system's authorities.

    Loading them takes 30 to 80 ms of CPU, which a client made without a context pays each time, even for `http://`.
    """
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    return ssl.create_default_context(cafile=file or None, capath=folder or None)
