"""A revision's id may hold what no name in a cluster may; two revisions must never share a name all the same.

Everything of ours carries labels by which it is found again, and annotations that only we read.
"""

import hashlib
import re

PREFIX = "deployment-specialist.io/"
# Labels: which target, which revision; whether a pod takes traffic.
TARGET = f"{PREFIX}target"
REVISION = f"{PREFIX}revision"
TRAFFIC = f"{PREFIX}traffic"
# Selects what carries `TARGET` and belongs to no revision: among ConfigMaps, the states of targets.
OF_TARGETS = f"{TARGET},!{REVISION}"
ON, OFF = "on", "off"
# On what was applied for the first time from the release's manifests: goes with the target.
MADE = f"{PREFIX}made-for"
MANAGED_BY = "app.kubernetes.io/managed-by"
OURSELVES = "deployment-specialist"
# Annotations: the effect that wrote last, what it wrote, the whole id.
FENCE = f"{PREFIX}fence"
WRITTEN = f"{PREFIX}written"
ID = f"{PREFIX}id"
HASH = "pod-template-hash"
# What no pod carries: a Service that selects it leads nowhere.
NOBODY = "nobody"

_VALUE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", re.ASCII)
_LONGEST_NAME = 63
# A pod's name is its Deployment's and two random parts.
_LONGEST_OWNER = 46
_LONGEST_SLUG = 28


def label_value(text: str) -> str:
    """The text itself where it can be a label's value; else the beginning of it, and what tells it from others."""
    if _VALUE.fullmatch(text):
        return text
    safe = re.sub(r"[^A-Za-z0-9._-]", "-", text)[: _LONGEST_NAME - 9].strip("._-") or "x"
    return f"{safe}-{_short(text)}"


def target_label(service: str, target: str) -> str:
    """The value of the label `TARGET`."""
    return label_value(f"{service}.{target}")


def state_configmap_name(service: str, target: str) -> str:
    """The ConfigMap that says what the target looks like."""
    return f"{OURSELVES}.{service}.{target}"


def slug(revision: str) -> str:
    """The revision's id as a part of names: small letters, digits and hyphens; different for each revision."""
    text = re.sub(r"[^a-z0-9-]", "-", revision.lower()).strip("-")
    if len(text) <= _LONGEST_SLUG and text == revision.replace(".", "-"):
        return text
    # The end of an id tells deployments of one version apart.
    return f"{text[-12:].strip('-')}-{_short(revision)}"


def revision_name(base: str, revision: str) -> str:
    """The name of a revision's Deployment and Service: a DNS label that begins with a letter."""
    tail = slug(revision)
    head = re.sub(r"[^a-z0-9-]", "-", base.lower()).strip("-")
    if head != base or len(head) + len(tail) >= _LONGEST_OWNER:
        tail = f"{tail}-{_short(base)}"
        head = head[: max(0, _LONGEST_OWNER - len(tail) - 1)].strip("-")
    return f"{head}-{tail}" if head[:1].isalpha() else f"r-{tail}"


def copy_name(name: str, revision: str) -> str:
    """The name of a revision's own copy of a ConfigMap or Secret."""
    return f"{name[:180].strip('.-')}-{slug(revision)}"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
