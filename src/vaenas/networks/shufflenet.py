"""The network of the ShuffleNet-like space: supernet and final network are one class (App. A.4, Fig. 3)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaenas.networks.ops import ShuffleBlock, align, conv_bn
from vaenas.networks.supernet import ChoiceLayer, Supernet
from vaenas.spaces.shufflenet import LAST, OPERATIONS, STAGES, STEM, ShuffleNetGeometry

DROPOUT = 0.5  # App. A.1, on the last fully connected layer


class ShuffleNet(Supernet):
    """Stem, 20 choice layers in four stages, last convolution, classifier.

    Args:
        geometry: image size, classes, width, layers.
        allowed: for each layer the operations that it holds: all four = the supernet, one = a final network.
    """

    def __init__(self, geometry: ShuffleNetGeometry, allowed: Sequence[Sequence[int]] | None = None) -> None:
        super().__init__()
        self.geometry = geometry
        allowed = allowed or [range(len(OPERATIONS))] * geometry.layers
        channels = geometry.channels(STEM)
        self.input_shape = (geometry.image_channels, geometry.image_size, geometry.image_size)
        self.stem = nn.Sequential(
            *conv_bn(geometry.image_channels, channels, 3, geometry.stem_stride), nn.ReLU(inplace=True)
        )
        self.layers = nn.ModuleList()
        for stage, repeats in zip(STAGES, geometry.repeats, strict=True):
            width = geometry.channels(stage)
            for i in range(repeats):
                shape = (channels, width, 2 if i == 0 else 1)
                operations = allowed[len(self.layers)]
                blocks = {o: ShuffleBlock(*shape, operation=o) for o in operations}
                align(list(blocks.values()))
                self.layers.append(ChoiceLayer(blocks))
                channels = width
        last = geometry.channels(LAST)
        self.head = nn.Sequential(*conv_bn(channels, last, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(DROPOUT), nn.Linear(last, geometry.classes))
        self.to(memory_format=torch.channels_last)  # depthwise convolutions are 2-5 times faster so, on the CPU too

    def forward(
        self, images: Tensor, architecture: Tensor | None = None, gates: Float[Tensor, "s m"] | None = None
    ) -> Tensor:
        """Logits of one architecture.

        Args:
            images: (b, image_channels, image_size, image_size), normalised.
            architecture: (s,) operation of each layer; may be left out where every layer holds only one. With
                gates (s, m): m operations of each layer.
            gates: what each of them counts in the layer's output.
        """
        path = self.path(architecture)
        x = self.stem(
            images.contiguous(memory_format=torch.channels_last)
        )  # (b, 16, 224, 224) -> halved four times from here, five with the stem's stride
        for slot, (layer, operations) in enumerate(zip(self.layers, path, strict=True)):
            x = layer(x, operations, None if gates is None else gates[slot])
        x = self.head(x)  # (b, 1024, 1, 1)
        return self.classifier(x)  # (b, classes)

    def subnet(self, architecture: Tensor) -> "ShuffleNet":
        """The final network of one architecture (s,), with this network's weights."""
        return self._with_weights_of_path(ShuffleNet(self.geometry, [[o] for o in architecture.tolist()]))
