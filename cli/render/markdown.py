"""Markdown for those who read in a browser: the plan as a comment on a change, the end of a deployment in a summary.

What a spec, a service or a server said is text, and never a heading, a mention or a link of ours.
"""

import re
from pathlib import Path

from activities.close.markdown import render_markdown
from cli.invocation import program
from cli.render.check_lines import by_severity, closed
from cli.render.plan import gate_lines, outlook_lines
from cli.render.summary import GOOD, short, subject, ways_on
from cli.render.terminal import clean, say
from models.judges.outlook import Outlook
from models.plan import Plan
from models.report import DeploymentReport
from models.sentences import say_outcome
from models.spec import DeploymentSpec
from models.units import format_duration

# A job's summary on GitHub has 1 MiB, and a comment 65,536 characters.
LONGEST_SUMMARY = 900_000
LONGEST_COMMENT = 60_000
_MARKS = re.compile(r"([\\`*_|<>\[\]#~])")


def text(said: str, longest: int = 600) -> str:
    """Somebody's words on one line that mean nothing to Markdown, and call nobody."""
    return _MARKS.sub(r"\\\1", clean(said, longest)).replace("@", "@\u200b")


def plan_comment(
    plan: Plan, spec: DeploymentSpec, *, why_unknown: str, missing: list[str], seen: tuple[Outlook, ...] = ()
) -> str:
    """The plan as a comment on a change: what would be different first, then what would stop it, the rest folded.

    Its first line is a mark by which the comment of an earlier plan is found and replaced.
    """
    before = plan.previous_version or ("nothing" if plan.first and not why_unknown else "unknown")
    lines = [
        f"<!-- deployment-specialist plan {plan.service}/{plan.target} -->",
        f"### {plan.service} → {plan.target}: {text(before)} to {text(plan.version)}, {plan.strategy}",
        "",
    ]
    if why_unknown:
        lines += [f"> What serves now is not known: {text(why_unknown)}", ""]
    lines += _verdict(plan) + [f"- missing, deploy will refuse: {text(sentence)}" for sentence in missing]
    lines += ["", *_block("diff", plan.against or ("  no difference to what serves",))] if not why_unknown else []
    if plan.changes:
        lines += ["", "What changes on the platform:", "", *(f"- {text(line)}" for line in plan.changes)]
    lines += ["", "| step | traffic | watched | new instances | old instances |", "|---|---|---|---|---|"]
    for number, step in enumerate(plan.steps, start=1):
        watch = format_duration(step.watch) if step.watch else "no"
        lines.append(f"| {number} | {step.weight} % | {watch} | {step.candidate_instances} | {step.stable_instances} |")
    bake = f"the old revision stays warm for {format_duration(plan.bake)}" if plan.bake else "no bake"
    lines += ["", f"{format_duration(plan.watched())} of watching when nothing is extended; {bake}."]
    if seen:
        head = "errors of the new version that are found four times in five, with this traffic"
        lines += ["", *_folded(head, [f"- {text(line)}" for line in outlook_lines(seen)])]
    lines += ["", *_folded("gates and approvals", _block("text", [clean(line) for line in gate_lines(plan, spec)]))]
    if plan.checks:
        lines += ["", *_folded(f"{len(plan.checks)} checks, as of now", _checks(plan))]
    if not why_unknown and (plan.exact or plan.approximate):
        sentences = [f"- {text(each)}" for each in (*plan.exact, *plan.approximate)]
        lines += ["", *_folded("what is exact and what is approximate", sentences)]
    lines += ["", f"Plan `{plan.id}`." if plan.id else "No plan id: an approval is bound to what really serves."]
    return _bounded("\n".join(lines) + "\n", LONGEST_COMMENT)


def _verdict(plan: Plan) -> list[str]:
    if not plan.checks:
        return ["The preflight checks were not asked."]
    stopping = closed(plan.checks)
    if not stopping:
        return [f"**Preflight passes**, {len(plan.checks)} checks as of now."]
    bad = [check for check in by_severity(plan.checks) if check.name in stopping]
    found = [f"- **{text(each.name)}** {each.verdict}: {text(each.reason)}" for each in bad]
    return ["**A deployment would stop in preflight**, as of now:", "", *found]


def _checks(plan: Plan) -> list[str]:
    rows = [f"| {c.verdict} | {text(c.name)} | {text(c.reason)} |" for c in by_severity(plan.checks)]
    return ["| verdict | check | |", "|---|---|---|", *rows]


def report_summary(report: DeploymentReport, link: str = "") -> str:
    """How a deployment ended, for a job's summary: the sentence, what failed, what to do; the whole report folded."""
    took = f" in {short(report.ended - report.started)}" if report.ended else ""
    lines = [f"## {text(say_outcome(report))}", ""]
    lines += [f"`{report.outcome}`{took}, {subject(report)}, {report.strategy}, asked for by {text(report.by)}"]
    if report.failure is not None:
        lines += ["", f"**{report.failure.type}**: {text(report.failure.reason, 2000)}"]
    if report.stages:
        lines += ["", "| stage | verdict | took | checks |", "|---|---|---|---|"]
        lines += [f"| {s.stage} | {s.verdict} | {short(s.seconds)} | {len(s.checks)} |" for s in report.stages]
    bad = [(s.stage, check) for s in report.stages for check in s.checks if check.verdict not in GOOD]
    if bad:
        lines += ["", "Checks that did not pass:", ""]
        lines += [f"- **{text(c.name)}** ({stage}) {c.verdict}: {text(c.reason, 2000)}" for stage, c in bad]
    if report.not_rolled_back:
        lines += ["", "Not rolled back:", "", *(f"- {text(each)}" for each in report.not_rolled_back)]
    if report.waiting_for:
        lines += ["", f"Waits for a person: {text(report.waiting_for)}"]
    if commands := ways_on(report):
        lines += ["", "What can be done now:", "", *_block("sh", commands)]
    lines += ["", f"[The run in Temporal]({link})"] if link else []
    lines += ["", *_folded("the whole report", render_markdown(report).splitlines())]
    lines += ["", f"Follow it: `{program()} watch {subject(report)}`"] if report.ended is None else []
    return _bounded("\n".join(lines) + "\n", LONGEST_SUMMARY)


def append_summary(file: str | None, report: DeploymentReport | None, link: str = "") -> None:
    """Appends the summary to the file where one is wanted; what cannot be written is said and changes nothing."""
    if file is None or report is None:
        return
    try:
        with Path(file).open("a", encoding="utf-8") as opened:
            opened.write(report_summary(report, link))
    except OSError as error:
        say(f"the summary was not written to {clean(file)}: {error.strerror}")


def _folded(title: str, lines: list[str]) -> list[str]:
    return ["<details>", f"<summary>{title}</summary>", "", *lines, "", "</details>"]


def _block(language: str, lines: "list[str] | tuple[str, ...]") -> list[str]:
    """A block of code that no line of it can end."""
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    kept = [line[:2] + clean(line[2:]) if line[:2] in ("- ", "+ ", "  ") else clean(line) for line in lines]
    return [f"{fence}{language}", *kept, fence]


def _bounded(whole: str, longest: int) -> str:
    return whole if len(whole) <= longest else f"{whole[:longest]}\n\n…and {len(whole) - longest:,} characters more.\n"
