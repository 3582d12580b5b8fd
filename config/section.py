"""The base class of all sections of the configuration, and common field types."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Side = Annotated[int, Field(ge=1, le=8192)]  # of a network's input, pixels: a misspelt one would fill the memory
Switch = Literal[True, False, "auto"]  # auto: by the device


class ConfigSection(BaseModel):
    """A frozen part of the configuration; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_bool_as_number(cls, value: Any, info: ValidationInfo) -> Any:
        # pydantic reads true as 1, also in a list of numbers
        values = value if isinstance(value, (list, tuple)) else [value]
        if cls.model_fields[str(info.field_name)].annotation not in (bool, Switch) and any(isinstance(one, bool) for one in values):
            raise ValueError("input should not be true or false")
        return value
