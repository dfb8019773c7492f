"""The examples in docstrings do what they say; every public function has one."""

import doctest
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import spread_jax as sj

NAMES = {"jax": jax, "jnp": jnp, "np": np, "optax": optax, "sj": sj}
PUBLIC = {name: function for name in sj._HOME if inspect.isfunction(function := getattr(sj, name))}
FLOORS = {
    f"{module}.{name}": function
    for module in sj._MODULES
    for name, function in inspect.getmembers(getattr(sj, module), inspect.isfunction)
    if function.__module__ == f"spread_jax.{module}" and name not in PUBLIC
}
WITH_EXAMPLE = {
    **PUBLIC,
    **{name: function for name, function in FLOORS.items() if ">>>" in (function.__doc__ or "")},
}


@pytest.mark.parametrize("name", WITH_EXAMPLE)
def test_the_example_works_as_it_stands(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # for the files it writes
    example = doctest.DocTestParser().get_doctest(
        inspect.getdoc(WITH_EXAMPLE[name]), dict(NAMES), name, None, 0
    )
    assert example.examples
    report = []
    doctest.DocTestRunner(verbose=False).run(example, out=report.append)
    assert not report, "".join(report)
