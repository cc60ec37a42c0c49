"""Warnings for callers that cannot see them."""

from __future__ import annotations

import asyncio

import pytest

from localgen._util.warn import warn, warnings_as_errors


def test_a_warning_is_an_error_in_the_block_and_in_its_threads_alone() -> None:
    async def main() -> None:
        with warnings_as_errors():
            with pytest.raises(ValueError, match="no effect"):
                warn("no effect")
            with pytest.raises(ValueError, match="no effect"):
                await asyncio.to_thread(warn, "no effect")
        with pytest.warns(UserWarning, match="no effect"):
            await asyncio.to_thread(warn, "no effect")

    asyncio.run(main())
    with pytest.warns(UserWarning, match="no effect"):
        warn("no effect")
