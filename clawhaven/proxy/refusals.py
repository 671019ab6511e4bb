"""From a refused admission to an answer that keeps OpenClaw working and tells a person what to do.

A program of the customer's own (Source.PROGRAM) gets what its vendor's client raises the fitting exception for.
"""

from __future__ import annotations

import msgspec

from clawhaven.core.errors import AppError, Forbidden, Invalid, PaymentRequired, RateLimited, Unauthorized
from clawhaven.metering import NO_OWN_KEY, Source
from clawhaven.metering.limits import ACCOUNT_SPEND_PER_DAY, IN_FLIGHT
from clawhaven.metering.spending import MONEY_LIMITS
from clawhaven.ports.upstream import Dialect
from clawhaven.proxy import answers
from clawhaven.proxy.answers import SPOKEN, USAGE_LIMIT, Reply
from clawhaven.proxy.request import Facts

TOPUP_PATH = "/topup"
USAGE_PATH = "/usage"
DASHBOARD_PATH = "/dashboard"
BILLING_PATH = "/billing"
OVERDUE = "payment_overdue"
CROWDED = "The model has reached its rate limit. Please try again in a moment."


def refusal(problem: AppError, dialect: Dialect, facts: Facts, base_url: str) -> Reply:
    """The answer to a call that was not admitted."""
    if isinstance(problem, Unauthorized):
        return answers.error(dialect, 401, problem.message, code="invalid_api_key")
    if isinstance(problem, Invalid):
        return answers.error(dialect, 400, problem.message, code=problem.error_code)
    if facts.ask.source is Source.PROGRAM:
        return _plain(problem, dialect, base_url)
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


def _plain(problem: AppError, dialect: Dialect, base_url: str) -> Reply:
    if isinstance(problem, PaymentRequired):
        text = f"The balance is used up. Top up: {base_url}{TOPUP_PATH}"
        if problem.error_code == OVERDUE:
            text = f"A payment for this assistant is overdue. Pay here: {base_url}{BILLING_PATH}"
        return answers.unpaid(dialect, text, "credit_balance_exhausted")
    if isinstance(problem, RateLimited) and problem.error_code in MONEY_LIMITS:
        whose = "organization" if problem.error_code == ACCOUNT_SPEND_PER_DAY else "project"
        text = f"{problem.message} Limits and what was used: {base_url}{USAGE_PATH}"
        return answers.unpaid(dialect, text, f"{whose}_spend_limit_exceeded")
    if isinstance(problem, RateLimited):
        wait = int(problem.details["retry_after"])
        return answers.error(dialect, 429, problem.message, code="rate_limit_exceeded", retry_after=wait)
    if problem.error_code == NO_OWN_KEY:
        place = own_key_url(base_url, str(problem.details["instance_id"]))
        text = f"This assistant's plan uses your own Anthropic or OpenAI key, and there is none yet: {place}"
        return answers.error(dialect, 403, text, code=NO_OWN_KEY)
    if isinstance(problem, Forbidden):
        text = f"This assistant is paused. Why, and how to go on: {base_url}{DASHBOARD_PATH}"
        return answers.error(dialect, 403, text, code=problem.error_code)
    raise problem


def own_key_url(base_url: str, instance_id: str) -> str:
    """Where the customer puts the key of an assistant."""
    return f"{base_url}/instances/{instance_id}/configuration#api-key"


def own_key_refused(
    dialect: Dialect, facts: Facts, vendor: str, base_url: str, instance_id: str, status: int = 0
) -> Reply:
    """The answer when the vendor does not accept the customer's own key; `status` is what it said."""
    text = f"{vendor} did not accept your API key, or its account is empty. Check the key here: "
    text += own_key_url(base_url, instance_id)
    if facts.ask.source is not Source.PROGRAM:
        return spoken(dialect, facts, text)
    if status in (401, 403):
        return answers.error(dialect, status, text, code="invalid_api_key")
    return answers.unpaid(dialect, text, "credit_balance_exhausted")


def crowded(dialect: Dialect, told: bytes) -> bytes:
    """A vendor's 429 with a message of ours: its own names the operator's organization and what it is allowed.

    What clients of the vendor look at besides stays: types, code, parameter, the request's id.
    """
    try:
        said = msgspec.json.decode(told)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        said = None
    error = said.get("error") if isinstance(said, dict) else None
    if not isinstance(error, dict):
        return answers.error(dialect, 429, CROWDED).body
    kept = {name: value for name, value in error.items() if name in ("type", "message", "param", "code")}
    told_still = {name: value for name, value in said.items() if name in ("type", "error", "request_id")}
    return msgspec.json.encode({**told_still, "error": {**kept, "message": CROWDED}})


def spoken(dialect: Dialect, facts: Facts, text: str) -> Reply:
    """`text` as an answer of the model for a person; 429 for what no person reads."""
    if facts.ask.source is not Source.PERSON or dialect not in SPOKEN:
        return answers.error(dialect, 429, f"{USAGE_LIMIT.capitalize()}: {text}", code="usage_limit_reached")
    call = facts.call
    return answers.sentence(dialect, call.model, text, is_stream=call.is_stream, wants_usage=call.reports_stream_usage)
