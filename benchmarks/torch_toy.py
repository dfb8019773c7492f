"""The failure case in PyTorch, twice: as one usually writes it, and with all runs' weights stacked.

Both start from weights of this package's networks, so that their losses can be compared with its.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

STATES = ((0.0,), (1.0,))  # of z


class VAE(nn.Module):
    """One run: 2-D data, Bernoulli latent, Gaussian decoder."""

    def __init__(self, hidden: Sequence[int]) -> None:
        super().__init__()
        self.encoder = nn.Sequential(*_mlp(2, hidden), nn.Linear(hidden[-1], 1))
        self.decoder = nn.Sequential(*_mlp(1, hidden))
        self.log_var = nn.Linear(hidden[-1], 2)
        self.mean = nn.Linear(hidden[-1], 2)
        self.register_buffer("states", torch.tensor(STATES))

    def forward(self, x: Tensor, noise: Tensor, sigma_fix: float) -> Tensor:
        """The negative spread ELBO, mean over the batch ``x [batch, 2]``."""
        y = x + sigma_fix * noise
        features = self.decoder(self.states)
        var = self.log_var(features).exp() + sigma_fix**2
        squares = (y[:, None] - self.mean(features)) ** 2 / var
        log_lik = -0.5 * (torch.log(2 * math.pi * var) + squares).sum(-1)
        return _negative_elbo(self.encoder(y), log_lik).mean()

    def load(self, params: Any) -> None:
        """Takes the weights of one run of the sweep."""
        linears = [module for module in self.modules() if isinstance(module, nn.Linear)]
        with torch.no_grad():
            for linear, (kernel, bias) in zip(linears, _layers(params), strict=True):
                linear.weight.copy_(torch.from_numpy(kernel.T))
                linear.bias.copy_(torch.from_numpy(bias))


class StackedVAE:
    """All runs at once: weights ``[run, in, out]``, biases ``[run, 1, out]``."""

    def __init__(self, params: Any, device: torch.device) -> None:
        layers = [
            tuple(torch.tensor(leaf, device=device, requires_grad=True) for leaf in layer)
            for layer in ((kernel, bias[:, None]) for kernel, bias in _layers(params))
        ]
        self.parameters = [leaf for layer in layers for leaf in layer]
        self.num_runs = len(self.parameters[0])
        num_encoder = len(params["encoder"]["params"]["MLP_0"]) + 1
        self._encoder, self._decoder = layers[:num_encoder], layers[num_encoder:]
        self._states = torch.tensor(STATES, device=device).expand(self.num_runs, 2, 1)

    def loss(self, x: Tensor, noise: Tensor, sigma_fix: float) -> Tensor:
        """The negative spread ELBO of each run, mean over its batch ``x [run, batch, 2]``."""
        y = x + sigma_fix * noise
        logits = _stacked_mlp(y, self._encoder[:-1], self._encoder[-1])
        *hidden, log_var_head, mean_head = self._decoder
        features = _stacked_mlp(self._states, hidden)
        var = _dense(features, log_var_head).exp() + sigma_fix**2
        mean = _dense(features, mean_head)
        squares = (y[:, :, None] - mean[:, None]) ** 2 / var[:, None]
        log_lik = -0.5 * (torch.log(2 * math.pi * var)[:, None] + squares).sum(-1)
        return _negative_elbo(logits, log_lik).mean(-1)


class LoopRun:
    """An ordinary training loop over the steps of one run."""

    def __init__(self, params: Any, hyper: Mapping[str, float], device: torch.device) -> None:
        hidden = [layer["bias"].size for layer in params["encoder"]["params"]["MLP_0"].values()]
        self._vae = VAE(hidden).to(device)
        self._vae.load(params)
        self._sigma_fix = hyper["sigma_fix"]
        self._optimizer = torch.optim.Adam(self._vae.parameters(), lr=hyper["learning_rate"])

    def step(self, x: Tensor, noise: Tensor) -> Tensor:
        self._optimizer.zero_grad()
        loss = self._vae(x, noise, self._sigma_fix)
        loss.backward()
        self._optimizer.step()
        return loss.detach()


class StackedRuns:
    """The same steps for all runs at once, by batched products and one fused optimizer."""

    def __init__(self, params: Any, hyper: Mapping[str, float], device: torch.device) -> None:
        self._vae = StackedVAE(params, device)
        self.num_runs = self._vae.num_runs
        self._sigma_fix = hyper["sigma_fix"]
        self._optimizer = torch.optim.Adam(
            self._vae.parameters, lr=hyper["learning_rate"], fused=True
        )

    def step(self, x: Tensor, noise: Tensor) -> Tensor:
        self._optimizer.zero_grad()
        losses = self._vae.loss(x, noise, self._sigma_fix)
        losses.sum().backward()  # no run's loss depends on another's weights
        self._optimizer.step()
        return losses.detach()


def sample_batch(
    shape: tuple[int, ...], hyper: Mapping[str, float], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Fresh points of the two modes and their standard normal noise, each ``[*shape, 2]``."""
    mode = 2.0 * torch.randint(2, shape, device=device) - 1
    a = mode + hyper["data_std"] * torch.randn(shape, device=device)
    return torch.stack([a, torch.zeros_like(a)], -1), torch.randn(*shape, 2, device=device)


def _mlp(width: int, hidden: Sequence[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for next_width in hidden:
        layers += [nn.Linear(width, next_width), nn.Tanh()]
        width = next_width
    return layers


def _dense(x: Tensor, layer: tuple[Tensor, ...]) -> Tensor:
    kernel, bias = layer
    return torch.baddbmm(bias, x, kernel)


def _stacked_mlp(
    x: Tensor, hidden: Sequence[tuple[Tensor, ...]], last: tuple[Tensor, ...] | None = None
) -> Tensor:
    for layer in hidden:
        x = _dense(x, layer).tanh_()  # in place: a third of the step is memory traffic
    return x if last is None else _dense(x, last)


def _negative_elbo(logits: Tensor, log_lik: Tensor) -> Tensor:
    """Σ_z q(z|y) (log q(z|y) - log p(z) - log p~(y|z)): ``logits [..., 1], log_lik [..., z]``."""
    log_q = torch.cat([logsigmoid(-logits), logsigmoid(logits)], -1)
    return (log_q.exp() * (log_q + math.log(2) - log_lik)).sum(-1)


def _layers(params: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """Kernel and bias of every layer, encoder first, in the order of :class:`VAE`'s modules."""
    encoder, decoder = params["encoder"]["params"], params["decoder"]["params"]
    layers = [*encoder["MLP_0"].values(), encoder["Dense_0"]]
    layers += [*decoder["MLP_0"].values(), decoder["Dense_0"], decoder["Dense_1"]]
    return [(np.array(layer["kernel"]), np.array(layer["bias"])) for layer in layers]
