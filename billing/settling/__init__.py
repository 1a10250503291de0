"""Amounts after pricing: who pays first, what is owed between parties. Standard library only."""
