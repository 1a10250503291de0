"""The ingestion door described in OpenAPI 3.1. It is no Django view, so nothing else describes it.

Plain values, made from the constants the door itself works with. `config.openapi` puts them beside
what Django REST framework says of its views.
"""
