"""Hostile answers in a headless Chromium: no script runs and no request leaves, even without the policy."""

import re

import pytest

from got_train.formats import latex
from got_train.rendering import mathpix
from got_train.rendering.document import POLICY, Reading, render
from tests.chromium import PROGRAM, Chromium

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed")
HIT = "window.hit=1"
HOSTILE = [
    f"<script>{HIT}</script>",
    f"<img src=x onerror={HIT}> <svg onload={HIT}><animate onbegin={HIT} attributeName=x dur=1s>",
    f"[l](javascript:{HIT}) ![i](http://127.0.0.1:9/i.png) <a href=javascript:{HIT}>x</a> [r]: http://h",
    f"\\(\\href{{javascript:{HIT}}}{{x}}\\) \\href{{javascript:{HIT}}}{{y}} \\(\\url{{http://127.0.0.1:9/u}}\\)",
    f'\\(\\style{{background:url(http://127.0.0.1:9/s)}}{{x}} \\class{{a" onclick={HIT}}}{{y}}\\)',
    "\\includegraphics{http://127.0.0.1:9/g.png} \\(\\includegraphics[width=1em]{http://127.0.0.1:9/k.png}\\)",
    f"<table><tr><td onmouseover={HIT}><img src=http://127.0.0.1:9/t.png onerror={HIT}><style>@import "
    "'http://127.0.0.1:9/c.css'</style>1</td></tr></table>",
    f'<smiles>C"/><script>{HIT}</script></smiles> <smiles><img src=x onerror={HIT}></smiles>',
    f"\\begin{{tabular}}{{l}} <script>{HIT}</script> & \\(\\text{{<img src=x onerror={HIT}>}}\\)"
    "\\end{tabular}",
    f"```html\n<script>{HIT}</script>\n```\n\n<math><mtext><table><mglyph><style><img src=x onerror={HIT}>",
    f"{{'title': '</title><script>{HIT}</script>', 'values': {{'<img src=x onerror={HIT}>': '1'}}}}",
    f"**kern\n!!!OTL: <script>{HIT}</script>\n4c\n*-",
    f"\\begin{{tikzpicture}}\\node{{<script>{HIT}</script>}};\\end{{tikzpicture}}",
    f"</pre></details></article></body><script>{HIT}</script>"
    "<meta http-equiv=refresh content='0;http://127.0.0.1:9'>",
]


def looked_at(page, folder):
    file = folder / "page.html"
    file.write_text(page, encoding="utf-8")
    with Chromium(folder / "profile") as browser:
        browser.open(file)
        hit = browser.run("new Promise(done => setTimeout(() => done(String(window.hit)), 300))")
        links = browser.run("document.querySelectorAll('a, script, iframe, form').length")
        return (
            hit,
            links,
            browser.messages,
            [each for each in browser.requests if each[:5] not in ("data:", "file:")],
        )


@pytest.mark.parametrize("way", ["node", "python"])
def test_no_script_runs_and_no_request_leaves(way, tmp_path, monkeypatch):
    if way == "python":
        monkeypatch.setattr(mathpix, "unavailable", lambda: "node is not installed")
    elif mathpix.unavailable():
        pytest.skip(mathpix.unavailable())
    document = [Reading(f"<b onclick={HIT}>", text, task) for text in HOSTILE for task in ("format", "spot")]
    page = render(document, f"</title><script>{HIT}</script>")
    assert POLICY in page
    unguarded = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    assert unguarded != page
    # the escaping alone holds; the policy is a second lock, and nothing is left for it to complain of
    for each in (page, unguarded) if way == "node" else (unguarded,):
        assert looked_at(each, tmp_path) == ("undefined", 0, [], [])


def test_the_browser_would_have_told(tmp_path):
    hit, links, _, requests = looked_at(
        f"<p>a<script>{HIT}</script><img src=http://127.0.0.1:9/x.png>", tmp_path
    )
    assert (hit, links, requests) == ("1", 1, ["http://127.0.0.1:9/x.png"])


@pytest.mark.skipif(latex.unavailable() is not None, reason=str(latex.unavailable()))
def test_formulas_have_their_size_and_tables_their_spans(tmp_path, monkeypatch):
    text = "\\[ \\frac{1}{2} \\]\n\n\\begin{tabular}{ll} \\multicolumn{2}{c}{ab} \\\\ c & d \\end{tabular}"
    for way in ("node", "python"):
        if way == "python":
            monkeypatch.setattr(mathpix, "unavailable", lambda: "node is not installed")
        file = tmp_path / f"{way}.html"
        file.write_text(render([Reading("", text)]), encoding="utf-8")
        with Chromium(tmp_path / way) as browser:
            browser.open(file)
            box = "document.querySelector('%s').getBoundingClientRect()"
            formula = browser.run(box % "mjx-container svg, math" + ".height")
            cells = [browser.run(box % f"tr:nth-child({row}) td" + ".width") for row in (1, 2)]
        assert formula > 20
        assert cells[0] > 1.8 * cells[1]
