/** Builds `dist/` from nothing: modules as they are, with their types. */
import { spawnSync } from "node:child_process";
import { rmSync } from "node:fs";
import { fileURLToPath } from "node:url";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

rmSync(here("dist"), { recursive: true, force: true });
const command = [here("node_modules/typescript/bin/tsc"), "-p", here("tsconfig.json")];
process.exitCode = spawnSync(process.execPath, command, { stdio: "inherit" }).status ?? 1;
