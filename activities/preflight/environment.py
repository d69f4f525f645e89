"""A service that starts without its configuration fails late and strangely; a missing name is found here, early.

Only names appear in the result: values, secret or not, stay where they are.
"""

from activities.finding import Finding
from activities.secrets import resolve
from models.errors import SecretUnresolved
from models.secrets import Secret
from models.spec import DeploymentSpec
from models.verdict import CheckResult


def check_environment(spec: DeploymentSpec) -> CheckResult:
    """Sees that each name of `preflight.environment` has a value and that every reference to a secret leads to one."""
    finding = Finding("environment")
    given = spec.platform.environment
    wrong = [f"{name} is required, and platform.environment does not give it" for name in _missing(spec)]
    wrong += [
        f"{name} is required, and its value is empty"
        for name in spec.preflight.environment
        if isinstance(value := given.get(name), str) and not value.strip()
    ]
    references = {f"platform.environment.{name}": v.secret for name, v in given.items() if isinstance(v, Secret)}
    if spec.observe.sentry is not None:
        references["observe.sentry.dsn"] = spec.observe.sentry.dsn
    for place, reference in references.items():
        try:
            resolve(reference)
        except SecretUnresolved as error:
            wrong.append(f"{place}: {error}")
    evidence = {"required": list(spec.preflight.environment), "secrets": sorted(set(references.values()))}
    if wrong:
        return finding.failed("; ".join(wrong), **evidence)
    return finding.passed(
        f"{len(spec.preflight.environment)} required names have values, {len(references)} secrets can be read",
        **evidence,
    )


def _missing(spec: DeploymentSpec) -> list[str]:
    return [name for name in spec.preflight.environment if name not in spec.platform.environment]
