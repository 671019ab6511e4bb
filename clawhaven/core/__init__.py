"""Foundation: no product words, no vendor words."""
