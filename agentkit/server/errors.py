"""Errors as OpenAI's clients read them: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from agentkit.errors import (
    AgentkitError,
    ContextLengthError,
    LimitExceededError,
    ModelLoadError,
    ToolError,
    UserError,
)
from agentkit.server.sending import ClientGone, JSONReply

__all__ = ["ApiError", "api_error", "error_body", "handle_errors"]

logger = logging.getLogger("agentkit.server")

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_CODES = {
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    413: "request_too_large",
}


class ApiError(Exception):
    """A request that is answered with an error.

    Args:
        status: HTTP status.
        message: What was wrong and what to do.
        code: A word for programs.
        param: The field of the request that is at fault.
        retry_after: Seconds after which it may be tried again.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.retry_after = retry_after

    def reply(self) -> JSONReply:
        """The HTTP response."""
        headers = {}
        if self.retry_after is not None:
            headers["retry-after"] = str(max(1, round(self.retry_after)))
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        return JSONReply(error_body(self), status_code=self.status, headers=headers)


def error_body(error: ApiError) -> dict[str, Any]:
    """The body of an error's response, or the data of a stream's error event."""
    kind = _TYPES.get(error.status)
    if kind is None:
        kind = "server_error" if error.status >= 500 else "invalid_request_error"
    return {
        "error": {
            "message": error.message,
            "type": kind,
            "param": error.param,
            "code": error.code,
        }
    }


def api_error(error: Exception) -> ApiError:
    """Any exception as one that a client may see; what it may not see goes to the log."""
    match error:
        case ApiError():
            return error
        case ContextLengthError():
            return ApiError(400, str(error), code="context_length_exceeded", param="messages")
        case UserError():
            return ApiError(400, str(error), code="invalid_value")
        case TimeoutError():
            return ApiError(504, "the request took too long", code="timeout")
        case ModelLoadError():
            logger.error("the model cannot be loaded: %s", error)
            return ApiError(
                503, "the model cannot be loaded", code="model_not_loaded", retry_after=30
            )
        case LimitExceededError():
            return ApiError(500, str(error), code="limit_exceeded", param=error.limit)
        case ToolError():
            return ApiError(500, str(error), code="tool_failed")
        case AgentkitError():
            logger.error("a request failed: %s", error, exc_info=error)
            return ApiError(500, str(error), code="model_error")
    logger.error("a request failed", exc_info=error)
    return ApiError(500, "the server made a mistake; its log says more", code="internal_error")


def handle_errors(app: FastAPI) -> None:
    """Have an application answer in this form, whatever goes wrong."""

    async def failed(request: Request, error: Exception) -> JSONReply:
        return api_error(error).reply()

    async def http(request: Request, error: Exception) -> JSONReply:
        assert isinstance(error, HTTPException)
        known = ApiError(error.status_code, str(error.detail), code=_CODES.get(error.status_code))
        if error.status_code == 400:
            known.message, known.code = "the body is not JSON that can be read", "invalid_json"
        if error.status_code == 404:
            known.message = f"there is no {request.method} {request.url.path:.200}"
        reply = known.reply()
        for name, value in (error.headers or {}).items():
            reply.headers[name] = value
        return reply

    async def invalid(request: Request, error: Exception) -> JSONReply:
        assert isinstance(error, RequestValidationError)
        first: Mapping[str, Any] = error.errors()[0]
        return _invalid(first).reply()

    async def gone(request: Request, error: Exception) -> JSONReply:
        return JSONReply({}, status_code=499)  # for the metrics; it reaches nobody

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(ClientGone, gone)
    for kind in (ApiError, AgentkitError, TimeoutError, Exception):
        app.add_exception_handler(kind, failed)


def _invalid(problem: Mapping[str, Any]) -> ApiError:
    kind = problem.get("type")
    where = [str(part) for part in problem.get("loc", ())]
    if kind == "json_invalid":
        reason = problem.get("ctx", {}).get("error", "")
        return ApiError(400, f"the body is not JSON: {reason}", code="invalid_json")
    if where[:1] == ["body"]:
        where = where[1:]
    param = ".".join(where) or None
    if kind == "extra_forbidden":
        message = f"there is no field {param!r} in this request"
        return ApiError(400, message, code="unknown_parameter", param=param)
    if param is None:
        message = "the body must be a JSON object, with the content type application/json"
        return ApiError(400, message, code="invalid_body")
    message = f"{param}: {problem.get('msg', 'is not valid')}"
    return ApiError(400, message, code="invalid_value", param=param)
