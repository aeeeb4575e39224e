"""The images of a run, by settings that are not nested yet."""

from dataclasses import fields
from typing import Any

from vaenas.data.images import ImageData
from vaenas.data.load import load
from vaenas.data.settings import DataSettings


def load_data(config: Any) -> ImageData:
    """The images that the settings name."""
    return load(DataSettings(**{field.name: getattr(config, field.name) for field in fields(DataSettings)}))
