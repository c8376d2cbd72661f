"""Drawings of a scheduler and its tasks: their events with counts and subscribed callbacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from amltk.display import theme, wording
from amltk.display.theme import one_line

if TYPE_CHECKING:
    from rich.console import RenderableType

    from amltk.scheduling.events import Emitter, Subscription
    from amltk.scheduling.plugin import Plugin
    from amltk.scheduling.scheduler import Scheduler
    from amltk.scheduling.task import Task


def scheduler_tree(scheduler: Scheduler) -> RenderableType:
    """Draw a scheduler: its executor, state and queue, its events with counts and callbacks, and its tasks."""
    events = Tree("", hide_root=True, guide_style=theme.FRAME)
    _add_events(events, scheduler.emitter)
    parts: list[RenderableType] = [_facts(scheduler), "", events]
    for task in scheduler.tasks:
        parts += ["", task_tree(task)]
    return Panel(
        Group(*parts),
        title=Text("Scheduler", theme.TITLE),
        title_align="left",
        border_style=theme.FRAME,
        padding=(0, 1),
        expand=False,
    )


def task_tree(task: Task[..., Any]) -> RenderableType:
    """Draw a task: how much is pending, its plugins, and its events with counts and callbacks."""
    label = one_line(
        ("Task ", theme.TITLE),
        (wording.printable(task.name), theme.TITLE),
        wording.parameters(task.function),
        "  ",
        (f"{task.n_pending:,} pending", theme.PENDING if task.n_pending else theme.QUIET),
    )
    tree = Tree(label, guide_style=theme.FRAME)
    for plugin in task.plugins:
        tree.add(_plugin_line(plugin))
    _add_events(tree, task)
    return tree


def _facts(scheduler: Scheduler) -> Table:
    n = scheduler.n_pending
    if scheduler.running():
        state = Text("running", theme.ACTIVE)
    else:
        state = Text("finishing" if n else "not running")
    facts = Table.grid(padding=(0, 2))
    facts.add_row(Text("executor", theme.QUIET), one_line(wording.executor_in_short(scheduler)))
    facts.add_row(Text("state", theme.QUIET), state)
    facts.add_row(Text("queue", theme.QUIET), Text(f"{n:,} pending", theme.PENDING if n else ""))
    return facts


def _plugin_line(plugin: Plugin) -> Text:
    return one_line(
        ("plugin ", theme.KEYWORD), wording.printable(plugin.name), "  ", wording.printable(plugin.status())
    )


def _add_events(tree: Tree, emitter: Emitter) -> None:
    events = emitter.events
    counts = emitter.event_counts
    names = [wording.printable(str(event)) for event in events]
    width = max(map(len, names), default=0)
    digits = max((len(f"{count:,}") for count in counts.values()), default=0)
    for event, name in zip(events, names, strict=True):
        count = counts[event]
        branch = tree.add(
            one_line((f"{name:<{width}}  {count:>{digits},}", theme.EVENT) if count else (name, theme.QUIET))
        )
        for subscription in emitter.subscriptions(event):
            if not subscription.hidden:
                branch.add(_callback_line(subscription))


def _callback_line(subscription: Subscription) -> Text:
    callback = subscription.callback
    return one_line(
        (f"{wording.definition(callback)} ", theme.KEYWORD),
        wording.function_name(callback),
        (wording.parameters(callback), theme.QUIET),
    )
