"""The ShuffleNet-like space (App. A.4): 20 layers, each one of four ShuffleNetV2 blocks: 4^20 networks."""

from vaenas.errors import UserError
from vaenas.spaces.space import SearchSpace

OPERATIONS = ("Shuffle 3x3", "Shuffle 5x5", "Shuffle 7x7", "Shuffle Xception 3x3")
SYMBOLS = "357x"
STAGE_SHARES = (1, 1, 2, 1)  # of the layers: 4/4/8/4 of 20 (Guo et al. 2019, Table 1)


def stage_layers(layers: int) -> tuple[int, ...]:
    """Layers of each of the four stages; raises `UserError` for a number that is no multiple of 5."""
    if layers < 5 or layers % 5:
        raise UserError(f"layers {layers}: space shufflenet takes multiples of 5 (20 is the paper's)")
    return tuple(share * layers // sum(STAGE_SHARES) for share in STAGE_SHARES)


def shufflenet_space(layers: int = 20) -> SearchSpace:
    """The search space of so many layers, a multiple of 5. Codes look like "3357-x357-33355777-xxxx"."""
    return SearchSpace("shufflenet", operations=(SYMBOLS,) * layers, groups=stage_layers(layers))
