# An image of one static binary and nothing else: docker build -t fcdm . && docker run --rm -v "$PWD:/work" fcdm generate
FROM rust:1-alpine AS build
RUN apk add --no-cache musl-dev gcc
WORKDIR /src
COPY . .
RUN cargo build --profile dist --locked --workspace --bins \
 && mkdir /bins && cp target/dist/fcdm target/dist/fcdm-run /bins/

# Generates and does nothing else: docker build --target run -t fcdm-run .
FROM scratch AS run
COPY --from=build /bins/fcdm-run /fcdm-run
WORKDIR /work
ENTRYPOINT ["/fcdm-run"]

FROM scratch
COPY --from=build /bins/fcdm /fcdm
WORKDIR /work
ENTRYPOINT ["/fcdm"]
