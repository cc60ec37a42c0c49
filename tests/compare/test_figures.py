"""Figures that cannot have been measured, in files of results."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from localgen import CompareError
from localgen.compare import Comparison, Spread
from localgen.compare.figures import check_figures
from localgen.compare.level_result import ChatAgreement, SpeedAtDepth
from tests.comparisons import comparison, level, task_result

GOOD = level("Q4", 10**6, 0.1, 20.0)
CHATS = ChatAgreement(share_equal=0.5, low=0.1, high=0.9, first_difference=None, replies=())
TASK = task_result("t", "rwr", "rrr")


def test_measured_figures_pass() -> None:
    for each in comparison().levels:
        check_figures(each)
    check_figures(level("Q4", 1, -1e-8, 1.0, ln_ppl_ratio=-0.5, perplexity=1e300, flips=0.0))
    check_figures(dataclasses.replace(GOOD, chats=CHATS, tasks=(TASK,)))


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        *(({"perplexity_se": bad}, "perplexity_se") for bad in (math.nan, math.inf, -1.0)),
        ({"kld_mean": -1.0}, "kld_mean"),
        ({"kld_quantiles": (0.1, math.nan)}, "kld_quantiles"),
        ({"ln_ppl_ratio": math.inf}, "ln_ppl_ratio"),
        ({"file_bytes": -5}, "file_bytes"),
        ({"peak_rss_bytes": 2**62}, "peak_rss_bytes"),
        ({"flips": 1.5}, "flips"),
        ({"decode_tps": Spread(1.0, -1.0, 2.0)}, "decode_tps.low"),
        ({"decode_tps": Spread(3.0, 1.0, 2.0)}, "decode_tps.median"),
        ({"decode_tps": Spread(math.nan, 1.0, 2.0)}, "decode_tps.low"),
        ({"decode_tps": Spread(1.0, 1.0, math.inf)}, "decode_tps.high"),
        (
            {
                "at_depths": (
                    SpeedAtDepth(depth=-1, prefill_tps=None, decode_tps=Spread(1.0, 1.0, 1.0)),
                )
            },
            "at_depths.depth",
        ),
        ({"chats": dataclasses.replace(CHATS, low=-0.5)}, "chats.low"),
        ({"tasks": (dataclasses.replace(TASK, accuracy_se=math.nan),)}, "tasks.accuracy_se"),
    ],
)
def test_an_impossible_figure_is_told_with_its_level_and_name(
    changed: dict[str, Any], name: str
) -> None:
    with pytest.raises(CompareError, match=rf"^Q4: {name} is .*, and must be "):
        check_figures(dataclasses.replace(GOOD, **changed))


def test_a_file_with_an_impossible_figure_is_refused_by_name(tmp_path: Path) -> None:
    """A negative speed failed in matplotlib, without a word of where it came from."""
    path = tmp_path / "laptop.json"
    data = json.loads(comparison().to_json())
    data["levels"][1]["decode_tps"]["median"] = -1.0
    path.write_text(json.dumps(data))
    with pytest.raises(CompareError, match=r"laptop\.json: \w+: decode_tps"):
        Comparison.load(path)
