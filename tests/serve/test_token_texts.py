"""Tokens in answers: bytes of parts of characters, and places in the text."""

from __future__ import annotations

from localgen.completion import TokenLogprob
from localgen.serve.token_texts import TextLogprobs, chat_logprobs, joined

PIECES = {1: b"a", 2: "ö".encode()[:1], 3: "ö".encode()[1:], 4: b"bc"}


def test_a_part_of_a_character_has_its_bytes() -> None:
    (entry,) = chat_logprobs([TokenLogprob(2, -1.0, ((2, -1.0), (1, -2.0)))], 1, PIECES.__getitem__)
    assert (entry["token"], entry["bytes"]) == ("�", [0xC3])
    assert [each["bytes"] for each in entry["top_logprobs"]] == [[0xC3]]


def test_places_count_characters_of_the_whole_text() -> None:
    entries = TextLogprobs(1, PIECES.__getitem__)
    parts = [entries.first(1)]
    parts.append(entries.add([TokenLogprob(each, float("-inf")) for each in (2, 3, 4)]))
    found = joined(parts)
    assert found["tokens"] == ["a", "bytes:\\xc3", "bytes:\\xb6", "bc"]
    assert found["text_offset"] == [0, 1, 1, 2]
    assert found["token_logprobs"] == [None, -9999.0, -9999.0, -9999.0]
