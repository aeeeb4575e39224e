"""The image spaces by name. A new space adds its line."""

from vaenas.networks import macro, nasbench101, nasbench201, nasnet, shufflenet
from vaenas.networks.image_space import ImageSpace

IMAGE_SPACES: dict[str, ImageSpace] = {
    "shufflenet": shufflenet.IMAGE_SPACE,
    "nasnet": nasnet.IMAGE_SPACE,
    "nasbench101": nasbench101.IMAGE_SPACE,
    "nasbench201": nasbench201.IMAGE_SPACE,
    "macro": macro.IMAGE_SPACE,
}
