"""The pages that lead through documentation and code name what is there, and all of it."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def test_the_index_links_every_page_and_every_link_leads_somewhere():
    links = re.findall(r"\]\(([^)#]+)", (DOCS / "index.md").read_text(encoding="utf-8"))
    assert all((DOCS / link).exists() for link in links)
    assert {page.name for page in DOCS.glob("*.md")} - {"index.md"} <= set(links)


def test_the_page_on_architecture_names_every_folder_and_no_other():
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?`) \|", text, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([\w/]+)`", row)}
    folders = {path.parent.name for path in (ROOT / "got_train").glob("*/__init__.py")}
    assert {name for name in named if "/" not in name} == folders
    assert all((ROOT / "got_train" / name).is_dir() for name in named)


def test_every_link_between_pages_leads_somewhere():
    pages = [*DOCS.glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    links = [
        (page, link)
        for page in pages
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        if not link.startswith("http")
    ]
    assert len(links) > 100
    assert [(page.name, link) for page, link in links if not (page.parent / link).exists()] == []
