"""The learned sampler: a VAE over operation sequences (Sec. 3.2) and its training (Algorithm 1)."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from vaenas.optimizers import load_optimizer
from vaenas.samplers.sampler import UpdateStats, elite
from vaenas.samplers.settings import PAPER, RECOMMENDED, VAESettings
from vaenas.spaces.space import Population, Scores, SearchSpace

__all__ = ["PAPER", "RECOMMENDED", "SequenceVAE", "VAESampler", "VAESettings"]

ACTIVE = 0.01  # Burda et al. 2016: a latent unit is active if Var_α(E[z_u|α]) is above this
CHUNK = 1000  # rows decoded at once: what an LSTM step touches stays in the cache


class SequenceVAE(nn.Module):
    """Encoder q_φ(z|α) and decoder p_θ(α|z), both LSTMs.

    The decoder sees z and the slot's embedding at every step and gives the logits of all slots at once: given
    z the slots are independent, so what they have in common must pass through z. A decoder that also saw the
    operations already drawn could do without z, the usual cause of posterior collapse (Bowman et al. 2016).
    """

    def __init__(self, space: SearchSpace, settings: VAESettings, rng: Generator) -> None:
        super().__init__()
        s, k, e, h, d = space.slots, space.max_choices, settings.embedding, settings.hidden, settings.latent
        self.embed = nn.Embedding(k, e)
        self.encoder = nn.LSTM(e, h, batch_first=True)
        self.posterior = nn.Linear(h, 2 * d)
        self.slot = nn.Parameter(torch.empty(s, e))
        self.decoder = nn.LSTM(d + e, h, batch_first=True)
        self.logits = nn.Linear(h, k)
        for parameter in self.parameters():  # PyTorch's own bound for an LSTM, but from our generator
            nn.init.uniform_(parameter, -(h**-0.5), h**-0.5, generator=rng)
        for table in (self.embed.weight, self.slot):
            nn.init.normal_(table, generator=rng)

    def encode(self, population: Population) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
        """μ and log σ² of q_φ(z|α), each (n, d)."""
        _, (last, _) = self.encoder(self.embed(population))  # (n, s, e) -> (1, n, h)
        mean, log_variance = self.posterior(last[0]).chunk(2, dim=-1)
        return mean, log_variance

    def decode(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n s k"]:
        """Logits of p_θ(o_j|z) for every slot j."""
        n, s = len(z), len(self.slot)
        steps = torch.cat([z[:, None].expand(-1, s, -1), self.slot.expand(n, -1, -1)], dim=-1)  # (n, s, d + e)
        return self.logits(self.decoder(steps)[0])

    def kl(self, mean: Float[Tensor, "n d"], log_variance: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """D_KL(N(μ, σ²) || N(0, 1)) in nats, one per latent unit."""
        return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


class VAESampler:
    """Draws z ~ N(0, I), decodes it, draws α ~ p_θ(α|z); `update` is Algorithm 1."""

    def __init__(self, space: SearchSpace, rng: Generator, settings: VAESettings = RECOMMENDED) -> None:
        self.space, self.settings, self.keep_ratio = space, settings, settings.keep_ratio
        self.vae = SequenceVAE(space, settings, rng)
        self.optimizer = torch.optim.Adam(self.vae.parameters(), lr=settings.learning_rate)

    @torch.no_grad()
    def sample(self, n: int, rng: Generator) -> Population:
        """(n, s)"""
        z = torch.randn(n, self.settings.latent, generator=rng)
        drawn = [self.space.draw(self.vae.decode(part), rng) for part in z.split(CHUNK)]
        return torch.cat(drawn) if drawn else torch.empty(0, self.space.slots, dtype=torch.int64)

    @torch.no_grad()
    def latent(self, population: Population) -> Float[Tensor, "n d"]:
        """The encoder's mean μ(α) of each architecture."""
        return self.vae.encode(population)[0]

    def update(self, population: Population, scores: Scores, rng: Generator) -> UpdateStats:
        """Algorithm 1 on S = {(α_i, ACC_i)}: (n, s), (n,)."""
        s = self.settings
        # Lines 1-2: rank S, keep the top K.
        data = elite(population, scores, s.keep_ratio)
        losses = []
        for _ in range(s.iterations):  # line 3
            rows = torch.randint(len(data), (min(s.batch_size, len(data)),), generator=rng)
            loss = self._loss(data[rows], rng)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()  # line 4: φ and θ
            losses.append(loss.detach())
        return self._stats(data, float(torch.stack(losses).mean()) if losses else float("nan"), rng)

    def _loss(self, batch: Population, rng: Generator) -> Tensor:
        """The negative of eq. 2 in nats per architecture, the KL term weighted and with free bits."""
        mean, log_variance = self.vae.encode(batch)
        z = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=rng)
        # operations that a slot does not offer have probability 0
        logits = self.vae.decode(z).masked_fill(~self.space.on_offer, -torch.inf).flatten(0, 1)
        reconstruction = -nn.functional.cross_entropy(logits, batch.flatten(), reduction="sum") / len(batch)
        kl = self.vae.kl(mean, log_variance).mean(0).clamp(min=self.settings.free_bits).sum()
        return self.settings.kl_weight * kl - reconstruction

    @torch.no_grad()
    def _stats(self, data: Population, loss: float, rng: Generator) -> UpdateStats:
        mean, log_variance = self.vae.encode(data)
        decoded = self.vae.decode(mean).masked_fill(~self.space.on_offer, -torch.inf).argmax(-1)
        return UpdateStats.of(
            self,
            rng,
            loss=loss,
            kl=float(self.vae.kl(mean, log_variance).sum(-1).mean()),
            active_units=int((mean.var(0, correction=0) > ACTIVE).sum()),
            reconstruction=float((decoded == data).float().mean()),
        )

    def state_dict(self) -> dict[str, Any]:
        return {"vae": self.vae.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.vae.load_state_dict(state["vae"])
        load_optimizer(self.optimizer, state["optimizer"])
