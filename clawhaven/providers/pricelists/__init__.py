"""Lists of model prices that others keep."""
