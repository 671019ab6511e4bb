"""From a refused admission to an answer that keeps OpenClaw working and tells a person what to do."""

from __future__ import annotations

from clawhaven.core.errors import AppError, Forbidden, Invalid, PaymentRequired, RateLimited, Unauthorized
from clawhaven.metering import NO_OWN_KEY, Source
from clawhaven.metering.limits import IN_FLIGHT
from clawhaven.ports.upstream import Dialect
from clawhaven.proxy import answers
from clawhaven.proxy.answers import SPOKEN, USAGE_LIMIT, Reply
from clawhaven.proxy.request import Facts

TOPUP_PATH = "/topup"
USAGE_PATH = "/usage"
DASHBOARD_PATH = "/dashboard"


def refusal(problem: AppError, dialect: Dialect, facts: Facts, base_url: str) -> Reply:
    """The answer to a call that was not admitted."""
    if isinstance(problem, Unauthorized):
        return answers.error(dialect, 401, problem.message, code="invalid_api_key")
    if isinstance(problem, Invalid):
        return answers.error(dialect, 400, problem.message, code=problem.error_code)
    if isinstance(problem, RateLimited) and problem.error_code == IN_FLIGHT:
        return answers.error(dialect, 429, problem.message, retry_after=int(problem.details["retry_after"]))
    if isinstance(problem, PaymentRequired):
        text = "Your balance is used up, so I cannot answer right now. Top up here, then write again: "
        text += f"{base_url}{TOPUP_PATH}"
    elif isinstance(problem, RateLimited):
        text = f"{problem.message} What was used, and why: {base_url}{USAGE_PATH}"
    elif problem.error_code == NO_OWN_KEY:
        text = "I have no model key yet, so I cannot answer. Put your Anthropic or OpenAI key here, then write again: "
        text += own_key_url(base_url, str(problem.details["instance_id"]))
    elif isinstance(problem, Forbidden):
        text = f"This assistant is paused. Why, and how to go on: {base_url}{DASHBOARD_PATH}"
    else:
        raise problem
    return spoken(dialect, facts, text)


def own_key_url(base_url: str, instance_id: str) -> str:
    """Where the customer puts the key of an assistant."""
    return f"{base_url}/instances/{instance_id}/configuration#api-key"


def own_key_refused(dialect: Dialect, facts: Facts, vendor: str, base_url: str, instance_id: str) -> Reply:
    """The answer when the vendor does not accept the customer's own key."""
    text = f"{vendor} did not accept your API key, or its account is empty. Check the key here: "
    return spoken(dialect, facts, text + own_key_url(base_url, instance_id))


def spoken(dialect: Dialect, facts: Facts, text: str) -> Reply:
    """`text` as an answer of the model for a person; 429 for what no person reads."""
    if facts.ask.source is not Source.PERSON or dialect not in SPOKEN:
        return answers.error(dialect, 429, f"{USAGE_LIMIT.capitalize()}: {text}", code="usage_limit_reached")
    call = facts.call
    return answers.sentence(dialect, call.model, text, is_stream=call.is_stream, wants_usage=call.reports_stream_usage)
