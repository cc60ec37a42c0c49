"""Token healing: outputs begin with the prompt's bytes, whatever the vocabulary and the model."""

from __future__ import annotations

import codecs
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localgen import Completion, GenerationConfig, LocalModel
from localgen.engine.sampling.filters import log_softmax
from localgen.engine.sampling.guided import guided
from localgen.engine.trackers import Constraint
from localgen.generation.healing import HealingTracker, PromptEnd, n_to_back_up
from localgen.generation.prefix import Prefix
from localgen.text.byte_index import ByteIndex
from localgen.text.vocab import TokenType
from tests.fakes import (
    BOS,
    EOS,
    FakeBackend,
    FakeModel,
    FakeVocab,
    Script,
    fake_model,
    hashed_letter,
    hashed_logits,
)

HEALED: dict[str, Any] = {"token_healing": True}


class PieceVocab(FakeVocab):
    """A vocabulary of ``pieces``, the rest of its 256 ids unused; text is cut into the longest
    pieces that fit, and a byte that is none is dropped.

    adds_space: as a SentencePiece vocabulary, with a space before each text, and BOS.
    """

    def __init__(self, pieces: list[bytes], *, adds_space: bool = False) -> None:
        self.pieces = pieces
        self.adds_space_prefix = self.adds_bos = adds_space

    def token_type(self, token_id: int) -> TokenType:
        is_unused = len(self.pieces) <= token_id < 256
        return "unused" if is_unused else super().token_type(token_id)

    def token_bytes(self, token_id: int) -> bytes:
        return self.pieces[token_id] if token_id < len(self.pieces) else f"<{token_id}>".encode()

    def tokenize(self, text: bytes, *, add_special: bool, parse_special: bool) -> np.ndarray:
        text = b" " + text if self.adds_space_prefix and text else text
        ids = [BOS] * (add_special and self.adds_bos)
        while text:
            fit = [(len(p), -i) for i, p in enumerate(self.pieces) if text.startswith(p)]
            size, negative = max(fit, default=(1, None))
            ids += [] if negative is None else [-negative]
            text = text[size:]
        return np.array(ids, np.int32)


def piece_model(vocab: PieceVocab, script: Script) -> FakeModel:
    backend = FakeBackend(script)
    backend.vocab = vocab
    return fake_model(backend=backend)


def words_model(*words: str, says: str = "") -> FakeModel:
    """A model with a token for each word and for each letter, whose best next token is the first of
    ``says`` that was not generated; any letter after that."""
    pieces = [*(word.encode() for word in words), *(bytes([byte]) for byte in range(32, 127))]

    def script(tokens: list[int]) -> int:
        text = b"".join(pieces[i] for i in tokens if i < len(pieces)).decode()
        following = [
            w for w in words if says and says.startswith(text) and says[len(text) :].startswith(w)
        ]
        return (
            words.index(max(following, key=len))
            if following
            else len(words) + hashed_letter(tokens) - 32
        )

    return piece_model(PieceVocab(pieces), script)


def healed(model: FakeModel, prompt: Any, **options: Any) -> Completion:
    (done,) = model.complete([prompt], **{"max_new_tokens": 3, **HEALED, **options})
    return done


def words_of(model: FakeModel, token_ids: list[int]) -> list[str]:
    return [model.tokenizer.token_text(token_id) for token_id in token_ids]


# --- how many tokens are backed up ---

INDEX = ByteIndex([b"", b"a", b"b", b"c", b"ab", b"abcd", b"cx", b"\xc3", b"\xc3\xa9"])
NONE, A, B, C, AB, ABCD, CX, HALF, E_ACUTE = range(9)


@pytest.mark.parametrize(
    ("ids", "n_tokens", "why"),
    [
        ([B, A], 1, "ab and abcd begin with a"),
        ([B, C], 1, "cx begins with c"),
        ([B, AB, C], 2, "abcd begins with both, and with the c alone only cx"),
        ([B, A, B, C], 3, "other tokens of the same bytes"),
        ([A, B, B], 0, "no token goes on after b"),
        ([A], 0, "one token stays"),
        ([A, B], 0, "no token goes on after b, and one token stays"),
        ([B, NONE, C], 1, "not over a control token"),
        ([C, NONE], 0, "nor after one"),
        ([B, HALF], 1, "the rest of a character"),
        ([B, A, B, C, CX], 0, "no token goes on after cx, abccx is none"),
    ],
)
def test_as_many_as_a_longer_token_begins_with(ids: list[int], n_tokens: int, why: str) -> None:
    assert n_to_back_up(np.array(ids, np.int32), 0, INDEX) == n_tokens, why


def test_the_fixed_and_the_banned_stay() -> None:
    ids = np.array([B, A, B, C], np.int32)
    assert [n_to_back_up(ids, n_fixed, INDEX) for n_fixed in range(5)] == [3, 3, 1, 1, 0]
    assert n_to_back_up(ids, 0, INDEX, {A}) == 1
    assert n_to_back_up(ids, 0, INDEX, {C}) == 0


# --- any vocabulary, any model ---

LETTERS = "ab é日🍕"
ONE_BYTE = [bytes([byte]) for byte in sorted(set(LETTERS.encode()))]
PIECES = st.lists(
    st.lists(st.sampled_from(ONE_BYTE), min_size=2, max_size=5).map(b"".join)
    | st.text(LETTERS, min_size=2, max_size=5).map(str.encode),
    max_size=30,
).map(lambda longer: [*ONE_BYTE, *longer])
VOCABS = st.builds(PieceVocab, PIECES, adds_space=st.booleans())
PROMPTS = st.text(LETTERS, min_size=1, max_size=12)


def hashed_piece(vocab: PieceVocab) -> Script:
    """A token of the vocabulary that depends on every token so far."""
    return lambda tokens: hash(tuple(tokens)) % len(vocab.pieces)


def text_of(data: bytes) -> str:
    """What a text shows of bytes: not a character that they only begin."""
    return codecs.getincrementaldecoder("utf-8")(errors="replace").decode(data)


def by_the_definition(
    vocab: PieceVocab, script: Script, prompt: list[int], n_new: int
) -> list[int]:
    """Greedy healing as the slow loop: every token is looked at in every step."""
    pieces = dict(enumerate(vocab.pieces))

    def goes_on(rest: bytes, piece: bytes) -> bool:
        return piece.startswith(rest) and piece != rest

    def data(ids: list[int]) -> bytes:
        return b"".join(pieces[i] for i in ids)

    first = max([i for i, token in enumerate(prompt) if token not in pieces], default=-1) + 1
    starts = [
        start
        for start in range(max(first, 1), len(prompt))
        if any(goes_on(data(prompt[start:]), piece) for piece in pieces.values())
    ]
    start = min(starts, default=len(prompt))
    tokens, own = prompt[:start], prompt[start:]
    while len(tokens) < len(prompt) + n_new:
        logits = hashed_logits(tokens, script(tokens))
        if own:
            allowed = [i for i, piece in pieces.items() if goes_on(data(own), piece)]
            best = max([own[0], *allowed], key=lambda i: (logits[i], -i))
            own = own[1:] if best == own[0] else []
        else:
            best = int(logits.argmax())
        tokens.append(best)
    return tokens


@pytest.mark.slow
@settings(max_examples=50)
@given(vocab=VOCABS, prompt=PROMPTS, n_new=st.integers(1, 4))
def test_every_output_begins_with_the_prompt(vocab: PieceVocab, prompt: str, n_new: int) -> None:
    """By bytes: token ids of complete() and generate(), texts and pieces of streams; greedy is what
    the definition says."""
    script = hashed_piece(vocab)
    model = piece_model(vocab, script)
    ids = model.tokenizer.encode(prompt)
    given = b"".join(vocab.token_bytes(i) for i in ids if i < 256)
    expected = by_the_definition(vocab, script, ids, n_new)
    for sampling in ({}, {"temperature": 3.0, "top_k": 5, "seed": 1}):
        options = {**HEALED, **sampling, "max_new_tokens": n_new}
        done = model.complete(prompt, **options)
        spelled = b"".join(vocab.token_bytes(i) for i in done.token_ids)
        everything = (
            b"".join(vocab.token_bytes(i) for i in done.prompt_token_ids if i < 256) + spelled
        )
        assert everything.startswith(given)
        assert done.text == text_of(everything[len(given) :]) or EOS in done.token_ids
        assert len(done.prompt_token_ids) + len(done.token_ids) <= len(ids) + n_new
        stream = model.stream(prompt, **options)
        assert "".join(stream) == done.text == stream.completion.text
        if not sampling:
            assert done.prompt_token_ids + done.token_ids == expected
            (row,) = model.generate([ids], **options)
            assert row[np.count_nonzero(row[: len(ids)] == EOS) :].tolist() == expected


@settings(max_examples=50)
@given(vocab=VOCABS, prompt=PROMPTS)
def test_a_choice_that_spells_the_prompt_is_left_to_the_model(
    vocab: PieceVocab, prompt: str
) -> None:
    """A model that says the prompt's own tokens gets the completion that it gives without."""
    ids = vocab.tokenize(prompt.encode(), add_special=True, parse_special=True).tolist()

    def script(tokens: list[int]) -> int:
        return ids[len(tokens)] if len(tokens) < len(ids) else hashed_piece(vocab)(tokens)

    model = piece_model(vocab, script)
    plain, done = model.complete(prompt, max_new_tokens=4), healed(model, prompt, max_new_tokens=4)
    assert done.prompt_token_ids + done.token_ids == ids + plain.token_ids
    assert done.text == plain.text


# --- the tracker ---


@given(moves=st.lists(st.integers(-3, 3), max_size=30))
def test_the_tracker_follows_every_accept_and_rollback(moves: list[int]) -> None:
    """A number ≥ 0 is the number of an allowed token, one below takes as many back; a copy made on
    the way stays as it was."""
    end = PromptEnd(np.array([A, B, C], np.int32), INDEX)
    tracker = HealingTracker(end)
    accepted: list[int] = []

    def state(of: HealingTracker) -> tuple[bool, list[int] | None]:
        mask = of.mask()
        return of.is_done, None if mask is None else np.flatnonzero(mask).tolist()

    def fresh(ids: list[int]) -> HealingTracker:
        made = HealingTracker(end)
        for token_id in ids:
            made.accept(token_id)
        return made

    for move in moves:
        twin, before = tracker.copy(), list(accepted)
        if move < 0:
            n_back = min(-move, len(accepted))
            tracker.rollback(n_back)
            del accepted[len(accepted) - n_back :]
        else:
            mask = tracker.mask()
            allowed = range(1, 9) if mask is None else np.flatnonzero(mask).tolist()
            token_id = allowed[move % len(allowed)]
            tracker.accept(token_id)
            accepted.append(token_id)
        assert state(tracker) == state(fresh(accepted))
        assert state(twin) == state(fresh(before))


def test_the_next_token_or_one_that_goes_on() -> None:
    """By hand: abc was a, b, c; c may be cx, and abc may be abcd; ab is not the prompt's token."""
    tracker = HealingTracker(PromptEnd(np.array([A, B, C], np.int32), INDEX))
    allowed = []
    for token_id in (A, B, C):
        mask = tracker.mask()
        assert mask is not None
        allowed.append(np.flatnonzero(mask).tolist())
        tracker.accept(token_id)
    assert allowed == [[A, ABCD], [B], [C, CX]]
    assert tracker.mask() is None
    assert isinstance(tracker, Constraint)


# --- what a call returns ---

WORLD = ("hello", " wor", " world", "ld", "!!", "\n", "\n\n")


def test_the_text_is_what_follows_the_prompt() -> None:
    model = words_model(*WORLD, says="hello world!!")
    assert model.complete("hello wor", max_new_tokens=1).text == "ld"
    done = healed(model, "hello wor", max_new_tokens=1)
    assert words_of(model, done.prompt_token_ids) == ["hello"]
    assert words_of(model, done.token_ids) == [" world", "!!"]
    assert done.text == "ld!!"
    assert (done.stats.n_prompt, done.stats.n_new) == (1, 2)


def test_lengths_count_from_the_prompt_as_given() -> None:
    """As without healing: so many tokens in all, at least and at most."""
    model = words_model(*WORLD)
    n_given = len(model.tokenizer.encode("hello wor"))
    for n_new in (1, 5):
        done = healed(model, "hello wor", max_new_tokens=n_new)
        assert len(done.prompt_token_ids) + len(done.token_ids) == n_given + n_new
    done = healed(model, "hello wor", max_length=n_given + 2, max_new_tokens=None)
    assert len(done.prompt_token_ids) + len(done.token_ids) == n_given + 2
    ends = piece_model(PieceVocab([b"a", b"b", b"bc"]), lambda tokens: EOS)
    done = healed(ends, "ab", min_new_tokens=2, max_new_tokens=5)
    assert len(done.prompt_token_ids) + len(done.token_ids) == 2 + 2 + 1
    assert done.finish_reason == "eos"


def test_logprobs_have_an_entry_for_each_new_token() -> None:
    done = healed(words_model(*WORLD, says="hello world!!"), "hello wor", logprobs=1)
    assert done.logprobs is not None
    assert [step.token_id for step in done.logprobs] == done.token_ids


def test_stop_strings_match_what_follows_the_prompt() -> None:
    model = words_model(*WORLD, says="hello world!!")
    done = healed(model, "hello wor", stop_strings=["wor", "ld!"])
    assert (done.text, done.stop_match, done.finish_reason) == ("", "ld!", "stop")
    out = model.generate(
        [model.tokenizer.encode("hello wor")], stop_strings=["wor", "ld"], **HEALED
    )
    assert words_of(model, out[0, 2:].tolist()) == [" world"]


def test_a_token_that_ends_sequences_is_not_generated_again() -> None:
    """A prompt that ends with it would end at once."""
    model = words_model(*WORLD, says="hello\n\n")
    newline = WORLD.index("\n")
    done = healed(model, "hello\n", eos_token_id=newline)
    assert done.prompt_token_ids == model.tokenizer.encode("hello\n")
    done = healed(model, "hello\n", eos_token_id=WORLD.index("\n\n"))
    assert (done.text, done.finish_reason) == ("", "eos")


@pytest.mark.parametrize(
    "ban",
    [
        {"suppress_tokens": [WORLD.index(" wor")]},
        {"bad_words_ids": [[WORLD.index(" wor")]]},
        {"sequence_bias": {(WORLD.index(" wor"),): -float("inf")}},
    ],
)
def test_a_token_that_the_options_forbid_is_not_generated_again(ban: dict[str, Any]) -> None:
    done = healed(words_model(*WORLD), "hello wor", **ban)
    assert done.prompt_token_ids[-1] == WORLD.index(" wor")


def test_an_option_that_forbids_all_that_healing_allows() -> None:
    """The error names both, and the rest of the prompt."""
    words = words_model(*WORLD)
    longer = WORLD.index(" world")
    ids = [WORLD.index(each) for each in ("hello", " wor")]

    def forbids(input_ids: Any, scores: Any) -> Any:
        scores[:, [ids[1], longer]] = -np.inf
        return scores

    message = r"no token to choose.*token healing allows only tokens that continue .* b' wor'"
    for call in (words.complete, words.generate):
        prompt: Any = "hello wor" if call == words.complete else [ids]
        with pytest.raises(ValueError, match=message):
            call(prompt, logits_processor=forbids, **HEALED)
    with pytest.raises(ValueError, match=message):
        words.complete("hello wor", bad_words_ids=[ids, [ids[0], longer]], **HEALED)


def test_a_processor_that_chooses_another_token() -> None:
    def forces(input_ids: Any, scores: Any) -> Any:
        scores[:, WORLD.index("!!")] = np.inf
        return scores

    model = words_model(*WORLD)
    done = model.complete("hello wor", logits_processor=forces, max_new_tokens=2, **HEALED)
    text = "".join(words_of(model, done.prompt_token_ids + done.token_ids))
    assert text.startswith("hello wor"), "what is removed stays so"
    # generate() lets the function see the whole batch, after everything else.
    ids = model.tokenizer.encode("hello wor")
    with pytest.raises(ValueError, match=r"token 4 was chosen, but token healing allows only"):
        model.generate([ids], logits_processor=forces, **HEALED)


def test_configs_may_differ_in_it() -> None:
    model = words_model(*WORLD, says="hello world!!")
    configs = [GenerationConfig(token_healing=heals, max_new_tokens=1) for heals in (True, False)]
    texts = [done.text for done in model.complete(["hello wor"] * 2, generation_config=configs)]
    assert texts == ["ld!!", "ld"]


def test_several_sequences_of_a_prompt() -> None:
    model = words_model(*WORLD)
    options = {"temperature": 5.0, "seed": 3, "max_new_tokens": 4, **HEALED}
    several = model.complete("hello wor", num_return_sequences=8, **options)
    assert len({tuple(done.token_ids) for done in several}) > 1
    for done in several:
        text = "".join(words_of(model, done.prompt_token_ids + done.token_ids))
        assert text == "hello wor" + done.text


# --- generate() ---


def test_rows_are_the_prompt_before_healing_and_what_was_generated() -> None:
    """Padded on the left to the width of the prompts; slices of the new tokens begin there."""
    model = words_model(*WORLD, says="hello world!!")
    hello, wor, world, _, end = range(5)
    rows, mask = [[hello, wor], [EOS, hello], [hello, EOS]], [[1, 1], [0, 1], [1, 0]]
    out = model.generate(rows, mask, max_new_tokens=1, **HEALED)
    assert out[0].tolist() == [EOS, hello, world, end]
    assert out[1, :2].tolist() == [EOS, hello]
    assert out[2, :2].tolist() == [hello, EOS]
    assert out.shape == (3, 4)


def test_streamers_and_functions_see_the_prompt_before_healing() -> None:
    model = words_model(*WORLD, says="hello world!!")
    hello, wor, world, _, end = range(5)
    puts: list[Any] = []

    class Streamer:
        def put(self, ids: Any) -> None:
            puts.append(ids.tolist())

        def end(self) -> None:
            puts.append(None)

    seen: list[Any] = []

    def spy(ids: Any, scores: Any) -> Any:
        seen.append(ids.tolist())
        return scores

    out = model.generate(
        [[hello, wor]], streamer=Streamer(), logits_processor=spy, max_new_tokens=1, **HEALED
    )
    assert puts == [[[EOS, hello]], [world], [end], None]
    assert seen == [[[EOS, hello]], [[EOS, hello, world]]]
    assert out.tolist() == [[EOS, hello, world, end]]


def test_scores_belong_to_the_new_columns() -> None:
    model = words_model(*WORLD, says="hello world!!")
    out = model.generate(
        [[0, 1]], max_new_tokens=1, return_dict_in_generate=True, output_scores=True, **HEALED
    )
    assert len(out.scores) == out.sequences.shape[1] - 2
    assert np.isfinite(model.compute_transition_scores(out.sequences, out.scores)).all()
    assert np.flatnonzero(np.isfinite(out.scores[0][0])).tolist() == [1, 2]


@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.5, 1.5])
@pytest.mark.parametrize("negative", [None, "hello!!"])
def test_under_guidance(scale: float, negative: str | None) -> None:
    """By the formula, step for step: the guide gets the tokens that are generated again, too, and
    begins, without a negative prompt, with the last token before them."""
    model = words_model(*WORLD)
    prompt = model.tokenizer.encode("hello wor")
    allowed = [WORLD.index(each) for each in (" wor", " world")]
    own, other = prompt[:1], model.tokenizer.encode(negative or "hello")
    script = model.backend.script
    expected: list[int] = []
    for step in range(4):
        likely, unlikely = (log_softmax(hashed_logits(ids, script(ids))) for ids in (own, other))
        scores = guided(likely, unlikely, scale)
        expected.append(max(range(len(scores)) if step else allowed, key=scores.__getitem__))
        own, other = [*own, expected[-1]], [*other, expected[-1]]
    done = healed(
        model, "hello wor", guidance_scale=scale, negative_prompt=negative, max_new_tokens=3
    )
    assert done.token_ids == expected[: len(done.token_ids)]
    assert len(done.token_ids) >= 3


def test_a_call_that_ends_before_the_prompt_is_spelled_returns_the_prompt() -> None:
    model = words_model(*WORLD)
    out = model.generate(
        [[0, 1], [3, 4]],
        max_time=1e-9,
        return_dict_in_generate=True,
        output_scores=True,
        **HEALED,
    )
    assert out.sequences.tolist() == [[0, 1], [3, 4]]
    assert out.finish_reasons == ["time", "time"]
    done = healed(model, "hello wor", max_time=1e-9)
    assert done.text == ""


# --- prompts whose end is not the caller's text ---


def after(prefix: Prefix, text: str) -> Completion:
    (done,) = prefix.complete([text], max_new_tokens=1, **HEALED)
    return done


def test_a_prefix_is_left_as_it_is() -> None:
    """Its KV is pinned, and would have to be computed again."""
    model = words_model(*WORLD, says="hello world!!")
    for prompt in ("hello wor", [0, 1]):
        with model.prefill(prompt) as prefix:
            assert after(prefix, "").prompt_token_ids == [0, 1]
    with model.prefill("hello") as prefix:
        done = after(prefix, " wor")
        assert (done.text, done.prompt_token_ids) == ("ld!!", [0])
        assert "".join(prefix.stream(" wor", max_new_tokens=1, **HEALED)) == "ld!!"


TEMPLATE = (
    "{% for m in messages %}{{ m.content }}{% if not loop.last %}<eos>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<eos>\n{% endif %}"
)


class ChatVocab(PieceVocab):
    chat_templates = {"default": TEMPLATE}  # noqa: RUF012

    def token_bytes(self, token_id: int) -> bytes:
        return b"<eos>" if token_id == EOS else super().token_bytes(token_id)

    def tokenize(self, text: bytes, *, add_special: bool, parse_special: bool) -> np.ndarray:
        if not parse_special:
            return super().tokenize(text, add_special=False, parse_special=False)
        parts = [
            super(ChatVocab, self).tokenize(part, add_special=False, parse_special=False)
            for part in text.split(b"<eos>")
        ]
        joined = [np.concatenate([part, [EOS]]) for part in parts[:-1]]
        return np.concatenate([*joined, parts[-1]]).astype(np.int32)


def test_the_end_of_a_chat_template_is_left_as_it_is() -> None:
    """A newline that a template wrote may begin longer tokens, and is complete all the same; an
    answer that is continued is not."""
    pieces = [word.encode() for word in WORLD]
    vocab = ChatVocab(pieces)
    model = piece_model(vocab, hashed_piece(vocab))
    chat = [{"role": "user", "content": "hello"}]
    plain = model.chat(chat, max_new_tokens=2)
    done = model.chat(chat, max_new_tokens=2, **HEALED)
    assert done.prompt_token_ids == plain.prompt_token_ids == [0, EOS, WORLD.index("\n")]
    assert done.token_ids == plain.token_ids
    assert "".join(model.chat_stream(chat, max_new_tokens=2, **HEALED)) == plain.text
    for content, n_prompt in (("hello wor", 3), ("", 2)):
        chat = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": content}]
        done = model.chat(chat, continue_final_message=True, max_new_tokens=1, **HEALED)
        assert len(done.prompt_token_ids) == n_prompt


# --- options that count, or look at the prompt ---


def test_options_of_lengths_count_from_the_prompt_as_given() -> None:
    """begin_suppress_tokens, forced_bos_token_id and the decay look at where the output begins."""
    model = words_model(*WORLD, says="hello world!!")
    end = WORLD.index("!!")
    done = healed(model, "hello wor", begin_suppress_tokens=[end], max_new_tokens=2)
    assert done.token_ids[1] != end  # the first one is the rest of "world"
    ids = [WORLD.index("hello"), WORLD.index(" wor")]
    with pytest.warns(UserWarning, match="forced_bos_token_id"):
        out = model.generate([ids], forced_bos_token_id=end, max_new_tokens=1, **HEALED)
    assert words_of(model, out[0, 1:].tolist()) == ["hello", " world", "!!"]
    decays = {"exponential_decay_length_penalty": (1, 1e6), "max_new_tokens": 9}
    done = healed(words_model(*WORLD), "hello wor", **decays)
    assert done.finish_reason == "eos"
    assert len(done.prompt_token_ids) + len(done.token_ids) == len(ids) + 3


def test_a_function_that_allows_tokens_sees_the_prompt_before_healing() -> None:
    model = words_model(*WORLD, says="hello world!!")
    hello, wor, world = range(3)
    seen: list[list[int]] = []

    def allow(batch_id: int, ids: Any) -> list[int]:
        seen.append(ids.tolist())
        return [wor, world, *range(3, 20)]

    model.generate([[hello, wor]], prefix_allowed_tokens_fn=allow, max_new_tokens=1, **HEALED)
    assert seen == [[hello], [hello, world]]
    with pytest.raises(ValueError, match="token healing allows only"):
        model.generate([[hello, wor]], prefix_allowed_tokens_fn=lambda *_: [3], **HEALED)


# --- beams ---


@settings(max_examples=30)
@given(vocab=VOCABS, prompt=PROMPTS, n_beams=st.integers(2, 4), samples=st.booleans())
def test_every_beam_begins_with_the_prompt(
    vocab: PieceVocab, prompt: str, n_beams: int, samples: bool
) -> None:
    model = piece_model(vocab, hashed_piece(vocab))
    given = b"".join(map(vocab.token_bytes, model.tokenizer.encode(prompt)))
    options: dict[str, Any] = {"do_sample": True, "seed": 1} if samples else {}
    options |= {"num_beams": n_beams, "num_return_sequences": n_beams}
    found = model.complete([prompt], max_new_tokens=3, **options, **HEALED)
    for done in (each for each in found if each.token_ids):
        output = b"".join(map(vocab.token_bytes, done.prompt_token_ids + done.token_ids))
        assert output.startswith(given)
        assert done.text == text_of(output[len(given) :]) or EOS in done.token_ids


def test_beams_are_healed_by_several_ways() -> None:
    model = words_model(*WORLD, says="hello world!!")
    options: dict[str, Any] = {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 1}
    first, *others = model.complete(["hello wor"], **options, **HEALED)
    assert first.text == "ld!!"
    assert len({done.text for done in others}) == 2
    out = model.generate([[0, 1], [EOS, 0]], [[1, 1], [0, 1]], **options, **HEALED)
    assert out[0].tolist() == [EOS, 0, *first.token_ids]

    def forbids(input_ids: Any, scores: Any) -> Any:
        scores[:, [1, 2]] = -np.inf
        return scores

    with pytest.raises(ValueError, match=r"any of its beams.* token healing allows only"):
        model.complete(["hello wor"], logits_processor=forbids, **options, **HEALED)


# --- llama.cpp's vocabularies ---


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bpe", "spm"])
def test_vocabularies_of_files(kind: str, request: pytest.FixtureRequest) -> None:
    """Byte-level BPE with halves of characters; SentencePiece with a space in front, tokens of
    single bytes and BOS. A model of random weights chooses tokens of all kinds."""
    path = request.getfixturevalue(f"tiny_{kind}_path")
    options: dict[str, Any] = {"temperature": 5.0, "seed": 1, "max_new_tokens": 3}
    n_healed = 0
    with LocalModel.from_pretrained(path, n_ctx=512, n_threads=1) as model:
        tokenizer, token_bytes = model.tokenizer, model.tokenizer.token_bytes
        control = tokenizer.control_token_ids
        text = f"the hello and é日🍕{tokenizer.eos_token}  hell\n an"
        prompts = [
            text[start:end] for start in (0, 4, 13) for end in range(start + 1, len(text) + 1)
        ]
        for prompt, done in zip(prompts, model.complete(prompts, **options, **HEALED), strict=True):
            given, ids = tokenizer.encode(prompt), done.prompt_token_ids + done.token_ids
            assert b"".join(map(token_bytes, ids)).startswith(b"".join(map(token_bytes, given)))
            assert tokenizer.decode(ids).startswith(tokenizer.decode(given))
            assert [i for i in done.prompt_token_ids if i in control] == [
                i for i in given if i in control
            ]
            n_healed += len(given) > len(done.prompt_token_ids)
    assert n_healed > len(prompts) / 4
