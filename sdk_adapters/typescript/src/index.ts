/**
 * Client of sana-gateway for browsers: live, prompt-driven video editing.
 *
 *     const model = new SanaStreamingModel();
 *     await model.connect({ apiUrl, getToken });
 *     model.attach(document.querySelector("video"));
 *     await model.publishCamera(await navigator.mediaDevices.getUserMedia({ video: true }));
 *     await model.setPrompt("a watercolour painting");
 *     await model.setMode("live");
 *     await model.start();
 *
 * @packageDocumentation
 */
export type { ReconnectPolicy } from "./backoff.js";
export { browser } from "./browser.js";
export { COMMANDS, MESSAGES } from "./contract.js";
export type * from "./contract.js";
export * from "./errors.js";
export type { CameraOptions } from "./camera.js";
export { SanaStreamingModel, type Events, type Status, type UploadOptions } from "./model.js";
export type { Acknowledgement, CommandName, Reply } from "./pending.js";
export type { ConnectOptions, QueuePlace } from "./place.js";
export type * from "./ports.js";
export { LIMITS, type ConnectionStats, type Flow, type Limit } from "./statistics.js";
export { VERSION } from "./version.js";
export type { Message } from "./wire.js";
