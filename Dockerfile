# One image for every main: `orchestra api`, `engine`, `host`. Servers are other containers, see docker-compose.yml.
FROM node:24-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY . .
RUN npm run build && npm prune --omit=dev

FROM node:24-slim
RUN apt-get update \
  && apt-get install --no-install-recommends --yes bubblewrap ca-certificates git openssh-client procps \
  && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY --from=build /app/config config
COPY --from=build /app/db/migrations db/migrations
COPY --from=build /app/templates templates
COPY --from=build /app/dashboard dashboard
RUN mkdir /data && chown node:node /data
ENV NODE_ENV=production ORCHESTRA_ENV=production ORCHESTRA_HOME=/data ORCHESTRA_CACHE=/data/cache LOG_HANDLERS=console
USER node
VOLUME /data
# Scripts need user namespaces for their fence and are refused without: SANDBOX_MIN=none runs them unfenced, see docs/operations.md.
ENTRYPOINT ["node", "dist/cli/main.js"]
CMD ["api"]
