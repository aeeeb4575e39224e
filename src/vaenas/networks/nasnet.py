"""The network of the NASNet-like space: DARTS's (Liu et al. 2018b), supernet and final network in one class."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from vaenas.networks.cost import AdditiveCost, additive_cost
from vaenas.networks.nasnet_ops import DropPath, FactorizedReduce, auxiliary_tower, make_operation, relu_conv_bn
from vaenas.networks.ops import conv_bn
from vaenas.networks.supernet import ChoiceLayer, Supernet
from vaenas.spaces.nasnet import EDGES, INPUTS, NODES, NONE, OPERATIONS, SLOTS, NASNetGeometry, nasnet_space


class NASNet(Supernet):
    """Stem, cells, classifier. `layers` are the edges cell by cell; cells of one kind share slots, never weights.

    Args:
        geometry: image size, classes, width, layers.
        allowed: for each of the 28 slots the operations that it holds: all eight = the supernet, one = a final network.
        auxiliary: whether to add the auxiliary tower, for training (its parameters count in no published figure).
        drop_path: probability that an edge other than the identity drops an image while training, in [0, 1); a
            schedule sets `drop_path.probability`.
    """

    def __init__(
        self,
        geometry: NASNetGeometry,
        allowed: Sequence[Sequence[int]] | None = None,
        auxiliary: bool = False,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.geometry = geometry
        allowed = allowed or [range(len(OPERATIONS))] * SLOTS
        self.input_shape = (geometry.image_channels, geometry.image_size, geometry.image_size)
        self.drop_path = DropPath(drop_path)
        width = geometry.width
        if geometry.large:
            halved = [*conv_bn(geometry.image_channels, width // 2, 3, stride=2), nn.ReLU(inplace=True)]
            self.stem0 = nn.Sequential(*halved, *conv_bn(width // 2, width, 3, stride=2))
            self.stem1: nn.Module = nn.Sequential(nn.ReLU(), *conv_bn(width, width, 3, stride=2))
            before = previous = width
        else:
            self.stem0 = nn.Sequential(*conv_bn(geometry.image_channels, 3 * width, 3))
            self.stem1 = nn.Identity()
            before = previous = 3 * width

        self.inputs, self.layers = nn.ModuleList(), nn.ModuleList()
        slots = iter(geometry.layer_slots)
        halve_before = geometry.large  # whether c_{k-2} is twice as large as c_{k-1}
        for cell in range(geometry.layers):
            reduction = cell in geometry.reductions
            width *= 2 if reduction else 1
            self.inputs.append(FactorizedReduce(before, width) if halve_before else relu_conv_bn(before, width))
            self.inputs.append(relu_conv_bn(previous, width))
            for source, _ in EDGES:
                stride = 2 if reduction and source < INPUTS else 1
                held = allowed[next(slots)]
                self.layers.append(ChoiceLayer({o: make_operation(o, width, stride, self.drop_path) for o in held}))
            before, previous, halve_before = previous, NODES * width, reduction
        self.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(previous, geometry.classes))
        self.auxiliary = (
            auxiliary_tower(previous, geometry.classes, geometry.last_size, geometry.large) if auxiliary else None
        )
        self.to(memory_format=torch.channels_last)

    def path(self, architecture: Int64[Tensor, "s"] | Int64[Tensor, "s m"] | None) -> list[list[int]]:
        """The operations of each slot; of a final network those of its first normal and its first reduction cell."""
        if architecture is not None:
            return super().path(architecture)
        held = super().path(None)
        cells = (0, self.geometry.reductions[0])
        return [operations for c in cells for operations in held[len(EDGES) * c : len(EDGES) * (c + 1)]]

    def forward(
        self, images: Tensor, architecture: Tensor | None = None, gates: Float[Tensor, "s m"] | None = None
    ) -> Tensor:
        """Logits of one architecture.

        Args:
            images: (b, image_channels, image_size, image_size), normalised.
            architecture: (s,) operation of each slot, with gates (s, m): m operations of each; may be left out in a
                final network. Every node needs an operation other than "none".
            gates: what each of them counts in the edge's output; "none" is never computed.
        """
        return self.classifier(self._cells(images, architecture, gates)[0])

    def with_auxiliary(
        self, images: Tensor, architecture: Tensor | None = None, gates: Float[Tensor, "s m"] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits as from `forward`, and the auxiliary tower's."""
        if self.auxiliary is None:
            raise ValueError("the network was built without the auxiliary tower")
        last, reduced = self._cells(images, architecture, gates)
        return self.classifier(last), self.auxiliary(reduced)

    def subnet(self, architecture: Tensor) -> "NASNet":
        """The final network of one architecture (s,), with this network's weights."""
        allowed = [[o] for o in architecture.tolist()]
        final = NASNet(self.geometry, allowed, self.auxiliary is not None, self.drop_path.probability)
        return self._with_weights_of_path(final)

    def _cells(
        self, images: Tensor, architecture: Tensor | None, gates: Float[Tensor, "s m"] | None
    ) -> tuple[Tensor, Tensor]:
        """Outputs of the last cell and of the second reduction cell."""
        choices = []
        for slot, operations in enumerate(self.path(architecture)):
            computed = [i for i, operation in enumerate(operations) if operation != NONE]
            choices.append(([operations[i] for i in computed], None if gates is None else gates[slot, computed]))
        edges = zip(self.layers, map(choices.__getitem__, self.geometry.layer_slots), strict=True)

        before = self.stem0(images.contiguous(memory_format=torch.channels_last))
        previous = reduced = self.stem1(before)
        for cell in range(self.geometry.layers):
            fit_before, fit_previous = self.inputs[2 * cell : 2 * cell + 2]
            states = [fit_before(before), fit_previous(previous)]
            for node in range(NODES):
                terms = []
                for source in states:
                    layer, (operations, weights) = next(edges)
                    if operations:
                        terms.append(layer(source, operations, weights))
                if not terms:
                    raise ValueError(f"node {INPUTS + node} of cell {cell} has no operation other than none")
                states.append(sum(terms[1:], terms[0]))
            before, previous = previous, torch.cat(states[INPUTS:], dim=1)
            if cell == self.geometry.reductions[1]:
                reduced = previous
        return previous, reduced


class NASNetCost(AdditiveCost):
    """`AdditiveCost` of the NASNet-like space, where "none" costs nothing and every node needs something else."""

    def cheapest(self, which: int) -> tuple[Int64[Tensor, "s"], int]:
        """The valid architecture with the least of cost `which`, as in `AdditiveCost`, and that number."""
        architecture = torch.full((SLOTS,), NONE)
        start = 0
        for length in nasnet_space().groups:
            costs = self.table[which, start : start + length, NONE + 1 :]  # (edges of the node, operations)
            edge, operation = divmod(int(costs.argmin()), costs.shape[1])
            architecture[start + edge] = NONE + 1 + operation
            start += length
        return architecture, int(self.totals(architecture[None])[which])


def nasnet_cost(geometry: NASNetGeometry) -> NASNetCost:
    """Multiply-adds and parameters of whole populations, exact, the auxiliary tower left out."""
    cost = additive_cost(lambda: NASNet(geometry), geometry.layer_slots)
    return NASNetCost(cost.table, cost.constant)
