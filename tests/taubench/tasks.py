"""The recorded tasks: what is called in which order, what each call answers, and what is left of the shop's data."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from infra.tools.http_tool import HttpTool
from tests.shared_data import DATA
from tests.taubench.shop import FOLDER, READS


@dataclass(frozen=True, slots=True)
class Action:
    """A call. `result_sha256` is None where the task ends with it."""

    tool: str
    arguments: dict[str, Any]
    result_sha256: str | None
    is_error: bool

    @property
    def writes(self) -> bool:
        return self.tool not in READS


@dataclass(frozen=True, slots=True)
class Task:
    """One task of a set, `dev` or `test`."""

    set: str
    number: int
    instruction: str
    actions: tuple[Action, ...]
    initial: str
    final: str

    @property
    def slug(self) -> str:
        return f"tau-{self.set}-{self.number}"

    @property
    def event_type(self) -> str:
        return f"tau.{self.set}.{self.number}"

    @property
    def writes(self) -> int:
        """How many calls change something, if all is as it should be."""
        return sum(action.writes and not action.is_error for action in self.actions)


def load_tasks(*sets: str) -> tuple[Task, ...]:
    """Return the tasks of the sets."""
    tasks = []
    for name in sets:
        for line in (DATA / FOLDER / f"expected_{name}.jsonl").read_text().splitlines():
            told = json.loads(line)
            actions = tuple(
                Action(each["name"], each["arguments"], each.get("result_sha256"), each.get("is_error", False))
                for each in told["actions"]
            )
            tasks.append(
                Task(name, told["task"], told["instruction"], actions, told["initial_db_hash"], told["final_db_hash"])
            )
    return tuple(tasks)


def site_tools(origin: str) -> tuple[HttpTool, ...]:
    """Return the shop's tools as a site registers them: what looks is a GET; what changes waits for a person."""
    tools = []
    for each in json.loads((DATA / FOLDER / "tools.json").read_text()):
        told = each["function"]
        reads = told["name"] in READS
        tools.append(
            HttpTool.model_validate(
                {
                    "name": told["name"],
                    "description": told["description"],
                    "category": "shop",
                    "parameters": told["parameters"],
                    "http": {"method": "GET" if reads else "POST", "url": f"{origin}/{told['name']}"},
                    "idempotent": True,
                    "risk": "low" if reads else "high",
                }
            )
        )
    return tuple(tools)


def write_scripts(folder: Path, tasks: Sequence[Task]) -> Path:
    """Write the scripted model of each task, which makes the reference calls, one a step; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for task in tasks:
        rules: list[dict[str, Any]] = [
            {"when": {"step": step}, "call": [{"tool": action.tool, "with": action.arguments}]}
            for step, action in enumerate(task.actions, start=1)
        ]
        script = {"model": task.slug, "rules": [*rules, {"say": "That is done."}]}
        (folder / f"{task.slug}.yaml").write_text(yaml.safe_dump(script))
    return folder


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
