# The program from its wheel, as an unprivileged user, without the embedded PostgreSQL of `regsvc dev`.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
WORKDIR /src
RUN python -m venv --without-pip /opt/regsvc
COPY requirements/serve.txt requirements/
RUN pip --python /opt/regsvc install --no-cache-dir --requirement requirements/serve.txt
COPY pyproject.toml README.md LICENSE ./
COPY regsvc regsvc
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel . \
    && pip --python /opt/regsvc install --no-cache-dir --no-deps --no-index /wheel/*.whl

FROM python:${PYTHON}-slim
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin regsvc
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
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; p = os.environ.get('REGSVC_HTTP_PORT') or '8080'; p == '0' or u.urlopen(f'http://127.0.0.1:{p}/healthz', timeout=2)"]
ENTRYPOINT ["regsvc"]
CMD ["serve"]
