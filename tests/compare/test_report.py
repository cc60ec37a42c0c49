"""Reports of a comparison: the PNG, the page, and when they are not written."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html
import itertools
import os
import re
import struct
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localgen import CompareError
from localgen._util.atomic_write import atomic_write_bytes
from localgen.compare import (
    Comparison,
    LevelResult,
    Spread,
    pictures,
    plots,
    report,
    save_html,
    save_png,
)
from localgen.compare.command import command_line
from localgen.compare.drawn import MOST_MACHINES, MOST_POINTS, MOST_TEXTS
from localgen.compare.formats import COLUMNS, fixed_line
from localgen.compare.labels import short_name
from localgen.compare.level_result import ChatAgreement, Divergence
from localgen.compare.machines import merge
from localgen.compare.metrics import KLD_PROBABILITIES
from localgen.compare.options import CompareOptions
from localgen.compare.plot_parts import Panel
from localgen.compare.settings import Settings
from localgen.compare.text_sides import sides
from tests.cli.test_generate import ENVIRONMENT, localgen_command
from tests.comparisons import BREAKOUT, IMAGE, SCRIPT, comparison, hostile, level
from tests.conftest import ROOT, RunChild

ACCENT = (0x0B, 0x6E, 0x5A)  # of the recommended level
WITHOUT_QUALITY = {"kld_mean": None, "kld_quantiles": (), "perplexity": None}


def _png_size(data: bytes) -> tuple[int, int]:
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def _n_pixels(path: Path, colour: tuple[int, int, int]) -> int:
    from matplotlib.image import imread

    pixels = np.round(255 * imread(path)[..., :3]).astype(int)
    return int((pixels == colour).all(axis=-1).sum())


def test_one_round_has_no_spread() -> None:
    """±0 would read as an exact figure."""
    (decode,) = [column for column in COLUMNS if column.title == "decode"]
    assert decode.text(level("F16", 10**9, 0.0, 20)) == "20 ± 2 /s"
    once = level("F16", 10**9, 0.0, 20, decode_tps=Spread(20.0, 20.0, 20.0))
    assert decode.text(once) == "20 /s"


def _page(result: Comparison, folder: Path, **limits: Any) -> str:
    save_html(result, folder / "page.html", **limits)
    return (folder / "page.html").read_text("utf-8")


def _only(result: Comparison, **found: Any) -> Comparison:
    """Return the comparison with other figures for all levels."""
    levels = tuple(dataclasses.replace(each, **found) for each in result.levels)
    return dataclasses.replace(result, levels=levels)


# --- the picture ---


def test_a_picture_marks_the_level_to_keep(tmp_path: Path) -> None:
    kept, none = tmp_path / "kept.png", tmp_path / "none.png"
    save_png(comparison(), kept)
    width, height = _png_size(kept.read_bytes())
    assert 1500 < width < 3000
    assert 500 < height < 1500
    assert _n_pixels(kept, ACCENT) > 100
    save_png(comparison(), none, memory="1GB")
    assert _n_pixels(none, ACCENT) == 0


@pytest.mark.parametrize(
    ("missing", "titles"),
    [
        ({}, ["Quality against size", "Speed against size", "The distribution over tokens"]),
        (WITHOUT_QUALITY, ["Speed against size"]),
        ({"decode_tps": None}, None),
        (
            {"decode_tps": None, "prefill_tps": None},
            ["Quality against size", "The distribution over tokens"],
        ),
        ({"file_bytes": None}, ["The distribution over tokens"]),
        ({"error": "it failed"}, []),
    ],
)
def test_panels_without_data_are_left_out(missing: Any, titles: list[str] | None) -> None:
    """A level with only prefill measured is still in the speed plot."""
    found = [panel.title for panel in plots.panels(_only(comparison(), **missing), None)]
    assert len(found) == 3 if titles is None else found == titles


def test_nothing_to_draw(tmp_path: Path) -> None:
    """A reference alone has no loss to draw."""
    levels = (level("F16", 10**9, 0.0, 1, decode_tps=None, prefill_tps=None, is_reference=True),)
    with pytest.raises(CompareError, match="nothing to draw"):
        save_png(comparison(levels=levels), tmp_path / "r.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kld", [-1e-9, 0.0, 1e-9])
def test_levels_that_differ_by_nothing_are_drawn(tmp_path: Path, kld: float) -> None:
    """Zero is not on a logarithmic axis, and float32 rounds a KLD of zero to either side of it."""
    quantiles = tuple(kld * p for p in KLD_PROBABILITIES)
    same = level("same", 10**9, kld, 20, kld_se=0.0, kld_quantiles=quantiles)
    save_png(comparison(levels=(*comparison().levels, same)), tmp_path / "r.png")
    save_png(comparison(levels=(same, same)), tmp_path / "alone.png")


@pytest.mark.parametrize("n_kv_types", [1, 3])
def test_labels_do_not_overlap(n_kv_types: int) -> None:
    """Twelve levels close together, each with several KV cache types."""
    from matplotlib.transforms import Bbox

    levels = [
        level(f"Q{number}_K_M", (400 + 7 * number) * 10**6, 0.001 * 1.5**number, 20 + number % 3)
        for number in range(12)
    ]
    kinds = ("f16", "q8_0", "q4_0")[:n_kv_types]
    all_levels = [dataclasses.replace(each, kv_type=kind) for each in levels for kind in kinds]
    result = comparison(levels=tuple(all_levels))
    for panel in plots.panels(result, result.recommend())[:2]:
        boxes = _name_boxes(panel)
        assert len(boxes) >= 10
        assert any(result.recommend().keeps(result[name]) for name, _ in boxes)
        for (_, a), (_, b) in itertools.combinations(boxes, 2):
            shared = Bbox.intersection(a, b)
            area = 0.0 if shared is None else shared.width * shared.height
            assert area <= 0.15 * min(a.width * a.height, b.width * b.height)


def _name_boxes(panel: Panel) -> list[tuple[str, Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with pictures.style():
        figure = Figure((4.4, panel.n_inches), layout="constrained")
        pictures.render(figure, panel.draw(figure), "png")
    renderer = FigureCanvasAgg(figure).get_renderer()
    texts = [text for axes in figure.axes for text in axes.texts]
    return [(text.get_text(), text.get_window_extent(renderer)) for text in texts]


@pytest.mark.parametrize("without", [{}, WITHOUT_QUALITY])
def test_a_picture_s_heading_has_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without: Any
) -> None:
    """Regression: a long sentence ran over the edge."""
    figures: list[Any] = []
    render = pictures.render

    def noted(figure: Any, *rest: Any) -> bytes:
        figures.append(figure)
        return render(figure, *rest)

    monkeypatch.setattr(pictures, "render", noted)
    two = comparison(levels=(comparison()["F16"], comparison()["Q4_0"]), source="W" * 20)
    save_png(_only(two, **without), tmp_path / "r.png")
    (heading,) = [each for figure in figures for each in figure.texts]
    assert heading.get_window_extent().x1 < figures[0].bbox.x1
    assert heading.get_text().endswith(".")


def test_a_plot_on_a_page_has_the_page_s_colours() -> None:
    """It is XML without colours, sizes or ids of its own, and the same every time."""
    drawn = plots.panels(comparison(), comparison().recommend())
    svgs = [pictures.as_svg(panel) for panel in drawn]
    assert svgs == [pictures.as_svg(panel) for panel in drawn]
    ids: list[str] = []
    for picture in svgs:
        ET.fromstring(picture.replace("xlink:href", "href"))
        assert picture.startswith('<svg viewBox="0 0 ')
        assert set(re.findall(r"#[0-9a-f]{6}\b", picture)) <= {"#ffffff", "#000000"}
        assert "var(--ink)" in picture
        ids += set(re.findall(r'id="([^"]+)"', picture))
    assert len(ids) == len(set(ids))


def test_drawing_leaves_matplotlib_as_it_was(run_child: RunChild, tmp_path: Path) -> None:
    """It imports no pyplot, chooses no backend and leaves no setting changed."""
    code = (
        "import sys, matplotlib\n"
        "from tests.comparisons import comparison\n"
        "from localgen.compare import save_html, save_png\n"
        "before = dict(dict.items(matplotlib.rcParams))\n"  # a lookup would choose a backend
        "save_png(comparison(), sys.argv[1])\n"
        "save_html(comparison(), sys.argv[1])\n"
        "assert dict(dict.items(matplotlib.rcParams)) == before\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    child = run_child(code, tmp_path / "r.png")
    assert child.returncode == 0, child.stderr


# --- the page ---


def test_a_page_holds_all_that_was_found(tmp_path: Path) -> None:
    page = _page(comparison(), tmp_path)
    text = html.unescape(re.sub(r"<[^>]*>", "", page))
    for expected in (
        "model-F16.gguf",
        "Keep Q4_0: it is the knee",
        "F16 against itself, with fewer threads and smaller batches, has a mean KLD of 1.5e-06",
        "Note: the text has 12 chunks, not 16.",
        "it needs an importance matrix",
        "localgen compare model-F16.gguf --levels F16,Q4_0 --n-threads 2",
        "SHA-256 of the text" + "ab" * 32,
        "threads2",
        "Q8_0.gguf, 8000000000 bytes, flash attention off",
        "sha256 " + "0f" * 32,
    ):
        assert expected in text
    assert page.count("<svg") == 3
    assert page.count('class="kept"') == 1


def test_a_page_s_script_alone_may_run(tmp_path: Path) -> None:
    page = _page(comparison(), tmp_path)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy == [
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    ]


def test_a_page_names_no_other_place(tmp_path: Path) -> None:
    page = _page(comparison(), tmp_path)
    assert "//" not in re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    links = re.findall(r'(?:href|src|srcset|action)="([^"]*)"', page)
    assert len(links) > 1
    assert all(link == "data:," or link.startswith("#") for link in links)


def test_a_page_has_what_was_measured_besides(tmp_path: Path) -> None:
    """Chats, speed at depth and energy have a table each, if they were measured."""
    headings = re.findall(r"<h2[^>]*>(.*?)</h2>", _page(hostile(), tmp_path))
    assert [each for each in headings if each[:6] in ("Replie", "Speed ", "Energy")] == [
        "Replies to 2 chats",
        "Speed at depth, in tokens per second",
        "Energy, in joules per token",
    ]
    assert "extra-1" not in _page(comparison(), tmp_path)


def test_texts_that_mean_harm_are_escaped(tmp_path: Path) -> None:
    page = _page(hostile(), tmp_path)
    assert len(re.findall("<script", page)) == 1
    assert "<img" not in page
    assert all(html.escape(text) in page.replace("&#34;", "&quot;") for text in (SCRIPT, IMAGE))
    assert "{{ 7 * 7 }}" in page
    assert html.escape(BREAKOUT) in page
    save_png(hostile(), tmp_path / "r.png")  # "$\frac$" is not a formula


def test_a_budget_that_nothing_fits_is_reported(tmp_path: Path) -> None:
    page = _page(comparison(), tmp_path, memory="1GB")
    assert "No level fits in 1.00 GB: the smallest, Q2_K, needs 3.00 GB." in page
    assert 'class="kept"' not in page
    assert 'class="kept"' in _page(comparison(), tmp_path, memory="4GB")


def test_two_levels_are_drawn_and_none_is_marked(tmp_path: Path) -> None:
    """Neither page nor picture highlights a level if the sentence recommends none."""
    two = comparison(levels=(comparison()["F16"], comparison()["Q4_0"]))
    page = _page(two, tmp_path)
    assert "Too few levels to recommend one: Q4_0 (" in page
    assert 'class="kept"' not in page
    assert "recommended" not in page
    save_png(two, tmp_path / "two.png")
    assert _n_pixels(tmp_path / "two.png", ACCENT) == 0


def test_a_run_without_quality_has_a_page(tmp_path: Path) -> None:
    page = _page(_only(comparison(noise=None), **WITHOUT_QUALITY), tmp_path)
    assert "No level&#39;s quality was measured" in page
    assert page.count("<svg") == 1


def test_a_merged_page_has_every_machine(tmp_path: Path) -> None:
    """Each has its recommendation, its plots and its column."""
    other = comparison(source="other.gguf", settings={"cpu": "Another CPU"}, notes=("a note",))
    page = _page(Comparison.merged([comparison(), other]), tmp_path)
    for expected in (
        "model-F16.gguf, other.gguf",
        "<h3>#2, Another CPU</h3>",
        "A CPU",
        "Another CPU",
        "a note",
    ):
        assert expected in page
    assert "<strong>#1, A CPU, 2 threads:</strong> Keep Q4_0: it is the knee" in page
    assert "<strong>#2, Another CPU:</strong> Keep Q4_0" in page
    assert page.count('class="kept"') == 2
    assert page.count("<svg") == 6
    assert "Speed against size, #2" in page
    assert '<th scope="col">decode #2</th>' in page


def test_a_page_says_what_to_keep_by_memory(tmp_path: Path) -> None:
    page = _page(comparison(), tmp_path)
    assert "<dt>for 4 GB</dt><dd>Q2_K (3.00 GB" in page
    assert "<dt>for 32 GB and more</dt><dd>Q4_0 (5.00 GB" in page
    assert "of which 75 % are for the model" in page
    assert "for 4 GB" not in _page(_only(comparison(), **WITHOUT_QUALITY), tmp_path)


def test_a_merged_picture_has_a_row_of_plots_for_each_machine(tmp_path: Path) -> None:
    alone, both = tmp_path / "alone.png", tmp_path / "both.png"
    other = comparison(settings={"cpu": "Another CPU"})
    save_png(comparison(), alone)
    save_png(Comparison.merged([comparison(), other]), both)
    (width, height), (both_width, both_height) = map(
        _png_size, (alone.read_bytes(), both.read_bytes())
    )
    assert (both_width, both_height > 1.7 * height) == (width, True)


def test_a_page_of_nothing(tmp_path: Path) -> None:
    """If all levels failed, the page has the errors, and neither a table nor plots."""
    page = _page(comparison(levels=(LevelResult(name="Q8_0", error="it failed"),)), tmp_path)
    assert "it failed" in page
    assert "<table" not in page
    assert "<svg" not in page


@pytest.mark.parametrize(
    ("reference", "text", "same", "theirs", "ours"),
    [
        ("the cat sat", "the cow sat", "the c", ("at", " sat"), ("ow", " sat")),
        ("one two", "one", "one", (" two", ""), ("", "")),
        ("same", "same", "same", ("", ""), ("", "")),
        ("a", "b", "", ("a", ""), ("b", "")),
        ("x\n\ny z", "x y", "x", ("\n\ny", " z"), (" y", "")),
        ("end ", "end", "end", (" ", ""), ("", "")),
    ],
)
def test_texts_are_cut_where_they_diverge(
    reference: str, text: str, same: str, theirs: Any, ours: Any
) -> None:
    found = sides(Divergence("prompt", reference, text, 1))
    assert (found.same, found.reference, found.text) == (same, theirs, ours)
    assert found.is_same == (reference == text)


@pytest.mark.parametrize(
    ("reference", "text", "theirs", "ours"),
    [
        (
            "Paris is",
            " Paris is",
            "Paris",
            "␣Paris",
        ),  # regression: they looked the same, but were marked
        ("x\ny", "x y", "↵\ny", "␣y"),
        ("end ", "end", "␣", "ends here"),
        ("end ", "end.", "␣", "."),
        ("the cat", "the\u00a0cat", "␣cat", "⍽cat"),
        ("one two", "one", " two", "ends here"),
        ("one two", "one, two", " two", ","),
    ],
)
def test_a_difference_of_white_space_can_be_seen(
    tmp_path: Path, reference: str, text: str, theirs: str, ours: str
) -> None:
    found = Divergence("prompt", reference, text, 1)
    page = _page(
        comparison(levels=(level("Q4_0", 10**9, 0.1, 20, divergences=(found,)),)), tmp_path
    )
    assert re.findall(r"<mark[^>]*>(.*?)</mark>", page, re.DOTALL) == [theirs, ours]


def test_caption_of_a_single_round() -> None:
    """Regression: the caption spoke of medians and bars that were not drawn."""
    (of_three,) = [
        each.caption for each in plots.panels(comparison(), None) if "Speed" in each.title
    ]
    assert "medians over rounds, bars" in of_three
    once = _only(comparison(), decode_tps=Spread(20.0, 20.0, 20.0), prefill_tps=None)
    (of_one,) = [each.caption for each in plots.panels(once, None) if "Speed" in each.title]
    assert of_one.startswith("Speed against file size: a single round, so")


def test_what_was_not_measured_is_a_dash() -> None:
    texts = [column.text(LevelResult(name="Q8_0")) for column in COLUMNS]
    assert texts == ["Q8_0", *["-"] * (len(COLUMNS) - 1)]


def test_what_was_fixed_is_named() -> None:
    f16, q8_0 = comparison()["F16"], level("F16", 1, 0.0, 1, kv_type="q8_0", flash_attention="auto")
    assert fixed_line(comparison()) == "fixed: 2 threads, flash attention off"
    both = comparison(levels=(f16, q8_0))
    attention = "flash attention off (f16), as llama.cpp decides (q8_0)"
    assert fixed_line(both) == f"fixed: 2 threads, {attention}"
    other = comparison(settings={"n_threads": 1})
    assert fixed_line(Comparison.merged([both, other])) == f"fixed: 1 or 2 threads, {attention}"
    assert fixed_line(other) == "fixed: 1 thread, flash attention off"
    assert fixed_line(Comparison(source="old.gguf", settings={})) is None


def test_what_no_level_has_is_no_column(tmp_path: Path) -> None:
    """Regression: without speed, five columns of dashes pushed figures off the screen."""
    page = _page(_only(comparison(), prefill_tps=None), tmp_path)
    assert ">decode</button>" in page
    assert not any(f">{title}</button>" in page for title in ("prefill", "load", "ECE"))


def test_names_in_plots_are_cut_in_the_middle() -> None:
    """Regression: names of files that differ in their end looked the same."""
    assert short_name("Q4_K_M kv q8_0") == "Q4_K_M kv q8_0"
    found = short_name("SmolLM2-135M-Instruct\n-90MB")
    assert found == "SmolLM2-1…ruct -90MB"


def test_replies_to_chats_are_side_by_side(tmp_path: Path) -> None:
    """With the first different word marked, as in other texts."""
    found = (
        Divergence("What is it?", "It is a cat.", "It is one cat.", 2),
        Divergence("Where is it?", "Here.", "Here.", 3),
    )
    chats = ChatAgreement(share_equal=0.5, low=0.1, high=0.9, first_difference=2.0, replies=found)
    page = _page(comparison(levels=(level("Q4_0", 10**9, 0.1, 20, chats=chats),)), tmp_path)
    assert re.findall(r"<mark[^>]*>(.*?)</mark>", page, re.DOTALL) == ["a", "one"]
    assert "1 of 2 replies are the reference's" in page
    assert page.count('class="prompt"') == 2
    assert "Where the texts diverge" not in page
    assert "Where the replies diverge" not in _page(comparison(), tmp_path)


# --- very many levels, or machines ---


def _many(n: int, **more: Any) -> Comparison:
    """Levels that all are on the front; the knee is among the smallest."""
    lossy = [level(f"L{i}", (1 + i) * 10**6, 1 / (1 + i), n - i, **more) for i in range(n - 1)]
    reference = level("F16", n * 10**6, 0.0, 1, is_reference=True, **more)
    return comparison(levels=(*lossy, reference))


def test_of_very_many_levels_some_are_drawn(tmp_path: Path) -> None:
    """Regression: with 3,000 levels the page took hours. The caption says what is not drawn."""
    result = _many(3000)
    loss, speed, tokens = plots.panels(result, result.recommend())
    assert len(_name_boxes(loss)) <= MOST_POINTS
    assert loss.caption.endswith(" 2920 more levels only in the tables.")
    assert speed.caption.endswith(" 2920 more levels only in the tables.")
    assert tokens.caption.endswith(" 2963 more levels only in the tables.")  # F16 loses nothing
    assert tokens.n_inches < 14
    page = _page(result, tmp_path)
    assert page.count("<tr") > 3000
    assert page.count('class="kept"') == 1


def test_texts_of_some_levels_are_shown(tmp_path: Path) -> None:
    """The recommended level's are among them."""
    texts = (Divergence("prompt", "one", "two", 0),)
    result = _many(MOST_TEXTS + 5, divergences=texts)
    kept = result.recommend().level
    assert kept is not None
    last = dataclasses.replace(
        result, levels=(*(each for each in result.levels if each != kept), kept)
    )
    page = _page(last, tmp_path)
    assert page.count("<details") == 1 + MOST_TEXTS
    assert f"<details open>\n<summary>{kept.label}<" in page
    assert "The texts of 5 more levels are left out." in page
    assert "more levels are left out" not in _page(_many(9, divergences=texts), tmp_path)


def test_some_of_many_machines_have_plots(tmp_path: Path) -> None:
    machines = [comparison(settings={"cpu": f"CPU {i}"}) for i in range(MOST_MACHINES + 1)]
    few, many = merge(machines[:2]), merge(machines)
    assert "no plots here" not in _page(few, tmp_path)
    page = _page(many, tmp_path)
    assert page.count("<svg") == 3 * MOST_MACHINES
    assert "1 more result has no plots here." in page
    assert f"CPU {MOST_MACHINES}" in page


# --- files, and what is missing ---


def test_a_report_is_written_as_a_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.html"
    path.write_text("old")

    def broken(panel: object) -> str:
        raise MemoryError

    monkeypatch.setattr(pictures, "as_svg", broken)
    with pytest.raises(MemoryError):
        save_html(comparison(), path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        atomic_write_bytes(tmp_path / "folder", b"new")
    assert path.read_text() == "old"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["folder", "r.html"]


@pytest.mark.parametrize("option", ["--png", "--html"])
def test_without_matplotlib_nothing_is_started(tmp_path: Path, option: str) -> None:
    """Not even the model is resolved."""
    (tmp_path / "matplotlib.py").write_text("raise ImportError('not here')")
    environment = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = localgen_command("compare", "no-model", option, tmp_path / "r", env=environment)
    assert done.returncode == 1
    assert "pip install 'localgen[report]'" in done.stderr
    assert "no-model" not in done.stderr


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for save in (save_png, save_html):
        with pytest.raises(CompareError, match=r"pip install 'localgen\[report\]'"):
            save(comparison(), tmp_path / "r")
    report.check_targets(html=None, png=None)  # no reports need no matplotlib


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ({"html": "r.png"}, r"r\.png has the wrong extension: reports .* HTML\. Use r\.html"),
        ({"png": "r.html"}, r"r\.html has the wrong extension: plots .* PNG\. Use r\.png"),
        ({"html": "r", "png": "r"}, "both the page and the plots"),
    ],
)
def test_a_page_and_plots_have_their_own_files(
    targets: dict[str, str], message: str, tmp_path: Path
) -> None:
    """Regression: with one name for both, a file r.png held HTML."""
    paths = {name: tmp_path / path for name, path in targets.items()}
    with pytest.raises(CompareError, match=message):
        report.check_targets(**{"html": None, "png": None, **paths})


def test_the_command_draws_an_old_result(tmp_path: Path) -> None:
    """Also if nothing fits, which is an error only after the reports."""
    result, png, page = tmp_path / "r.json", tmp_path / "a" / "r.png", tmp_path / "b" / "r.html"
    comparison().save(result)
    done = localgen_command("compare", "--from-json", result, "--png", png, "--html", page)
    assert done.returncode == 0, done.stderr
    assert _png_size(png.read_bytes())[0] > 1500
    assert "Keep Q4_0" in page.read_text("utf-8")
    other = tmp_path / "other.json"
    comparison(settings={"cpu": "Another CPU"}).save(other)
    merged = ["--from-json", result, "--from-json", other, "--budget", "1GB", "--html", page]
    done = localgen_command("compare", *merged)
    assert done.returncode == 1
    assert "no level fits in 1.00 GB" in done.stderr
    assert "<h3>#2, Another CPU</h3>" in page.read_text("utf-8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--html", "file/r.html"], "file is not a folder"),
        (["--png", "."], "it is a folder. Name a file in it"),
        (["--png", "r.txt"], "plots are written as PNG"),
        (["--png", "r.svg"], "Use r.png."),
        (["--budget", "much"], "not an amount of memory"),
    ],
)
def test_what_cannot_work_is_reported_first(
    tmp_path: Path, options: list[str], message: str
) -> None:
    (tmp_path / "file").touch()
    done = localgen_command("compare", "no-model", *options, cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert "no-model" not in done.stderr


def test_a_command_has_names_and_no_folders(tmp_path: Path) -> None:
    file = tmp_path / "my model.gguf"
    file.touch()
    options = CompareOptions(
        str(file), ["Q4_0", file], text="Some words.", kv_types=["f16", "q8_0"], speed=False,
        imatrix=tmp_path / "i.dat",
    )  # fmt: skip
    settings = Settings(
        source=file, command="", text="Some words.", n_ctx=16, n_chunks=2, kv_types=("f16", "q8_0"),
        n_threads=2, n_rounds=3,
    )  # fmt: skip
    assert command_line(options, settings) == (
        "localgen compare 'my model.gguf' --levels 'Q4_0,my model.gguf' --kv-types f16,q8_0 "
        "--text TEXT_FILE --n-ctx 16 --chunks 2 --no-speed --imatrix i.dat --n-threads 2"
    )
