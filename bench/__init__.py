"""Side-by-side benchmarks with their own references (bench/README.md)."""
