"""Timings, as ratios against a plain baseline measured in the same run. Run `make bench`."""
