"""Built-in operators."""

OPERATORS: tuple[type, ...] = ()
