"""How a notifier names itself to the push services of browsers: VAPID, RFC 8292."""

import time
from typing import Any
from urllib.parse import urlsplit

import jwt
from webpush.vapid import VAPID

VALID_FOR_S = 12 * 3_600
"""How long a token may be used; RFC 8292 allows a day."""
_DEFAULT_PORTS = {"https": 443, "http": 80}


def authorization(endpoint: str, subject: str, private_key: bytes | str, public_key: Any) -> str:
    """Return the `Authorization` header of a message for a browser.

    Args:
        endpoint: the URL that the message goes to.
        subject: the operator's address, a `mailto:` or `https:` URL; an address without a scheme
            is an e-mail address.
        private_key: the key in PEM.
        public_key: the key that browsers know.

    Raises:
        ValueError: the URL is invalid.
    """
    claims = {
        "aud": origin(endpoint),
        "exp": int(time.time()) + VALID_FOR_S,
        "sub": subject if ":" in subject else f"mailto:{subject}",
    }
    token = jwt.encode(claims, private_key, algorithm="ES256")
    return f"vapid t={token}, k={VAPID.get_application_server_key(public_key)}"


def origin(url: str) -> str:
    """Return the origin of a URL as RFC 6454 writes it: without the port that its scheme implies.

    Raises:
        ValueError: the URL is invalid.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").encode("idna").decode()
    if ":" in host:
        host = f"[{host}]"
    is_default = parts.port in (None, _DEFAULT_PORTS.get(parts.scheme))
    return f"{parts.scheme}://{host}" if is_default else f"{parts.scheme}://{host}:{parts.port}"
