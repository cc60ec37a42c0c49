"""Streams and streamers: a reader never waits for ever, and pieces are the text."""

from __future__ import annotations

import queue
import threading
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from localgen import ContextFullError
from tests.fakes import BOS, EOS, fake_model, hashed_letter


class QueueStreamer:
    """What transformers' TextIteratorStreamer does: put and end for a reader in another thread."""

    def __init__(self) -> None:
        self.queue: queue.Queue[Any] = queue.Queue()

    def put(self, value: Any) -> None:
        self.on_finalized_text(value.tolist())

    def end(self) -> None:
        self.on_finalized_text([], stream_end=True)

    def on_finalized_text(self, text: Any, stream_end: bool = False) -> None:
        self.queue.put(text)
        if stream_end:
            self.queue.put(None)

    def read(self) -> list[Any]:
        """Everything up to the end, which must come."""
        return list(iter(lambda: self.queue.get(timeout=60), None))


def fails(input_ids: Any, scores: Any) -> Any:
    if input_ids.shape[1] == 3:
        raise RuntimeError("planned")
    return scores


FAILURES: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    "a processor": ({"logits_processor": fails}, RuntimeError),
    "an option": ({"temperature": -1.0}, ValueError),
    "an unknown option": ({"temprature": 1.0}, TypeError),
    "a prompt that is too long": ({"input_ids": [[65] * 600]}, ContextFullError),
    "two rows": ({"input_ids": [[65], [66]]}, ValueError),
    "two names of the prompt": ({"inputs": [[65]]}, TypeError),
    "another tokenizer": ({"tokenizer": 5}, ValueError),
    "a mask": ({"attention_mask": [[0]]}, ValueError),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_reader_hears_the_end_of_a_call_that_fails(kind: str) -> None:
    """Regression: it waited for ever, since ``end()`` was called after a good call only."""
    options, error = FAILURES[kind]
    streamer, caught = QueueStreamer(), []

    def generate() -> None:
        try:
            fake_model().generate(
                **{"input_ids": [[65]], "max_new_tokens": 5, **options}, streamer=streamer
            )
        except Exception as failure:
            caught.append(failure)

    thread = threading.Thread(target=generate)
    thread.start()
    read = streamer.read()
    thread.join()
    assert [type(each) for each in caught] == [error]
    if kind == "a processor":
        assert read[0] == [[65]]  # the prompt, and the tokens before the error
        assert len(read) == 4


def test_a_closed_model_ends_a_streamer() -> None:
    model, streamer = fake_model(), QueueStreamer()
    model.close()
    with pytest.raises(Exception, match="closed"):
        model.generate([[65]], streamer=streamer)
    assert streamer.read() == [[]]


def test_end_is_called_once() -> None:
    """Also if it raises itself; its error comes through."""

    class Streamer:
        n_ends = 0

        def put(self, value: Any) -> None:
            pass

        def end(self) -> None:
            self.n_ends += 1
            raise RuntimeError("planned")

    streamer = Streamer()
    with pytest.raises(RuntimeError, match="planned") as caught:
        fake_model().generate([[65]], max_new_tokens=2, streamer=streamer)
    assert streamer.n_ends == 1
    assert caught.value.partial.sequences.shape == (1, 3)  # type: ignore[attr-defined]


# --- special tokens in stop strings ---


def spells(*new: int) -> Any:
    """A script that continues a prompt of one token with these."""
    return lambda tokens: new[len(tokens) - 1] if len(tokens) <= len(new) else EOS


SPECIAL = (*b"ab", BOS, *b"cd", EOS)


@pytest.mark.parametrize(
    ("stop", "n_new", "text"),
    [
        ("<bos>", 3, "ab"),
        ("b<bos>c", 4, "a"),
        ("<bos>cd", 5, "ab"),
        ("os>c", 4, "ab"),
        ("ab", 2, ""),
        ("bc", 6, "abcd"),  # a special token is between them
    ],
)
def test_stop_strings_with_special_tokens(stop: str, n_new: int, text: str) -> None:
    """Regression: they never matched. Special tokens are text to stop strings, as in transformers;
    the text of a Completion shows none of them and is cut before the match."""
    out = fake_model(spells(*SPECIAL)).generate([[63]], stop_strings=[stop], max_new_tokens=9)
    assert out[0, 1:].tolist() == list(SPECIAL[:n_new])
    stream = fake_model(spells(*SPECIAL)).stream([63], stop_strings=stop, max_new_tokens=9)
    assert "".join(stream) == text
    done = stream.completion
    assert (done.text, done.token_ids) == (text, list(SPECIAL[:n_new]))
    assert done.stop_match == (stop if n_new < 6 else None)
    assert done.finish_reason == ("stop" if n_new < 6 else "eos")


def test_special_tokens_that_begin_a_stop_string_are_not_shown() -> None:
    """Held back, and then dropped because it is not shown; the text after it is."""
    done = fake_model(spells(*SPECIAL)).complete([[63]], stop_strings="<bos>x", max_new_tokens=9)
    assert done[0].text == "abcd"


def test_a_special_token_inside_a_character() -> None:
    """The character is whole, as it is without a stop string."""
    first, second = "é".encode()
    script = spells(first, BOS, second, *b"!", EOS)
    for stop in (None, "zzz"):
        done = fake_model(script).complete([[63]], stop_strings=stop, max_new_tokens=9)
        assert done[0].text == "é!"


# --- a stream is the text ---

TEXTS = st.lists(st.sampled_from([*b"abc \n", *"é🦙".encode(), 0x80, BOS]), max_size=12)
STOPS = st.lists(st.sampled_from(["a", "ab", "b<", "<bos>", "s>c", "é", "🦙b", "\n\n"]), max_size=3)


@pytest.mark.slow
@hypothesis.given(TEXTS, STOPS, st.integers(1, 14))
def test_a_stream_is_the_text_of_complete(new: list[int], stops: list[str], n: int) -> None:
    """Whatever tokens come, stop strings and special tokens among them."""
    options: dict[str, Any] = {"max_new_tokens": n, "stop_strings": stops or None}
    done = fake_model(spells(*new)).complete([[63]], **options)[0]
    stream = fake_model(spells(*new)).stream([63], **options)
    pieces = []
    for piece in stream:
        pieces.append(piece)
        # Reading it changes nothing of what follows.
        assert stream.completion.text.startswith("".join(pieces))
    assert "".join(pieces) == stream.completion.text == done.text
    assert stream.completion.token_ids == done.token_ids
    assert stream.completion.stop_match == done.stop_match
    shown = bytes(i for i in done.token_ids if i < 256).decode("utf-8", "replace").rstrip("\ufffd")
    if done.stop_match is None:
        assert done.text.rstrip("\ufffd") == shown


@pytest.mark.slow
@hypothesis.given(
    st.fixed_dictionaries(
        {},
        optional={
            "temperature": st.floats(0.1, 3),
            "top_k": st.integers(0, 20),
            "top_p": st.floats(0, 1),
            "min_p": st.floats(0, 0.5),
            "repetition_penalty": st.floats(0.5, 2),
            "no_repeat_ngram_size": st.integers(0, 3),
            "num_return_sequences": st.just(1),
        },
    ),
    st.integers(0, 2**32),
    st.text("abc", min_size=1, max_size=30),
)
def test_a_sampled_stream_is_the_text_of_complete(
    options: dict[str, Any], seed: int, prompt: str
) -> None:
    given: dict[str, Any] = {"max_new_tokens": 8, "do_sample": True, "seed": seed, **options}
    done = fake_model(hashed_letter).complete(prompt, **given)
    assert "".join(fake_model(hashed_letter).stream(prompt, **given)) == done.text
