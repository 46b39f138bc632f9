import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
/** The service that `npm run dev` shows pages of. */
const SERVICE = process.env["SANA_GATEWAY"] ?? "http://127.0.0.1:8080";
const ROUTES = ["/sessions", "/tokens", "/schema", "/operator", "/events", "/uploads", "/livez", "/readyz"];

export default defineConfig({
  root: here("."),
  publicDir: false,
  resolve: { alias: { "@sana-gateway/client": here("../typescript/src/index.ts") } },
  build: {
    outDir: here("../../gateway/web/dist"),
    emptyOutDir: true,
    target: "es2022",
    sourcemap: false,
    // Every asset is a file: the pages allow neither inline code nor inline styles.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    rolldownOptions: {
      input: { playground: here("index.html"), console: here("console/index.html") },
      output: { chunkFileNames: "assets/shared-[hash].js" },
    },
  },
  server: { proxy: Object.fromEntries(ROUTES.map((route) => [route, SERVICE])) },
  test: { include: ["test/**/*.test.ts"], pool: "threads", maxWorkers: 1, restoreMocks: true, watch: false },
});
