"""Parses the names of models; it uses neither disk nor network."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAIN = "main"
_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_NAME = re.compile(
    rf"(?P<repo>{_PART}/{_PART})"
    r"(?:/(?P<file>[^@]+\.gguf)|:(?P<level>[A-Za-z0-9_-]+))?"
    r"(?:@(?P<revision>[^@]+))?",
    re.IGNORECASE,
)
_ALIAS = re.compile(r"(?P<alias>[^/\\:@]+)(?::(?P<level>[A-Za-z0-9_-]+))?(?:@(?P<revision>[^@]+))?")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*")
_COMMIT = re.compile(r"[0-9a-f]{40}")
# Names that Windows reserves for devices, with any extension.
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)
_NOT_IN_NAMES = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\]')


@dataclass(frozen=True, slots=True)
class HubName:
    """``org/repo`` at a revision, optionally with one of its files or a quantization level."""

    repo: str
    file: str | None = None
    level: str | None = None
    revision: str = MAIN

    def __str__(self) -> str:
        part = f"/{self.file}" if self.file else f":{self.level}" if self.level else ""
        at = "" if self.revision == MAIN else f"@{self.revision}"
        return f"{self.repo}{part}{at}"

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a commit, so that its files never change."""
        return bool(_COMMIT.fullmatch(self.revision))


@dataclass(frozen=True, slots=True)
class AliasName:
    """A word without a slash, which is an alias if the catalogue has it."""

    alias: str
    level: str | None
    revision: str | None


def parse_hub_name(text: str, revision: str | None = None) -> HubName | None:
    """Return the parts of a name on the Hub, or None if ``text`` is not one.

    Raises ValueError for an invalid file or revision, and for two different revisions.
    """
    match = _NAME.fullmatch(text)
    # "folder/model.gguf" is a path that does not exist.
    if match is None or ".." in match["repo"] or match["repo"].lower().endswith(".gguf"):
        return None
    if match["file"]:
        reason = why_unsafe(match["file"])
        if reason:
            raise ValueError(f"{text!r} is not a valid file of a repository: {reason}")
    name = one_revision(text, match["revision"], revision) or MAIN
    return HubName(match["repo"], match["file"], match["level"], name)


def parse_alias(text: str) -> AliasName | None:
    """Return the parts of ``alias[:LEVEL][@revision]``, or None if ``text`` has another form."""
    match = _ALIAS.fullmatch(text)
    return AliasName(match["alias"], match["level"], match["revision"]) if match else None


def one_revision(text: str, in_name: str | None, argument: str | None) -> str | None:
    """Return the revision in a name or in an argument.

    Raises ValueError if they differ, or if the revision is not a valid one.
    """
    if in_name and argument and in_name != argument:
        raise ValueError(
            f"{text!r} and revision={argument!r} are two different revisions. Give one of them."
        )
    revision = in_name or argument
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise ValueError(
            f"{revision!r} is not a valid revision. Give a branch, a tag, or a commit of 40 hex "
            f"digits."
        )
    return revision


def why_unsafe(file: str) -> str | None:
    """Return why a file's name could escape its folder, on POSIX or Windows; None if it cannot."""
    found = _NOT_IN_NAMES.search(file)
    if found:
        return f"it contains {found[0]!r}"
    for part in file.split("/"):
        if part in ("", ".", ".."):
            return f"it has the component {part!r}"
        if part[-1] in ". ":
            return f"its component {part!r} ends with {part[-1]!r}"
        if _DEVICES.fullmatch(part):
            return f"its component {part!r} is reserved on Windows"
    return None
