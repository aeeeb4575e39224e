"""The images of a run, by settings that are not nested yet."""

from typing import Any

from vaenas.data.images import ImageData
from vaenas.data.load import load
from vaenas.data.settings import DataSettings


def load_data(config: Any) -> ImageData:
    """The images that the settings name."""
    return load(
        DataSettings(
            config.data, config.data_root, config.download, config.skip_bad_images, config.background, config.workers,
            config.image_size,
        )
    )  # fmt: skip
