"""The architecture weights w of Algorithm 3: the three ways to learn them, and what is derived from them."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from vaenas import parallel
from vaenas.optimizers import load_optimizer
from vaenas.search.settings import ArchUpdate
from vaenas.search.supernet_training import ShuffledBatches, SupernetTrainer, TrainingImages
from vaenas.spaces.space import IsFeasible, Population, SearchSpace, draw_valid, gumbel

STARTS = 1000  # draws, of which line 12 climbs from the likeliest where the plain answer is not allowed


def initial_weights(space: SearchSpace) -> Float[Tensor, "s k"]:
    """0: every operation of a slot equally likely; -inf where it is not on offer."""
    return torch.zeros(space.slots, space.max_choices).masked_fill(~space.on_offer, -torch.inf)


class ArchitectureWeights:
    """w, (s, k), and Adam on it.

    Args:
        images: what w learns from (eq. 4), disjoint from what W does.
        trainer: of the network that w weighs; batches are as large as its, and smoothed and augmented alike.
    """

    def __init__(
        self, space: SearchSpace, rate: float, update: ArchUpdate, images: TrainingImages, trainer: SupernetTrainer
    ) -> None:
        self.space, self.update, self.trainer = space, update, trainer
        self.values = nn.Parameter(initial_weights(space).to(trainer.fabric.device))
        self.optimizer = torch.optim.Adam([self.values], rate, betas=(0.5, 0.999))  # betas as in DARTS
        same = trainer.batches
        self.batches = ShuffledBatches(images, same.size, same.augment, trainer.fabric, same.rng)

    def step(self, architecture: Int64[Tensor, "s"]) -> float:
        """One step of Adam on w, by the loss on images of its own; W stays."""
        w, trainer = self.values, self.trainer
        inputs, targets = self.batches.next()
        before = w.detach().clone()
        gated = {"path": self._path, "two-path": self._two_paths, "mixture": self._mixture}[self.update]
        operations, gates = gated(architecture)
        trainer.network.requires_grad_(False)  # no gradient of W is computed or held
        logits = trainer.network(inputs, operations, gates)
        loss = nn.functional.cross_entropy(logits, targets, label_smoothing=trainer.settings.label_smoothing)
        trainer.fabric.backward(loss)
        trainer.network.requires_grad_(True)
        assert w.grad is not None
        w.grad.nan_to_num_(0.0)  # of operations that are not on offer
        w.grad.copy_(parallel.all_reduce_mean(w.grad))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.update == "two-path":
            self._keep_others(before, operations)
        return float(parallel.all_reduce_mean(loss.detach()))

    def trained(self, architecture: Int64[Tensor, "s"]) -> tuple[Tensor, Tensor | None]:
        """What line 4 trains W by: operations, and gates without a gradient, or the architecture alone."""
        if self.update != "mixture":
            return architecture, None
        operations, gates = self._mixture(architecture)
        return operations, gates.detach()

    def _path(self, architecture: Int64[Tensor, "s"]) -> tuple[Int64[Tensor, "s 1"], Float[Tensor, "s 1"]]:
        operations = architecture[:, None]
        chosen = self.values.softmax(-1).gather(1, operations.to(self.values.device))
        return operations, 1 + chosen - chosen.detach()  # value 1, gradient of p

    def _two_paths(self, architecture: Int64[Tensor, "s"]) -> tuple[Int64[Tensor, "s 2"], Float[Tensor, "s 2"]]:
        """Two different operations of each slot from softmax(w) (Gumbel top-2), one of them open."""
        rng = self.batches.rng
        operations = (self.values.detach().cpu() + gumbel(tuple(self.values.shape), rng)).topk(2, dim=-1).indices
        shares = self.values.gather(1, operations.to(self.values.device)).softmax(-1)  # of the two
        first = torch.rand(len(shares), generator=rng).to(shares.device) < shares[:, 0].detach()
        return operations, torch.stack([first, ~first], dim=1).float() + shares - shares.detach()

    def _mixture(self, architecture: Int64[Tensor, "s"]) -> tuple[Int64[Tensor, "s k"], Float[Tensor, "s k"]]:
        """All operations of every slot, and softmax(w)."""
        if not bool(self.space.on_offer.all()):
            raise ValueError(f"space {self.space.name}: the full mixture needs equally many operations in every slot")
        operations = torch.arange(self.space.max_choices).expand(self.space.slots, -1)
        return operations, self.values.softmax(-1)

    @torch.no_grad()
    def _keep_others(self, before: Float[Tensor, "s k"], operations: Int64[Tensor, "s 2"]) -> None:
        """ProxylessNAS, App.: the two weights are shifted so that the other operations' probabilities stay."""
        pair = operations.to(self.values.device)
        others = before.scatter(1, pair, self.values.gather(1, pair))
        shift = before.gather(1, pair).logsumexp(-1) - others.gather(1, pair).logsumexp(-1)
        self.values.copy_(others.scatter_add_(1, pair, shift[:, None].expand(-1, 2)))

    def derive(self, is_feasible: IsFeasible, constraints: str) -> Population:
        """Line 12: α* (1, s), the valid and feasible architecture that softmax(w) makes likeliest.

        The operation with the largest weight in each slot, if that is allowed. Else it climbs from the likeliest of
        uniform draws that are: to the likeliest allowed neighbour as long as there is one.
        """
        space, log_p = self.space, self.values.detach().cpu().log_softmax(-1)

        def allowed(population: Population) -> Bool[Tensor, "n"]:
            return space.is_valid(population) & is_feasible(population)

        def likeliest(population: Population) -> Int64[Tensor, "1 s"]:
            return population[log_p[torch.arange(space.slots), population].sum(-1).argmax()][None]

        plain = self.values.detach().cpu().argmax(-1)[None]
        if allowed(plain)[0]:
            return plain
        rng = self.batches.rng
        best = likeliest(draw_valid(lambda n: space.uniform(n, rng), allowed, STARTS, constraints=constraints))
        while True:
            near = torch.cat([best, space.neighbours(best[0])])
            nearer = likeliest(near[allowed(near)])
            if torch.equal(nearer, best):
                return best
            best = nearer

    def state_dict(self) -> dict[str, Any]:
        return {
            "values": self.values.detach().clone(),
            "optimizer": self.optimizer.state_dict(),
            "order": self.batches.order,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            self.values.copy_(state["values"])
        load_optimizer(self.optimizer, state["optimizer"])
        self.batches.order = state["order"]
