"""Runs every benchmark; figures are to be quoted as ratios, for machines differ."""

from benchmarks import intake

if __name__ == "__main__":
    intake.run()
