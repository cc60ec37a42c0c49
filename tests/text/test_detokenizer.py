"""Tokens → text: nothing shown is taken back, and nothing is lost."""

from __future__ import annotations

import pytest

from localgen.text.detokenizer import Detokenizer


def feed(pieces: list[bytes], stop_strings: tuple[str, ...] = ()) -> tuple[list[str], Detokenizer]:
    """The result of ``take()`` after each token, and the finished detokenizer."""
    stream = Detokenizer(lambda token_id: pieces[token_id], stop_strings)
    shown = []
    for token_id in range(len(pieces)):
        stopped = stream.push(token_id)
        shown.append(stream.take())
        if stopped:
            break
    stream.finish()
    return shown, stream


def test_a_character_split_over_tokens_appears_once_whole():
    """An emoji's four bytes in four tokens return nothing three times, then the emoji."""
    pieces = [bytes([byte]) for byte in "🦙".encode()]
    shown, stream = feed(pieces)
    assert shown == ["", "", "", "🦙"]
    assert stream.text == "🦙"


def test_an_unfinished_character_at_the_end_is_not_shown():
    """Half a character never becomes U+FFFD in the text."""
    _, stream = feed([b"ab", "é".encode()[:1]])
    assert stream.text == "ab"


def test_bytes_that_are_no_utf8_become_replacement_characters():
    """A lone continuation byte is replaced, and what follows is kept."""
    _, stream = feed([b"a", b"\x80", b"b"])
    assert stream.text == "a\ufffdb"


def test_a_stop_string_inside_one_token_cuts_the_text_there():
    """Text before the match is returned, text after it never."""
    shown, stream = feed([b"one", b" two. Three", b"x"], (". ",))
    assert shown == ["one", " two"]
    assert (stream.text, stream.stop_match) == ("one two", ". ")


def test_a_stop_string_over_three_tokens_shows_none_of_itself():
    """The beginning of a possible stop string waits; when complete, it is dropped."""
    shown, stream = feed([b"a EN", b"D OF", b" FILE b"], ("END OF FILE",))
    assert shown == ["a ", "", ""]
    assert (stream.text, stream.stop_match) == ("a ", "END OF FILE")


def test_a_stop_string_of_characters_that_come_in_bytes():
    """Three characters in nine tokens: the text before them is all that is ever shown."""
    pieces = [b"ab", *(bytes([byte]) for byte in "終わり".encode()), b"cd"]
    shown, stream = feed(pieces, ("終わり",))
    assert (shown[0], {*shown[1:]}) == ("ab", {""})
    assert (stream.text, stream.stop_match, len(shown)) == ("ab", "終わり", 10)


def test_held_text_is_given_when_it_cannot_match_any_more():
    """A false start is shown as soon as a token rules the stop string out."""
    shown, stream = feed([b"a EN", b"DLESS"], ("END OF",))
    assert shown == ["a ", "ENDLESS"]
    assert stream.stop_match is None


def test_held_text_is_given_at_the_end():
    """A sequence that ends inside a possible stop string keeps that text."""
    _, stream = feed([b"a EN"], ("END",))
    assert stream.text == "a EN"


def test_overlapping_start_of_a_stop_string():
    """After "aab" in "aaab" only the last "a" pair can begin the match."""
    shown, stream = feed([b"a", b"a", b"a", b"b"], ("aab",))
    assert shown == ["", "", "a", ""]
    assert (stream.text, stream.stop_match) == ("a", "aab")


def test_the_earliest_match_wins():
    """Of two stop strings in one piece, the one that starts first cuts the text."""
    _, stream = feed([b"xx<b>yy<a>"], ("<a>", "<b>"))
    assert (stream.text, stream.stop_match) == ("xx", "<b>")


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_pieces_join_to_the_whole(size):
    """However the bytes are split, the pieces together are the text."""
    text = "naïve ☕ 日本語 👩‍👩‍👧 end"
    data = text.encode()
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    shown, stream = feed(pieces, ("never there",))
    assert "".join(shown) == text[: len("".join(shown))]
    assert stream.text == text


def test_a_copy_goes_its_own_way():
    """In the middle of a character, and of what could be a stop string."""
    one = Detokenizer(lambda token: bytes([token]), ("no",))
    for byte in "én".encode()[:1]:
        one.push(byte)
    other = one.copy()
    for byte in "é".encode()[1:] + b"n":
        one.push(byte)
    other.push(ord("x"))
    third = one.copy()
    assert third.push(ord("o"))
    one.push(ord("t"))
    one.finish()
    other.finish()
    assert (one.text, other.text, third.text) == ("ént", "\ufffdx", "é")
    assert (one.stop_match, third.stop_match) == (None, "no")
