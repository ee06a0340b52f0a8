"""Benchmarks of the local engine."""
