"""Measurements are kept apart by what a machine is."""

from __future__ import annotations

from pathlib import Path

from llamapipe.inference.hardware import fingerprint

CPU = """processor\t: {n}
model name\t: Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz
flags\t\t: fpu avx avx2 {flags}
"""


def machine(root: Path, cores: int = 2, flags: str = "", gpu: str = "") -> Path:
    (root / "proc").mkdir(parents=True)
    text = "\n".join(CPU.format(n=n, flags=flags) for n in range(cores))
    (root / "proc/cpuinfo").write_text(text)
    if gpu:
        folder = root / "proc/driver/nvidia/gpus/0000:01"
        folder.mkdir(parents=True)
        (folder / "information").write_text(f"Model: \t {gpu}\nIRQ: 1\n")
    return root


def test_it_names_the_processor_and_its_cores(tmp_path: Path) -> None:
    assert fingerprint(machine(tmp_path / "a")).startswith("intel-xeon-gold-6338-2x-")


def test_it_is_the_same_again(tmp_path: Path) -> None:
    assert fingerprint(machine(tmp_path / "a")) == fingerprint(machine(tmp_path / "b"))
    assert fingerprint() == fingerprint()


def test_what_changes_the_speed_of_networks_changes_it(tmp_path: Path) -> None:
    found = {
        fingerprint(machine(tmp_path / "a")),
        fingerprint(machine(tmp_path / "b", cores=4)),
        fingerprint(machine(tmp_path / "c", flags="avx512_vnni")),
        fingerprint(machine(tmp_path / "d", gpu="NVIDIA L4")),
    }
    assert len(found) == 4


def test_what_does_not_leaves_it(tmp_path: Path) -> None:
    assert fingerprint(machine(tmp_path / "a", flags="rdrand")) == fingerprint(machine(tmp_path / "b"))


def test_a_machine_that_says_nothing_has_one_too(tmp_path: Path) -> None:
    assert fingerprint(tmp_path)


def test_processors_of_one_maker_are_told_apart_by_their_parts(tmp_path: Path) -> None:
    def of(part: str) -> str:
        root = tmp_path / part
        (root / "proc").mkdir(parents=True)
        core = f"Features\t: fp asimd crc32\nCPU implementer\t: 0x41\nCPU part\t: {part}\n\n"
        (root / "proc/cpuinfo").write_text("".join(f"processor\t: {i}\n{core}" for i in range(4)))
        return fingerprint(root)

    assert of("0xd03") != of("0xd08")
