"""Markdown that models write, as nodes of a browser: what is shown, and what never is markup."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.browsers import needs_browser

pytestmark = [needs_browser, pytest.mark.slow]


@pytest.fixture
def html(run: Any) -> Any:
    """``html(text)`` returns the HTML that a browser writes of a text in Markdown."""
    script = (
        "const view = new m.MarkdownView();"
        "for (const text of args) view.update(text);"
        "view.element.querySelectorAll('.code-bar').forEach((bar) => bar.remove());"
        "return view.element.innerHTML"
    )
    return lambda *texts: run("markdown_view", script, *texts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one\ntwo\n\nthree", "<p>one\ntwo</p><p>three</p>"),
        ("a  \nb", "<p>a<br>b</p>"),
        ("# A\n### B ##", '<h3 class="level-1">A</h3><h4 class="level-3">B</h4>'),
        ("## A\n# B", '<h3 class="level-2">A</h3><h3 class="level-1">B</h3>'),
        ("#hash", "<p>#hash</p>"),
        ("*a* **b** ~~c~~", "<p><em>a</em> <strong>b</strong> <del>c</del></p>"),
        ("***a***", "<p><em><strong>a</strong></em></p>"),
        ("**a *b* c**", "<p><strong>a <em>b</em> c</strong></p>"),
        ("snake_case_name and 2 * 3 * 4", "<p>snake_case_name and 2 * 3 * 4</p>"),
        ("**open *and never closed", "<p>**open *and never closed</p>"),
        (r"\*not\* \`code\`", "<p>*not* `code`</p>"),
        ("`a *b* <i>` ``c ` d``", "<p><code>a *b* &lt;i&gt;</code> <code>c ` d</code></p>"),
        ("`open", "<p>`open</p>"),
        ("> a\n> > b\nc", "<blockquote><p>a</p><blockquote><p>b\nc</p></blockquote></blockquote>"),
        ("a\n\n---\n\nb", "<p>a</p><hr><p>b</p>"),
        ("- a\n- b\n  - c\n- d", "<ul><li>a</li><li>b<ul><li>c</li></ul></li><li>d</li></ul>"),
        ("1. a\n   - b\n2. c", "<ol><li>a<ul><li>b</li></ul></li><li>c</li></ol>"),
        ("1. a\n\n2. b", "<ol><li><p>a</p></li><li><p>b</p></li></ol>"),
        ("3. a\n4. b", '<ol start="3"><li>a</li><li>b</li></ol>'),
        ("- a\n1. b", "<ul><li>a</li></ul><ol><li>b</li></ol>"),
        ("born in\n1984. Yes", "<p>born in\n1984. Yes</p>"),
        ("- a\n\n  ```\n  x\n  ```\n- b", "<ul><li><p>a</p>CODE(x)</li><li><p>b</p></li></ul>"),
        ("```py\nif a:\n    b\n```\nafter", "CODE(if a:\n    b)<p>after</p>"),
        ("~~~\n```\n~~~", "CODE(```)"),
        ("```\nopen", "CODE(open)"),
        ("| a | b |\n|:-:|--:|\n| `x\\|y` | 1 |\n| 2 |", (
            '<table><thead><tr><th scope="col" class="align-center">a</th>'
            '<th scope="col" class="align-right">b</th></tr></thead><tbody>'
            '<tr><td class="align-center"><code>x|y</code></td><td class="align-right">1</td></tr>'
            '<tr><td class="align-center">2</td></tr></tbody></table>'
        )),
        ("a | b\nno table", "<p>a | b\nno table</p>"),
        ("[a](https://b.c/d?e=(f))", "<p>LINK(https://b.c/d?e=(f), a)</p>"),
        ("<https://a.b>", "<p>&lt;LINK(https://a.b, https://a.b)&gt;</p>"),
        ("see https://a.b/c.", "<p>see LINK(https://a.b/c, https://a.b/c).</p>"),
        ("(https://a.b)", "<p>(LINK(https://a.b, https://a.b))</p>"),
        ("[**a** b](mailto:c@d.e)", "<p>LINK(mailto:c@d.e, <strong>a</strong> b)</p>"),
        ("![alt](https://a.b/c.png)", "<p>LINK(https://a.b/c.png, alt)</p>"),
        ("[a] (b) [c", "<p>[a] (b) [c</p>"),
        (r"\(x_1\) and \[y\]", r"<p>\(x_1\) and \[y\]</p>"),
        ("a\r\nb\r\n\r\nc", "<p>a\nb</p><p>c</p>"),
        ("", ""),
    ],
)  # fmt: skip
def test_markdown(html: Any, text: str, expected: str) -> None:
    assert _short(html(text)) == expected


def _short(html: str) -> str:
    """Write code and links in few characters."""
    frame = '<div class="table" tabindex="0" role="region" aria-label="Table">(.*?)</div>'
    code = r'<div class="code"><pre [^>]*><code>(.*?)</code></pre></div>'
    link = r'<a href="([^"]*)" rel="noopener noreferrer nofollow" target="_blank">(.*?)</a>'
    html = html.replace(' dir="ltr"', "")
    html = re.sub(frame, r"\1", html, flags=re.DOTALL)
    html = re.sub(code, r"CODE(\1)", html, flags=re.DOTALL)
    return re.sub(link, r"LINK(\1, \2)", html, flags=re.DOTALL)


def test_tasks_of_a_list_say_whether_they_are_done(html: Any) -> None:
    found = html("- [x] a\n- [ ] b")
    assert found.count('class="task"') == 2
    assert 'aria-label="Done:">☑</span> a' in found
    assert 'aria-label="To do:">☐</span> b' in found


HOSTILE = [
    "<script>window.harmed = 1</script>",
    "<img src=x onerror='window.harmed = 1'>",
    "[a](javascript:window.harmed=1)",
    "[a](JaVaScRiPt:window.harmed=1)",
    "[a](data:text/html,<script>window.harmed=1</script>)",
    "[a](vbscript:x) [b](file:///etc/passwd) [c](//a.b)",
    "![a](javascript:window.harmed=1)",
    '[a](https://b.c"onmouseover="window.harmed=1)',
    "[a](https://b.c 'x' onclick=1)",
    "<https://a.b/\"onclick=alert(1)>",
    "`</code><script>window.harmed = 1</script>`",
    "```\n</pre><script>window.harmed = 1</script>\n```",
    "```\"><script>window.harmed=1</script>\nx\n```",
    "| <b>a</b> |\n|---|\n| <svg onload=window.harmed=1> |",
    "# <iframe srcdoc='<script>parent.harmed=1</script>'>",
    "&lt;script&gt; &#106;avascript: \u202e\u2066\x00\ufffd",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_a_model_writes_is_markup(run: Any, text: str) -> None:
    """Only the elements that Markdown makes, with attributes of this page, and safe links."""
    script = """
      const view = new m.MarkdownView();
      document.body.replaceChildren(view.element);
      for (let n = 1; n <= args[0].length; n += 1) view.update(args[0].slice(0, n));
      const pairs = (node) => [...node.attributes].map(({ name, value }) => [name, value]);
      return [...view.element.querySelectorAll("*")].map((node) => [
        node.localName, Object.fromEntries(pairs(node)),
      ]);
    """
    allowed = {"class", "tabindex", "role", "aria-label", "aria-hidden", "dir", "scope", "type",
               "href", "rel", "target", "title", "viewBox", "d", "start"}  # fmt: skip
    for name, attributes in run("markdown_view", script, text):
        assert name in {"p", "a", "span", "code", "pre", "div", "button", "svg", "path", "table",
                        "thead", "tbody", "tr", "th", "td", "h3"}  # fmt: skip
        assert set(attributes) <= allowed
        if name == "a":
            assert attributes["href"].startswith(("https://", "http://", "mailto:"))
    assert run("markdown_view", "return window.harmed ?? null") is None


def test_any_text_is_shown_whole(html: Any, run: Any) -> None:
    text = (
        "".join(chr(n) for n in range(33, 127) if chr(n) not in "*_`~\\") + " <&>\"' äß漢字🙂\u202e"
    )
    script = (
        "const view = new m.MarkdownView(); view.update(args[0]); return view.element.textContent"
    )
    assert run("markdown_view", script, text) == text


LONG = [
    "*" * 100_000, "**a " * 25_000, "_a *b " * 20_000, "~~a" * 30_000, "[" * 100_000,
    "[a](" * 30_000, "![" * 30_000, "<" * 100_000, "http://" + ")" * 100_000 + "x",
    "`" * 100_000, "`` ` " * 25_000, "`a` " * 25_000, "```" + " " * 100_000 + "`",
    "> " * 30_000, "- " * 30_000, "".join(" " * n + "- a\n" for n in range(400)),
    "1. a\n" * 20_000, "# " + " " * 100_000 + "x", " " * 100_000 + "x", "\n" * 100_000,
    "|" * 60_000 + "\n" + "|-" * 30_000, "a|b\n-|-\n" + "|" * 100_000, "a\n\n" * 30_000,
    "~" * 100_000 + "`", "|\n" + " " * 100_000 + "-x", "|\n-" + " " * 100_000 + "x",
    "a|" * 10_000 + "b\n" + "-|" * 10_000 + "-\n" + "|\n" * 40_000,
    "\\\n" * 150_000, "- a\n" * 150_000, "a|b\n-|-\n" + "|\n" * 150_000, "*a* " * 60_000,
]  # fmt: skip


@pytest.mark.parametrize("text", LONG, ids=lambda text: repr(text[:12]))
def test_the_work_for_a_hostile_text_grows_with_its_length(run: Any, text: str) -> None:
    """Eight times the text: 64 times the work if it is quadratic, which then takes many seconds."""
    script = """
      const milliseconds = (text) => {
        const times = [1, 2, 3].map(() => {
          const start = performance.now();
          new m.MarkdownView().update(text);
          return performance.now() - start;
        });
        return Math.min(...times);
      };
      const [text] = args;
      return [milliseconds(text.slice(0, Math.ceil(text.length / 8))), milliseconds(text)];
    """
    eighth, whole = run("markdown_view", script, text)
    assert whole < 24 * eighth + 1000


def test_a_growing_text_keeps_the_nodes_of_its_finished_blocks(run: Any) -> None:
    script = """
      const view = new m.MarkdownView();
      view.update("# A\\n\\none");
      const [heading, paragraph] = view.element.children;
      view.update("# A\\n\\none two\\n\\n```py\\na");
      const code = view.element.children[2];
      view.update("# A\\n\\none two\\n\\n```py\\na\\nb\\n```");
      const now = view.element.children;
      const text = code.querySelector("code").textContent;
      return [now[0] === heading, now[1] === paragraph, now[2] === code, now.length, text];
    """
    assert run("markdown_view", script) == [True, True, True, 3, "a\nb"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1. - \u05d0 and", "rtl"), ("\u0645", "rtl"), ("a \u05d0", "ltr"), ("> \u05d0", "rtl"),
        ("1 + 2", ""), ("\u05d0 | a\n--|--\na | b", "rtl"), ("# *\u05d0*", "rtl"),
        ("- \u07ca\n- a", "rtl"), ("\u6f22 \u05d0", "ltr"),
    ],
)  # fmt: skip
def test_each_block_has_the_direction_of_its_first_letter(
    run: Any, text: str, expected: str
) -> None:
    script = """
      const view = new m.MarkdownView();
      for (let n = 1; n <= args[0].length; n += 1) view.update(args[0].slice(0, n));
      return view.element.firstChild.dir;
    """
    assert run("markdown_view", script, text) == expected


GROWING = [
    "a *b* `c` [d](https://e.f) g\nh  \ni",
    "- a\n- b *c*\n  - d\n  - e\n\n- loose now",
    "1. a\n2. [x] b\n\n> q\n> - r\n> s",
    "| a | b |\n|---|--:|\n| 1 | *2* |\n| 3 | 4 |\n\nend",
    "```py\na\nb\n```\n~~~\nc",
    "- [ ] a\n- [x] b\n\n# h\ni\n===",
]


@pytest.mark.parametrize("text", GROWING, ids=lambda text: repr(text[:8]))
def test_a_text_that_grew_looks_like_one_that_came_at_once(run: Any, text: str) -> None:
    script = """
      const growing = new m.MarkdownView();
      const pairs = [];
      for (let n = 1; n <= args[0].length; n += 1) {
        const whole = new m.MarkdownView();
        for (const view of [growing, whole]) view.update(args[0].slice(0, n));
        pairs.push([growing.element.innerHTML, whole.element.innerHTML]);
      }
      return pairs;
    """
    for grown, whole in run("markdown_view", script, text):
        assert grown == whole


def test_what_is_complete_in_a_block_that_grows_keeps_its_nodes(run: Any) -> None:
    """So that a long one costs little, and what is selected in it stays so."""
    script = """
      const view = new m.MarkdownView();
      const nodes = (selector) => [...view.element.querySelectorAll(selector)];
      view.update("a *b* c");
      const text = view.element.querySelector("p").lastChild;
      view.update("a *b* c d\\n\\n- x\\n- y");
      const [item] = nodes("li");
      view.update("a *b* c d\\n\\n- x\\n- y\\n- z\\n\\na|b\\n-|-\\n1|2\\n3");
      const [, row] = nodes("tr");
      view.update("a *b* c d\\n\\n- x\\n- y\\n- z\\n\\na|b\\n-|-\\n1|2\\n3|4\\n5|6");
      return [
        view.element.querySelector("p").lastChild === text, text.data, nodes("li")[0] === item,
        nodes("tr")[1] === row, nodes("tr").length,
      ];
    """
    assert run("markdown_view", script) == [True, " c d", True, True, 4]
