"""Texts that are sealed: the same on every node, and opened only where they were sealed for."""

from hypothesis import given, strategies as st

from sse_edge.cursor_cipher import TAG_BYTES, CursorCipher

texts = st.binary(min_size=1, max_size=100)


@given(texts, texts, texts)
def test_every_node_with_the_secret_seals_alike_and_opens(
    secret: bytes, plain: bytes, context: bytes
) -> None:
    sealed = CursorCipher(secret).seal(plain, context)
    assert sealed == CursorCipher(secret).seal(plain, context)
    assert len(sealed) == len(plain) + TAG_BYTES
    assert CursorCipher(secret).open(sealed, context) == plain


@given(texts, texts, st.data())
def test_what_was_altered_or_sealed_otherwise_is_not_opened(
    plain: bytes, context: bytes, data: st.DataObject
) -> None:
    cipher = CursorCipher(b"secret")
    sealed = cipher.seal(plain, context)
    assert cipher.open(sealed, context + b"x") is None
    assert CursorCipher(b"other").open(sealed, context) is None
    position = data.draw(st.integers(0, len(sealed) - 1))
    altered = bytearray(sealed)
    altered[position] ^= data.draw(st.integers(1, 255))
    assert cipher.open(bytes(altered), context) is None
