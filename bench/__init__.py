"""Measurements, always side by side with the plain ways, in one run on one machine."""
