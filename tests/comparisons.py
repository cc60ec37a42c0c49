"""Hand-made comparisons, with figures that are easy to check and hostile texts."""

from __future__ import annotations

from typing import Any

from localgen.compare import Comparison, LevelResult, Spread
from localgen.compare.level_result import ChatAgreement, Divergence, SpeedAtDepth, TaskResult
from localgen.compare.metrics import KLD_PROBABILITIES
from localgen.compare.task_metrics import accuracy, paired_difference

# Each would set window.harmed if a browser took it for markup.
SCRIPT = "<script>window.harmed = 1</script>"
IMAGE = '"><img src="http://127.0.0.1:9/x.png" onerror="window.harmed = 1">'
BREAKOUT = "</script></style></svg><script>window.harmed = 1</script>{{ 7 * 7 }}$\\frac$"


def level(name: str, n_bytes: int, kld: float, speed: float, **more: Any) -> LevelResult:
    """Return a level whose tokens' KLDs are spread evenly from 0 to twice the mean."""
    return LevelResult(
        **{
            "name": name,
            "file": f"{name}.gguf",
            "sha256": "0f" * 32,
            "file_bytes": n_bytes,
            "bits_per_weight": n_bytes / 10**9,
            "prefill_tps": Spread(10 * speed, 9 * speed, 11 * speed),
            "decode_tps": Spread(speed, 0.9 * speed, 1.1 * speed),
            "perplexity": 10.0 + kld,
            "perplexity_se": 0.1,
            "flash_attention": "off",
            "kld_mean": kld,
            "kld_se": kld / 10,
            "kld_p99": 1.98 * kld,
            "kld_p999": 1.998 * kld,
            "kld_max": 2 * kld,
            "flips": kld,
            "kld_quantiles": tuple(2 * kld * p for p in KLD_PROBABILITIES),
            "top1_agreement": 1 - kld,
            "divergence_tokens": 4.0,
            **more,
        }
    )


def task_result(name: str, right: str, reference: str | None = None) -> TaskResult:
    """Return a task's result from one letter for each question: "r" if its answer is right."""
    is_right = [letter == "r" for letter in right]
    share, error = accuracy(is_right)
    found = TaskResult(
        name=name,
        accuracy=share,
        accuracy_se=error,
        accuracy_norm=None,
        answers=tuple(right),
        right=tuple(is_right),
        ids=tuple(str(number) for number in range(1, len(right) + 1)),
    )
    if reference is None:
        return found
    theirs = [letter == "r" for letter in reference]
    return found.compared_with(paired_difference(theirs, is_right, [*reference], [*right]))


def comparison(**more: Any) -> Comparison:
    """Return six levels, with Q4_0 as the knee, and Q5_bad, which Q5_0 beats.

    One more failed, and one has only a size.
    """
    return Comparison(
        **{
            "source": "model-F16.gguf",
            "settings": {
                "command": "localgen compare model-F16.gguf --levels F16,Q4_0 --n-threads 2",
                "localgen": "0.1.0",
                "cpu": "A CPU",
                "n_threads": 2,
                "kv_types": ["f16"],
                "text_sha256": "ab" * 32,
            },
            "levels": (
                level("F16", 16 * 10**9, 0.0, 10, is_reference=True),
                level("Q8_0", 8 * 10**9, 0.001, 18),
                level("Q5_bad", 7 * 10**9, 0.03, 19),
                level("Q5_0", 6 * 10**9, 0.02, 20),
                level("Q4_0", 5 * 10**9, 0.04, 25, divergences=DIVERGENCES),
                level("Q2_K", 3 * 10**9, 0.9, 22),
                LevelResult(name="sized", file_bytes=4 * 10**9),
                LevelResult(name="IQ1_S", error="it needs an importance matrix"),
            ),
            "noise": LevelResult(name="F16 against itself", kld_mean=1.5e-6, kld_se=1e-7),
            "notes": ("the text has 12 chunks, not 16",),
            **more,
        }
    )


DIVERGENCES = (
    Divergence("The capital of France is", " Paris, a city.", " Paris, the city.", 2),
    Divergence("Water boils at", " 100 °C.", " 100 °C.", 5),
    Divergence("Once upon a time", " there was", " there was a cat", 2),
)


def hostile() -> Comparison:
    """Return a comparison with markup in every text that a user, a file or a model can choose."""
    divergences = (
        Divergence(SCRIPT, f"same {SCRIPT}", f"same {IMAGE}", 1),
        Divergence(IMAGE, BREAKOUT, BREAKOUT, 9),
    )
    return comparison(
        source=f"{SCRIPT}.gguf",
        settings={"command": f"localgen {BREAKOUT}", SCRIPT: IMAGE, "cpu": BREAKOUT},
        levels=(
            level(
                SCRIPT,
                8 * 10**9,
                0.0,
                10,
                is_reference=True,
                file=IMAGE,
                sha256=SCRIPT,
                tasks=(task_result(BREAKOUT, "rw"),),
            ),
            level(IMAGE, 5 * 10**9, 0.01, 20, kv_type=SCRIPT, divergences=divergences),
            level(
                BREAKOUT,
                4 * 10**9,
                0.02,
                25,
                device=IMAGE,
                decode_joules=Spread(0.2, 0.2, 0.2),
                at_depths=(SpeedAtDepth(depth=64, prefill_tps=None, decode_tps=Spread(9, 9, 9)),),
                chats=ChatAgreement(
                    share_equal=0.5, low=0.1, high=0.9, first_difference=1.0, replies=divergences
                ),
            ),
            LevelResult(name=IMAGE, error=f"{SCRIPT}{BREAKOUT}"),
        ),
        noise=LevelResult(name=SCRIPT, kld_mean=1e-6),
        notes=(IMAGE, BREAKOUT),
    )
