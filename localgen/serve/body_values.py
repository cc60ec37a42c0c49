"""How many values a body of JSON has, before it is parsed: parsing holds Python's lock, and with it
all other requests."""

from __future__ import annotations

from localgen.serve.refusals import Refusal

# Of each, in a body. Measured: parsing takes 45 ms for so many token ids, 23 ms for such messages.
MOST_VALUES, MOST_OBJECTS = 2**18, 2**14
_SEPARATORS = (b",", b"[", b"{")


def check_values(body: bytes) -> None:
    """Refuse a body of too many values. It looks at no text for long without letting others on."""
    if _may_have_few(body):
        return
    n_values, n_objects = _counted(body)
    if n_values > MOST_VALUES or n_objects > MOST_OBJECTS:
        raise Refusal(
            400,
            f"the body may have {MOST_VALUES:,} values and {MOST_OBJECTS:,} objects at most, those "
            f"of its lists and objects included",
            code="too_many_values",
        )


def _may_have_few(body: bytes) -> bool:
    """Return whether a body has few values even if its texts were some."""
    return body.count(b"{") <= MOST_OBJECTS and sum(map(body.count, _SEPARATORS)) <= MOST_VALUES


def _counted(body: bytes) -> tuple[int, int]:
    """Return how many values and objects a body has outside of its texts, or some beyond the
    most."""
    body = body.replace(b"\\\\", b"").replace(b'\\"', b"")  # what is left of quotes ends texts
    n_values = n_objects = at = 0
    while n_values <= MOST_VALUES and n_objects <= MOST_OBJECTS:
        begin = body.find(b'"', at)
        end = len(body) if begin < 0 else begin
        n_objects += body.count(b"{", at, end)
        n_values += 1 + sum(body.count(each, at, end) for each in _SEPARATORS)
        at = body.find(b'"', begin + 1) + 1
        if begin < 0 or not at:
            break
    return n_values, n_objects
