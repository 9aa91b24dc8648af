"""Models that agents run on."""
