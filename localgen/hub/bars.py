"""Progress bars on stderr for transfers; none if stderr is not a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from localgen._util.console import is_terminal


@contextlib.contextmanager
def transfer_bar(description: str, n_bytes: int) -> Iterator[Callable[[float], None]]:
    """Show a bar for ``n_bytes``; call the function that it yields with the bytes received.

    HF_HUB_DISABLE_PROGRESS_BARS switches it off, like huggingface_hub's own bars.
    """
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not is_terminal(sys.stderr) or are_progress_bars_disabled(),
        redirect_stdout=is_terminal(sys.stdout),  # else prints would not reach their file or pipe
    ) as bar:
        task = bar.add_task(description, total=n_bytes or None)
        yield lambda n: bar.advance(task, n)
