"""Reads the start of files on the Hub with range requests; nothing is written to the disk."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from localgen.errors import DownloadError
from localgen.hub.failures import explained
from localgen.hub.names import HubName
from localgen.hub.settings import settings

_PARTIAL, _WHOLE = 206, 200
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A model on the Hub that is not cached; ``files`` are its shards and their sizes."""

    name: HubName
    commit: str
    files: tuple[tuple[str, int], ...]

    def open(self) -> list[RemoteReader]:
        """Return a reader for each shard; it makes no request before it reads."""
        return [RemoteReader(self, file, size) for file, size in self.files]


class RemoteReader:
    """Reads a file on the Hub from its start; ``size`` is in bytes, as the Hub lists it."""

    def __init__(self, model: RemoteModel, file: str, size: int) -> None:
        self.name = f"{model.name.repo}/{file}"
        self.size = size
        self.n_read = 0
        self._model = model
        self._file = file

    def read(self, n_bytes: int) -> bytes:
        """Return the next ``n_bytes``, or all that are left, with one request.

        Raises DownloadError.
        """
        n_bytes = min(n_bytes, self.size - self.n_read)
        if not n_bytes:
            return b""
        with explained(self._model.name):
            data = self._request(n_bytes)
        self.n_read += n_bytes
        return data

    def _request(self, n_bytes: int) -> bytes:
        from huggingface_hub import get_session, hf_hub_url, utils  # noqa: PLC0415

        model = self._model
        url = hf_hub_url(model.name.repo, self._file, revision=model.commit)
        headers = {
            **utils.build_hf_headers(),  # type: ignore[attr-defined]
            "Range": f"bytes={self.n_read}-{self.n_read + n_bytes - 1}",
            "Accept-Encoding": "identity",  # a server that compresses sends no ranges
        }
        options: dict[str, Any] = {
            "headers": headers,
            "timeout": settings().HF_HUB_DOWNLOAD_TIMEOUT,
            "follow_redirects": True,
        }
        with get_session().stream("GET", url, **options) as response:
            utils.hf_raise_for_status(response)  # type: ignore[attr-defined]
            self._check(response)
            return self._first(response, n_bytes)

    def _check(self, response: Any) -> None:
        """Raise DownloadError if the response is not the requested part, before reading it."""
        if response.status_code == _WHOLE and not self.n_read:
            return
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if response.status_code != _PARTIAL or match is None:
            raise DownloadError(
                f"{self.name} cannot be read in parts: the server ignores ranges. Fetch it with: "
                f"localgen models pull {self._model.name}"
            )
        start, size = map(int, match.groups())
        if (start, size) != (self.n_read, self.size):
            raise DownloadError(
                f"{self.name}: requested byte {self.n_read} of {self.size}, got byte {start} of "
                f"{size}. Try again."
            )

    def _first(self, response: Any, n_bytes: int) -> bytes:
        """Return the first ``n_bytes`` of the body; any more that the server sends is not read."""
        data = bytearray()
        for part in response.iter_bytes():
            data += part
            if len(data) > n_bytes:
                break
        if len(data) < n_bytes:
            raise DownloadError(
                f"{self.name}: requested {n_bytes} bytes, got {len(data)}. Try again."
            )
        return bytes(data[:n_bytes])
