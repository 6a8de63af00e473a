"""The Chinese pages follow the English ones: headings of the same levels, the same commands and examples."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
PAGES = [("README.md", "README.zh.md")] + [
    (f"docs/{name}.md", f"docs/zh/{name}.md")
    for name in ("installation", "data", "finetuning", "evaluation", "reading", "serving")
]


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name):
    """Fenced blocks line by line, without their indentation."""
    return [[line.strip() for line in block.splitlines()] for block in FENCED.findall(text(name))]


@pytest.mark.parametrize(("english", "chinese"), PAGES)
def test_every_command_and_example_is_the_same(english, chinese):
    ours, theirs = blocks(chinese), blocks(english)
    for number, (mine, other) in enumerate(zip(ours, theirs, strict=False), 1):
        assert mine == other, f"{chinese}: block {number} is not that of {english}; copy it from there"
    assert len(ours) == len(theirs), f"{chinese} has {len(ours)} blocks, {english} {len(theirs)}"


@pytest.mark.parametrize(("english", "chinese"), PAGES)
def test_headings_are_of_the_same_number_and_levels(english, chinese):
    levels = [re.findall(r"^(#+) ", FENCED.sub("", text(name)), re.MULTILINE) for name in (english, chinese)]
    assert levels[0] == levels[1], f"{chinese} lacks or adds a heading of {english}"


@pytest.mark.parametrize(("english", "chinese"), PAGES)
def test_a_chinese_page_is_chinese_and_its_links_lead_somewhere(english, chinese):
    prose = FENCED.sub("", text(chinese))
    assert len(re.findall(r"[\u4e00-\u9fff]", prose)) > 300
    assert len(prose) < len(FENCED.sub("", text(english)))
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", prose) if not link.startswith("http")]
    assert links
    assert [link for link in links if not (ROOT / chinese).parent.joinpath(link).exists()] == []
    anchors = re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", prose)
    for page, anchor in anchors:
        target = (ROOT / chinese).parent / page if page else ROOT / chinese
        headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
        slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert anchor in slugs, f"{chinese}: no heading {anchor} in {page or chinese}"


def test_the_english_readme_leads_to_the_chinese_pages():
    assert "(README.zh.md)" in text("README.md")
    assert all(chinese.removeprefix("docs/") in text("docs/index.md") for _, chinese in PAGES[1:])
