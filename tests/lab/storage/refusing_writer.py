"""A writer for the storage's tests; it runs in the writing process, which has the standard library alone."""


class Refusing:
    """A writer whose table refuses some rows."""

    def __init__(self, connection) -> None:
        self._connection = connection

    def write(self, items) -> None:
        self._connection.executemany("INSERT INTO things VALUES (?)", [(item,) for item in items])

    def fail(self) -> None:
        self._connection.execute("INSERT INTO things VALUES (NULL)")

    def count(self) -> int:
        return self._connection.execute("SELECT count(*) FROM things").fetchone()[0]
