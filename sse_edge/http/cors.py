"""Cross-origin requests: lets pages of some origins read, and says why others may not.

Starlette answers a preflight that it refuses with a text. Here it is an error as all others are,
with an id whose line is in the log.
"""

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from sse_edge.http.problem import MEDIA_TYPE
from sse_edge.http.refusals import log_refusal

_REASON = "preflight_refused"
_SHOWN_CHARS = 80


class EdgeCors(CORSMiddleware):
    """An ASGI middleware around the application."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a preflight."""
        answer = super().preflight_response(request_headers)
        if answer.status_code < 400:  # noqa: PLR2004  # it is accepted
            return answer
        text = bytes(answer.body).decode()
        what = text.removeprefix("Disallowed CORS ")
        origin = request_headers["origin"][:_SHOWN_CHARS]
        return RefusedPreflight(
            f"pages of {origin!r} may not send this request: its {what} is not allowed; "
            "TAPEWIRE_CORS_ORIGINS and TAPEWIRE_CORS_HEADERS say what is",
            answer,
        )


class RefusedPreflight(Response):
    """The answer to a preflight that is refused."""

    def __init__(self, detail: str, answer: Response) -> None:
        """Keep the headers of an answer."""
        super().__init__(status_code=answer.status_code)
        self._detail = detail
        self._kept = {
            name: value for name, value in answer.headers.items() if not name.startswith("content-")
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Log the refusal, and send it with the id of its line."""
        refusal_id = log_refusal(scope, self.status_code, _REASON, self._detail)
        body = {
            "type": "about:blank",
            "title": "the request of this page is not allowed",
            "status": self.status_code,
            "detail": self._detail,
            "reason": _REASON,
            "id": refusal_id,
        }
        answer = JSONResponse(body, self.status_code, self._kept, media_type=MEDIA_TYPE)
        await answer(scope, receive, send)
