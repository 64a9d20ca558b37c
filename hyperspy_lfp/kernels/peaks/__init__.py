"""Peaks of a profile: fits by maximum likelihood, one phase or two."""
