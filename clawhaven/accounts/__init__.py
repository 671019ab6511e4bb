"""Room: users, accounts, sessions, sign-in links, API keys, and who owns what."""
