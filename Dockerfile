# The service with local models on the CPU, embeddings and BM25 among them. Build with
# --build-arg PIP_EXTRA_INDEX_URL=INDEX, the index of torch's CPU builds: it keeps gigabytes of CUDA out of the image.
FROM python:3.11.14-slim-bookworm AS build
ARG PIP_EXTRA_INDEX_URL
WORKDIR /src
COPY pyproject.toml setup.py MANIFEST.in constraints.txt README.md LICENSE ./
COPY fairpos fairpos
COPY service service
RUN python3 -m venv /venv \
 && /venv/bin/pip install --no-cache-dir --constraint constraints.txt '.[local,tune,embeddings,lexical,grammar,service,redis,telemetry]'

FROM python:3.11.14-slim-bookworm
COPY --from=build /venv /venv
# A number, so that Kubernetes can tell that it isn't root's.
RUN useradd --uid 10001 --create-home fairpos && mkdir /data && chown 10001 /data
USER 10001
ENV PATH=/venv/bin:$PATH FAIRPOS_HOST=0.0.0.0 FAIRPOS_CACHE=/data/models FAIRPOS_PROFILES=/data/profiles
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s \
  CMD python -c "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health/ready', timeout=3)"
ENTRYPOINT ["fairpos", "serve"]
