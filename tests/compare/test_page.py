"""The page of a comparison in a real browser: Chromium, driven through its own driver.

Without both (Debian's packages chromium and chromium-driver) these tests are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localgen.compare import save_html
from localgen.compare.machines import merge
from localgen.compare.sensitivity import HeatCell, HeatMap
from tests.browsers import chromium, needs_browser, prefer, requests_of, resize
from tests.comparisons import BREAKOUT, IMAGE, SCRIPT, comparison, hostile

pytestmark = needs_browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Any:
    """``opened(result, width)`` saves and loads a page; as a phone does if it is narrow."""

    def opened(result: Any, width: int = 1200, **more: Any) -> Any:
        path = tmp_path / "page.html"
        save_html(result, path, **more)
        resize(browser, width)
        browser.get_log("browser")
        browser.get_log("performance")
        browser.get(path.as_uri())
        return browser

    return opened


def _column(browser: Any, number: int) -> list[str]:
    """Return the values that a column is sorted by, from top to bottom."""
    script = (
        "return [...document.querySelector('table').tBodies[0].rows]"
        ".map((row) => row.cells[arguments[0]].dataset.value)"
    )
    found: list[str] = browser.execute_script(script, number)
    return found


def _has_sideways_scroll(browser: Any) -> bool:
    script = (
        "document.querySelectorAll('details').forEach((each) => { each.open = true; });"
        "return document.documentElement.scrollWidth > window.innerWidth"
    )
    return bool(browser.execute_script(script))


@pytest.mark.parametrize("make", [comparison, hostile])
def test_a_page_makes_no_requests_and_logs_no_errors(opened: Any, make: Any) -> None:
    browser = opened(make())
    assert [url.rpartition("/")[2] for url in requests_of(browser)] == ["page.html"]
    assert browser.get_log("browser") == []


def test_each_header_sorts(opened: Any) -> None:
    """First ascending, then descending; values that were not measured are always last."""
    browser = opened(comparison())
    headers = browser.find_elements("css selector", ".sortable thead th")
    for number, header in enumerate(headers):
        before = _column(browser, number)
        as_key = str if header.get_attribute("data-kind") == "text" else float
        for direction in ("ascending", "descending"):
            header.find_element("tag name", "button").click()
            assert header.get_attribute("aria-sort") == direction
            measured = [value for value in before if value]
            measured.sort(key=as_key, reverse=direction == "descending")
            assert _column(browser, number) == measured + [""] * before.count("")
        assert len(browser.find_elements("css selector", "th[aria-sort]")) == 1
    sizes = [header.text for header in headers].index("size")
    headers[sizes].find_element("tag name", "button").send_keys("\ue007")  # the Enter key
    assert _column(browser, sizes)[0] == str(3 * 10**9)


def test_the_words_where_texts_diverge_are_marked(opened: Any) -> None:
    browser = opened(comparison())
    sides = browser.find_elements("css selector", "details[open] .sides pre")
    assert [side.text.strip() for side in sides] == [
        "Paris, a city.", "Paris, the city.", "100 °C.", "there wasends here", "there was a cat",
    ]  # fmt: skip
    marks = browser.find_elements("css selector", "details[open] mark")
    assert [mark.text.strip() for mark in marks] == ["a", "the", "ends here", "a"]


@pytest.mark.parametrize("make", [comparison, hostile])
def test_a_phone_scrolls_only_vertically(opened: Any, make: Any) -> None:
    """The page is as wide as the screen; the table scrolls in its own frame."""
    browser = opened(make(), 375)
    assert browser.execute_script("return window.innerWidth") == 375
    assert not _has_sideways_scroll(browser)
    frame = "const frame = document.querySelector('.frame');"
    assert browser.execute_script(f"{frame} return frame.scrollWidth > frame.clientWidth")


def test_plots_are_legible_on_a_phone(opened: Any) -> None:
    """The smallest text of a plot is at least ten pixels high."""
    browser = opened(comparison(), 375)
    script = (
        "return [...document.querySelectorAll('figure svg text')].map((text) =>"
        "parseFloat(getComputedStyle(text).fontSize) * Math.abs(text.getScreenCTM().a ||"
        " text.getScreenCTM().b))"
    )
    sizes = browser.execute_script(script)
    assert len(sizes) > 20
    assert min(sizes) >= 10


def test_several_machines_on_a_phone(opened: Any) -> None:
    """Each table scrolls in its own frame, whose first column stays."""
    browser = opened(merge([comparison(), comparison(settings={"cpu": "Another CPU"})]), 375)
    assert not _has_sideways_scroll(browser)
    tables = browser.find_elements("css selector", ".frame table")
    assert len(tables) == 2
    script = (
        "const frame = arguments[0].parentElement; frame.scrollLeft = 1000;"
        "return [frame.scrollLeft, arguments[0].rows[1].cells[0].getBoundingClientRect().left"
        " - frame.getBoundingClientRect().left]"
    )
    for table in tables:
        scrolled, moved = browser.execute_script(script, table)
        assert (scrolled > 0, abs(moved) < 1) == (True, True)
    sentences = browser.find_elements("css selector", ".lead strong")
    assert [each.text for each in sentences] == ["#1, A CPU, 2 threads:", "#2, Another CPU:"]


def test_the_group_that_loses_most_is_the_darkest(opened: Any) -> None:
    """In both schemes, the colours of a heat map differ and leave its figures legible."""
    cells = tuple(HeatCell("Q4_K", 10.0**-n, n / 2) for n in range(3))
    heat_map = HeatMap(SCRIPT, ("early", "middle", "late"), {IMAGE: cells}, ("Q4_K",), BREAKOUT)
    for scheme in ("light", "dark"):
        browser = opened(comparison(), 375, heat_maps=[heat_map])
        prefer(browser, prefers_color_scheme=scheme)
        colours = browser.execute_script(COLOURS_OF_CELLS)
        paper, ink = colours[:2]
        contrasts = [_contrast(cell, ink) for cell in colours[2:]]
        assert _contrast(paper, ink) == pytest.approx(contrasts[0])
        assert contrasts == sorted(contrasts, reverse=True)
        assert contrasts[-1] > 4.5  # WCAG 2, AA
        assert not _has_sideways_scroll(browser)
        assert browser.execute_script("return window.harmed") is None


# The page's background and text, and the background of each cell, as red, green and blue.
COLOURS_OF_CELLS = """
const context = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const style = (each) => getComputedStyle(each);
const paper = style(document.body).backgroundColor;
const pixel = (...layers) => {
  layers.forEach((each) => { context.fillStyle = each; context.fillRect(0, 0, 1, 1); });
  return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
};
const cells = [...document.querySelectorAll('.heat td')];
return [pixel(paper), pixel(style(document.body).color),
  ...cells.map((each) => pixel(paper, style(each).backgroundColor))];
"""


def _contrast(a: list[int], b: list[int]) -> float:
    """The contrast of two colours, by the formula of WCAG 2."""
    dark, light = sorted((_luminance(a), _luminance(b)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: list[int]) -> float:
    linear = [(c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4) for c in
              (each / 255 for each in colour)]  # fmt: skip
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_what_a_model_writes_is_text(opened: Any) -> None:
    browser = opened(hostile())
    assert browser.execute_script("return window.harmed") is None
    assert len(browser.find_elements("css selector", "script")) == 1
    assert browser.find_elements("css selector", "img, svg script, [onerror]") == []
    script = "return document.body.textContent"
    shown = browser.execute_script(script)
    assert all(text in shown for text in (SCRIPT, IMAGE, BREAKOUT))


def test_dark_mode(opened: Any) -> None:
    """The plots use the page's colours."""
    colours = []
    for scheme in ("light", "dark"):
        browser = opened(comparison())
        prefer(browser, prefers_color_scheme=scheme)
        script = (
            "const style = (each) => getComputedStyle(document.querySelector(each));"
            "return [style('body').backgroundColor, style('body').color, style('svg text').fill]"
        )
        colours.append(browser.execute_script(script))
    (light_paper, light_ink, light_plot), (dark_paper, dark_ink, dark_plot) = colours
    assert (light_paper, light_ink) == ("rgb(255, 254, 251)", "rgb(31, 29, 26)")
    assert (dark_paper, dark_ink) == ("rgb(23, 22, 20)", "rgb(232, 228, 220)")
    assert light_plot != dark_plot
