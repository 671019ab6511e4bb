"""Room: plans, checkouts, subscriptions, the payment-event inbox, places and the waitlist."""
