"""vaenas: neural architecture search with a learned sampler."""

__version__ = "0.1.0"
