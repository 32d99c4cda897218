"""Attacks: what tries every instant, or random ones, at which something may go wrong.

Each is bounded; `--attacks 20` plays twenty times as many, as `.ci/run` does.
"""
