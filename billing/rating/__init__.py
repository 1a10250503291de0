"""Readings times tariff, exactly: values in, values out. Standard library only, and no clock."""
