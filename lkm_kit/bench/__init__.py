"""Benchmarks behind ``lkm bench``: ratios against peers and against the machine's own floor, measured in one run."""
