"""The dataset folder: its columns, its files, its card, its accounts."""
