"""The token by which push services know a notifier."""

import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from stream_processors.notifications.vapid import VALID_FOR_S, authorization, origin


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://push.example.com/p/1?a=b#c", "https://push.example.com"),
        ("https://push.example.com:443/p", "https://push.example.com"),
        ("https://push.example.com:8443/p", "https://push.example.com:8443"),
        ("http://push.example.com:80/p", "http://push.example.com"),
        ("http://push.example.com:443/p", "http://push.example.com:443"),
        ("HTTPS://Push.Example.com:444", "https://push.example.com:444"),
        ("https://[::1]:8443/p", "https://[::1]:8443"),
        ("https://[::1]/p", "https://[::1]"),
        ("https://pusch.müller.example/p", "https://pusch.xn--mller-kva.example"),
    ],
)
def test_an_origin_has_a_port_unless_its_scheme_implies_it(url: str, expected: str) -> None:
    assert origin(url) == expected


@pytest.mark.parametrize("url", ["https://a:b:c/", "https://[::1/", "https://x:99999/"])
def test_an_invalid_url_has_no_origin(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        origin(url)


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("mailto:ops@example.com", "mailto:ops@example.com"),
        ("ops@example.com", "mailto:ops@example.com"),
        ("https://example.com/contact", "https://example.com/contact"),
    ],
)
def test_a_token_is_for_the_origin_and_says_who_sends(subject: str, expected: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    header = authorization("https://push.example.com:8443/1", subject, pem, key.public_key())
    scheme, _, rest = header.partition(" ")
    parts = dict(part.strip().split("=", 1) for part in rest.split(","))
    claims = jwt.decode(
        parts["t"],
        key.public_key(),
        algorithms=["ES256"],
        audience="https://push.example.com:8443",
    )
    assert (scheme, claims["sub"]) == ("vapid", expected)
    assert 0 < claims["exp"] - time.time() <= VALID_FOR_S
