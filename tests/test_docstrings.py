"""The examples in docstrings do what they say; every public function has one."""

import ast
import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr

import spread_jax as sj

NAMES = {"jax": jax, "jnp": jnp, "np": np, "optax": optax, "sj": sj, "xr": xr}
PUBLIC = {
    name: function for name in sj.__all__ if inspect.isfunction(function := getattr(sj, name))
}
MODULES = [
    sj,
    *(
        importlib.import_module(info.name)
        for info in pkgutil.walk_packages(sj.__path__, prefix="spread_jax.")
    ),
]


def documented(module):
    """The module, its functions, its classes and what they define, each with its name."""
    yield module.__name__, module
    for name, value in vars(module).items():
        if getattr(value, "__module__", None) == module.__name__:
            yield f"{module.__name__}.{name}", value
            if inspect.isclass(value):
                for inner, member in vars(value).items():
                    # of a property and a cached one the function
                    member = getattr(member, "fget", getattr(member, "func", member))
                    if getattr(member, "__module__", None) == module.__name__:
                        yield f"{module.__name__}.{name}.{inner}", member


EVERYTHING = [pair for module in MODULES for pair in documented(module)]
WITH_EXAMPLE = {
    **PUBLIC,
    **{
        name: value
        for name, value in EVERYTHING
        if ">>>" in (getattr(value, "__doc__", None) or "") and value not in PUBLIC.values()
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_EXAMPLE)
def test_the_example_works_as_it_stands(name, tmp_path, monkeypatch):
    if name == "spread_density":
        pytest.importorskip("numpyro", reason="its example needs the extra numpyro")
    monkeypatch.chdir(tmp_path)  # for the files it writes
    example = doctest.DocTestParser().get_doctest(
        inspect.getdoc(WITH_EXAMPLE[name]), dict(NAMES), name, None, 0
    )
    assert example.examples
    report = []
    doctest.DocTestRunner(verbose=False).run(example, out=report.append)
    assert not report, "".join(report)


def test_no_example_is_left_out():
    """Truth: a search of the sources for prompts, docstring by docstring."""
    sources = [Path(module.__file__) for module in MODULES]
    prompts = sum(
        ">>>" in (ast.get_docstring(node) or "")
        for source in sources
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
    )
    assert len(WITH_EXAMPLE) == prompts
    assert len(PUBLIC) > 30


def test_every_public_name_is_there_and_documented():
    """Truth: the stub, which is all that a type checker sees."""
    stub = ast.parse(Path(sj.__file__).with_suffix(".pyi").read_text())
    names = [
        alias.asname
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    assert sorted(names) == sorted(set(names)) == sorted(sj.__all__)
    for name in names:
        assert getattr(sj, name) is not None
        assert name in dir(sj)
    assert all(inspect.getdoc(getattr(sj, name)) for name in names)
    assert sj.__version__
