"""Opens random bad files for as long as it is told to, and keeps those that no error refused.

    python -m tests.hostile.fuzz --seconds 300

Exit code 1 if a file crashed, hung or filled the memory; it is then in the folder ``--keep``.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.hostile.mutations import BadFile, bad_files, fields_of, flipped
from tests.hostile.opener import open_files
from tests.hostile.test_corpus import MAKERS

_AT_A_TIME = 100


def some_bad_files(data: bytes, rng: random.Random) -> list[BadFile]:
    """Random ones of a good file's mutations, each with some bits flipped as well."""
    n_before_weights = fields_of(data)[-1].start
    share = _AT_A_TIME / 2 / sum(1 for _ in bad_files(data, n_flips=0))
    chosen = [bad for bad in bad_files(data, n_flips=0) if rng.random() < share]
    twice = [
        BadFile(f"{bad.name}, and {more.name}", more.data)
        for bad in chosen
        if len(bad.data) > n_before_weights
        for more in flipped(bad.data, rng, 1, n_before_weights)
    ]
    return [*twice, *flipped(data, rng, _AT_A_TIME - len(twice), n_before_weights)]


def main() -> int:
    """Run until the time is over."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    options = parser.parse_args()
    rng = random.Random(options.seed)
    end = time.monotonic() + options.seconds
    ends: Counter[str] = Counter()
    n_findings = 0
    with tempfile.TemporaryDirectory() as folder:
        goods = []
        for number, make in enumerate(MAKERS.values()):
            path = Path(folder) / f"good-{number}.gguf"
            make(path)
            goods.append(path.read_bytes())
        while time.monotonic() < end:
            bad = some_bad_files(rng.choice(goods), rng)
            paths = [Path(folder) / f"{number}.gguf" for number in range(len(bad))]
            for path, file in zip(paths, bad, strict=True):
                path.write_bytes(file.data)
            for (path, result), file in zip(open_files(paths).items(), bad, strict=True):
                ends[result] += 1
                if result not in ("refused", "generated"):
                    n_findings += 1
                    options.keep.mkdir(exist_ok=True)
                    path.rename(options.keep / f"{options.seed}-{n_findings}.gguf")
                    print(f"{result}: {file.name}", flush=True)
    print(dict(ends))
    return 1 if n_findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
