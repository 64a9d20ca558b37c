"""Composition from strain, its errors, its course in time, and concentration reversal."""
