FROM rust:1.95-slim-bookworm AS build
# The cryptographic library and SQLite are compiled from C.
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The caches keep downloaded and compiled files in the builder for the next build. They are in no layer.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --release --locked -p referral-server \
    && install -m 0755 target/release/referral-server /usr/local/bin/referral-server

# The program needs only the C library and libgcc: the root certificates are compiled in.
FROM debian:bookworm-slim
RUN groupadd --gid 10001 referral \
    && useradd --uid 10001 --gid referral --no-create-home --home-dir /var/lib/referral \
        --shell /usr/sbin/nologin referral \
    && install -d -m 0700 -o referral -g referral /var/lib/referral
COPY --from=build /usr/local/bin/referral-server /usr/local/bin/referral-server
# A numeric user id, so that a container runtime can verify that it is not root.
USER 10001:10001
# Listens on all addresses of the container. The published ports decide which are reachable from outside.
ENV REFERRAL_LISTEN=0.0.0.0:8080 REFERRAL_DATA_DIR=/var/lib/referral
VOLUME /var/lib/referral
EXPOSE 8080
# Checks that the process responds. It does not check the database: a restart would not repair that.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/${REFERRAL_LISTEN##*:} && printf 'GET /health/live HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [ \"$status\" = 200 ]"]
ENTRYPOINT ["referral-server"]
