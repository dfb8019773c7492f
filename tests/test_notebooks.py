"""What is around the notebooks; they themselves are run by nbmake."""

import importlib.util
import shutil
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


@pytest.fixture(scope="module")
def badges():
    spec = importlib.util.spec_from_file_location("badges", NOTEBOOKS / "badges.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("remote", "repository"),
    [
        ("https://github.com/some/one.git", "some/one"),
        ("https://token@github.com/some/one", "some/one"),
        ("git@github.com:some/one.git", "some/one"),
        ("ssh://git@github.com/some/one.jax/", "some/one.jax"),
        ("ssh://git@github.com:22/some/one", "some/one"),
        ("https://github.com/some/one/tree", None),
        ("https://gitlab.com/some/one.git", None),
        ("/a/folder", None),
        ("", None),
    ],
)
def test_only_a_github_remote_gives_a_badge(badges, remote, repository):
    assert badges.repository(remote) == repository


def test_a_badge_stands_first_once_and_colab_installs_from_its_place(badges, tmp_path):
    copy = Path(shutil.copy(NOTEBOOKS / "1_failure_case.ipynb", tmp_path))
    before = nbformat.read(copy, as_version=4)
    badges.add_badge(copy, "old/place")
    badges.add_badge(copy, "new/place")
    after = nbformat.read(copy, as_version=4)
    badge, title = after.cells[0].source.split("\n\n", 1)
    assert "/github/new/place/blob/main/notebooks/1_failure_case.ipynb)" in badge
    assert title.startswith("# The failure case")
    assert before.cells[0].source.endswith(title)
    assert "%pip install -q git+https://github.com/new/place\n" in after.cells[1].source
    assert after.cells[2:] == before.cells[2:]
    nbformat.validate(after)
