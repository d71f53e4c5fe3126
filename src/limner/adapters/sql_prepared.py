"""Statements of SQLAlchemy's that are compiled once and then run on the driver itself.

Between two inferences the processor's caches hold nothing of SQLAlchemy's, and its way to execute a statement costs
several times what SQLite needs for it. The few statements that every job takes go this way; the others need not.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Executable
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler

T = TypeVar("T", bound=Executable)

Row = dict[str, Any]


class Prepared(Generic[T]):
    """One statement for one dialect (the first it meets). Only plain types: no value is converted on either way.

    `inserted` names the columns of an INSERT. A list for IN cannot be a parameter: its length would change the text.
    """

    def __init__(self, statement: T, inserted: Iterable[str] | None = None) -> None:
        self._statement = statement
        self._inserted = None if inserted is None else list(inserted)
        self._text = ""
        self._names: tuple[str, ...] = ()
        self._fixed: Mapping[str, Any] = {}
        self._columns: tuple[str, ...] = ()

    def rows(self, db: Connection, values: Mapping[str, Any]) -> list[Row]:
        """Run it in the transaction that `db` has begun; the rows by column name."""
        found = self._execute(db, values).fetchall()
        return [dict(zip(self._columns, row, strict=True)) for row in found]

    def run(self, db: Connection, values: Mapping[str, Any]) -> None:
        """Run it for its effect."""
        self._execute(db, values)

    def _execute(self, db: Connection, values: Mapping[str, Any]) -> Any:  # the driver's cursor
        if not self._text:
            self._compile(db)
        driver: Any = db.connection.dbapi_connection
        chosen = tuple(values[name] if name in values else self._fixed[name] for name in self._names)
        try:
            return driver.execute(self._text, chosen)
        except db.dialect.loaded_dbapi.Error as error:
            raise DBAPIError.instance(
                self._text, None, error, db.dialect.loaded_dbapi.Error, dialect=db.dialect
            ) from error

    def _compile(self, db: Connection) -> None:
        compiled = self._statement.compile(dialect=db.dialect, column_keys=self._inserted)  # type: ignore[attr-defined]
        assert isinstance(compiled, SQLCompiler)
        self._names = tuple(compiled.positiontup or ())
        self._fixed = dict(compiled.params)
        self._columns = tuple(column.key for column in getattr(self._statement, "exported_columns", ()))
        self._text = str(compiled)
