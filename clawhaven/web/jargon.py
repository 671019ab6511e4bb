"""What operators read for the words in our books: states, causes, durable work. Customers read words.py."""

from __future__ import annotations

from clawhaven.billing.dunning import Cause, DunningState
from clawhaven.billing.refunds import RefundState
from clawhaven.billing.wallet import Level
from clawhaven.instances.models import Instance
from clawhaven.instances.states import Reason, reasons
from clawhaven.web import words
from clawhaven.web.languages import N_, Texts
from clawhaven.workflows.progress import SENTENCES

LEVELS = Texts({Level.OK: N_("enough"), Level.LOW: N_("running low"), Level.DEPLETED: N_("used up")})

CAUSES = Texts(
    {
        Cause.PAYMENT: N_("Payment failed"),
        Cause.REFUND: N_("Payment returned"),
        Cause.DISPUTE: N_("Payment disputed"),
        Cause.ENDED: N_("Plan ended"),
    }
)

TROUBLE = Texts(
    {
        DunningState.GRACE: N_("in its time of grace"),
        DunningState.SUSPENDED: N_("paused"),
        DunningState.RECOVERED: N_("paid after all"),
        DunningState.ENDED: N_("over"),
    }
)

BECAUSE = Texts(
    {
        Reason.PAYMENT: N_("a payment is missing"),
        Reason.BALANCE: N_("the balance is used up"),
        Reason.ABUSE: N_("unusual use"),
        Reason.OWNER: N_("by its owner"),
        Reason.OPERATOR: N_("by the operator"),
    }
)
"""Why an assistant is paused; its owner reads it in other words."""

REFUNDS = Texts(
    {RefundState.ASKED: N_("under way"), RefundState.DONE: N_("given back"), RefundState.FAILED: N_("failed")}
)

LETTERS = Texts({"pending": N_("waiting"), "sent": N_("sent"), "failed": N_("failed")})

SEEN = Texts(
    {
        "running": N_("running"),
        "stopped": N_("stopped"),
        "exited": N_("ended by itself"),
        "absent": N_("not there"),
        "unknown": N_("not known"),
    }
)
"""What a runtime said of a gateway."""

WORKFLOWS = Texts(
    {
        "apply_payment": N_("Booking a payment event"),
        "backup": N_("Making a backup"),
        "charge_topup": N_("Topping up by itself"),
        "claim": N_("Waiting for a bot's owner"),
        "compare_on_demand": N_("Comparing the money, as asked"),
        "configure": N_("Applying the new settings"),
        "delete": N_("Deleting an assistant"),
        "delete_account": N_("Deleting an account"),
        "deliver": N_("Sending a mail"),
        "health_sweep": N_("Looking at every assistant"),
        "move_customer": N_("Telling vendors a new address"),
        "provision": N_("Building the assistant"),
        "reconcile": N_("Setting assistants right"),
        "reconcile_money": N_("Comparing the money"),
        "refund": N_("Giving money back"),
        "remove_backup": N_("Removing a backup"),
        "replace_key": N_("Replacing an assistant's key for the models"),
        "restart": N_("Restarting"),
        "restore": N_("Bringing a backup back"),
        "resume": N_("Starting"),
        "revoke_integration": N_("Withdrawing a connection"),
        "settle": N_("Asking about a payment"),
        "suspend": N_("Stopping"),
        "sweep_backups": N_("Backups of the night"),
        "sweep_calls": N_("Closing calls that were left open"),
        "sweep_deleted": N_("Forgetting deleted accounts"),
        "sweep_dunning": N_("Following up on what is owed"),
        "sweep_refunds": N_("Asking about refunds"),
        "sweep_wallets": N_("Looking at balances"),
        "upgrade": N_("Changing to another version"),
        "watch_money": N_("Watching payments"),
        "watch_spending": N_("Watching the spending"),
        "write_file": N_("Writing a file of an assistant"),
    }
)

RESULTS = Texts(
    {
        "active": N_("Live"),
        "suspended": N_("Paused"),
        "deleted": N_("Deleted"),
        "superseded": N_("Something else was asked meanwhile."),
        **SENTENCES,
    }
)
"""What a run of durable work returned; other results are sentences, or names of the outside."""


def state_of(instance: Instance) -> str:
    """An assistant's state in words, with every reason for its pause."""
    known = words.BADGES.get(instance.state)
    label = known.label if known else instance.state
    because = ", ".join(BECAUSE[one] for one in reasons(instance))
    return f"{label}: {because}" if because else label
