"""What a route raised, as a problem: one place for all of them."""

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from centre.problems import Code, Problem, problem
from centre.request_ids import REQUEST_ID, with_id
from flashgrab.errors import (
    DefinitionInvalid,
    LedgerUnavailable,
    OperationRefused,
    StoreUnavailable,
)
from flashgrab.failures import failures
from flashgrab.ledger.operations import CampaignExists


def answered(request: Request[Any], error: Exception) -> Response:
    """The answer to a request that ended with this, under its id; what failed is in the log."""
    response = refused(request, error)
    name = request.scope[REQUEST_ID]
    if response.status_code >= 500:
        failures.say(error, name, request.method, request.url.path, response.status_code)
    return with_id(response, name)


def refused(_request: Request[Any], error: Exception) -> Response:
    """The answer to a request that ended with this."""
    match error:
        case Problem():
            return problem(error.code, error.detail, **error.fields)
        case CampaignExists():
            fields = [
                {"field": d.field, "there": d.there, "given": d.given} for d in error.differences
            ]
            return problem(Code.CAMPAIGN_EXISTS, str(error), differences=fields)
        case OperationRefused():
            return problem(Code[error.code], str(error))
        case DefinitionInvalid():
            return problem(Code.DEFINITION_INVALID, str(error))
        case LedgerUnavailable() | StoreUnavailable():
            detail = f"{type(error).__name__.removesuffix('Unavailable').lower()} does not answer"
            return problem(Code.BACKEND_UNAVAILABLE, f"the {detail}; repeat with the same key")
        case HTTPException(status_code=404):
            return problem(Code.NOT_FOUND, "there is no such address; look at /openapi.json")
        case HTTPException(status_code=405):
            response = problem(Code.METHOD_NOT_ALLOWED, "the Allow header names the methods")
            response.headers.update(error.headers or {})
            return response
    return problem(Code.INTERNAL_ERROR, "a fault of ours; the log of the centre says more")
