"""Benchmarks of separately trained networks: their import, and the comparisons made on them."""
