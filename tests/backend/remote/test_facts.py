"""Facts of a machine out of its files."""

from __future__ import annotations

from pathlib import Path

from tersor.backend.remote.facts import Facts, facts, from_files

BOARD = {
    "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU part\t: 0xd0b\n\nModel\t\t: Board 5\n",
    "proc/meminfo": "MemTotal:        4096 kB\nMemFree: 1 kB\n",
    "proc/loadavg": "0.25 0.10 0.05 1/99 1234\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1500000\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "2400000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "2400000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "ondemand\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "61250\n",
    "sys/class/thermal/thermal_zone1/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone1/temp": "-5000\n",
}


def test_a_board(tmp_path: Path) -> None:
    """Read from files of a folder, as a dict and back."""
    for name, text in BOARD.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = facts(tmp_path)
    assert found == from_files(BOARD, found.machine, found.cores)
    assert found.processor == "Board 5" and found.features == ("fp", "asimd", "asimddp")
    assert (found.clocks, found.highest, found.governors) == ((1500.0, 2400.0), (2400.0,), ("ondemand", "ondemand"))
    assert found.temperatures == {"cpu-thermal": 61.25, "cpu-thermal 1": -5.0}
    assert (found.memory, found.load) == (4096 << 10, 0.25)
    assert "clocks 1500 to 2400 of at most 2400 MHz, governor ondemand, cpu-thermal 61 °C, load 0.25" in str(found)
    assert Facts.from_dict(found.as_dict()) == found


def test_what_a_machine_does_not_tell_is_unknown(tmp_path: Path) -> None:
    found = facts(tmp_path)
    assert "unknown processor" in str(found) and "clocks unknown, governor unknown, temperature unknown" in str(found)
    assert found.memory is None and found.load is None
