# The program from its wheel, as an unprivileged user, without the embedded PostgreSQL of `regsvc dev`.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
WORKDIR /src
RUN python -m venv --without-pip /opt/regsvc
COPY requirements/serve.txt requirements/build.txt requirements/
RUN pip --python /opt/regsvc install --no-cache-dir --requirement requirements/serve.txt \
    && pip install --no-cache-dir --root-user-action ignore --requirement requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY regsvc regsvc
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheel . \
    && pip --python /opt/regsvc install --no-cache-dir --no-deps --no-index /wheel/*.whl

FROM python:${PYTHON}-slim
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin regsvc
# The base image has no compiled files, and nothing may write them later: each start would compile them again.
RUN python -m compileall -q -j 0 --invalidation-mode unchecked-hash -x '/(test|tests|idlelib|lib2to3|turtledemo|ensurepip)/' \
    "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
COPY --from=build /opt/regsvc /opt/regsvc
ENV PATH=/opt/regsvc/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    REGSVC_HTTP_HOST=0.0.0.0
USER 10001:10001
WORKDIR /
EXPOSE 8080
STOPSIGNAL SIGTERM
# A worker told to listen nowhere (port 0) has nothing to ask.
# A bare socket: an interpreter without site-packages starts in a few milliseconds, and no proxy is asked.
HEALTHCHECK --interval=10s --timeout=10s --start-period=20s --retries=3 \
    CMD ["python", "-ISc", "import os, socket, sys\np = os.environ.get('REGSVC_HTTP_PORT') or '8080'\nif p.isdigit() and p != '0':\n  s = socket.create_connection(('127.0.0.1', int(p)), 9)\n  s.sendall(b'GET /healthz HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n')\n  sys.exit(s.recv(12)[9:12] != b'200')"]
ENTRYPOINT ["regsvc"]
CMD ["serve"]
# Last, so that the layers above are kept when only the commit is another. `make image` sets all of them from git.
ARG VERSION=
ARG REVISION=
ARG CREATED=
ARG SOURCE=
LABEL org.opencontainers.image.title="regsvc" \
    org.opencontainers.image.description="Registration, login and email confirmation as one supervised program" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.created="${CREATED}" \
    org.opencontainers.image.source="${SOURCE}"
