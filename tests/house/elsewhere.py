"""Modules without a test file of their own: which test covers them, and why it is not beside them.

A line is for a module that is only reached through another one. A module with decisions of its own gets its own test.
"""

from __future__ import annotations

_COVERED: tuple[tuple[str, str, str], ...] = (
    (
        "tests/house/test_rules.py",
        "tables only; their names and types are checked for all rooms at once, their moves in test_states.py",
        "accounts/models.py billing/models.py instances/models.py integrations/models.py ledger/models.py"
        " metering/models.py notices/models.py",
    ),
    (
        "tests/providers/test_catalogue.py",
        "Protocols and frozen values without code of their own; every provider is one of them",
        "ports/channel.py ports/errors.py ports/gateway.py ports/ingress.py ports/integration.py ports/model.py"
        " ports/notifier.py ports/payments.py ports/pricelist.py ports/runtime.py ports/skill.py"
        " ports/upstream.py ports/vault.py",
    ),
    (
        "tests/cli/test_main.py",
        "parts of every client command, tried through the commands",
        "cli/client.py cli/failures.py cli/output.py",
    ),
    (
        "tests/ledger/test_ledger.py",
        "one set of books, whose rules hold for entries, holds and statements together",
        "ledger/balance.py ledger/entries.py ledger/reservations.py",
    ),
    (
        "tests/metering/test_calls.py",
        "a call goes through grant, limits, offers and usage; they are tried with it",
        "metering/grants.py metering/limits.py metering/offers.py",
    ),
    (
        "tests/metering/test_batches.py",
        "sums that are written with the calls they sum up",
        "metering/hours.py",
    ),
    (
        "tests/providers/upstreams/test_exporting.py",
        "vendors' exports, read by one set of rules",
        "providers/upstreams/anthropic_export.py providers/upstreams/openai_export.py",
    ),
    (
        "tests/proxy/test_client.py",
        "what the client gives its callers",
        "proxy/answering.py",
    ),
    (
        "tests/proxy/test_connections.py",
        "a front's server and the connections it takes",
        "proxy/front.py",
    ),
    (
        "tests/metering/test_prices.py",
        "what a price is, tried with the table of them",
        "metering/rates.py",
    ),
    (
        "tests/metering/test_batches.py",
        "what is asked of batches, tried with them",
        "metering/jobs.py",
    ),
    (
        "tests/proxy/test_app.py",
        "the stages of one exchange, tried over real connections",
        "proxy/answers.py proxy/desk.py proxy/vendor.py",
    ),
    (
        "tests/workflows/test_integrations.py",
        "what is kept, told and read of a connected account, tried with a vendor that gives and takes it",
        "integrations/attachments.py integrations/attempts.py integrations/connected.py notices/integrations.py"
        " workflows/reading.py workflows/toolservers.py",
    ),
    (
        "tests/providers/integrations/test_google.py",
        "Google's tools and what they share, tried through it",
        "providers/integrations/asking.py providers/integrations/google_calendar.py"
        " providers/integrations/google_mail.py",
    ),
    (
        "tests/providers/gateways/test_openclaw.py",
        "the WebSocket below the gateway client, tried against a real gateway",
        "providers/gateways/rpc.py",
    ),
    (
        "tests/providers/payments/test_sandbox.py",
        "the sandbox vendor's memory and verbs",
        "providers/payments/sandbox_events.py providers/payments/sandbox_invoices.py"
        " providers/payments/sandbox_office.py providers/payments/sandbox_store.py",
    ),
    (
        "tests/providers/payments/test_sandbox_rehearsals.py",
        "the sandbox vendor's pages, tried with what they show; a door draws them (tests/web/test_sandbox.py)",
        "providers/payments/sandbox_pages.py",
    ),
    (
        "tests/providers/pricelists/test_genai.py",
        "the program that prints the installed list, run by what reads it",
        "providers/pricelists/installed.py",
    ),
    (
        "tests/providers/runtimes/test_docker.py",
        "parts of the docker runtime, tried against a real engine",
        "providers/runtimes/docker_check.py providers/runtimes/docker_container.py"
        " providers/runtimes/docker_network.py",
    ),
    (
        "tests/providers/runtimes/test_process.py",
        "parts of the process runtime, tried with real processes",
        "providers/runtimes/detached.py providers/runtimes/keeper.py providers/runtimes/validation.py",
    ),
    (
        "tests/providers/runtimes/test_archive.py",
        "reads what the archive is unpacked from, friendly and hostile",
        "providers/runtimes/tar.py",
    ),
    (
        "tests/providers/upstreams/test_sandbox.py",
        "the shapes the sandbox model answers in",
        "providers/upstreams/sandbox_shapes.py",
    ),
    (
        "tests/providers/upstreams/test_readers.py",
        "what the vendors' usage readers share",
        "providers/upstreams/reading.py",
    ),
    (
        "tests/journeys/test_main_path.py",
        "what puts the parts together, run as a whole installation in a process of its own",
        "context.py workflows/access.py workflows/chat.py workflows/files.py workflows/schedule.py",
    ),
    (
        "tests/journeys/test_kill.py",
        "steps, killed after each of them, with the outside failing in every way it can",
        "workflows/progress.py workflows/provision.py",
    ),
    (
        "tests/workflows/test_deletion.py",
        "each room's part of deleting an account: every table is searched when all of them are through",
        "accounts/erasure.py billing/erasure.py instances/erasure.py notices/erasure.py",
    ),
    (
        "tests/web/test_settings.py",
        "what only its pages ask for: letters about the account, a new address, everything to take along",
        "notices/accounts.py workflows/addresses.py workflows/export.py",
    ),
    (
        "tests/workflows/test_claim.py",
        "asks for what claim.py does",
        "workflows/listening.py",
    ),
    (
        "tests/workflows/test_money.py",
        "the looks of the money's reconciler, tried together: each planted difference is found by one of them",
        "workflows/bookkeeping.py",
    ),
    (
        "tests/api/test_admin.py",
        "what the operator's doors show, read through them",
        "workflows/overview.py",
    ),
    (
        "tests/live/test_first_minute.py",
        "the commands that start servers, run as a person runs them",
        "cli/server.py",
    ),
    (
        "tests/providers/skills/test_brave.py",
        "the vendors of skills, asked alike on one stand-in",
        "providers/skills/asking.py providers/skills/elevenlabs.py",
    ),
    (
        "tests/workflows/test_skills.py",
        "what an assistant's skills make of its gateway's files, as they are written",
        "instances/equipment.py",
    ),
    (
        "tests/web/test_skills.py",
        "the wizard's step for skills, beside their page",
        "web/wizard_skills.py",
    ),
    (
        "tests/web/test_wizard.py",
        "texts to begin with, chosen in the wizard",
        "web/examples.py",
    ),
    (
        "tests/web/test_browser.py",
        "pages and what they are made of, seen by a real browser in every look",
        "web/app.py web/progress.py web/render.py web/words.py",
    ),
)

ELSEWHERE: dict[str, tuple[str, str]] = {
    module: (test, reason) for test, reason, modules in _COVERED for module in modules.split()
}
"""Module -> (the test that covers it, why)."""
