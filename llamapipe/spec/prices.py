"""What devices cost, as a user writes it down.

    version: 1
    currency: EUR
    devices:
      cpu: {per_hour: 0.04, source: "list price of a vCPU"}    # one core
      cuda: {per_hour: 0.55}                                   # one whole GPU, whichever

A second of a device is a core's for ``cpu``, and the whole device's for any other. Without a file everything costs
1 a device-second, so that cost is in core-seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llamapipe.errors import UsageError
from llamapipe.spec.checked import read_checked

__all__ = ["CORE_SECONDS", "DevicePrice", "Prices", "load_prices"]

_HOUR_S = 3600.0


class DevicePrice(BaseModel):
    """Of one device, by the second or by the hour."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    per_second: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    per_hour: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    source: str = Field(default="", description="where the price comes from")

    @model_validator(mode="after")
    def _one_price(self) -> DevicePrice:
        if (self.per_second is None) == (self.per_hour is None):
            raise ValueError("expected either per_second or per_hour")
        return self

    @property
    def of_second(self) -> float:
        """Of a device-second."""
        if self.per_second is not None:
            return self.per_second
        assert self.per_hour is not None
        return self.per_hour / _HOUR_S


class Prices(BaseModel):
    """The price list of a user. Without devices, a device-second costs 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    currency: str = Field(default="", max_length=16, description="as reports are to write it: EUR, $, credits")
    devices: Mapping[str, DevicePrice] = Field(default={})

    @model_validator(mode="after")
    def _prices_processor(self) -> Prices:
        if self.devices and "cpu" not in self.devices:
            raise ValueError("devices: expected a price of cpu too: sources are decoded and outputs encoded there")
        if self.currency and not self.devices:
            raise ValueError("devices: expected a price of cpu at least")
        return self

    @property
    def unit(self) -> str:
        """Of every cost: ``core-s``, or the currency."""
        return (self.currency or "units") if self.devices else "core-s"

    def of(self, device: str) -> float:
        """Price of a second of ``cpu`` (one core) or ``cuda:0``, which has that of ``cuda`` where it has none.

        Raises UsageError for a device that a list with prices leaves out: 0 or 1 would be wrong without a word.
        """
        if not self.devices:
            return 1.0
        name = device or "cpu"
        found = self._entry(name)
        if found is None:
            raise UsageError(
                f"no price of device {name}: the prices name {', '.join(sorted(self.devices))}",
                hint=f"add {name.partition(':')[0]}: {{per_hour: ...}} to them, 0 if it costs nothing",
            )
        return found.of_second

    def names(self, device: str) -> bool:
        """Whether the device has a price."""
        return not self.devices or self._entry(device or "cpu") is not None

    def _entry(self, name: str) -> DevicePrice | None:
        return self.devices.get(name) or self.devices.get(name.partition(":")[0])

    def in_cores(self, device: str) -> float:
        """How many cores cost as much as the device. Raises UsageError as `of`, and where a core costs nothing."""
        core = self.of("cpu")
        if core <= 0:
            raise UsageError(
                "a core costs nothing by the prices, so nothing that runs on one is cheaper than another",
                hint="give cpu a price, a small one if need be",
            )
        return self.of(device) / core


CORE_SECONDS = Prices()
"""Where nobody has given prices."""


def load_prices(path: Path) -> Prices:
    """Read a file. Raises SpecError with all problems, each with its line, and UsageError where it is not there."""
    return read_checked(path, Prices, "price list", "docs/cost.md")
