"""An HTTP server that speaks OpenAI's API; it needs the extra ``localgen[serve]``.

``ServeConfig`` has its options. Nothing here imports starlette before a server is made.
"""

from __future__ import annotations

from importlib.util import find_spec

from localgen.errors import ServeError

_PACKAGES = ("starlette", "uvicorn", "pydantic", "prometheus_client")


def check_installed() -> None:
    """Raise ServeError unless the packages of the server are installed."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise ServeError(
            f"the server needs {', '.join(missing)}, not installed here. Install it with: "
            f"pip install 'localgen[serve]'"
        )
