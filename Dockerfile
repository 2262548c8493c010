# naspix serve, on a CPU. NASPIX_API_KEY is needed to start; see docs/howto/serve.md.
#   docker build -t naspix .
#   docker run -e NASPIX_API_KEY='a long key' -p 8000:8000 naspix
FROM python:3.12-slim AS built
RUN apt-get update && apt-get install -y --no-install-recommends g++ git && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN pip wheel --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
# where a smaller torch for CPUs comes from, if given: --build-arg PIP_EXTRA_INDEX_URL=...
ARG PIP_EXTRA_INDEX_URL=
COPY --from=built /wheels /wheels
RUN pip install --no-cache-dir "$(ls /wheels/naspix-*.whl)[app]" && rm -r /wheels && useradd --create-home naspix
USER naspix
WORKDIR /home/naspix
EXPOSE 8000
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz')"]
CMD ["naspix", "serve", "--host", "0.0.0.0"]
