"""The two kinds of model: what a user writes, and what travels between workflow and activities."""

from pydantic import BaseModel, ConfigDict


class SpecModel(BaseModel):
    """Part of a spec file: an unknown key is a mistake, and nothing is converted behind the user's back."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, serialize_by_alias=True)


class WireModel(BaseModel):
    """Travels through Temporal: an unknown field comes from a newer release and is passed over, so that a running
    deployment survives an upgrade of its worker. New fields get a default.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)
