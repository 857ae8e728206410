"""What sampled proteins are like, beside real ones."""
