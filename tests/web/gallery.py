"""Every page of the site on an installation where something has happened: for screenshots and for axe.

A new page gets its line in `pages`; one that needs something to have happened first, a line in furnishing.py, or in
troubled.py when it is trouble.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn
from playwright.sync_api import Page

from clawhaven.cli.hosting import Doors
from clawhaven.context import Context
from clawhaven.instances import drafts
from tests.web import acts, lived
from tests.web.household import House


@dataclass(frozen=True, slots=True)
class Shown:
    """One page: its name in file names, its address, who looks, and what is done there before it is looked at.

    `status`: what its address answers with. `is_next_door`: on the installation where nothing works (see troubled.py).
    """

    name: str
    path: str
    who: str = "stranger"
    act: Callable[[Page], None] | None = None
    status: int = 200
    is_next_door: bool = False

    def url(self, ctx: Context, house: House) -> str:
        """The whole address."""
        return (house.next_door if self.is_next_door else ctx).settings.base_url + self.path


def pages(house: House) -> list[Shown]:
    """Every page, with every state of it that is worth a look."""
    ids = house.ids
    live = f"/instances/{ids['live']}"
    return [
        Shown("landing", "/"),
        Shown("landing-signed-in", "/", "customer"),
        Shown("landing-full", "/", is_next_door=True),
        Shown("pricing", "/pricing"),
        Shown("docs", "/docs"),
        Shown("docs-found", "/docs?q=token"),
        Shown("docs-nothing-found", "/docs?q=zebra"),
        Shown("doc-telegram", "/docs/telegram"),
        Shown("doc-privacy", "/docs/privacy"),
        Shown("status", "/status"),
        Shown("status-down", "/status", is_next_door=True),
        Shown("trial", "/try", act=acts.try_it),
        Shown("terms", "/terms"),
        Shown("privacy", "/privacy"),
        Shown("imprint", "/imprint", is_next_door=True),
        Shown("waitlist-joined", "/waitlist", act=acts.join),
        Shown("style", "/dev/style"),
        Shown("configure", "/configure"),
        Shown("configure-wrong", "/configure", act=acts.send_wrong_sign_up),
        Shown("configure-more", "/configure", "customer"),
        Shown("configure-full", "/configure", is_next_door=True),
        *(Shown(f"wizard-{step}", f"/configure/{step}", "chooser") for step in ("plan", *drafts.STEPS)),
        Shown("wizard-assistant-wrong", "/configure/assistant", "chooser", act=acts.send_no_name),
        Shown("wizard-model-key", "/configure/model", "keyless"),
        Shown("wizard-review-no-key", "/configure/review", "keyless"),
        Shown("waitlist", "/waitlist"),
        Shown("sign-in", "/sign-in"),
        Shown("sign-in-sent", "/sign-in", act=acts.ask_for_link),
        Shown("sign-in-link", "/sign-in/" + "x" * 43),
        Shown("error-missing", "/nothing", status=404),
        Shown("error-missing-signed-in", "/nothing", "customer", status=404),
        Shown("error-signed-out", "/configure/assistant", "chooser", act=acts.send_signed_out),
        Shown("error-busy", "/sign-in", act=acts.ask_for_link, is_next_door=True),
        Shown("error-crash", "/settings/integrations", "newcomer", status=500, is_next_door=True),
        Shown("continue", f"/continue/{ids['goes-on']}"),
        Shown("continue-used", f"/continue/{ids['went-on']}"),
        Shown("continue-wrong", "/continue/" + "x" * 43, status=404),
        Shown("checkout-closed", f"/checkout/{ids['closed']}", "sparing"),
        Shown("checkout-closed-topup", f"/checkout/{ids['unpaid']}", "sparing"),
        Shown("checkout-unreachable", f"/checkout/{ids['pageless']}", "wanting", status=503, is_next_door=True),
        Shown("deploying-waiting", f"/deploying/{ids['pending']}", "customer"),
        Shown("deploying-stranger", f"/deploying/{ids['pending']}"),
        Shown("deploying-building", f"/deploying/{ids['building']}", "customer"),
        Shown("deploying-failed", f"/deploying/{ids['failed']}", "customer"),
        Shown("ready", f"/ready/{ids['live']}", "customer"),
        Shown("ready-no-key", f"/ready/{ids['keyless']}", "sparing"),
        Shown("ready-depleted", f"/ready/{ids['depleted']}", "wanting"),
        Shown("deploying-cancelled", f"/deploying/{ids['cancelled']}", "sparing"),
        Shown("deploying-gone", f"/deploying/{ids['deleted']}", "sparing"),
        Shown("sandbox-checkout", f"/sandbox/checkout/{ids['vendor']}"),
        Shown("sandbox-invoice", f"/sandbox/invoice/{ids['invoice']}"),
        Shown("sandbox-portal", f"/sandbox/portal/{ids['portal']}"),
        Shown("sandbox", "/sandbox"),
        Shown("dashboard", "/dashboard", "customer"),
        Shown("dashboard-empty", "/dashboard", "newcomer"),
        Shown("dashboard-owing", "/dashboard", "debtor"),
        Shown("dashboard-depleted", "/dashboard", "wanting"),
        Shown("dashboard-low", "/dashboard", "sparing"),
        Shown("usage", "/usage", "customer"),
        Shown("usage-empty", "/usage", "newcomer"),
        Shown("ledger", "/ledger", "customer"),
        Shown("ledger-month", f"/ledger?month={ids['month']}", "customer"),
        Shown("ledger-empty", "/ledger", "newcomer"),
        Shown("billing", "/billing", "customer"),
        Shown("billing-empty", "/billing", "newcomer"),
        Shown("billing-owing", "/billing", "debtor"),
        Shown("billing-paused", "/billing", "wanting"),
        Shown("topup", "/topup", "customer"),
        Shown("topup-waiting", f"/topup/{ids['topup']}", "customer"),
        Shown("topup-low", "/topup", "sparing"),
        Shown("topup-depleted", "/topup", "wanting"),
        Shown("topup-arrived", f"/topup/{ids['arrived']}", "sparing"),
        Shown("topup-unpaid", f"/topup/{ids['unpaid']}", "sparing"),
        Shown("instance", live, "customer"),
        Shown("instance-paused", f"/instances/{ids['paused']}", "customer"),
        Shown("instance-failed", f"/instances/{ids['failed']}", "customer"),
        Shown("instance-pending", f"/instances/{ids['pending']}", "customer"),
        Shown("instance-paused-payment", f"/instances/{ids['paused-payment']}", "wanting"),
        Shown("instance-paused-balance", f"/instances/{ids['paused-balance']}", "wanting"),
        Shown("instance-leaving", f"/instances/{ids['leaving']}", "sparing"),
        Shown("instance-deleted", f"/instances/{ids['deleted']}", "sparing"),
        Shown("instance-silent", f"/instances/{ids['keyless']}", "sparing"),
        *(
            Shown(f"instance-{tab}", f"{live}/{tab}", "customer")
            for tab in ("channels", "skills", "configuration", "files", "usage", "backups", "logs", "history")
        ),
        Shown("instance-chat", f"{live}/chat", "customer", act=lived.wait_for_talk),
        Shown("instance-review", f"{live}/configuration", "customer", act=lived.look_at_changes),
        Shown("instance-file-preview", f"{live}/files/agents", "customer", act=lived.preview_file),
        Shown("instance-version", f"{live}/files/soul/versions/2?against=before", "customer"),
        Shown("instance-backup", f"{live}/backups/{ids['backup']}", "customer"),
        Shown("instance-backups-none", f"/instances/{ids['failed']}/backups", "customer"),
        Shown("instance-logs-none", f"{live}/logs?q=nothing+like+it", "customer"),
        *(
            Shown(f"instance-paused-{tab}", f"/instances/{ids['paused']}/{tab}", "customer")
            for tab in ("chat", "files", "logs", "configuration")
        ),
        Shown("instance-failed-files", f"/instances/{ids['failed']}/files", "customer"),
        Shown("instance-pending-chat", f"/instances/{ids['pending']}/chat", "customer"),
        Shown("instance-usage-empty", f"/instances/{ids['paused']}/usage", "customer"),
        Shown("instance-programs", f"{live}/programs", "customer", act=acts.make_key),
        Shown("instance-programs-empty", f"/instances/{ids['paused']}/programs", "customer"),
        Shown("settings", "/settings", "customer"),
        Shown("settings-wrong", "/settings", "customer", act=acts.send_wrong_address),
        Shown("settings-email-link", "/settings/email/" + "x" * 43),
        Shown("settings-sessions", "/settings/sessions", "customer"),
        Shown("settings-keys", "/settings/keys", "customer"),
        Shown("settings-integrations", "/settings/integrations", "customer"),
        Shown("settings-integrations-off", "/settings/integrations", "newcomer"),
        Shown("instance-integrations", f"{live}/integrations", "customer"),
        Shown("instance-paused-integrations", f"/instances/{ids['paused']}/integrations", "customer"),
        Shown("settings-keys-empty", "/settings/keys", "newcomer"),
        Shown("settings-key-made", "/settings/keys", "debtor", act=acts.make_key),
        Shown("settings-data", "/settings/data", "customer"),
        Shown("settings-data-waiting", "/settings/data", "debtor"),
        Shown("prepared", "/prepared", "keyless"),
        Shown("settings-delete-link", "/settings/delete/" + "x" * 43),
        Shown("account-menu", "/dashboard", "operator", act=acts.open_menu),
        Shown("admin", "/admin", "operator"),
        Shown("admin-accounts", "/admin/accounts", "operator"),
        Shown("admin-accounts-none", "/admin/accounts?search=nobody", "operator"),
        Shown("admin-account", f"/admin/accounts/{ids['account']}", "operator"),
        Shown("admin-margin", "/admin/margin", "operator"),
        Shown("admin-coupons", "/admin/coupons", "operator"),
        Shown("admin-reconcile", "/admin/reconcile", "operator"),
        Shown("admin-fleet", "/admin/fleet", "operator"),
        Shown("admin-fleet-none", "/admin/fleet?search=nobody", "operator"),
        Shown("admin-workflows", "/admin/workflows", "operator"),
        Shown("admin-workflows-waiting", "/admin/workflows?state=waiting", "operator"),
        Shown("admin-alerts", "/admin/alerts", "operator"),
        Shown("admin-alerts-closed", "/admin/alerts?closed=true", "operator"),
        Shown("admin-audit", "/admin/audit", "operator"),
        Shown("admin-audit-wrong", "/admin/audit?who=nobody@example.com", "operator", status=400),
        Shown("admin-check", "/admin/check", "operator"),
        Shown("view", "/dashboard", "viewer"),
        Shown("view-refused", f"{live}/chat", "viewer", status=409),
    ]


@contextmanager
def serving(ctx: Context) -> Iterator[None]:
    """The doors on their port, without a worker: everything stays as it was furnished."""
    port = ctx.settings.platform_port
    config = uvicorn.Config(Doors(ctx), host="127.0.0.1", port=port, log_config=None, lifespan="off")
    config.timeout_graceful_shutdown = 1
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        threading.Event().wait(0.05)
    yield
    server.should_exit = True
    thread.join(30)
    assert not thread.is_alive()
