// Builds the page, serves it, and exchanges the API key for tokens.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const { SANA_GATEWAY_URL = "http://localhost:8080", SANA_GATEWAY_API_KEY = "", PORT = "3000" } =
  process.env;
const gateway = SANA_GATEWAY_URL.replace(/\/+$/, "");
const here = fileURLToPath(new URL(".", import.meta.url));

const built = await build({
  absWorkingDir: here,
  entryPoints: ["main.ts"],
  bundle: true,
  format: "esm",
  write: false,
  define: {
    // The SDK looks at it, as many packages do.
    "process.env.NODE_ENV": '"production"',
    GATEWAY_URL: JSON.stringify(gateway),
  },
});

async function token() {
  const response = await fetch(`${gateway}/tokens`, {
    method: "POST",
    headers: { "Reactor-API-Key": SANA_GATEWAY_API_KEY },
  });
  return [response.status, "application/json", await response.text()];
}

const routes = {
  "GET /": async () => [200, "text/html", await readFile(`${here}/index.html`)],
  "GET /main.js": async () => [200, "text/javascript", built.outputFiles[0].contents],
  "POST /token": token,
};

const server = createServer(async ({ method, url }, response) => {
  const route = routes[`${method} ${url}`] ?? (async () => [404, "text/plain", "no such page"]);
  const [status, type, body] = await route().catch(({ message }) => [502, "text/plain", message]);
  response.writeHead(status, { "Content-Type": type }).end(body);
});
// A camera is given to pages of this host, or over https.
server.listen(Number(PORT), "localhost", () => {
  console.log(`http://localhost:${server.address().port}`);
});
