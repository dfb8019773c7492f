"""The site of the documents, as a browser shows it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [path.stem for path in sorted((ROOT / "docs").glob("*.md"))]
pytestmark = pytest.mark.slow  # the site is built, and opened in a browser


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs", reason="the docs extra is not installed: make docs installs it")
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "-d", folder]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr  # strict: a broken link is an error
    return folder


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("page", PAGES)
def test_no_page_scrolls_sideways_and_no_image_is_broken(page, width, site, laid_out):
    """Truth: what headless Chromium lays out. Tables, code and formulas scroll by themselves."""
    found = laid_out(site / f"{page}.html", width)
    assert found["wide"] == []
    assert found["width"] <= width
    assert found["broken"] == []


def test_log_has_its_space(site):
    """Truth: MathML has none between a function's name and its argument of itself."""
    text = (site / "mathematics.html").read_text()
    after = re.findall(r"<mi>log</mi>(<\w+)", text)
    assert len(after) > 5
    assert set(after) <= {"<mspace", "<mo"}


def test_the_search_finds_every_page_and_says_when_it_cannot(site):
    index = (site / "search" / "search_index.json").read_text()
    assert all(f'"{page}.html"' in index for page in PAGES)
    assert "search_note.js" in (site / "index.html").read_text()


def test_every_page_is_in_the_navigation():
    nav = (ROOT / "mkdocs.yml").read_text().partition("nav:")[2]
    assert sorted(re.findall(r"(\w+)\.md", nav)) == PAGES
