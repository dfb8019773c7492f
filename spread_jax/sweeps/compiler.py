"""XLA's options on a CPU, measured, and what to do where XLA does not know them."""

import warnings
from typing import Any

import jax

from spread_jax.cores import num_cores

# Measured with jax 0.10.2 where there is AVX-512: vectors of 512 bits are 10 % faster than the 256
# that XLA prefers. YNNPACK, its default, halves the speed of small networks; given nothing but the
# products of larger ones it makes them up to a fourth faster
CPU_OPTIONS: dict[str, Any] = {
    "xla_cpu_experimental_ynn_fusion_type": "",
    "xla_cpu_prefer_vector_width": 512,
}
OF_LARGER_NETWORKS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}
# With a device for each core, to split an operation over threads only costs: 5 %, no digit changes
OF_A_DEVICE_PER_CORE: dict[str, Any] = {
    "xla_disable_hlo_passes": "cpu-parallel-task-assigner",
    "xla_cpu_multi_thread_eigen": False,
}
# for what runs once: halves the time to compile it
UNOPTIMIZED: dict[str, Any] = {"xla_backend_optimization_level": 0}

_unknown_options: set[str] = set()


def use_all_cores() -> None:
    """One CPU device per core: XLA runs one CPU device on about one core.

    Must come before anything else asks JAX for its devices; afterwards it raises RuntimeError.
    """
    try:
        jax.config.update("jax_num_cpu_devices", num_cores())
    except RuntimeError as error:
        raise RuntimeError(
            "use_all_cores must come before JAX is first used: call it at the top of the program, "
            "or after restarting the notebook's kernel"
        ) from error


def cpu_options(larger_networks: bool, num_devices: int) -> dict[str, Any]:
    """The options for a program on ``num_devices`` CPU devices, counted over all processes."""
    device_per_core = num_devices // jax.process_count() >= num_cores()
    return {
        **CPU_OPTIONS,
        **(OF_LARGER_NETWORKS if larger_networks else {}),
        **(OF_A_DEVICE_PER_CORE if device_per_core else {}),
    }


def compile_program(lowered: jax.stages.Lowered, options: dict[str, Any]) -> jax.stages.Compiled:
    """Compiles with the options that this XLA knows; warns once of each that it does not know."""
    options = {name: value for name, value in options.items() if name not in _unknown_options}
    try:
        return lowered.compile(compiler_options=options)
    except jax.errors.JaxRuntimeError:
        # asked only after a failure: where all options are known, as usual, it costs nothing
        unknown = [name for name, value in options.items() if not _is_known(name, value)]
        if not unknown:
            raise
    _unknown_options.update(unknown)
    warnings.warn(
        f"this version of XLA does not know {', '.join(unknown)}; training may be slower",
        stacklevel=2,
    )
    return compile_program(lowered, options)


def _is_known(name: str, value: Any) -> bool:
    try:
        jax.jit(lambda: 0).lower().compile(compiler_options={name: value})
    except jax.errors.JaxRuntimeError:
        return False
    return True
