"""The machine room: installs, starts, supervises and stops what Kilotoken runs on.

Standard library only, and nothing of the project: it runs before `.venv` exists.
"""
