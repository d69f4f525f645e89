# The worker, with all it needs to deploy: Python packages with their hashes checked, the Docker command line, ssh.
# Every base is a build argument. To pin them by content, add the digest: python:3.11.13-slim-bookworm@sha256:...
ARG BASE_IMAGE=python:3.11.13-slim-bookworm
ARG DOCKER_CLI_IMAGE=docker:28.3.3-cli

# Its docker and its Compose plugin are single files that run anywhere.
FROM ${DOCKER_CLI_IMAGE} AS docker-cli

FROM ${BASE_IMAGE} AS packages
# Further options of pip, like the `--index-url` of an index of one's own.
ARG PIP_OPTIONS=""
# Programs that this worker never runs. The stack has a Temporal server of its own; `temporal traefik` where nothing is
# deployed to `kind: local`, which makes the image a quarter smaller.
ARG LEAVE_OUT="temporal"
COPY requirements/runtime.txt /tmp/runtime.txt
RUN python -m venv --without-pip /opt/venv \
    && python -m pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check \
        --require-hashes ${PIP_OPTIONS} -r /tmp/runtime.txt \
    && cd /opt/venv/bin && rm -f ${LEAVE_OUT}

FROM ${BASE_IMAGE}
# For DOCKER_HOST=ssh://...; empty for none.
ARG DEBIAN_PACKAGES="openssh-client"
RUN if [ -n "${DEBIAN_PACKAGES}" ]; then \
        apt-get update \
        && apt-get install -y --no-install-recommends ${DEBIAN_PACKAGES} \
        && rm -rf /var/lib/apt/lists/*; \
    fi \
    && groupadd --gid 10001 deployer \
    && useradd --uid 10001 --gid 10001 --no-log-init --home-dir /var/lib/deployment-specialist --shell /usr/sbin/nologin deployer \
    && install -d -m 0700 -o 10001 -g 10001 /var/lib/deployment-specialist
COPY --from=docker-cli /usr/local/bin/docker /usr/local/bin/docker
COPY --from=docker-cli /usr/local/libexec/docker/cli-plugins/docker-compose /usr/local/libexec/docker/cli-plugins/docker-compose
COPY --from=packages /opt/venv /opt/venv
WORKDIR /app
COPY starter.py worker.py ./
COPY models ./models
COPY home ./home
COPY embedded ./embedded
COPY activities ./activities
COPY workflows ./workflows
COPY cli ./cli
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DEPLOYMENT_SPECIALIST_HOME=/var/lib/deployment-specialist
RUN PYTHONDONTWRITEBYTECODE= python -m compileall -q /app
USER 10001:10001
VOLUME /var/lib/deployment-specialist
# Fresh only while Temporal itself says that this worker polls.
HEALTHCHECK --interval=10s --timeout=5s --start-period=90s --retries=3 CMD ["python", "-m", "home.worker_heartbeat"]
# SIGTERM: activities are handed back within eight seconds, then it exits with 0.
STOPSIGNAL SIGTERM
CMD ["python", "worker.py"]
