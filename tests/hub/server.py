"""A hub on loopback: the endpoints that huggingface_hub calls for a model's files.

Its large files are served from another host name, as the Hub's are, after a redirect.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import threading
import urllib.parse
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_LFS_BYTES = 1000
_BLOCK_BYTES = 2**16
_API = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/(?:revision/(?P<revision>.+)|(?P<refs>refs))")
_RESOLVE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")


@dataclass
class Repo:
    """Files by commit, and what each branch or tag means. Faults are a test's to set."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    status: int = 200  # of every answer about it
    headers: dict[str, str] = field(default_factory=dict)  # of an answer that is no 200
    stated_sha256: str | None = None  # instead of the true one
    stated_size: int | None = None
    hides_commit: bool = False  # whether a listing names none
    hides: tuple[str, ...] = ()  # what a listing does not state of a file, as some mirrors do not

    def commit(self, files: dict[str, bytes], ref: str = "main") -> str:
        """A new commit of these files, which ``ref`` then means; its name."""
        name = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.commits[name] = files
        self.refs[ref] = name
        return name

    def at(self, revision: str) -> str | None:
        return revision if revision in self.commits else self.refs.get(revision)


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    range: str | None
    token: str | None


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no error."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class LoopbackHub:
    """``repos`` by name. ``requests``: what has been asked. Faults of the transfer:

    cut_after: bytes after which the next transfer's connection is cut, once. before_transfer:
    called before each file's HEAD or GET is answered. cdn_status: of the file's transfer.
    search_status: of the answer to a search.
    ignores_ranges: whether all of a file is sent whatever was asked for. most_of_range: bytes that
    are sent of one at most. n_sent: bytes of large
    files that have been sent.
    """

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.requests: list[Request] = []
        self.cut_after: int | None = None
        self.cuts_left = 0
        self.cdn_status = self.search_status = 200
        self.before_transfer: Any = None
        self.ignores_ranges = False
        self.most_of_range: int | None = None
        self.n_sent = 0
        self._blobs: dict[str, bytes] = {}
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def repo(self, name: str, files: dict[str, bytes] | None = None) -> Repo:
        """A repository, with a first commit of ``files``."""
        repo = self.repos[name] = Repo()
        if files is not None:
            repo.commit(files)
        return repo

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

            def do_HEAD(self) -> None:
                hub.answer(self)

            def do_GET(self) -> None:
                hub.answer(self)

        return Handler

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        token = request.headers.get("Authorization")
        path, _, query = request.path.partition("?")
        path = urllib.parse.unquote(path)
        self.requests.append(Request(request.command, path, request.headers.get("Range"), token))
        if path.startswith("/cdn/"):
            self._send_blob(request, path.removeprefix("/cdn/"))
        elif path == "/api/models":
            self._send_search(request, urllib.parse.parse_qs(query))
        elif match := _API.fullmatch(path):
            self._send_api(request, **match.groupdict(), with_blobs="blobs" in query)
        elif match := _RESOLVE.fullmatch(path):
            self._send_file(request, **match.groupdict())
        else:
            _send(request, 404, {})

    def _repo(self, request: BaseHTTPRequestHandler, name: str) -> Repo | None:
        """The repository, or None after an answer that refuses it."""
        repo = self.repos.get(name)
        status = repo.status if repo else 401  # the Hub tells nobody whether it exists
        if repo is not None and status == 200:
            return repo
        unknown = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Invalid username."}
        _send(request, status, repo.headers if repo else unknown)
        return None

    def _send_search(self, request: BaseHTTPRequestHandler, query: dict[str, list[str]]) -> None:
        if self.search_status != 200:
            _send(request, self.search_status, {})
            return
        (author,) = query.get("author", [""])
        (search,) = query.get("search", [""])
        found = [
            {"id": name}
            for name in self.repos
            if name.startswith(author) and search.lower() in name.lower()
        ]
        _send(request, 200, {}, json.dumps(found).encode())

    def _send_api(
        self,
        request: BaseHTTPRequestHandler,
        repo: str,
        revision: str | None,
        refs: str | None,
        with_blobs: bool,
    ) -> None:
        found = self._repo(request, repo)
        if found is None:
            return
        if refs:
            branches = [
                {"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit}
                for name, commit in found.refs.items()
            ]
            answer: dict[str, Any] = {"branches": branches, "tags": [], "converts": []}
            _send(request, 200, {}, json.dumps(answer).encode())
            return
        commit = found.at(revision or "main")
        if commit is None:
            _send(request, 404, {"X-Error-Code": "RevisionNotFound"})
            return
        files = found.commits[commit]
        siblings = [
            _sibling(name, data, found, with_blobs=with_blobs) for name, data in files.items()
        ]
        sha = None if found.hides_commit else commit
        answer = {"id": repo, "sha": sha, "siblings": siblings}
        _send(request, 200, {}, json.dumps(answer).encode())

    def _send_file(
        self, request: BaseHTTPRequestHandler, repo: str, revision: str, file: str
    ) -> None:
        if self.before_transfer:
            self.before_transfer()
        found = self._repo(request, repo)
        if found is None:
            return
        commit = found.at(revision)
        data = found.commits[commit].get(file) if commit else None
        if data is None:
            code = "EntryNotFound" if commit else "RevisionNotFound"
            _send(request, 404, {"X-Error-Code": code, "X-Repo-Commit": commit or ""})
            return
        headers = {"X-Repo-Commit": str(commit)}
        if len(data) < _LFS_BYTES:
            headers["ETag"] = f'"{_git_sha1(data)}"'
            _send(request, 200, headers, data)
            return
        sha256 = hashlib.sha256(data).hexdigest()
        self._blobs[sha256] = data
        headers["X-Linked-Etag"] = f'"{found.stated_sha256 or sha256}"'
        headers["X-Linked-Size"] = str(len(data))
        headers["Location"] = f"http://localhost:{self.port}/cdn/{sha256}"
        _send(request, 302, headers)

    def _send_blob(self, request: BaseHTTPRequestHandler, sha256: str) -> None:
        if self.cdn_status != 200:
            _send(request, self.cdn_status, {})
            return
        data = self._blobs[sha256]
        start, end = 0, len(data)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        is_part = asked is not None and not self.ignores_ranges
        if asked and is_part:
            start = int(asked[1])
            end = min(end, int(asked[2]) + 1) if asked[2] else end
            end = min(end, start + self.most_of_range) if self.most_of_range else end
        request.send_response(206 if is_part else 200)
        request.send_header("Content-Length", str(end - start))
        if is_part:
            request.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        request.end_headers()
        if self.cuts_left and self.cut_after is not None:
            self.cuts_left -= 1
            end = start + self.cut_after
            request.close_connection = True
        try:
            for at in range(start, end, _BLOCK_BYTES):
                part = data[at : min(end, at + _BLOCK_BYTES)]
                self.n_sent += len(part)
                request.wfile.write(part)
        except ConnectionError:
            request.close_connection = True


def _sibling(name: str, data: bytes, repo: Repo, *, with_blobs: bool) -> dict[str, Any]:
    if not with_blobs:
        return {} if "rfilename" in repo.hides else {"rfilename": name}
    sibling: dict[str, Any] = {"rfilename": name, "blobId": _git_sha1(data)}
    sibling["size"] = len(data) if repo.stated_size is None else repo.stated_size
    if len(data) >= _LFS_BYTES:
        sha256 = repo.stated_sha256 or hashlib.sha256(data).hexdigest()
        sibling["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 130}
        for key in set(repo.hides) & set(sibling["lfs"]):
            del sibling["lfs"][key]
    return {key: value for key, value in sibling.items() if key not in repo.hides}


def _git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _send(
    request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes = b""
) -> None:
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body)
