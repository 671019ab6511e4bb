"""`clawhaven admin`: the operator's side. All of it speaks to the API, but `operator` and `stripe`, which run on the
server with its settings and database, and `prices import`, which is for developers."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from clawhaven import wiring
from clawhaven.accounts import links, operators, signup
from clawhaven.cli import prices, server, spending, watch
from clawhaven.cli.channels import CURSOR, INSTANCE, YES
from clawhaven.cli.client import items_of, part
from clawhaven.cli.failures import ExitCode, Failure
from clawhaven.cli.output import Column, count, moment, money
from clawhaven.cli.session import confirm, current
from clawhaven.core.errors import AppError
from clawhaven.core.money import parse_usd
from clawhaven.ports.errors import ProviderError
from clawhaven.wiring import ConfigurationError
from clawhaven.workflows import keys

app = typer.Typer(no_args_is_help=True, help="Run the platform: customers, money, operators.")
coupon = typer.Typer(no_args_is_help=True, help="Coupons.")
operator = typer.Typer(no_args_is_help=True, help="Who is an operator. Runs on the server.")
stripe = typer.Typer(no_args_is_help=True, help="Stripe. Runs on the server.")
app.add_typer(coupon, name="coupon")
app.add_typer(operator, name="operator")
app.add_typer(stripe, name="stripe")
app.add_typer(prices.app, name="prices")
app.add_typer(spending.invoices, name="usage")
watch.register(app)

ACCOUNT = Annotated[str, typer.Argument(metavar="ACCOUNT", help="The account's id (acc_…), or its owner's address.")]
REASON = Annotated[str, typer.Option(help="Why; the customer reads it.")]
EMAIL = Annotated[str, typer.Argument(metavar="EMAIL", help="The person's address.")]
EXPIRES = Annotated[str | None, typer.Option(help="Not after, as in 2026-12-31T00:00:00Z.")]


def _yes(value: Any) -> str:
    return "yes" if value else "no"


def _payments(rows: Any) -> str:
    return "; ".join(f"{one['id']} {money(one['amount_micros'])} for {one.get('what', 'something')}" for one in rows)


COMPARISON_SECONDS = 600.0

ACCOUNTS = (
    Column("ID", ("id",)),
    Column("EMAIL", ("email",)),
    Column("SINCE", ("created_at",), moment),
    Column("PROVED", ("is_verified",), _yes),
)
ACCOUNT_FACTS = (
    Column("Account", ("id",)),
    Column("Email", ("email",)),
    Column("Since", ("created_at",), moment),
    Column("Balance", ("wallet.balance_micros",), money),
    Column("Set aside (calls under way, disputes)", ("wallet.held_micros",), money),
    Column("Set aside for disputes alone", ("wallet.disputed_micros",), money),
    Column("Level", ("wallet.level",)),
    Column("Plans", ("subscriptions",), lambda rows: ", ".join(f"{one['plan']} ({one['state']})" for one in rows)),
    Column("Assistants", ("instances",), lambda rows: ", ".join(f"{one['name']} ({one['state']})" for one in rows)),
    Column("Payments", ("receipts",), _payments),
)
DIFFERENCES = (
    Column("ABOUT", ("subject",)),
    Column("WHAT DIFFERS", ("problem",)),
    Column("REPAIR", ("repair",)),
    Column("SAFE", ("is_safe",), _yes),
)
MARGIN = (
    Column("CUSTOMER", ("email", "account_id")),
    Column("REVENUE", ("revenue_micros",), money),
    Column("FEES", ("fees_micros",), money),
    Column("MODEL", ("model_micros",), money),
    Column("SERVER", ("server_micros",), money),
    Column("CREDIT", ("credits_micros",), money),
    Column("MARGIN", ("margin_micros",), money),
    Column("%", ("margin_percent",), str),
)
COUPONS = (
    Column("CODE", ("code",)),
    Column("KIND", ("kind",)),
    Column("AMOUNT", ("amount_micros",), money),
    Column("PERCENT", ("percent",), str),
    Column("USED", ("redeemed",), count),
    Column("AT MOST", ("max_redemptions",), count),
    Column("EXPIRES", ("expires_at",), moment),
    Column("DISABLED", ("is_disabled",), _yes),
)
EVENTS = (
    Column("RECEIVED", ("received_at",), moment),
    Column("VENDOR", ("provider",)),
    Column("TYPE", ("vendor_type",)),
    Column("STATE", ("state",)),
    Column("STUCK", ("is_stuck",), _yes),
    Column("NOTE", ("note",)),
)
BUSINESS = (
    Column("Customers", ("accounts",), count),
    Column("Month", ("month",)),
    Column("Revenue", ("margin.revenue_micros",), money),
    Column("Margin", ("margin.margin_micros",), money),
    Column("Prepaid and unused", ("prepaid_micros",), money),
    Column("Customers in payment trouble", ("trouble",), lambda rows: count(len(rows))),
    Column("Payment events that wait", ("events_stuck",), count),
)


@app.command()
def overview(ctx: typer.Context) -> None:
    """The business now."""
    session = current(ctx)
    session.output.facts(session.api().get("/admin/overview"), BUSINESS)


@app.command()
def accounts(
    ctx: typer.Context,
    search: Annotated[str | None, typer.Option(help="A part of the owner's address.")] = None,
    cursor: CURSOR = None,
) -> None:
    """All customers, newest first."""
    session = current(ctx)
    answer = session.api().get("/admin/accounts", search=search, cursor=cursor)
    session.output.rows(answer, ACCOUNTS, "Nobody with this address." if search else "No customer yet.")
    if isinstance(answer, dict) and answer.get("next_cursor"):
        session.output.note(f"There is more: --cursor {answer['next_cursor']}")


@app.command()
def account(ctx: typer.Context, account: ACCOUNT) -> None:
    """One customer, by the account's id or the owner's address; with --format json everything there is."""
    session = current(ctx)
    session.output.facts(session.api().get(f"/admin/accounts/{part(account)}"), ACCOUNT_FACTS)


@app.command(context_settings={"ignore_unknown_options": True})
def credits(
    ctx: typer.Context,
    account: ACCOUNT,
    amount: Annotated[str, typer.Argument(help="US dollars, as in 12.50; negative takes money out.")],
    reason: REASON,
    below_minimum: Annotated[bool, typer.Option("--below-minimum", help="May go below what is left.")] = False,
    expires: EXPIRES = None,
) -> None:
    """Put credit on a customer's balance, or take some out."""
    session = current(ctx)
    body: dict[str, Any] = {"amount_micros": _dollars(amount), "reason": reason, "is_below_minimum": below_minimum}
    if expires is not None:
        body["expires_at"] = expires
    answer = session.api().create(f"/admin/accounts/{part(account)}/credits", body)
    left = answer.get("wallet", {}).get("balance_micros") if isinstance(answer, dict) else None
    session.output.text(answer, f"Booked. The balance is {money(left)}.")


@app.command()
def refund(
    ctx: typer.Context,
    receipt: Annotated[str, typer.Argument(metavar="RECEIPT", help="The payment's id (rcp_…), from `admin account`.")],
    reason: REASON,
    amount: Annotated[str | None, typer.Option(help="US dollars. Default: all that is left.")] = None,
    yes: YES = False,
) -> None:
    """Give a payment back, or a part of it."""
    session = current(ctx)
    api = session.api()
    body = {"amount_micros": _dollars(amount) if amount is not None else None, "reason": reason}
    confirm(f"Give {amount or 'the whole rest'} of {receipt} back?", yes)
    answer = api.create(f"/admin/receipts/{part(receipt)}/refund", body)
    session.output.text(answer, "Asked for; the books follow as soon as the payment vendor has done it.")


@app.command("replace-key")
def replace_key(ctx: typer.Context, instance: INSTANCE, yes: YES = False) -> None:
    """Replace the key with which an assistant reaches its models, should it have leaked; it restarts with the new one.

    A paused assistant gets it at its next start.
    """
    session = current(ctx)
    api = session.api()
    confirm(f"Replace the key of {instance}? It restarts.", yes)
    answer = api.post(f"/admin/instances/{part(instance)}/replace-key")
    session.output.text(answer, "A new key is being made; the one before is accepted until the assistant runs with it.")


@app.command()
def reconcile(
    ctx: typer.Context,
    now: Annotated[bool, typer.Option("--now", help="Compare now, and wait for it.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Compare now, and repair what is safe.")] = False,
) -> None:
    """Payment vendors, plans, assistants and books as they were last compared, and every difference explained."""
    session = current(ctx)
    api = session.api()
    if now or repair:
        asked = api.post("/admin/reconcile", {"repair": repair})
        answer = api.wait_for_comparison(str(asked.get("id")) if isinstance(asked, dict) else "", COMPARISON_SECONDS)
    else:
        answer = api.get("/admin/reconcile")
    last = answer.get("comparison") if isinstance(answer, dict) else None
    if not isinstance(last, dict):
        session.output.rows(answer, DIFFERENCES, "Not compared yet. It happens every night; --now does it at once.")
        return
    session.output.rows(answer, DIFFERENCES, "Everything agrees.")
    session.output.note(f"Compared {last.get('ended_at')}{', with repairs' if last.get('is_repair') else ''}.")


@app.command()
def margin(
    ctx: typer.Context,
    month: Annotated[str | None, typer.Option(help="As in 2026-11. Default: this month, so far.")] = None,
) -> None:
    """What a month left: per customer, and in total."""
    session = current(ctx)
    answer = session.api().get("/admin/margin", month=month)
    session.output.rows(answer, MARGIN, "Nothing was earned or spent.")
    if isinstance(answer, dict) and isinstance(answer.get("total"), dict):
        total = answer["total"]
        session.output.note(
            f"In total: revenue {money(total.get('revenue_micros'))}, margin {money(total.get('margin_micros'))}."
        )
        if total.get("fees_estimated_micros"):
            estimated = money(total["fees_estimated_micros"])
            session.output.note(f"{estimated} of the fees are estimated by a vendor's price list.")
        if total.get("uncovered_micros"):
            session.output.note(f"Usage for {money(total['uncovered_micros'])} was covered by no balance.")
        for line in (total, *items_of(answer)):
            if line.get("remark"):
                session.output.note(f"{line.get('email') or line.get('account_id') or 'In total'}: {line['remark']}")


@app.command()
def events(
    ctx: typer.Context,
    state: Annotated[str | None, typer.Option(help="received, handled or ignored.")] = None,
    cursor: CURSOR = None,
) -> None:
    """Payment events as they came from the vendors."""
    session = current(ctx)
    answer = session.api().get("/admin/events", state=state, cursor=cursor)
    session.output.rows(answer, EVENTS, "None yet.")
    if isinstance(answer, dict) and answer.get("next_cursor"):
        session.output.note(f"There is more: --cursor {answer['next_cursor']}")


@coupon.command("list")
def list_coupons(ctx: typer.Context) -> None:
    """All coupons."""
    session = current(ctx)
    session.output.rows(session.api().get("/admin/coupons"), COUPONS, "None yet.")


@coupon.command("create")
def create_coupon(
    ctx: typer.Context,
    code: Annotated[str, typer.Argument(help="3 to 40 letters, digits and hyphens.")],
    credit: Annotated[str | None, typer.Option(help="US dollars of usage credit.")] = None,
    percent: Annotated[int | None, typer.Option(min=1, max=100, help="Per cent off a plan.")] = None,
    amount: Annotated[str | None, typer.Option(help="US dollars off a plan.")] = None,
    months: Annotated[int, typer.Option(min=0, help="Off a plan for so many months; 0: the first period.")] = 0,
    always: Annotated[bool, typer.Option("--always", help="Off a plan in every period.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="For at most so many accounts.")] = None,
    expires: EXPIRES = None,
) -> None:
    """A new coupon: give exactly one of --credit, --percent and --amount."""
    session = current(ctx)
    body = {
        "code": code,
        "credit_micros": _dollars(credit) if credit is not None else None,
        "percent": percent,
        "amount_micros": _dollars(amount) if amount is not None else None,
        "months": None if always else months,
        "max_redemptions": limit,
        "expires_at": expires,
    }
    session.output.text(session.api().create("/admin/coupons", body), f"The coupon {code.upper()} can be used now.")


@coupon.command("disable")
def disable_coupon(ctx: typer.Context, code: Annotated[str, typer.Argument(help="The coupon's code.")]) -> None:
    """Nobody can use it from now on; what it gave stays."""
    session = current(ctx)
    answer = session.api().delete(f"/admin/coupons/{part(code)}")
    session.output.text(answer, "The coupon cannot be used any more.")


@operator.command("add")
def add_operator(email: EMAIL) -> None:
    """Make somebody an operator, and print a one-time link that signs them in."""
    ctx = server.start()
    now = ctx.clock.now()
    try:
        with ctx.db.tx() as db:
            owner = operators.appoint(db, signup.normalise_email(email), now)
            link = links.issue(db, owner.user.id, now)
    except AppError as error:
        server.give_up(error.message)
    finally:
        ctx.db.close()
    print(f"{owner.user.email} is an operator. Sign in within 15 minutes, once:")
    print(f"{ctx.settings.base_url}/sign-in/{link}")


@operator.command("remove")
def remove_operator(email: EMAIL) -> None:
    """Take that back; their API keys end with it."""
    ctx = server.start()
    try:
        address = signup.normalise_email(email)
        with ctx.db.tx() as db:
            keys.dismiss_operator(db, ctx, address)
    except AppError as error:
        server.give_up(error.message)
    finally:
        ctx.db.close()
    still = " ADMIN_EMAILS names them still." if address in ctx.settings.operators else ""
    print(f"{address} is no longer an operator by this server's books.{still}")


@operator.command("list")
def list_operators() -> None:
    """Everybody who is an operator, or will be once they have signed in with a mailed link."""
    ctx = server.start()
    with ctx.db.read() as db:
        found = operators.every(db, ctx.settings.operators)
    ctx.db.close()
    for user in found:
        print(user.email if user.verified_at else f"{user.email} (has not signed in with a mailed link yet)")
    for address in sorted(ctx.settings.operators - {user.email for user in found}):
        print(f"{address} (has no account yet)")


@stripe.command("setup")
def set_up_stripe() -> None:
    """Make products, prices and the webhook at Stripe, as often as you like, and print what to paste."""
    try:
        lines = wiring.set_up_stripe(server.read_settings())
    except ConfigurationError as error:
        server.give_up(str(error))
    except ProviderError as error:
        server.give_up(f"Stripe refused: {error.message}")
    for line in lines:
        print(line)


def _dollars(text: str) -> int:
    try:
        sign = -1 if text.strip().startswith("-") else 1
        return sign * parse_usd(text.strip().removeprefix("-"))
    except ValueError:
        raise Failure(f"{text!r} is no amount in dollars, as in 12.50.", ExitCode.USAGE, code="usage") from None
