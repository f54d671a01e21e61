"""Benchmarks: run as modules; each prints quality and speed together, with hardware, versions and seed."""
