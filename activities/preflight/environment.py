"""A service that starts without its configuration fails late and strangely; a missing name is found here, early.

Only names appear in the result: values, secret or not, stay where they are.
"""

from activities.check_result import Finding
from activities.secrets.resolver import resolve
from models.errors import SecretUnavailableError, SecretUnresolvedError
from models.preflight.environment import RequiredName, as_required, fits
from models.secrets import Secret, references
from models.spec import DeploymentSpec
from models.verdict import CheckResult


def check_environment(spec: DeploymentSpec) -> CheckResult:
    """Sees that each name of `preflight.environment` has a value of its form, and that every reference to a secret in
    the whole spec leads to one.
    """
    finding = Finding("environment")
    required = [as_required(item) for item in spec.preflight.environment]
    values: dict[str, str] = {}
    wrong: list[str] = []
    unread: list[str] = []
    found = references(spec)
    for reference, place in found.items():
        try:
            values[reference] = resolve(reference)
        except SecretUnavailableError as error:
            unread.append(f"{place}: {error}")
        except SecretUnresolvedError as error:
            wrong.append(f"{place}: {error}")
    wrong = [sentence for item in required for sentence in _wrong_with(item, spec, values)] + wrong
    evidence = {"required": [item.name for item in required], "secrets": sorted(found)}
    if wrong:
        return finding.failed("; ".join(wrong + unread), **evidence)
    if unread:
        return finding.not_asked("; ".join(unread), **evidence)
    return finding.passed(f"{len(required)} required names have values, {len(found)} secrets can be read", **evidence)


def _wrong_with(item: RequiredName, spec: DeploymentSpec, secrets: dict[str, str]) -> list[str]:
    given = spec.platform.environment.get(item.name)
    if given is None:
        return [f"{item.name} is required, and platform.environment does not give it"]
    if item.secret and not isinstance(given, Secret):
        return [f"{item.name} must be a reference to a secret, and its value is in the spec"]
    value = secrets.get(given.secret) if isinstance(given, Secret) else given
    if value is None:
        return []  # the reference leads nowhere, which is told by itself
    if not value.strip():
        return [f"{item.name} is required, and its value is empty"]
    if item.pattern is not None and not fits(item.pattern, value):
        return [f"the value of {item.name} does not fit its pattern"]
    return []
