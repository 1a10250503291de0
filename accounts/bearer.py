"""The Authorization header, read alike at every door. Pure."""

from accounts.problems import Problem


def key_in(authorization: str) -> str | Problem:
    """The text after `Bearer`, not yet looked at; or why the header cannot be taken.

    Servers put the values of a header that came twice side by side, with a comma. No key holds one.
    """
    scheme, _, text = authorization.partition(" ")
    text = text.strip()
    if scheme.lower() != "bearer" or not text:
        return Problem("missing_credentials", "The Authorization header holds no Bearer key.")
    if "," in text:
        detail = "The Authorization header holds more than one key, or came twice; send one key."
        return Problem("invalid_api_key", detail)
    return text
