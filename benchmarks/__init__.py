"""Side-by-side measurements against RecBole, run by hand: `python -m benchmarks.compare`."""
