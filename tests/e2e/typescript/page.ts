/** What the tests call from outside. */
import { app } from "./app.js";
import * as flows from "./flows.js";

const faults: string[] = [];
addEventListener("error", ({ message }) => void faults.push(message));
addEventListener("unhandledrejection", ({ reason }) => void faults.push(String(reason)));

Object.assign(globalThis, { flows: { ...flows, app }, faults });
