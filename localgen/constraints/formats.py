"""Patterns of formats that llguidance takes too widely: it knows no lengths of months and of names.

They match less than their standard: no leap seconds, only upper-case T and Z, durations that a
``timedelta`` holds, and host names without two hyphens in a row.
"""

from __future__ import annotations

_YEAR = "([0-9]{3}[1-9]|[0-9]{2}[1-9][0-9]|[0-9][1-9][0-9]{2}|[1-9][0-9]{3})"
_DAY = (
    "((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)"
    "|02-(0[1-9]|1[0-9]|2[0-8]))"
)
_BY_FOUR = "(0[48]|[2468][048]|[13579][26])"
_DATE = f"({_YEAR}-{_DAY}|([0-9]{{2}}{_BY_FOUR}|{_BY_FOUR}00)-02-29)"
_HOUR = "([01][0-9]|2[0-3])"
_TIME = rf"{_HOUR}:[0-5][0-9]:[0-5][0-9](\.[0-9]{{1,9}})?(Z|[+-]{_HOUR}:[0-5][0-9])"

# Six digits: a million years are less than timedelta's 999,999,999 days.
_N = "[0-9]{1,6}"
_SECONDS = f"{_N}S"
_MINUTES = f"{_N}M({_SECONDS})?"
_CLOCK = f"T({_N}H({_MINUTES})?|{_MINUTES}|{_SECONDS})"
_DAYS = f"{_N}D"
_MONTHS = f"{_N}M({_DAYS})?"
_DURATION = f"P({_N}W|{_CLOCK}|({_N}Y({_MONTHS})?|{_MONTHS}|{_DAYS})({_CLOCK})?)"

# A label has at most 63 characters. "--" at its third and fourth place would be a word of another
# alphabet, encoded by rules of its own.
_LABEL = "[A-Za-z0-9](-?[A-Za-z0-9]){0,31}"

PATTERNS = {
    "duration": f"^{_DURATION}$",
    "hostname": rf"^{_LABEL}(\.{_LABEL})*$",
    "date": f"^{_DATE}$",
    "time": f"^{_TIME}$",
    "date-time": f"^{_DATE}T{_TIME}$",
}
# The most characters, where a pattern does not bound them.
LENGTHS = {"hostname": 253}
