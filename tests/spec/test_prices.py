"""Price lists: a second of a core, a second of a whole GPU, and every problem with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamapipe.errors import SpecError, UsageError
from llamapipe.spec import CORE_SECONDS, load_prices

GOOD = """\
version: 1
currency: EUR
devices:
  cpu: {per_hour: 3.6, source: made up}
  cuda: {per_second: 0.5}
  "cuda:1": {per_hour: 0}
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    return path


def test_without_prices_cost_is_in_core_seconds() -> None:
    assert (CORE_SECONDS.unit, CORE_SECONDS.of("cpu"), CORE_SECONDS.of("cuda:0")) == ("core-s", 1.0, 1.0)


def test_a_device_has_its_own_price_or_that_of_its_kind(tmp_path: Path) -> None:
    prices = load_prices(written(tmp_path, GOOD))
    assert prices.unit == "EUR"
    assert prices.of("cpu") == prices.of("") == pytest.approx(0.001)
    assert (prices.of("cuda:0"), prices.of("cuda:1")) == (0.5, 0.0)


def test_a_device_that_is_left_out_is_named(tmp_path: Path) -> None:
    prices = load_prices(written(tmp_path, GOOD.replace('  cuda: {per_second: 0.5}\n  "cuda:1": {per_hour: 0}\n', "")))
    with pytest.raises(UsageError, match="no price of device cuda:0: the prices name cpu"):
        prices.of("cuda:0")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("per_hour: 3.6", "per_hour: -1", "prices.yaml:4: devices.cpu.per_hour: input should be greater"),
        ("per_hour: 3.6", "per_hour: .inf", "prices.yaml:4: devices.cpu.per_hour"),
        ("per_second: 0.5", "per_second: 0.5, per_hour: 1", "prices.yaml:5: devices.cuda: expected either"),
        ("per_second: 0.5", "", "prices.yaml:5: devices.cuda: expected either"),
        ("  cpu:", "  gpu:", "expected a price of cpu too"),
        ("currency", "curency", "prices.yaml:2: curency: unknown key, expected one of version, currency, devices"),
        ("per_second", "per_secnd", "unknown key, expected one of per_second, per_hour, source (did you mean"),
        ("{per_second: 0.5}", "3", "prices.yaml:5: devices.cuda: expected keys with values, of per_second, per_hour"),
        ("per_hour: 3.6", "per_hour: dear", "got 'dear'"),
        ("version: 1", "version: 2", "prices.yaml:1"),
    ],
)
def test_a_list_that_makes_no_sense_is_refused_with_its_line(tmp_path: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(SpecError) as refused:
        load_prices(written(tmp_path, GOOD.replace(old, new)))
    assert words in str(refused.value)


@pytest.mark.parametrize(("text", "came"), [("- cpu\n", "got a list"), ("", "got nothing"), ("cpu\n", "got 'cpu'")])
def test_what_is_no_list_at_all_is_named(tmp_path: Path, text: str, came: str) -> None:
    with pytest.raises(SpecError, match=f"expected a price list with version, currency, devices, {came}"):
        load_prices(written(tmp_path, text))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"price list .*none\.yaml cannot be read: no such file or directory"):
        load_prices(tmp_path / "none.yaml")
    (tmp_path / "clip.mp4").write_bytes(b"\x00\x80\xff")
    with pytest.raises(UsageError, match=r"clip\.mp4 cannot be read: it is no text"):
        load_prices(tmp_path / "clip.mp4")
