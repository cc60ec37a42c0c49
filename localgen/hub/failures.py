"""Turns the Hub's errors into messages that say what to do."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from localgen._util.format import either
from localgen._util.suggestions import similar_names
from localgen.errors import DownloadError, LocalgenError, ModelNotFoundError
from localgen.hub.names import HubName

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_N_NEAREST = 3
_SEARCH_SECONDS = 5.0
_TOO_MANY = 429
_USE_CACHED = "use only what is cached: HF_HUB_OFFLINE=1, or local_files_only=True in Python"
_REFUSALS = {
    401: "the Hub rejected the token for {repo} (401): it is wrong or expired. Log in again with "
    "`hf auth login`, or unset HF_TOKEN if the repository is public.",
    403: "the Hub denied access to {repo} (403): the token has no permission to read it. Use one "
    "that has: run `hf auth login` or set HF_TOKEN.",
    404: "{name} no longer exists (404): the repository has changed. Try again.",
}


class NotFetchedError(DownloadError):
    """The Hub cannot be reached, or the cache not written; the cached copy may be used instead."""


@contextlib.contextmanager
def explained(name: HubName) -> Iterator[None]:
    """Turn errors of huggingface_hub inside the block into a DownloadError with advice."""
    _check_setup()
    from huggingface_hub import errors  # noqa: PLC0415

    # The base class of the HTTP client's errors, which depends on huggingface_hub's version.
    of_client: type[Exception] = errors.HfHubHTTPError.__bases__[0]
    try:
        yield
    except LocalgenError:
        raise
    except OSError as error:
        if not _is_from_hub(error):
            raise
        raise _as_download_error(name, error) from error
    except (of_client, RuntimeError) as error:  # RuntimeError: xet's transfer
        raise NotFetchedError(_not_fetched(name, error)) from error


def _check_setup() -> None:
    """Raise NotFetchedError or DownloadError if the environment makes every request impossible."""
    try:
        from huggingface_hub import HfApi, get_session, get_token  # noqa: F401, PLC0415

        get_session()  # the first call reads the settings of proxies and certificates
    except Exception as error:  # of several libraries, without a base class
        raise NotFetchedError(
            f"the connection to the Hub cannot be set up: {_first_line(error)}. Check the "
            f"environment variables HF_ENDPOINT, HTTPS_PROXY, ALL_PROXY, NO_PROXY and "
            f"SSL_CERT_FILE, or {_USE_CACHED}."
        ) from error
    try:
        token = get_token() or ""
    except OSError as error:
        raise DownloadError(
            f"the token for the Hub cannot be read from {error.filename}: {error.strerror}. Check "
            f"the environment variables HF_HOME and HF_TOKEN_PATH."
        ) from error
    if not (token.isascii() and token.isprintable()):
        raise DownloadError(
            "the token for the Hub has a character that no token has. Set HF_TOKEN again, or run "
            "`hf auth login`."
        )


def _is_from_hub(error: OSError) -> bool:
    """Return whether an error is not one of the disk, which have an errno and stay as they are."""
    return error.errno is None or isinstance(error, ConnectionError | TimeoutError)


def _as_download_error(name: HubName, error: OSError) -> DownloadError:
    from huggingface_hub import errors  # noqa: PLC0415

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, errors.HfHubHTTPError):
        cause = cause.__cause__
    if cause is None:
        return NotFetchedError(_not_fetched(name, error.__cause__ or error))
    if isinstance(cause, errors.GatedRepoError):
        return DownloadError(
            f"{name.repo} is gated: accept its terms at https://huggingface.co/{name.repo}, then "
            f"run `hf auth login`, or set HF_TOKEN to a token of that account."
        )
    status = cause.response.status_code
    if status in _REFUSALS:
        return DownloadError(_REFUSALS[status].format(name=name, repo=name.repo))
    if status == _TOO_MANY:
        wait = cause.response.headers.get("Retry-After")
        return NotFetchedError(
            f"the Hub is limiting requests (429). Try again "
            f"{f'in {wait} seconds' if wait else 'later'}; `hf auth login` raises the limit."
        )
    return NotFetchedError(f"the Hub failed to answer for {name} ({status}). Try again later.")


def _not_fetched(name: HubName, error: BaseException) -> str:
    reason = _first_line(error)
    # httpx's or httpx2's, which depends on huggingface_hub's version.
    if type(error).__name__ in ("ConnectError", "ConnectTimeout"):
        reason = f"no connection to the Hub ({reason})"
    elif "Timeout" in type(error).__name__:
        reason = (
            f"no answer in time ({reason}; HF_HUB_ETAG_TIMEOUT and HF_HUB_DOWNLOAD_TIMEOUT set it)"
        )
    endpoint = os.environ.get("HF_ENDPOINT")
    check = "" if endpoint is None else f" and HF_ENDPOINT ({endpoint!r}),"
    return (
        f"{name} could not be fetched from the Hub: {reason}. Check the connection{check} and try "
        f"again, or {_USE_CACHED}."
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def missing_repository(name: HubName) -> ModelNotFoundError:
    """Return the error for a repository that the Hub does not show, with similar names."""
    owner, title = name.repo.split("/")
    with contextlib.suppress(Exception):  # it is only a hint
        found = [*_search(author=owner, limit=200), *_search(search=title, limit=50)]
        return ModelNotFoundError(_no_repository(name) + _nearest(name.repo, found))
    return ModelNotFoundError(_no_repository(name))


def _search(**query: str | int) -> list[str]:
    """Return the names that a search finds, with one request: ``list_models`` retries for long."""
    from huggingface_hub import constants, get_session, utils  # noqa: PLC0415

    response = get_session().get(
        f"{constants.ENDPOINT}/api/models",
        params={"filter": "gguf", **query},
        headers=utils.build_hf_headers(),  # type: ignore[attr-defined]
        timeout=_SEARCH_SECONDS,
    )
    utils.hf_raise_for_status(response)  # type: ignore[attr-defined]
    return [model["id"] for model in response.json()]


def _no_repository(name: HubName) -> str:
    return (
        f"there is no local file {name}, and no repository {name.repo} on the Hub. If it is "
        f"private, run `hf auth login` or set HF_TOKEN."
    )


def missing_revision(api: HfApi, name: HubName) -> ModelNotFoundError:
    """Return the error for a revision that a repository lacks, with those it has."""
    hint = ""
    with contextlib.suppress(Exception):  # it is only a hint
        refs = api.list_repo_refs(name.repo)
        hint = f"; it has {', '.join(ref.name for ref in [*refs.branches, *refs.tags])}"
    return ModelNotFoundError(f"{name.repo} has no revision {name.revision}{hint}")


def _nearest(repo: str, found: Iterable[str]) -> str:
    near = similar_names(repo, sorted(set(found)), n=_N_NEAREST, cutoff=0.5)
    return f" Did you mean {either(near)}?" if near else ""
