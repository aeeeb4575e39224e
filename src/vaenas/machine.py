"""STUB until the threads branch is merged."""

import torch


def environment(device: torch.device) -> dict[str, str | int]:
    return {"torch": torch.__version__, "threads": torch.get_num_threads(), "device": str(device)}


def differences(begun: dict[str, str | int], now: dict[str, str | int]) -> list[str]:
    return [f"{k} {begun.get(k)} -> {v}" for k, v in now.items() if begun.get(k) != v]
