"""The settings of what keeps a lake up with the log."""

from pydantic import Field

from kafka_io.settings import Settings


class LakeSettings(Settings):
    """Read from the environment."""

    lake_interval_s: float = Field(default=15.0, ge=0.05, le=86_400)
    """The seconds between two looks at the log. Each writes a file for every partition that has
    something new, so a longer time makes fewer and larger files."""

    lake_batch_bytes: int = Field(default=64 << 20, ge=1 << 16, le=1 << 31)
    """The most bytes of records that are written in one step. Memory is some six times that."""
