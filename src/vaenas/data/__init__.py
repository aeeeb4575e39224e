"""Images: the built-in set, CIFAR-10, folders; splits and augmentation."""

from vaenas.data.augment import Augment
from vaenas.data.cache import cache_dir
from vaenas.data.images import ImageData, ImageSet, split
from vaenas.data.load import load

__all__ = ["Augment", "ImageData", "ImageSet", "cache_dir", "load", "split"]
