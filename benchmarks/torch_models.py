"""The spread VAEs of the benchmarks in PyTorch, with the weights of this package's networks.

That of the failure case is here twice: as one usually writes it, and with all runs' weights
stacked. Losses from equal weights, data and noise can be compared with this package's.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from benchmarks.timing import HYPER

SIGMA_FIX = HYPER["sigma_fix"]
STATES = ((0.0,), (1.0,))  # of z in the failure case


class Run:
    """A training loop by Adam; a loss of several runs, ``[run]``, trains each by its own."""

    def __init__(
        self, loss: Callable[..., Tensor], parameters: Iterable[Tensor], fused: bool = False
    ) -> None:
        self._loss = loss
        self._optimizer = torch.optim.Adam(parameters, lr=HYPER["learning_rate"], fused=fused)

    def step(self, *batch: Tensor) -> Tensor:
        self._optimizer.zero_grad()
        loss = self._loss(*batch)
        loss.backward(torch.ones_like(loss))  # no run's loss depends on another's weights
        self._optimizer.step()
        return loss.detach()


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


class TwoModesVAE(nn.Module):
    """One run of the failure case: 2-D data, Bernoulli latent, Gaussian decoder."""

    def __init__(self, params: Any) -> None:
        super().__init__()
        self.encoder = Network(params["encoder"], nn.Tanh)
        self.decoder = Network(params["decoder"], nn.Tanh)
        self.register_buffer("states", torch.tensor(STATES))

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """The negative spread ELBO, mean over the batch ``x [batch, 2]``."""
        y = x + SIGMA_FIX * noise
        log_var, mean = self.decoder(self.states)
        (logits,) = self.encoder(y)
        return _binary_negative_elbo(logits, _log_lik(y[:, None], mean, log_var)).mean()


class StackedVAE:
    """All runs of the failure case: weights ``[run, in, out]``, biases ``[run, 1, out]``."""

    def __init__(self, params: Any, device: torch.device) -> None:
        self.parameters: list[Tensor] = []

        def stacked(kernel: np.ndarray, bias: np.ndarray) -> tuple[Tensor, ...]:
            leaves = [
                torch.tensor(leaf, device=device, requires_grad=True)
                for leaf in (kernel, bias[:, None])
            ]
            self.parameters += leaves
            return tuple(leaves)

        self._encoder = _layers(params["encoder"], stacked)
        self._decoder = _layers(params["decoder"], stacked)
        num_runs = len(self.parameters[0])
        self._states = torch.tensor(STATES, device=device).expand(num_runs, 2, 1)

    def loss(self, x: Tensor, noise: Tensor) -> Tensor:
        """The negative spread ELBO of each run, mean over its batch ``x [run, batch, 2]``."""
        y = x + SIGMA_FIX * noise
        (logits,) = _heads_of_all(y, *self._encoder)
        log_var, mean = _heads_of_all(self._states, *self._decoder)
        log_lik = _log_lik(y[:, :, None], mean[:, None], log_var[:, None])
        return _binary_negative_elbo(logits, log_lik).mean(-1)


class ImageVAE(nn.Module):
    """The VAE of :mod:`spread_jax.models.vae`, dense, with a variance for every pixel."""

    def __init__(self, params: Any) -> None:
        super().__init__()
        self.encoder = Network(params["encoder"], nn.ReLU)
        self.decoder = Network(params["decoder"], nn.ReLU)

    def forward(self, x: Tensor, noise: Tensor, draw: Tensor) -> Tensor:
        """The negative spread ELBO, mean over the batch ``x [batch, dim]``."""
        y = x + SIGMA_FIX * noise
        mean, log_var = self.encoder(y)
        kl = 0.5 * (mean**2 + torch.expm1(log_var) - log_var).sum(-1)
        log_var, mean = self.decoder(mean + torch.exp(0.5 * log_var) * draw)
        return (kl - _log_lik(y, mean, log_var)).mean()


def one_run(params: Any, i: int, device: torch.device) -> Run:
    """Run i of a sweep of the failure case, trained by itself."""
    vae = TwoModesVAE(jax.tree.map(lambda leaf: leaf[i], params)).to(device)
    return Run(vae, vae.parameters())


def stacked_runs(params: Any, device: torch.device) -> Run:
    """All runs of a sweep of the failure case, by batched products and one fused optimizer."""
    vae = StackedVAE(params, device)
    return Run(vae.loss, vae.parameters, fused=True)


def image_run(params: Any, device: torch.device, compiled: bool) -> Run:
    vae = ImageVAE(params).to(device)
    return Run(torch.compile(vae) if compiled else vae, vae.parameters(), fused=True)


def to_device(arrays: Iterable[Any], device: torch.device) -> list[Tensor]:
    return [torch.tensor(np.asarray(each), device=device) for each in arrays]


def two_modes_batch(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Fresh points of the two modes and their standard normal noise, each ``[*shape, 2]``."""
    mode = 2.0 * torch.randint(2, shape, device=device) - 1
    a = mode + HYPER["data_std"] * torch.randn(shape, device=device)
    return torch.stack([a, torch.zeros_like(a)], -1), torch.randn(*shape, 2, device=device)


def image_batch(data: Tensor, batch: int, latent_dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of the data, and standard normal noise for them and for their latents."""
    x = data[torch.randint(len(data), (batch,), device=data.device)]
    return x, torch.randn_like(x), torch.randn(batch, latent_dim, device=data.device)


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


def _heads_of_all(x: Tensor, hidden: list, heads: list) -> list[Tensor]:
    for kernel, bias in hidden:
        x = torch.baddbmm(
            bias, x, kernel
        ).tanh_()  # in place: a third of the step is memory traffic
    return [torch.baddbmm(bias, x, kernel) for kernel, bias in heads]


def _log_lik(y: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Of the spread data, summed over the last axis."""
    var = log_var.exp() + SIGMA_FIX**2
    return -0.5 * (torch.log(2 * math.pi * var) + (y - mean) ** 2 / var).sum(-1)


def _binary_negative_elbo(logits: Tensor, log_lik: Tensor) -> Tensor:
    """Σ_z q(z|y) (log q(z|y) - log p(z) - log p~(y|z)): ``logits [..., 1], log_lik [..., z]``."""
    log_q = torch.cat([logsigmoid(-logits), logsigmoid(logits)], -1)
    return (log_q.exp() * (log_q + math.log(2) - log_lik)).sum(-1)
