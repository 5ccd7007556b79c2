"""Sweeps: the published runs as data, one run of them, and the engines that work through many."""
