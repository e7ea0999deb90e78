"""How good a result is: files against a truth."""
