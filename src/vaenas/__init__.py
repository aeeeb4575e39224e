"""vaenas: neural architecture search with a learned sampler."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vaenas.blackbox.vae_search import VAESearch
    from vaenas.networks import register_space
    from vaenas.networks.weights import load_weights
    from vaenas.runs.search_run import run_search
    from vaenas.samplers.vae import VAESampler
    from vaenas.spaces.space import SearchSpace

__version__ = "0.1.0"
__all__ = ["SearchSpace", "VAESampler", "VAESearch", "load_weights", "register_space", "run_search"]

_HOMES = {
    "SearchSpace": "vaenas.spaces.space",
    "VAESampler": "vaenas.samplers.vae",
    "VAESearch": "vaenas.blackbox.vae_search",
    "load_weights": "vaenas.networks.weights",
    "register_space": "vaenas.networks",
    "run_search": "vaenas.runs.search_run",
}


def __getattr__(name: str) -> Any:
    """Imports what is asked for, and with it torch, only then."""
    if name not in _HOMES:
        raise AttributeError(f"module 'vaenas' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
