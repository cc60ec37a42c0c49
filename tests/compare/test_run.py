"""Comparing levels: metrics by hand, comparisons of tiny models, recommendations."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from localgen import CompareError, DecodeError, GenerationInterrupted
from localgen._util import child
from localgen.compare import Comparison, LevelResult, Spread, compare, speed, texts
from localgen.compare.checks import results_file
from localgen.compare.divergence import n_same
from localgen.compare.levels import Variant, sha256
from localgen.compare.metrics import (
    KLD_PROBABILITIES,
    TokenMetrics,
    mean,
    quality,
    token_metrics,
)
from localgen.compare.paired_evaluation import scored_blocks
from localgen.compare.quality import Quality
from localgen.compare.recommend import pareto, parse_bytes, recommend
from localgen.compare.unfinished import is_unfinished
from localgen.engine.backend import Batch
from localgen.quantization import calibration
from localgen.quantization.imatrix_result import is_made_from
from localgen.text.chunks import chunks
from models.make_tiny import make_llama_spm
from tests.cli.test_generate import localgen_command
from tests.systems import make_pipe

LN = math.log


def _logits(*rows: list[float]) -> Any:
    """Return rows of probabilities as logits, shifted by a constant, which must not matter."""
    return np.log(np.array(rows, np.float64)).astype(np.float32) + 3.0


# --- metrics, by hand ---


def test_metrics_of_two_distributions() -> None:
    reference = _logits([0.5, 0.25, 0.25], [0.2, 0.2, 0.6])
    candidate = _logits([0.25, 0.5, 0.25], [0.1, 0.1, 0.8])
    found = token_metrics(reference, candidate, np.array([0, 2], np.int32))
    assert found.nll_reference == pytest.approx([LN(2), -LN(0.6)], rel=1e-5)
    assert found.nll == pytest.approx([LN(4), -LN(0.8)], rel=1e-5)
    # 0.5 ln(0.5/0.25) + 0.25 ln(0.25/0.5); 0.4 ln 2 + 0.6 ln(0.6/0.8)
    assert found.kld == pytest.approx([0.25 * LN(2), 0.4 * LN(2) + 0.6 * LN(0.75)], rel=1e-4)
    assert found.delta_p == pytest.approx([-0.25, 0.2], rel=1e-4)
    assert found.same_top.tolist() == [0.0, 1.0]


def test_a_model_beside_itself_differs_by_exactly_nothing() -> None:
    rows = np.random.default_rng(1).normal(0, 4, (9, 1000)).astype(np.float32)
    found = token_metrics(rows, rows.copy(), np.arange(9, dtype=np.int32))
    assert not found.kld.any()
    assert not found.delta_p.any()
    assert found.same_top.all()


def test_metrics_against_a_plain_reference() -> None:
    """The plain reference is in float64, without blocks."""
    rng = np.random.default_rng(2)
    a, b = (rng.normal(0, 3, (11, 5000)).astype(np.float32) for _ in range(2))
    targets = rng.integers(0, 5000, 11).astype(np.int32)
    p, q = (
        np.exp(x.astype(np.float64)) / np.exp(x.astype(np.float64)).sum(1)[:, None] for x in (a, b)
    )
    found = token_metrics(a, b, targets)
    assert found.kld == pytest.approx((p * np.log(p / q)).sum(axis=1), rel=1e-5)
    assert found.nll == pytest.approx(-np.log(q[np.arange(11), targets]), rel=1e-5)


def test_statistics() -> None:
    """For 1, 2, 3: mean 2, variance 2/3, standard error sqrt(2/3 / (n - 1))."""
    assert mean(np.array([1.0, 2.0, 3.0])).value == 2.0
    assert mean(np.array([1.0, 2.0, 3.0])).se == pytest.approx(math.sqrt(2 / 3 / 2))
    reference, candidate = _logits([0.5, 0.5], [0.25, 0.75]), _logits([0.5, 0.5], [0.25, 0.75])
    found = quality(token_metrics(reference, candidate, np.array([0, 0], np.int32)))
    assert found.perplexity == pytest.approx(math.sqrt(8), rel=1e-5)  # exp((ln 2 + ln 4) / 2)
    assert found.ln_ppl_ratio == found.ln_ppl_ratio_se == 0.0
    assert (found.top1_agreement, found.flips, found.flips_se) == (1.0, 0.0, 0.0)


def _metrics(kld: Any, same_top: Any) -> TokenMetrics:
    """Return metrics of tokens that are 0 in all that a test does not look at."""
    others = {name: np.zeros(len(kld)) for name in TokenMetrics.__slots__}
    return TokenMetrics(**{**others, "kld": kld, "same_top": same_top})


def test_a_perplexity_that_no_number_holds_is_an_error_of_the_level() -> None:
    """math.exp() raised OverflowError, which ended the whole comparison."""
    rows = np.zeros((2, 4), np.float32)
    wrong = rows.copy()
    wrong[:, 0] = 1e4
    found = token_metrics(rows, wrong, np.array([1, 2], np.int32))
    with pytest.raises(CompareError, match="of 10000 nats, too large for a perplexity"):
        quality(found)


def test_flips() -> None:
    """One of four tokens has another most likely token: 1/4 ± sqrt(1/4 * 3/4 / 3)."""
    zeros = np.zeros(4)
    found = quality(_metrics(zeros, np.array([1.0, 0.0, 1.0, 1.0])))
    assert (found.flips, found.top1_agreement) == (0.25, 0.75)
    assert found.flips_se == pytest.approx(0.25)


def test_quantiles_of_the_kld() -> None:
    """For 0, 1, … 1000 the quantile at p is 1000 p."""
    values = np.arange(1001.0)
    rng = np.random.default_rng(3)
    found = quality(_metrics(rng.permutation(values), np.ones(1001)))
    assert found.kld_quantiles == pytest.approx([1000 * p for p in KLD_PROBABILITIES])
    assert (found.kld_median, found.kld_p90, found.kld_p99, found.kld_max) == pytest.approx(
        (500, 900, 990, 1000)
    )
    assert found.kld_p999 == pytest.approx(999)


def test_chunks_begin_with_bos() -> None:
    ids = np.arange(10, dtype=np.int32)
    assert [part.tolist() for part in chunks(ids, 4, 9, None)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [part.tolist() for part in chunks(ids, 4, 1, 99)] == [[99, 1, 2, 3]]
    assert ids[0] == 0


@pytest.mark.parametrize(
    ("a", "b", "n"), [([], [], 0), ([1, 2], [1, 2], 2), ([1, 2, 3], [1, 5, 3], 1), ([1], [1, 2], 1)]
)
def test_n_same(a: list[int], b: list[int], n: int) -> None:
    assert n_same(a, b) == n


# --- a comparison of tiny models ---

TEXT = "Some words that are long enough for a few chunks of sixteen tokens. " * 8


@pytest.fixture(scope="module")
def compared(tiny_bpe_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    results = tmp_path_factory.mktemp("compared") / "result.json"
    found = compare(
        tiny_bpe_path,
        ["q8_0", "F32", "Q4_0", tiny_bpe_path],
        text=TEXT,
        n_ctx=16,
        n_chunks=3,
        kv_types=("f16", "f32"),
        speed=False,
        results=results,
    )
    assert Comparison.load(results) == found
    return found


def test_every_level_and_kv_type_has_a_row(compared: Comparison) -> None:
    names = [level.label for level in compared.levels]
    assert sorted(names) == sorted(
        f"{name}{kv}" for name in ("F32", "tiny-bpe", "Q8_0", "Q4_0") for kv in ("", " kv f32")
    )
    assert [level.label for level in compared.levels if level.is_reference] == ["F32"]
    assert all(level.error is None for level in compared.levels)
    assert {level.flash_attention for level in compared.levels} == {"off"}


def test_a_note_says_what_loss_is_measured_against(
    compared: Comparison, tiny_bpe_path: Path
) -> None:
    """It is not the file that the levels are made from, unless that is a level itself."""
    note = (
        "levels are made from tiny-bpe.gguf; loss is measured against {}, the most precise level "
        "given"
    )
    assert compared.notes == (note.format("F32"),)
    options: dict[str, Any] = {"text": TEXT, "n_ctx": 16, "n_chunks": 1, "speed": False}
    found = compare(tiny_bpe_path, ["Q4_0", "Q8_0"], **options)
    assert found["Q8_0"].is_reference
    assert found.notes == (note.format("Q8_0"),)
    assert compare(tiny_bpe_path, [tiny_bpe_path], **options).notes == ()


def test_the_same_weights_differ_by_nothing(compared: Comparison) -> None:
    """The file against the F32 made from it, and the reference against itself."""
    assert compared["tiny-bpe"].kld_max == 0.0
    assert compared["tiny-bpe"].top1_agreement == 1.0
    assert all(each.text == each.reference for each in compared["tiny-bpe"].divergences)
    assert compared.noise is not None
    assert compared.noise.kld_mean == pytest.approx(0.0, abs=1e-6)


def test_fewer_bits_lose_more(compared: Comparison) -> None:
    coarse, fine = compared["Q4_0"], compared["Q8_0"]
    assert coarse.kld_mean is not None
    assert fine.kld_mean is not None
    assert coarse.kld_mean > fine.kld_mean > 0
    assert fine.n_tokens == 3 * (16 // 2 - 1)
    assert coarse.divergence_tokens is not None


def test_quality_is_that_of_score(compared: Comparison, tiny_bpe_path: Path) -> None:
    """LocalModel.score gives the same perplexity, chunk by chunk."""
    from localgen import LocalModel

    with LocalModel.from_pretrained(tiny_bpe_path, n_ctx=64) as model:
        ids = np.array(model.tokenizer.encode(TEXT), np.int32)
        bos = ids[0] if model.tokenizer.encode("")[:1] else None
        nll = [-model.score(part.tolist())[8:] for part in chunks(ids, 16, 3, bos)]
    expected = math.exp(float(np.concatenate(nll).mean()))
    assert compared["F32"].perplexity == pytest.approx(expected, rel=1e-3)


def test_levels_with_an_importance_matrix_of_their_own(
    tiny_bpe_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made once; a text that it is made from would flatter the levels."""
    monkeypatch.setattr(calibration, "_MOST_CHARACTERS", 1500)
    options: dict[str, Any] = {"n_ctx": 16, "n_chunks": 1, "speed": False, "n_threads": 1}
    with pytest.raises(CompareError, match="made from the text that quality is measured on"):
        compare(
            tiny_bpe_path, ["F32"], text=calibration.default_text().text, imatrix="auto", **options
        )
    result = compare(
        tiny_bpe_path, ["F32", "Q4_0"], text=TEXT, imatrix="auto", keep=tmp_path, **options
    )
    assert [level.error for level in result.levels] == [None, None]
    assert "--imatrix auto" in result.settings["command"]
    assert result.settings["imatrix"] == "auto"
    made = tmp_path / "tiny-bpe.imatrix.gguf"
    given = compare(tiny_bpe_path, ["F32"], text=TEXT, imatrix=made, **options)
    assert given.settings["imatrix"] == sha256(made)
    assert is_made_from(made, calibration.default_text().text)
    with pytest.raises(CompareError, match="made from the text that quality is measured on"):
        compare(
            tiny_bpe_path, ["F32"], text=calibration.default_text().text, imatrix=made, **options
        )


def test_what_is_done_is_not_measured_again(tiny_bpe_path: Path, tmp_path: Path) -> None:
    """An interrupt keeps the levels that are done; resume=True measures only the others."""
    evaluated: list[str] = []

    def note(_n_done: int, _n_steps: int, what: str) -> None:
        if what == "quality of Q4_0" and "interrupt" not in evaluated:
            evaluated.append("interrupt")
            raise KeyboardInterrupt
        if what.startswith("quality of "):
            evaluated.append(what.removeprefix("quality of "))

    options: dict[str, Any] = {
        "text": TEXT, "n_ctx": 16, "n_chunks": 1, "speed": False,
        "results": tmp_path / "r.json", "keep": tmp_path, "progress": note,
    }  # fmt: skip
    levels = ["F32", "Q8_0", "Q4_0"]
    with pytest.raises(GenerationInterrupted) as caught:
        compare(tiny_bpe_path, levels, **options)
    assert caught.value.partial == Comparison.load(tmp_path / "r.json")
    assert is_unfinished(caught.value.partial)
    assert Comparison.load(tmp_path / "r.json")["Q8_0"].kld_mean is not None
    found = compare(tiny_bpe_path, levels, **options, resume=True)
    assert evaluated == ["Q8_0", "interrupt", "Q4_0", "F32 against itself"]
    assert all(level.kld_mean is not None for level in found.levels)
    assert found == Comparison.load(tmp_path / "r.json")
    assert not is_unfinished(found)
    with pytest.raises(CompareError, match="was made with a different n_chunks"):
        compare(tiny_bpe_path, levels, **{**options, "n_chunks": 2}, resume=True)


def test_what_is_done_keeps_its_reference(tiny_bpe_path: Path, tmp_path: Path) -> None:
    """Results of two references must not be mixed: another reference is refused.

    The measured results and the notes stay.
    """
    options: dict[str, Any] = {
        "text": TEXT, "n_ctx": 16, "n_chunks": 900, "speed": False,
        "results": tmp_path / "r.json", "keep": tmp_path,
    }  # fmt: skip
    first = compare(tiny_bpe_path, ["Q8_0", "Q4_0"], **options)
    assert any("chunks, not 900" in note for note in first.notes)
    with pytest.raises(CompareError, match=r"reference in .* is Q8_0 .* now it would be F32"):
        compare(tiny_bpe_path, ["F32", "Q8_0", "Q4_0"], **options, resume=True)
    kept = Comparison.load(tmp_path / "r.json")
    assert (kept["Q4_0"].kld_mean, kept.notes) == (first["Q4_0"].kld_mean, first.notes)
    assert compare(tiny_bpe_path, ["Q8_0", "Q4_0"], **options, resume=True).notes == first.notes


def test_one_bad_level_leaves_the_others(tiny_bpe_path: Path, tmp_path: Path) -> None:
    """A corrupt file, and another vocabulary."""
    bad, other = tmp_path / "bad.gguf", tmp_path / "other.gguf"
    bad.write_bytes(b"GGUF" + bytes(100))
    make_llama_spm(other)
    found = compare(
        tiny_bpe_path, ["Q8_0", "F16", bad, other], text=TEXT, n_ctx=16, n_chunks=1, speed=False
    )
    assert found["F16"].is_reference
    assert found["Q8_0"].kld_mean is not None
    errors = {level.label: level.error for level in found.levels if level.error}
    assert set(errors) == {"bad", "other"}
    assert "GGUF version 0" in errors["bad"]
    assert str(tmp_path) not in found.to_json()  # files are named without folders
    assert "vocabulary differs from that of tiny-bpe" in errors["other"]


def test_speed_is_measured_in_child_processes(tiny_bpe_path: Path) -> None:
    found = compare(tiny_bpe_path, ["F32", "Q8_0"], quality=False, n_rounds=2, n_threads=1)
    for level in found.levels:
        assert level.error is None
        assert level.decode_tps is not None
        assert 0 < level.decode_tps.low <= level.decode_tps.median <= level.decode_tps.high
        assert level.peak_rss_bytes is not None
        assert level.peak_rss_bytes > 10**7
        assert level.kld_mean is None
        assert level.flash_attention == "off"


def test_a_level_that_fails_midway_leaves_the_others(
    tiny_bpe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever measurement it fails in, with no folder in its message."""
    options: dict[str, Any] = {"text": TEXT, "n_ctx": 16, "n_chunks": 1, "n_threads": 1}
    levels = ["F32", "Q8_0", "Q4_0"]

    def failing(real: Any, is_bad: Any) -> Any:
        def call(*args: Any) -> Any:
            if is_bad(*args):
                raise DecodeError(f"{tiny_bpe_path.parent}/it broke")
            return real(*args)

        return call

    def is_q4(*args: Any) -> bool:
        return any(isinstance(arg, Variant) and arg.label == "Q4_0" for arg in args)

    def check(found: Comparison, field: str) -> None:
        assert found["Q4_0"].error == "it broke"
        assert getattr(found["Q4_0"], field) is None
        assert found["Q8_0"].error is None
        assert getattr(found["Q8_0"], field) is not None

    with monkeypatch.context() as patched:
        patched.setattr(Quality, "_measure_one", failing(Quality._measure_one, is_q4))
        check(compare(tiny_bpe_path, levels, speed=False, **options), "kld_mean")
    with monkeypatch.context() as patched:
        patched.setattr(texts, "greedy_texts", failing(texts.greedy_texts, is_q4))
        check(compare(tiny_bpe_path, levels, speed=False, **options), "divergence_tokens")

    rounds_of_q4: list[speed.Task] = []

    def measure(task: speed.Task) -> speed.Measured:
        if "Q4_0" in task.file:
            rounds_of_q4.append(task)
            raise CompareError(f"{tiny_bpe_path.parent}/it broke")
        return speed.Measured(1.0, 2.0, 3.0, 4.0, 5, task.cold, "off")

    monkeypatch.setattr(speed, "measure", measure)
    check(compare(tiny_bpe_path, levels, quality=False, n_rounds=2), "decode_tps")
    assert len(rounds_of_q4) == 1


def test_a_level_whose_process_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        child, "run_json_child", lambda *_, **__: child.Failure("was killed by SIGKILL", "SIGKILL")
    )
    message = "its speed could not be measured: the process was killed by SIGKILL"
    with pytest.raises(CompareError, match=message):
        speed.measure(speed.Task("m.gguf", {}, [1], cold=False))


def test_no_level_that_can_be_measured(tiny_bpe_path: Path, tmp_path: Path) -> None:
    """The error says why for each."""
    for name in ("one", "two"):
        (tmp_path / f"{name}.gguf").write_bytes(b"GGUF" + bytes(100))
    bad = [tmp_path / "one.gguf", tmp_path / "two.gguf"]
    with pytest.raises(CompareError, match=r"no level can be measured: one: .*; two: "):
        compare(tiny_bpe_path, bad, text=TEXT, n_ctx=16, n_chunks=1, speed=False)


def test_a_long_chunk_scores_tokens_that_have_half_of_it_before_them() -> None:
    """As in llama-perplexity: of 4,096 tokens, those at 2,049 to 4,095, from one context."""
    decoded: list[int] = []

    def decode(batch: Batch) -> Any:
        decoded.extend(batch.positions.tolist())
        scored = batch.positions[batch.output_rows]
        return np.stack([scored, -scored], axis=1).astype(np.float32)

    backend: Any = SimpleNamespace(n_batch=512, forget=decoded.clear, decode=decode)
    chunk = np.arange(4096, dtype=np.int32) % 7
    found = [(logits.copy(), targets) for logits, targets in scored_blocks(backend, chunk, 512)]
    assert decoded == [*range(4095)]
    positions = np.concatenate([logits[:, 0] for logits, _ in found])
    assert positions.tolist() == [*range(2048, 4095)]
    assert np.concatenate([targets for _, targets in found]).tolist() == chunk[2049:].tolist()


def test_a_context_longer_than_the_model_was_trained_on_is_noted(tiny_bpe_path: Path) -> None:
    options: dict[str, Any] = {**FEW, "text": TEXT * 20, "n_ctx": 513}
    found = compare(tiny_bpe_path, ["F32"], **options)
    assert any("n_ctx=513 exceeds the 512 tokens" in note for note in found.notes)


def test_logits_that_are_not_finite_are_an_error() -> None:
    """Their means would be NaN, and a comparison of nothing."""

    def decode(batch: Batch) -> Any:
        logits = np.zeros((len(batch.output_rows), 4), np.float32)
        logits[batch.positions[batch.output_rows] == 5] = np.nan
        return logits

    backend: Any = SimpleNamespace(n_batch=8, forget=lambda: None, decode=decode)
    with pytest.raises(DecodeError, match="the logits of tokens 4 to 6 are not finite"):
        list(scored_blocks(backend, np.arange(8, dtype=np.int32), 2))


def test_a_result_without_all_its_quantiles(compared: Comparison, tmp_path: Path) -> None:
    """A plot of them would be wrong without a word."""
    data = json.loads(compared.to_json())
    data["levels"][1]["kld_quantiles"].pop()
    (tmp_path / "r.json").write_text(json.dumps(data))
    with pytest.raises(CompareError, match=r"r\.json: .* has 20 quantiles of the KLD, and schema"):
        Comparison.load(tmp_path / "r.json")


def test_a_result_of_an_older_version_has_its_flips(compared: Comparison) -> None:
    """Older files have them as the share that agrees, and the 99.9th percentile as a quantile."""
    data = json.loads(compared.to_json())
    for level in data["levels"]:
        del level["kld_p999"], level["flips"], level["flips_se"]
    older = Comparison.from_json(json.dumps(data))
    for old, new in zip(older.levels, compared.levels, strict=True):
        assert old.kld_p999 == new.kld_p999
        assert old.flips == pytest.approx(new.flips)


def test_a_level_that_was_not_compared(compared: Comparison) -> None:
    with pytest.raises(KeyError, match=r"'Q5_0' was not compared; the levels are .*Q8_0"):
        compared["Q5_0"]


# --- bad input ---


@pytest.mark.parametrize(
    ("levels", "options", "message"),
    [
        (["Q9_0"], {}, "not a quantization level.*did you mean"),
        ([], {}, "levels is empty: name at least one"),
        (["F16"], {"n_ctx": 4}, "n_ctx must be between 8"),
        (["F16"], {"kv_types": ["q9"]}, "kv_types must be one of"),
        (["F16"], {"n_threads": 0}, "n_threads must be between 1 and 512, got 0"),
        (["F16"], {"n_threads": -3}, "n_threads must be between 1 and 512, got -3"),
        (["F16"], {"resume": True}, "needs results="),
        (["F16"], {"speed": False, "quality": False}, "nothing to measure"),
    ],
)
def test_wrong_arguments(
    tiny_bpe_path: Path, levels: list[str], options: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        compare(tiny_bpe_path, levels, **options)


def test_a_text_that_is_too_short(tiny_bpe_path: Path) -> None:
    with pytest.raises(
        CompareError, match=r"the text has \d+ tokens, fewer than one chunk of n_ctx=64"
    ):
        compare(tiny_bpe_path, ["F16"], text="short", n_ctx=64)


@pytest.mark.parametrize(
    "data",
    [
        *("", "{}", "[1]", '{"schema": 1}', '{"schema": 99}', '{"schema": 2, "x": 2}', "\xff"),
        '{"schema": 2, "levels": ["F16"]}',
    ],
)
def test_a_result_that_cannot_be_read(tmp_path: Path, data: str) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(data.encode("latin-1"))
    with pytest.raises(CompareError, match=r"not a comparison|schema is"):
        Comparison.load(path)


# --- what to keep ---


def _result(name: str, n_bytes: int, kld: float, speed: float, **more: Any) -> LevelResult:
    return LevelResult(
        name=name, file_bytes=n_bytes, kld_mean=kld, decode_tps=Spread(speed, speed, speed), **more
    )


LEVELS = (
    _result("F16", 16 * 10**9, 0.0, 10, is_reference=True),
    _result("Q8_0", 8 * 10**9, 0.001, 18, ln_ppl_ratio=0.001, ln_ppl_ratio_se=0.002),
    _result("Q5_0", 6 * 10**9, 0.02, 20, ln_ppl_ratio=0.02, ln_ppl_ratio_se=0.002),
    _result("Q5_bad", 7 * 10**9, 0.03, 19),
    _result("Q4_0", 5 * 10**9, 0.04, 25),
    _result("Q2_K", 3 * 10**9, 0.9, 22),
)


def test_the_pareto_front() -> None:
    """Q5_bad is larger, slower and worse than Q5_0; Q2_K is slower than Q4_0, but smaller."""
    assert [level.name for level in pareto(LEVELS)] == ["Q2_K", "Q4_0", "Q5_0", "Q8_0", "F16"]


def test_the_pareto_front_of_many_levels() -> None:
    """As found by comparing each level with each; figures often tie."""
    random = np.random.default_rng(7)
    for _ in range(50):
        levels = [
            _result(f"L{number}", int(n_bytes), float(kld), float(speed))
            for number, (n_bytes, kld, speed) in enumerate(random.integers(1, 9, (30, 3)))
        ]
        front = [each for each in levels if not any(_beats(other, each) for other in levels)]
        assert {*pareto(levels)} == {*front}


def _beats(a: LevelResult, b: LevelResult) -> bool:
    ours, theirs = (
        (each.file_bytes or 0, each.kld_mean or 0.0, -(each.decode_tps or Spread(0, 0, 0)).median)
        for each in (a, b)
    )
    return all(x <= y for x, y in zip(ours, theirs, strict=True)) and ours != theirs


@pytest.mark.parametrize(
    ("memory", "max_kld", "name"),
    [
        (None, 0.05, "Q4_0"),
        (None, 0.01, "Q8_0"),
        ("6.5GB", 0.03, "Q5_0"),
        ("4GB", None, "Q2_K"),
        (None, None, "Q4_0"),
    ],
)
def test_recommendations(memory: str | None, max_kld: float | None, name: str) -> None:
    found = recommend(LEVELS, memory=memory, max_kld=max_kld)
    assert found.level is not None
    assert found.level.name == name
    assert found.sentence.startswith(f"Keep {name}: ")


def test_the_knee_speaks_of_smaller_files_only_if_there_are_any() -> None:
    assert "below which smaller files lose the most quality" in recommend(LEVELS).sentence
    bulging = (LEVELS[0], _result("Q6_K", 12 * 10**9, 0.039, 20), LEVELS[4])
    assert "the smallest level measured" in recommend(bulging).sentence
    assert "among the levels that fit in 9.00 GB (" in recommend(LEVELS, memory="9GB").sentence


def test_two_levels_have_no_knee() -> None:
    """Regression: a level was recommended on the evidence of two levels, or of one."""
    found = recommend((LEVELS[0], LEVELS[4]))
    assert (found.level, found.front) == (None, (LEVELS[4], LEVELS[0]))
    assert found.sentence == (
        "Too few levels to recommend one: Q4_0 (5.00 GB, mean KLD 0.0400, 25 tokens/s) and F16 "
        "(16.00 GB, the reference, 10 tokens/s). A knee needs 3 levels that no other beats. "
        "Compare more levels, or set --max-kld or --budget."
    )
    assert not any(found.keeps(level) for level in LEVELS)
    alone = recommend(LEVELS[:1])
    assert (alone.level, alone.sentence) == (
        None,
        "Only F16 was measured (16.00 GB, the reference, 10 tokens/s). Compare more levels to get "
        "a recommendation.",
    )
    beaten = _result("Q6_bad", 7 * 10**9, 0.05, 10)
    assert "10 tokens/s), which beat the others." in recommend((*LEVELS[::4], beaten)).sentence


KV_TYPES = (
    _result("Q4_0", 5 * 10**9, 0.0, 25, is_reference=True),
    _result("Q4_0", 5 * 10**9, 0.01, 24, kv_type="q8_0"),
    _result("Q4_0", 5 * 10**9, 0.03, 23, kv_type="q4_0"),
)


@pytest.mark.parametrize("name", ["F16", "F16 (pack)"])
def test_the_reference_is_not_recommended(name: str) -> None:
    """Regression: "Keep F16 (pack)", of which there may be no file."""
    levels = (dataclasses.replace(LEVELS[0], name=name), *LEVELS[1:])
    with pytest.raises(CompareError, match=r"at most 0\.0001: the best, Q8_0, has 0\.0010"):
        recommend(levels, max_kld=0.0001)
    slower = [
        _result("F16", 9, 0.0, 9, is_reference=True),
        *(_result(f"Q{n}", 9 + n, n, 9 - n) for n in (1, 2, 3)),
    ]
    assert (recommend(slower).level, recommend(slower, memory="1GB").level) == (None, None)
    for limits in ({}, {"max_kld": 0.5}, {"memory": "100GB"}):
        assert recommend(levels[:1], **limits).level is None


def test_kv_types_that_gain_nothing_are_not_recommended() -> None:
    assert recommend(KV_TYPES).sentence == (
        "Nothing to recommend: no level is smaller or faster than Q4_0 (5.00 GB, the reference, "
        "25 tokens/s)."
    )


def test_a_faster_kv_type_of_the_same_size_is_recommended() -> None:
    faster = [
        dataclasses.replace(each, decode_tps=Spread(26 + n, 26, 28))
        for n, each in enumerate(KV_TYPES[1:])
    ]
    found = recommend((KV_TYPES[0], *faster))
    assert found.level == faster[0]


def test_a_level_that_beats_all_others_is_kept() -> None:
    found = recommend(LEVELS[2:4])
    assert (found.level, found.front) == (LEVELS[2], (LEVELS[2],))
    assert found.sentence.startswith("Keep Q5_0: it is the smallest, and no other level is faster")


def test_a_limit_chooses_of_two() -> None:
    """The sentence names the limit, not a knee."""
    found = recommend(LEVELS[:2], memory="16GB")
    assert found.sentence == (
        "Keep Q8_0: it is the smallest that fits in 16.00 GB (8.00 GB, mean KLD 0.0010, 18 "
        "tokens/s); its perplexity is not distinguishable from F16's."
    )


def test_indistinguishable_perplexities_are_reported() -> None:
    """The paired interval of Q8_0's perplexity covers zero; that of Q5_0's does not."""
    assert "not distinguishable from F16's" in recommend(LEVELS, max_kld=0.01).sentence
    assert "distinguishable" not in recommend(LEVELS, memory="6.5GB", max_kld=0.03).sentence


def test_nothing_that_fits() -> None:
    with pytest.raises(
        CompareError, match=r"no level fits in 1\.00 GB: the smallest, Q2_K, needs 3\.00"
    ):
        recommend(LEVELS, memory="1GB")
    with pytest.raises(CompareError, match=r"at most 0\.1: the best, Q2_K, has 0\.9"):
        recommend(LEVELS, memory="4GB", max_kld=0.1)
    with pytest.raises(CompareError, match="no level's quality was measured"):
        recommend([LevelResult(name="Q8_0")])


@pytest.mark.parametrize(
    ("text", "n"),
    [("4GB", 4 * 10**9), ("4G", 4 * 10**9), ("1.5 GiB", 1610612736), ("7", 7), (5, 5)],
)
def test_amounts(text: str | int, n: int) -> None:
    assert parse_bytes(text) == n


def test_a_merged_result_tells_machines_apart(compared: Comparison) -> None:
    both = Comparison.merged([compared, dataclasses.replace(compared, settings={"cpu": "other"})])
    assert both["Q8_0 #1"].kld_mean == both["Q8_0 #2"].kld_mean
    assert both.settings["#2"] == {"source": compared.source, "cpu": "other"}
    assert (both.source, both.notes) == (compared.source, compared.notes)


# --- the command ---


def test_the_command(tiny_bpe_path: Path, tmp_path: Path) -> None:
    text, result = tmp_path / "text.txt", tmp_path / "r.json"
    text.write_text(TEXT, "utf-8")
    small = [
        *("--text", text, "--n-ctx", "16", "--chunks", "2", "--no-speed", "-o", result),
        *("--n-threads", "1"),
    ]
    done = localgen_command("compare", tiny_bpe_path, "--levels", "F32,Q8_0,Q4_0", *small)
    assert done.returncode == 0, done.stderr
    assert "Keep " in done.stderr
    assert "ref." in done.stdout
    assert "\nfixed: 1 thread, flash attention off\n" in done.stdout
    again = localgen_command("compare", "--from-json", result, "--max-kld", "10", "--json")
    assert json.loads(again.stdout)["schema"] == 2
    assert "Keep Q4_0: it is the smallest" in again.stderr
    recorded = Comparison.load(result)
    command = shlex.split(recorded.settings["command"].replace("TEXT_FILE", str(text)))
    repeated = localgen_command(*command[1:], "--json", cwd=tiny_bpe_path.parent)
    assert repeated.returncode == 0, repeated.stderr
    # All but the date, which may be another minute's.
    found = Comparison.from_json(repeated.stdout)
    date = {"date": recorded.settings["date"]}
    assert dataclasses.replace(found, settings={**found.settings, **date}) == recorded
    text.write_bytes(b"\xff")
    refused = localgen_command("compare", tiny_bpe_path, "--levels", "F32", *small)
    assert refused.returncode == 2
    assert f"--text: {text}: it is not UTF-8 text" in refused.stderr


def test_a_mark_at_the_start_is_no_text(tiny_bpe_path: Path, tmp_path: Path) -> None:
    """Regression: a byte-order mark shifted every token, and the figures with them."""
    found = []
    for encoding in ("utf-8", "utf-8-sig"):
        text = tmp_path / "text.txt"
        text.write_text(TEXT, encoding)
        few = ("--text", text, "--n-ctx", "16", "--chunks", "1", "--no-speed", "--n-threads", "1")
        done = localgen_command("compare", tiny_bpe_path, "--levels", "F32,Q8_0", *few, "--json")
        found.append(Comparison.from_json(done.stdout))
    assert found[0] == found[1]


def test_a_text_that_is_no_file(tiny_bpe_path: Path, tmp_path: Path) -> None:
    """Regression: a pipe without a writer was waited for, and /dev/zero read, for ever."""
    make_pipe(tmp_path / "pipe")
    for text in (tmp_path / "pipe", Path("/dev/zero")):
        done = localgen_command("compare", tiny_bpe_path, "--text", text)
        assert done.returncode == 2
        assert done.stderr.startswith(f"localgen: {text}: it is a ")


# --- results that cannot be written ---


def test_the_folder_of_results_is_checked_first(tmp_path: Path) -> None:
    """Protects what takes hours from a folder that turns out to be unusable afterwards."""
    path = tmp_path / "runs" / "today" / "r.json"
    assert results_file(path) == path
    assert not path.parent.exists()  # it is made with the first result
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="file is not a folder"):
        results_file(tmp_path / "file" / "r.json")
    assert results_file(None) is None


def test_earlier_results_are_neither_kept_nor_lost_unasked(tmp_path: Path) -> None:
    """Regression: the same command again replaced what hours had measured."""
    path = tmp_path / "r.json"
    path.touch()
    assert results_file(path) == path  # nothing in it
    path.write_text('{"schema": 1, "levels": []}')
    with pytest.raises(CompareError, match=r"r\.json exists.*resume=True keeps.*overwrite=True"):
        compare("no-model", ["Q4_0"], results=path)
    assert path.read_text() == '{"schema": 1, "levels": []}'
    for name in ("resume", "overwrite"):
        choice: dict[str, Any] = {name: True}
        with pytest.raises(ValueError, match=f"{name}=True needs results="):
            compare("no-model", ["Q4_0"], **choice)
    with pytest.raises(ValueError, match="exclude each other"):
        compare("no-model", ["Q4_0"], results=path, resume=True, overwrite=True)
    assert results_file(path, may_exist=True) == path


@pytest.mark.parametrize("content", [b"GGUF" + bytes(100), b"A text.", b'{"prompt": "a"}', b"{"])
def test_results_never_replace_a_file_of_another_kind(content: bytes, tmp_path: Path) -> None:
    """Regression: -o MODEL.gguf --overwrite replaced the model by its results."""
    path = tmp_path / "file"
    path.write_bytes(content)
    choices: tuple[dict[str, Any], ...] = ({}, {"resume": True}, {"overwrite": True})
    for choice in choices:
        with pytest.raises(CompareError, match="file holds something else than results"):
            compare("no-model", ["Q4_0"], results=path, **choice)
    with pytest.raises(CompareError, match="file holds something else than a reference pack"):
        compare("no-model", ["Q4_0"], save_reference_pack=path, overwrite=True)
    assert path.read_bytes() == content
    with pytest.raises(ValueError, match="are one file: name two"):
        compare("no-model", ["Q4_0"], results=path, save_reference_pack=path)


FEW: dict[str, Any] = {
    "text": TEXT, "n_ctx": 16, "n_chunks": 1, "speed": False, "n_threads": 1,
}  # fmt: skip


class Disk:
    """Where results are written: full from the ``n_saves``-th save to the ``until``-th."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, first: int, until: int = 10**9) -> None:
        self.n_saves = 0
        save = Comparison.save

        def counted(result: Comparison, path: Path) -> None:
            self.n_saves += 1
            if first <= self.n_saves < until:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            save(result, path)

        monkeypatch.setattr(Comparison, "save", counted)


def test_a_disk_that_fills_up_costs_no_measurement(
    tiny_bpe_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: hours of measuring ended in an error without a figure."""
    Disk(monkeypatch, 2)
    path = tmp_path / "r.json"
    with pytest.raises(CompareError, match=f"{path} cannot be written: No space left") as caught:
        compare(tiny_bpe_path, ["F32", "Q8_0"], results=path, **FEW)
    assert caught.value.partial["Q8_0"].kld_mean is not None


def test_a_disk_that_is_full_for_a_while(
    tiny_bpe_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Disk(monkeypatch, 2, until=4)
    path = tmp_path / "r.json"
    found = compare(tiny_bpe_path, ["F32", "Q8_0"], results=path, **FEW)
    assert Comparison.load(path) == found


def test_results_that_could_never_be_written(
    tiny_bpe_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said before anything is measured."""
    Disk(monkeypatch, 1)
    monkeypatch.setattr(Quality, "measure", lambda *_: pytest.fail("it measured"))
    with pytest.raises(OSError, match="No space left"):
        compare(tiny_bpe_path, ["F32", "Q8_0"], results=tmp_path / "r.json", **FEW)
