"""The settings of tables in a lake."""

from pydantic import SecretStr

from kafka_io.settings import Settings


class SinkSettings(Settings):
    """Read from the environment."""

    lake_catalog: SecretStr | None = None
    """The catalogue of Iceberg tables: a database such as `sqlite:////srv/lake.db` or
    `postgresql+psycopg2://user:password@host/lake`, or the `https://` address of a REST catalogue.
    Unset: the file `catalog.db` beside the tables, which a lake in a bucket cannot have."""
