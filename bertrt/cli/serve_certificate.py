"""The certificate that `bertrt serve` reads for HTTPS."""

import ssl
from pathlib import Path

from bertrt.errors import InputError

__all__ = ["read_certificate"]


def read_certificate(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Return the context for HTTPS, if there is a certificate.

    Raises InputError for one without a key, and for what cannot be used.
    """
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise InputError("--tls-cert and --tls-key belong together: give both")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key, password="")
    except OSError as error:
        raise InputError(f"{cert} and {key} are no certificate and its key: {error}") from error
    return context
