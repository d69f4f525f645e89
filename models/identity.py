"""Telemetry that does not say which release it is of proves nothing of a release.

So each instance is told who it is, in the words of the three that most services already speak: OpenTelemetry, Sentry,
Datadog. What a user sets is never set by us.
"""

from models.names import Name, Version

OPENTELEMETRY = "OTEL_RESOURCE_ATTRIBUTES"
NAMES = (OPENTELEMETRY, "SENTRY_RELEASE", "SENTRY_ENVIRONMENT", "DD_SERVICE", "DD_VERSION", "DD_ENV")


def identity_of(
    service: Name, version: Version, target: Name, revision: str, sentry_environment: str
) -> dict[str, str]:
    """The variables of a revision's instances.

    Args:
        service: what is deployed.
        version: of it.
        target: where.
        revision: its id, which is this deployment's own.
        sentry_environment: what Sentry calls the target.
    """
    attributes = {
        "service.name": service,
        "service.version": version,
        "deployment.environment.name": target,
        "deployment.id": revision,
    }
    return {
        OPENTELEMETRY: ",".join(f"{name}={value}" for name, value in attributes.items()),
        "SENTRY_RELEASE": f"{service}@{version}",
        "SENTRY_ENVIRONMENT": sentry_environment,
        "DD_SERVICE": service,
        "DD_VERSION": version,
        "DD_ENV": target,
    }


def of_instance(environment: dict[str, str], identity: dict[str, str], instance: str) -> dict[str, str]:
    """The same environment for one instance, which has a name of its own; where OpenTelemetry's words are ours."""
    ours = identity.get(OPENTELEMETRY)
    if ours is None or environment.get(OPENTELEMETRY) != ours:
        return environment
    return {**environment, OPENTELEMETRY: f"{ours},service.instance.id={instance}"}
