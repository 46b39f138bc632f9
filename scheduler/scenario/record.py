"""What all parts of a scenario file are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo


class Record(BaseModel):
    """Base of everything that stands in a scenario file: a misspelt key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _beside(path: Path, info: ValidationInfo) -> Path:
    """Takes a relative path from the folder of the file that names it."""
    return Path((info.context or {}).get("folder", "")) / path


NamedFile = Annotated[Path, AfterValidator(_beside)]
"""A file that a scenario names, relative to itself."""

Share = Annotated[float, Field(ge=0, le=1)]
"""A part of a whole."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
"""What something is called in reports."""
