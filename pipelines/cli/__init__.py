"""What the program prints and does around a run."""
