"""Token ids as options: one, a list, lists of them, and their biases."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from localgen._util.arrays import plain
from localgen._util.checks import check_float, check_int

MAX_TOKEN_ID = 2**31 - 1


def check_token_ids(name: str, value: object) -> tuple[int, ...]:
    if not isinstance(value, Iterable) or isinstance(value, str | bytes):
        raise ValueError(f"{name} must be a list of token ids, got {value!r}")
    return tuple(check_int(name, plain(each), 0, MAX_TOKEN_ID) for each in value)


def check_eos_token_id(name: str, value: object) -> tuple[int, ...]:
    """-1 is no token, so that nothing ends a sequence, as in transformers."""
    is_list = isinstance(value, Iterable) and not isinstance(value, str | bytes)
    ids = [plain(each) for each in value] if is_list else [value]  # type: ignore[attr-defined]
    return check_token_ids(name, [each for each in ids if not _is_minus_one(each)])


def check_forced_ids(name: str, value: object) -> tuple[int, ...]:
    """One token id or a list of them, as a tuple."""
    is_list = isinstance(value, Iterable) and not isinstance(value, str | bytes)
    ids = check_token_ids(name, value if is_list else (value,))
    if not ids:
        raise ValueError(f"{name} must name at least one token id, got {value!r}")
    return ids


def check_bad_words(name: str, value: object) -> tuple[tuple[int, ...], ...]:
    if not isinstance(value, Iterable):
        raise ValueError(f"{name} must be a list of lists of token ids, got {value!r}")
    words = tuple(check_token_ids(name, word) for word in value)
    if any(not word for word in words):
        raise ValueError(f"{name} must hold non-empty lists of token ids, got an empty one")
    return words


def check_sequence_bias(name: str, value: object) -> tuple[tuple[tuple[int, ...], float], ...]:
    """transformers' two spellings, {(ids…): bias} and [[[ids…], bias], …], as one tuple; of two
    biases for the same ids, the last one counts, as there."""
    pairs = value.items() if isinstance(value, Mapping) else value
    if not isinstance(pairs, Iterable) or isinstance(pairs, str | bytes):
        raise ValueError(f"{name} must be a dict of id tuples to floats, got {value!r}")
    result: dict[tuple[int, ...], float] = {}
    for pair in pairs:
        if not (isinstance(pair, tuple | list) and len(pair) == 2):
            raise ValueError(f"{name} must hold (token ids, bias) pairs, got {pair!r}")
        ids = check_token_ids(name, pair[0])
        if not ids:
            raise ValueError(f"{name} must hold non-empty token id tuples, got an empty one")
        bias = plain(pair[1])
        if bias != -math.inf:  # which bans, as in transformers
            bias = check_float(name, bias, "from -1e9 to 1e9, or -inf", -1e9, 1e9)
        result[ids] = float(bias)
    return tuple(result.items())


def _is_minus_one(value: object) -> bool:
    return isinstance(value, int) and value == -1
