"""The index of a vocabulary by bytes: against looking at every token."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from localgen.text.byte_index import ByteIndex, byte_index
from localgen.text.vocab import TokenType
from tests.fakes import EOS, FakeVocab

# Few bytes, so that tokens begin alike; 0xff, after which no byte comes.
PIECES = st.lists(
    st.binary(max_size=4).map(lambda data: bytes(b"ab\xfe\xff"[byte % 4] for byte in data)),
    max_size=20,
)


@given(
    pieces=PIECES, data=st.binary(max_size=3).map(lambda b: bytes(b"ab\xfe\xff"[x % 4] for x in b))
)
def test_tokens_that_go_on_are_all_found(pieces: list[bytes], data: bytes) -> None:
    found = ByteIndex(pieces).extending(data).tolist()
    assert sorted(found) == [
        token_id
        for token_id, piece in enumerate(pieces)
        if piece.startswith(data) and len(piece) > len(data)
    ]


def test_only_tokens_of_text_are_in_it() -> None:
    """Special tokens have a spelling too, which no text should be continued to."""

    class Vocab(FakeVocab):
        def token_type(self, token_id: int) -> TokenType:
            return "unused" if token_id == ord("u") else super().token_type(token_id)

    index = byte_index(Vocab(), Vocab().token_bytes)
    assert index.pieces[EOS] == index.pieces[ord("u")] == b""
    assert index.pieces[ord("<")] == b"<"
    assert index.extending(b"<").tolist() == []
    assert index.longest == 1
