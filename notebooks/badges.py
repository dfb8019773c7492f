"""Gives every notebook a badge that opens it in Colab, and lets it install itself there from where
this clone came from.
"""

import re
import subprocess
from pathlib import Path

import nbformat

HERE = Path(__file__).parent
COLAB = "https://colab.research.google.com"


def repository(remote: str) -> str | None:
    """``owner/name`` of a GitHub remote, None of any other."""
    found = re.fullmatch(
        r"(?:.*@|.*://)?(?:.*@)?github\.com(?::\d+)?[:/]([^/]+/[^/]+?)(?:\.git)?/?", remote
    )
    return found and found[1]


def add_badge(notebook: Path, place: str) -> None:
    """As the first line, in place of an older one; and Colab's installation from the same place."""
    address = f"{COLAB}/github/{place}/blob/main/notebooks/{notebook.name}"
    badge = f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({address})\n\n"
    content = nbformat.read(notebook, as_version=4)
    title = content.cells[0]
    title.source = badge + re.sub(r"^\[!\[Open in Colab\].*\n\n", "", title.source)
    for cell in content.cells:
        if cell.cell_type == "code":
            install = f"%pip install -q git+https://github.com/{place}"
            cell.source = re.sub(r"%pip install -q \S+", install, cell.source)
    nbformat.write(content, notebook)


def main() -> None:
    remote = subprocess.run(
        ["git", "remote", "get-url", "origin"], cwd=HERE, capture_output=True, text=True
    ).stdout.strip()
    found = repository(remote)
    if not found:
        print(f"no badges: the remote origin is {remote or 'not set'}, and no GitHub repository")
        return
    for notebook in sorted(HERE.glob("*.ipynb")):
        add_badge(notebook, found)
    print(f"badges open {found}")


if __name__ == "__main__":
    main()
