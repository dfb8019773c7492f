"""The VAE of :mod:`spread_jax.vae` in PyTorch, dense, with a variance for every pixel."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class VAE(nn.Module):
    """Encoder and decoder of dense layers and relu, Gaussian latent."""

    def __init__(self, dim: int, hidden: Sequence[int], latent_dim: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(*_mlp(dim, hidden))
        self.latent_mean = nn.Linear(hidden[-1], latent_dim)
        self.latent_log_var = nn.Linear(hidden[-1], latent_dim)
        self.decoder = nn.Sequential(*_mlp(latent_dim, hidden))
        self.log_var = nn.Linear(hidden[-1], dim)
        self.mean = nn.Linear(hidden[-1], dim)

    def forward(self, x: Tensor, noise: Tensor, draw: Tensor, sigma_fix: float) -> Tensor:
        """The negative spread ELBO, mean over the batch ``x [batch, dim]``."""
        y = x + sigma_fix * noise
        features = self.encoder(y)
        mean, log_var = self.latent_mean(features), self.latent_log_var(features)
        kl = 0.5 * (mean**2 + torch.expm1(log_var) - log_var).sum(-1)
        features = self.decoder(mean + torch.exp(0.5 * log_var) * draw)
        var = self.log_var(features).exp() + sigma_fix**2
        squares = (y - self.mean(features)) ** 2 / var
        log_lik = -0.5 * (torch.log(2 * math.pi * var) + squares).sum(-1)
        return (kl - log_lik).mean()

    def load(self, params: Any) -> None:
        """Takes the weights of a run of this package."""
        linears = [module for module in self.modules() if isinstance(module, nn.Linear)]
        with torch.no_grad():
            for linear, (kernel, bias) in zip(linears, _layers(params), strict=True):
                linear.weight.copy_(torch.from_numpy(kernel.T))
                linear.bias.copy_(torch.from_numpy(bias))


class Run:
    """A training loop, eager or compiled, with fused Adam."""

    def __init__(
        self,
        params: Any,
        shape: Mapping[str, int],
        hyper: Mapping[str, float],
        device: torch.device,
        compiled: bool,
    ) -> None:
        vae = VAE(shape["dim"], (shape["hidden"],), shape["latent_dim"]).to(device)
        vae.load(params)
        self._loss = torch.compile(vae) if compiled else vae
        self._sigma_fix = hyper["sigma_fix"]
        self._optimizer = torch.optim.Adam(vae.parameters(), lr=hyper["learning_rate"], fused=True)

    def step(self, x: Tensor, noise: Tensor, draw: Tensor) -> Tensor:
        self._optimizer.zero_grad()
        loss = self._loss(x, noise, draw, self._sigma_fix)
        loss.backward()
        self._optimizer.step()
        return loss.detach()


def sample_batch(data: Tensor, batch: int, latent_dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of the data, and standard normal noise for them and for their latents."""
    x = data[torch.randint(len(data), (batch,), device=data.device)]
    return x, torch.randn_like(x), torch.randn(batch, latent_dim, device=data.device)


def _mlp(width: int, hidden: Sequence[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for next_width in hidden:
        layers += [nn.Linear(width, next_width), nn.ReLU()]
        width = next_width
    return layers


def _layers(params: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """Kernel and bias of every layer, in the order of :class:`VAE`'s modules."""
    encoder, decoder = params["encoder"]["params"], params["decoder"]["params"]
    layers = [
        layer
        for network in (encoder, decoder)
        for layer in (*network["MLP_0"].values(), network["Dense_0"], network["Dense_1"])
    ]
    return [(np.array(layer["kernel"]), np.array(layer["bias"])) for layer in layers]
