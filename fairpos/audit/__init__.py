"""Measuring position and label bias of a model, and what each method does about it.

tasks       a file becomes items: a request with a known right answer
runs        every item in several orders under every method: trials
statistics  trials become figures with intervals, and tests
advice      whether the task can show bias, and which method the figures support
report      report.json, report.html, a terminal table
"""

from fairpos.audit.advice import Advice, advise
from fairpos.audit.runs import Trial, run_trials
from fairpos.audit.statistics import MethodFigures, figures_of
from fairpos.audit.tasks import TASKS, AuditTask, read_items
from fairpos.files.items import Item

__all__ = [
    "TASKS",
    "Advice",
    "AuditTask",
    "Item",
    "MethodFigures",
    "Trial",
    "advise",
    "figures_of",
    "read_items",
    "run_trials",
]
