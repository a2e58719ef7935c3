"""Small scenarios for tests."""

from __future__ import annotations

from typing import Any

from llamapipe.sim.scenario import Scenario


def scenario(**more: Any) -> Scenario:
    """Two cameras, a detector with three candidates on two devices, and faces in what it finds."""
    data: dict[str, Any] = {
        "name": "test",
        "duration_s": 10,
        "machines": [
            {"type": "cpu", "device": "cpu", "workers": 6, "price_per_hour": 1, "source": "test"},
            {"type": "gpu", "device": "cuda:0", "workers": 1, "price_per_hour": 4, "source": "test"},
        ],
        "pipeline": {
            "slo": {"latency_p95_ms": 500},
            "accuracy": {"min": 0.5},
            "stages": [
                {
                    "name": "detect",
                    "finds": {"mean": 1.5},
                    "candidates": [
                        {"variant": "small", "points": [[1, 40]], "accuracy": 0.6, "source": "test"},
                        {"variant": "large", "points": [[1, 120]], "accuracy": 0.9, "source": "test"},
                        {
                            "variant": "small",
                            "device": "cuda:0",
                            "points": [[1, 6], [8, 16]],
                            "accuracy": 0.6,
                            "source": "test",
                        },
                    ],
                },
                {"name": "follow", "after": "detect", "stateful": True, "item_ms": 1, "source": "test"},
                {
                    "name": "crops",
                    "after": "detect",
                    "crops": "detect",
                    "when": "detect",
                    "item_ms": 1,
                    "source": "test",
                },
                {
                    "name": "faces",
                    "after": "crops",
                    "candidates": [
                        {"variant": "faces", "points": [[1, 20], [4, 60]], "accuracy": 0.8, "source": "test"}
                    ],
                },
                {"name": "draw", "after": ["follow", "faces"], "item_ms": 2, "source": "test"},
            ],
        },
        "streams": {"count": 2, "fps": 10},
    }
    for key, value in more.items():
        data[key] = {**data[key], **value} if isinstance(value, dict) and isinstance(data.get(key), dict) else value
    return Scenario.model_validate(data)
