"""What colour images would take on accelerators: arithmetic from assumptions, nothing measured."""

from collections.abc import Iterator
from typing import NamedTuple

FLOAT32 = 4  # bytes


class Accelerator(NamedTuple):
    """What an accelerator is assumed to do. No machine here could test it."""

    flops: float = 2e13  # a twentieth of what an H200 is sold for in TF32: the products are small
    link: float = 1e11  # bytes a second between two of them
    start: float = 2e-4  # seconds that starting the operations of a step takes


class Images(NamedTuple):
    """A deterministic VAE of one hidden layer, on colour images of 64 x 64 pixels."""

    rows: int = 200_000
    epochs: int = 100
    batch: int = 1_024
    dim: int = 64 * 64 * 3
    hidden: int = 1_024
    latent_dim: int = 64

    @property
    def num_steps(self) -> int:
        return self.epochs * self.rows // self.batch

    @property
    def multiply_adds(self) -> int:
        """Of a step: forward, weight gradients, and input gradients but for the first layer."""
        encoder = self.dim * self.hidden + 2 * self.hidden * self.latent_dim
        decoder = self.latent_dim * self.hidden + self.hidden * self.dim
        return self.batch * (3 * (encoder + decoder) - self.dim * self.hidden)

    @property
    def gradient_bytes(self) -> int:
        weights = 2 * self.dim * self.hidden + 3 * self.hidden * self.latent_dim
        return FLOAT32 * (weights + 2 * self.hidden + 2 * self.latent_dim + self.dim)


def split_step_seconds(images: Images, devices: int, each: Accelerator) -> float:
    """A step of one model, whose batch is split: the devices' work, then a ring that sums the
    gradients, in which every device sends 2 (devices - 1) / devices of them."""
    work = 2 * images.multiply_adds / (devices * each.flops)
    ring = 2 * (devices - 1) / devices * images.gradient_bytes / each.link
    return each.start + work + ring


def image_rows() -> Iterator[str]:
    """The table of predictions for images on accelerators, which nothing measured here enters."""
    images, each = Images(), Accelerator()
    alone = images.num_steps * split_step_seconds(images, 1, each)
    yield "accelerators | ms a step of one model | minutes for it | models an hour, one on each"
    for devices in (1, 8, 64):
        step = split_step_seconds(images, devices, each)
        numbers = f"{1e3 * step:.2f} | {images.num_steps * step / 60:.2f}"
        yield f"{devices} | {numbers} | {devices * 3600 / alone:,.0f}"
