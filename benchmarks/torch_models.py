"""The spread VAEs of the benchmarks in PyTorch, with the weights of this package's networks.

That of the failure case comes twice: as one usually writes it, and with all runs' weights stacked.
From equal weights, data and noise their losses can be compared with this package's.
"""

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from benchmarks.timing import HYPER

NAMES = ("encoder", "decoder")
SIGMA_FIX = HYPER["sigma_fix"]
STATES = ((0.0,), (1.0,))  # of z in the failure case


class Network(nn.Module):
    """Hidden layers and their heads, from the weights of one of this package's networks."""

    def __init__(self, params: Any, activation: type[nn.Module]) -> None:
        super().__init__()
        hidden, heads = _layers(params, _linear)
        self.hidden = nn.Sequential(*(m for linear in hidden for m in (linear, activation())))
        self.heads = nn.ModuleList(heads)

    def forward(self, x: Tensor) -> list[Tensor]:
        features = self.hidden(x)
        return [head(features) for head in self.heads]


class StackedNetwork:
    """The same of all runs, by tanh: weights ``[run, in, out]``, biases ``[run, 1, out]``."""

    def __init__(self, params: Any, device: torch.device) -> None:
        def stacked(kernel: np.ndarray, bias: np.ndarray) -> list[Tensor]:
            leaves = (kernel, bias[:, None])
            return [torch.tensor(leaf, device=device, requires_grad=True) for leaf in leaves]

        self._hidden, self._heads = _layers(params, stacked)

    def parameters(self) -> list[Tensor]:
        return [leaf for layer in (*self._hidden, *self._heads) for leaf in layer]

    def __call__(self, x: Tensor) -> list[Tensor]:
        for kernel, bias in self._hidden:
            # in place: a third of the step is memory traffic
            x = torch.baddbmm(bias, x, kernel).tanh_()
        return [torch.baddbmm(bias, x, kernel) for kernel, bias in self._heads]


class Run:
    """A training loop by Adam over ``loss(encoder, decoder, *batch)``, of one run or ``[run]``."""

    def __init__(
        self,
        loss: Callable[..., Tensor],
        encoder: Network | StackedNetwork,
        decoder: Network | StackedNetwork,
        compiled: bool = False,
        fused: bool = True,
    ) -> None:
        def of_batch(*batch: Tensor) -> Tensor:
            return loss(encoder, decoder, *batch)

        self._loss = torch.compile(of_batch) if compiled else of_batch
        parameters = [*encoder.parameters(), *decoder.parameters()]
        self._optimizer = torch.optim.Adam(parameters, lr=HYPER["learning_rate"], fused=fused)

    def step(self, *batch: Tensor) -> Tensor:
        self._optimizer.zero_grad()
        loss = self._loss(*batch)
        loss.backward(torch.ones_like(loss))  # no run's loss depends on another's weights
        self._optimizer.step()
        return loss.detach()


def one_run(params: Any, i: int, device: torch.device) -> Run:
    """Run i of a sweep of the failure case, trained by itself."""
    of_run = jax.tree.map(lambda leaf: leaf[i], params)
    encoder, decoder = (Network(of_run[name], nn.Tanh).to(device) for name in NAMES)
    states = torch.tensor(STATES, device=device)
    return Run(partial(two_modes_loss, states), encoder, decoder, fused=False)


def stacked_runs(params: Any, device: torch.device) -> Run:
    """All runs of a sweep of the failure case, by batched products and one fused optimizer."""
    encoder, decoder = (StackedNetwork(params[name], device) for name in NAMES)
    states = torch.tensor(STATES, device=device).expand(len(encoder.parameters()[0]), 2, 1)
    return Run(partial(two_modes_loss, states), encoder, decoder)


def image_run(params: Any, device: torch.device, compiled: bool) -> Run:
    """The VAE of :mod:`spread_jax.models.vae`, dense, with a variance for every pixel."""
    encoder, decoder = (Network(params[name], nn.ReLU).to(device) for name in NAMES)
    return Run(image_loss, encoder, decoder, compiled=compiled)


def two_modes_loss(
    states: Tensor, encode: Callable, decode: Callable, x: Tensor, noise: Tensor
) -> Tensor:
    """The negative spread ELBO, Σ_z q(z|y) (log q(z|y) - log p(z) - log p~(y|z)), mean over the
    batch ``x [..., batch, 2]``."""
    y = x + SIGMA_FIX * noise
    log_var, mean = (each[..., None, :, :] for each in decode(states))
    log_lik = _log_lik(y[..., None, :], mean, log_var)
    (logits,) = encode(y)
    log_q = torch.cat([logsigmoid(-logits), logsigmoid(logits)], -1)
    return (log_q.exp() * (log_q + math.log(2) - log_lik)).sum(-1).mean(-1)


def image_loss(
    encode: Callable, decode: Callable, x: Tensor, noise: Tensor, draw: Tensor
) -> Tensor:
    """The negative spread ELBO, mean over the batch ``x [batch, dim]``."""
    y = x + SIGMA_FIX * noise
    mean, log_var = encode(y)
    kl = 0.5 * (mean**2 + torch.expm1(log_var) - log_var).sum(-1)
    log_var, mean = decode(mean + torch.exp(0.5 * log_var) * draw)
    return (kl - _log_lik(y, mean, log_var)).mean()


def two_modes_batch(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Fresh points of the two modes and their standard normal noise, each ``[*shape, 2]``."""
    mode = 2.0 * torch.randint(2, shape, device=device) - 1
    a = mode + HYPER["data_std"] * torch.randn(shape, device=device)
    return torch.stack([a, torch.zeros_like(a)], -1), torch.randn(*shape, 2, device=device)


def image_batch(data: Tensor, batch: int, latent_dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of the data, and standard normal noise for them and for their latents."""
    x = data[torch.randint(len(data), (batch,), device=data.device)]
    return x, torch.randn_like(x), torch.randn(batch, latent_dim, device=data.device)


def to_device(arrays: Iterable[Any], device: torch.device) -> list[Tensor]:
    return [torch.tensor(np.asarray(each), device=device) for each in arrays]


def _layers(params: Any, make: Callable[[np.ndarray, np.ndarray], Any]) -> tuple[list, list]:
    """``make(kernel, bias)`` of a network's hidden layers, and of its heads."""
    network = params["params"]
    heads = [network[name] for name in ("Dense_0", "Dense_1") if name in network]
    hidden, heads = (
        [make(np.array(layer["kernel"]), np.array(layer["bias"])) for layer in layers]
        for layers in (network["MLP_0"].values(), heads)
    )
    return hidden, heads


def _linear(kernel: np.ndarray, bias: np.ndarray) -> nn.Linear:
    linear = nn.Linear(*kernel.shape)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(kernel.T))
        linear.bias.copy_(torch.from_numpy(bias))
    return linear


def _log_lik(y: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Of the spread data, summed over the last axis."""
    var = log_var.exp() + SIGMA_FIX**2
    return -0.5 * (torch.log(2 * math.pi * var) + (y - mean) ** 2 / var).sum(-1)
