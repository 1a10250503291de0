"""JSON bodies at the doors that Django REST framework keeps: bounded, and readable in one way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from accounts.api_auth import Refused
from accounts.problems import Problem

BODY_BYTES_MAX = 5 * 1024 * 1024


class BoundedJson(BaseParser):
    """A JSON body of bounded size. How it is read strictly is for the room to say."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """The value of the body, or a refusal of the whole request."""
        body = stream.read(BODY_BYTES_MAX + 1)
        if len(body) > BODY_BYTES_MAX:
            detail = f"The body is larger than {BODY_BYTES_MAX} bytes."
            raise Refused(Problem("body_too_large", detail, {"limit": BODY_BYTES_MAX}))
        return self.read(body)

    def read(self, body: bytes) -> object:
        """The value, or `Refused` for what is not strict JSON."""
        raise NotImplementedError


class AlwaysJson(BaseContentNegotiation):
    """Every answer is JSON, whatever a request says it would rather have (RFC 9110, 12.5.1)."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        """The one whose media type the body has, if any."""
        sent = request.content_type.partition(";")[0].strip().lower()
        return next((parser for parser in parsers if parser.media_type == sent), None)

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """The first one."""
        return renderers[0], renderers[0].media_type
