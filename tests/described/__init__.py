"""The API held to its own description by schemathesis, at the real servers."""
